"""`evaluate`: a first stage and rerankers over the same candidates of the same judged queries."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from rich.progress import Progress

from rerank_plugins._internal.files import expand
from rerank_plugins.backends.base import EngineName, Precision
from rerank_plugins.backends.cpu import count_usable_cpus
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.candidates import first_stage, progress_bar
from rerank_plugins.evaluation.comparison import compared, ranking
from rerank_plugins.evaluation.metrics import measured, recall
from rerank_plugins.evaluation.queries import JudgedQuery, judged_queries, sampled
from rerank_plugins.evaluation.results import Evaluation
from rerank_plugins.evaluation.score_log import KeptScores, Scored, kept_scores
from rerank_plugins.evaluation.systems import Contender, contenders
from rerank_plugins.loading import load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.beir import Collection, read_collection
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.retrieval.first_stage import FirstStage


def evaluate(  # noqa: PLR0913 - candidates, sample and every option of loading that scores depend on
    folder: str | Path | Collection,
    models: Sequence[str | Path | Reranker],
    *,
    embedder: str = BUNDLED_EMBEDDER,
    run: str | Path | FirstStage | None = None,
    top_k: int = 50,
    split: str | None = None,
    queries: int | None = None,
    seed: int = 0,
    work_folder: str | Path | None = None,
    progress: bool = False,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    max_length: int = 1024,
) -> Evaluation:
    """Measure what reranking does to the candidates of a first stage, on a judged collection.

    A passage that nobody judged counts as not relevant. Queries of which no candidate is relevant count as 0 before
    and after; those with no passage judged relevant are left out, and so are those without candidates in ``run``.

    Args:
        folder: A folder in BEIR layout, with judgements; or what was read of one.
        models: What `load_reranker` takes, or a `Reranker`. All are loaded before anything is computed.
        embedder: The first stage: ``"embed-static-en"``, or a sentence-transformers model. Exact search.
        run: Instead of an embedder, a TREC run file of your own retriever; or candidates that were found already.
        top_k: Candidates a query, at least 1.
        split: Which qrels/SPLIT.tsv of a folder; None takes the first there is of test, dev, train.
        queries: How many judged queries, a random sample drawn by ``seed``; None takes all.
        seed: Of the sample, of the bootstrap and of the test; 0 or more.
        work_folder: Where scores are kept as they come, so that the same call goes on where it was stopped. Scores of
            a `Reranker` that is not from `load_reranker` are not kept: whether it is the same nobody can tell.
        progress: Show how far it is, on standard error.
        engine: As in `load_reranker`, for the models that are given by name; so are the next.
        precision: See ``engine``.
        device: See ``engine``.
        threads: See ``engine``.
        max_length: See ``engine``.

    Returns:
        Means with 95 % intervals, the difference with its p, seconds, depths, queries, and a verdict, by reranker.

    Raises:
        InvalidInputError: An option outside its range, or a collection, a run or a folder that cannot be used.
        ModelNotFoundError: No place has a model.
        ModelLoadError: A model's files cannot be used.
        MissingExtraError: An extra is not installed.
        ScoringError: A reranker failed. With ``work_folder``, what was computed is kept.
    """
    _check(top_k=top_k, queries=queries, seed=seed)
    if run is not None and embedder != BUNDLED_EMBEDDER:
        found = run.name if isinstance(run, FirstStage) else run
        raise InvalidInputError(
            f"Candidates come from a run file or from an embedder: leave one out of {found}, {embedder}."
        )
    place = None if work_folder is None else _made(expand(work_folder))
    whole = folder if isinstance(folder, Collection) else read_collection(expand(folder), split)
    collection = sampled(whole, queries, seed)
    load = functools.partial(
        load_reranker, engine=engine, precision=precision, device=device, threads=threads, max_length=max_length
    )
    bar = progress_bar(shown=progress)
    with contenders(models, load) as given, bar:
        processor = processor_name(threads)
        stage = first_stage(collection, embedder, run, top_k, bar)
        asked = judged_queries(collection, stage)
        before = ranking(measured(asked, [range(len(query.candidates)) for query in asked]), seed)
        rerankers = []
        for contender in given:
            with _kept(place, contender, processor) as kept:
                scored = _scored(contender, asked, kept, bar)
            rerankers.append(compared(contender, asked, before, scored, top_k=top_k, seed=seed))
    return Evaluation(
        collection=collection.name,
        passages=len(collection.passages),
        queries=len(asked),
        first_stage=stage.name,
        top_k=top_k,
        recall=recall(asked, top_k),
        before=before,
        rerankers=rerankers,
        machine=", ".join([processor, *sorted({one.device for one in given} - {"cpu", "unknown"})]),
    )


def _check(*, top_k: object, queries: object, seed: object) -> None:
    for name, value, least in (("top_k", top_k, 1), ("queries", queries, 1), ("seed", seed, 0)):
        if name == "queries" and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise InvalidInputError(f"{name} must be a whole number of at least {least}, got {value!r}.")


def _made(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise InvalidInputError(
            f"{folder} cannot be made ({exc}). Name a folder that can be written to, to keep scores in."
        ) from exc
    return folder


def _kept(folder: Path | None, contender: Contender, processor: str) -> AbstractContextManager[KeptScores]:
    identity = None if folder is None else contender.identity()
    if folder is None or identity is None:
        return nullcontext(KeptScores())
    # The processor too: a run that goes on elsewhere must not mix the latencies of two.
    return kept_scores(folder, contender.label, json.dumps([identity, processor]))


def _scored(contender: Contender, queries: Sequence[JudgedQuery], kept: KeptScores, bar: Progress) -> list[Scored]:
    """One a query: what is kept, else computed, one query at a time, after one that does not count."""
    task = bar.add_task(f"reranking with {contender.label}", total=len(queries))
    scored = []
    warm = False
    for query in queries:
        one = kept.get(query)
        if one is None:
            if not warm:
                contender.reranker.score_detailed(query.pairs)
                warm = True
            one = _timed(contender.reranker, query)
            kept.put(query, one)
        scored.append(one)
        bar.advance(task)
    bar.remove_task(task)
    return scored


def _timed(reranker: Reranker, query: JudgedQuery) -> Scored:
    scores: list[float | None] = [None] * len(query.texts)
    start = time.perf_counter()
    found = reranker.score_detailed(query.pairs)
    seconds = time.perf_counter() - start
    for position, one in zip(query.filled, found, strict=True):
        scores[position] = one.score
    return Scored(scores, seconds)


def processor_name(threads: int | None) -> str:
    """The processor, and how many of it are computed on."""
    import openvino

    name = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    count = threads or count_usable_cpus()
    return f"{name}, {count} {'thread' if count == 1 else 'threads'}"
