"""The first stage of an evaluation or a calibration: its options, and its candidates."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from rerank_plugins._internal.files import expand
from rerank_plugins._internal.options import AtLeast, refuse_unknown
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER, load_embedder
from rerank_plugins.retrieval.first_stage import FirstStage, retrieve
from rerank_plugins.retrieval.trec_run import read_run_file

# The names of release 0.1.
_RENAMED = {"top_k": "It is called fetch_k.", "queries": "It is called max_queries.", "run": "It is called run_file."}


def check_options(
    embedder: str,
    run_file: str | Path | FirstStage | None,
    fetch_k: int,
    max_queries: int | None,
    seed: int,
    loading: Mapping[str, object],
) -> None:
    """Raise `InvalidInputError` if an option is out of its range, excludes another one or has an old name."""
    refuse_unknown({name: loading[name] for name in loading if name in _RENAMED}, (), "An evaluation", _RENAMED)
    AtLeast(1, "candidates").check("fetch_k", fetch_k)
    AtLeast(1, "queries").check("max_queries", 1 if max_queries is None else max_queries)
    AtLeast(0, "of random numbers").check("seed", seed)
    if run_file is not None and embedder != BUNDLED_EMBEDDER:
        name = run_file.name if isinstance(run_file, FirstStage) else str(run_file)
        raise InvalidInputError(
            f"Candidates come from a run file or from an embedder, got {name} and {embedder}. Leave one of them out."
        )


def find_candidates(
    collection: Collection, embedder: str, run_file: str | Path | FirstStage | None, fetch_k: int, bar: Progress
) -> FirstStage:
    """The candidates of the run file, or without one of the embedder. A `FirstStage` is cut to ``fetch_k``."""
    if isinstance(run_file, FirstStage):
        return FirstStage(run_file.name, {query: ids[:fetch_k] for query, ids in run_file.candidates.items()})
    if run_file is not None:
        return read_run_file(expand(run_file), collection, fetch_k=fetch_k)
    task = bar.add_task(f"embedding with {embedder}", total=None)
    stage = retrieve(
        collection,
        load_embedder(embedder),
        name=embedder,
        fetch_k=fetch_k,
        progress=lambda done, total: bar.update(task, completed=done, total=total),
    )
    bar.remove_task(task)
    return stage


def progress_bar(*, visible: bool) -> Progress:
    """A progress bar on standard error that is erased when it ends."""
    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not visible,
    )
