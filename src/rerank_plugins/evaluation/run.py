"""`evaluate`: a first stage and several rerankers over the same candidates of the same queries."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rerank_plugins._internal.files import expand
from rerank_plugins.backends.cpu import count_usable_cpus, describe_processor
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.candidates import check_options, find_candidates, progress_bar
from rerank_plugins.evaluation.comparison import compare, summarize
from rerank_plugins.evaluation.metrics import compute_metrics, mean_metric
from rerank_plugins.evaluation.queries import JudgedQuery, build_queries, sample_queries
from rerank_plugins.evaluation.results import Evaluation
from rerank_plugins.evaluation.score_log import QueryScores, ScoreLog, open_score_log
from rerank_plugins.evaluation.systems import System, load_systems
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.beir import Collection, read_collection
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.retrieval.first_stage import FirstStage


def evaluate(
    folder: str | Path | Collection,
    models: Sequence[str | Path | Reranker],
    *,
    embedder: str = BUNDLED_EMBEDDER,
    run_file: str | Path | FirstStage | None = None,
    fetch_k: int = 50,
    split: str | None = None,
    max_queries: int | None = None,
    seed: int = 0,
    work_folder: str | Path | None = None,
    progress: bool = False,
    **loading: Any,
) -> Evaluation:
    """Measure how rerankers change the order of a first stage's candidates, on a collection with qrels.

    A passage without a grade counts as not relevant. Queries of which no candidate is relevant count as 0 before and
    after; those without any relevant passage are left out, and so are those without candidates in ``run_file``.

    Args:
        folder: A folder in BEIR layout with qrels, or a `Collection`.
        models: What `load_reranker` takes, or a `Reranker`. All are loaded before anything is computed.
        embedder: The first stage: ``"embed-static-en"``, or a sentence-transformers model. The search is exact.
        run_file: A TREC run file of your own retriever, instead of an embedder; or a `FirstStage`.
        fetch_k: The number of candidates a query, at least 1.
        split: Which qrels/SPLIT.tsv of a folder to read; None takes the first that exists of test, dev, train.
        max_queries: The size of a random sample of queries; None takes all.
        seed: The seed of the sample, of the bootstrap and of the test; 0 or more.
        work_folder: A folder for scores, written as they are computed, so that the same call continues after a stop.
            Scores of a `Reranker` that is not from `load_reranker` are not written: it cannot be recognized again.
        progress: Show a progress bar on standard error.
        **loading: Options of `load_reranker`, for the models that are given by name.

    Returns:
        For each reranker: means with 95 % intervals, the difference with its p, seconds, depths, queries, a verdict.

    Raises:
        InvalidInputError: An option is unknown or out of its range; a collection, a run or a folder cannot be used.
        ModelNotFoundError: A model cannot be found.
        ModelLoadError: A model's files cannot be used.
        MissingExtraError: An extra is not installed.
        ScoringError: A reranker failed. Scores in ``work_folder`` are kept.
    """
    check_options(embedder, run_file, fetch_k, max_queries, seed, loading)
    log_folder = None if work_folder is None else _create_folder(expand(work_folder))
    whole = folder if isinstance(folder, Collection) else read_collection(folder, split)
    collection = sample_queries(whole, max_queries, seed)
    with load_systems(models, **loading) as systems, progress_bar(visible=progress) as bar:
        processor = describe_processor(loading.get("threads") or count_usable_cpus())
        stage = find_candidates(collection, embedder, run_file, fetch_k, bar)
        queries = build_queries(collection, stage)
        order = [range(len(query.candidates)) for query in queries]
        before = summarize(compute_metrics(queries, order), seed)
        rerankers = []
        for system in systems:
            was = system.reranker.stats()
            with _open_log(log_folder, system, processor) as log:
                results = _score_queries(system, queries, log, bar)
            now = system.reranker.stats()
            reranked = compare(system, queries, before, results, fetch_k=fetch_k, seed=seed)
            tokens, units = now.tokens - was.tokens, now.billed_units - was.billed_units
            rerankers.append(replace(reranked, tokens=tokens, billed_units=units))
    return Evaluation(
        collection=collection.name,
        passages=len(collection.passages),
        queries=len(queries),
        first_stage=stage.name,
        fetch_k=fetch_k,
        recall=mean_metric(queries, order, f"R@{fetch_k}"),
        before=before,
        rerankers=rerankers,
        machine=", ".join([processor, *sorted({system.device for system in systems} - {"cpu", "unknown"})]),
    )


def _create_folder(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidInputError(
            f"{folder} cannot be created ({exc}). Name a folder that can be written to, for the scores."
        ) from exc
    return folder


def _open_log(folder: Path | None, system: System, processor: str) -> AbstractContextManager[ScoreLog]:
    identity = None if folder is None else system.identity()
    if folder is None or identity is None:
        return nullcontext(ScoreLog())
    # The processor is in the key so that latencies of two machines are never mixed.
    return open_score_log(folder, system.label, json.dumps([identity, processor]))


def _score_queries(system: System, queries: Sequence[JudgedQuery], log: ScoreLog, bar: Progress) -> list[QueryScores]:
    """Scores from the log, or computed one query at a time, after one call to warm up."""
    results = []
    warm = False
    for query in bar.track(queries, description=f"reranking with {system.label}"):
        result = log.get(query)
        if result is None:
            if not warm:
                system.reranker.score(query.pairs)
                warm = True
            result = _score_query(system.reranker, query)
            log.put(query, result)
        results.append(result)
    return results


def _score_query(reranker: Reranker, query: JudgedQuery) -> QueryScores:
    start = time.perf_counter()
    raw = reranker.score(query.pairs)
    seconds = time.perf_counter() - start
    by_position = dict(zip(query.positions, raw, strict=True))
    return QueryScores([by_position.get(position) for position in range(len(query.texts))], seconds)
