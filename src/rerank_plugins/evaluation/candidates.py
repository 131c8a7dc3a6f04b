"""Where an evaluation and a calibration begin: the first stage they were asked for, found with a progress bar."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress

from rerank_plugins._internal.files import expand
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.embedder import load_embedder
from rerank_plugins.retrieval.first_stage import FirstStage, embedded, from_run_file


def progress_bar(*, shown: bool) -> Progress:
    """On standard error, and gone when it is done."""
    return Progress(
        *Progress.get_default_columns(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not shown,
    )


def first_stage(
    collection: Collection, embedder: str, run: str | Path | FirstStage | None, top_k: int, bar: Progress
) -> FirstStage:
    """Of the run file, or without one of the embedder; what was found already is cut to ``top_k``."""
    if isinstance(run, FirstStage):
        return FirstStage(run.name, {query: found[:top_k] for query, found in run.candidates.items()})
    if run is not None:
        return from_run_file(expand(run), collection, top_k=top_k)
    task = bar.add_task(f"embedding with {embedder}", total=None)
    stage = embedded(
        collection,
        load_embedder(embedder),
        name=embedder,
        top_k=top_k,
        progress=lambda done, of: bar.update(task, completed=done, total=of),
    )
    bar.remove_task(task)
    return stage
