"""`calibrate`: fits a `Calibration` to judged queries, and measures it on other queries."""

from __future__ import annotations

import random
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.calibration import Calibration, Method
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.calibration.curves import ScoredQuery, better_method, fit
from rerank_plugins.evaluation.calibration.error import (
    THRESHOLDS,
    ThresholdEffect,
    brier_score,
    calibration_error,
    threshold_effect,
)
from rerank_plugins.evaluation.candidates import check_options, find_candidates, progress_bar
from rerank_plugins.evaluation.queries import JudgedQuery, build_queries, check_qrels
from rerank_plugins.evaluation.systems import label_of
from rerank_plugins.loading import load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.beir import Collection, read_collection
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.retrieval.first_stage import FirstStage

MIN_ANSWERED = 10
"""Queries with a relevant candidate that each half needs. Chosen, not measured: with fewer, chance decides."""


@dataclass(frozen=True, slots=True)
class Half:
    """The queries that a calibration is fitted on, or those that are held out."""

    queries: int
    answered: int
    """The number of queries with a relevant candidate."""
    pairs: int
    relevant: int
    """The number of relevant pairs."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """A calibration, and its metrics on the held-out queries."""

    calibration: Calibration
    """The calibration; its ``ece_before`` and ``ece_after`` are of the held-out queries too."""
    fitted: Half
    held_out: Half
    brier_before: float
    """Mean squared error of the uncalibrated scores, in [0, 1]."""
    brier_after: float
    """Mean squared error of the probabilities, in [0, 1]."""
    thresholds: list[ThresholdEffect]
    log_loss: dict[str, float]
    """By method, in nats a pair, cross-validated within the fitted half; empty if no method had to be chosen."""


def calibrate(
    folder: str | Path,
    model: str | Path | Reranker,
    *,
    method: Literal["auto"] | Method = "auto",
    embedder: str = BUNDLED_EMBEDDER,
    run_file: str | Path | None = None,
    fetch_k: int = 50,
    split: str | None = None,
    max_queries: int | None = None,
    seed: int = 0,
    progress: bool = False,
    **loading: Any,
) -> CalibrationResult:
    """Fit a calibration to the candidates of judged queries, and measure it on other queries.

    A random half of the queries is fitted on, the other half is held out. A candidate is relevant if its grade is above
    0; one without a grade counts as not relevant. So a probability is that of being judged relevant, for one of
    ``fetch_k`` candidates of this first stage: another one, or another depth, has another share of relevant candidates.

    Args:
        folder: A folder in BEIR layout, with qrels.
        model: What `load_reranker` takes, or a `Reranker`, whose own calibration is ignored.
        method: ``"platt"``, ``"isotonic"``, or with ``"auto"`` the one of lower log-loss in cross-validation over the
            fitted half; with fewer than 1,000 pairs in it Platt's.
        embedder: The first stage: ``"embed-static-en"``, or a sentence-transformers model. The search is exact.
        run_file: A TREC run file of your own retriever, instead of an embedder.
        fetch_k: The number of candidates a query, at least 1.
        split: Which qrels/SPLIT.tsv to read; None takes the first that exists of test, dev, train.
        max_queries: The size of a random sample of queries; None takes all.
        seed: The seed of the sample and of the halves; 0 or more.
        progress: Show a progress bar on standard error.
        **loading: Options of `load_reranker`: those that the calibration will be used with.

    Raises:
        InvalidInputError: An option is unknown or out of its range; a collection or a run cannot be used; there are
            too few queries, or relevant documents have no higher scores than others.
        MissingExtraError: The extra ``eval`` is not installed.
        ModelNotFoundError, ModelLoadError, ScoringError: As of `load_reranker` and `Reranker.score`.
    """
    check_options(embedder, run_file, fetch_k, max_queries, seed, loading)
    if method not in ("auto", *get_args(Method)):
        raise InvalidInputError(f"method must be 'auto', 'platt' or 'isotonic', got {method!r}.")
    if isinstance(model, Reranker) and loading:
        raise InvalidInputError(
            f"Got a Reranker and {', '.join(loading)}. Give these options to load_reranker, or name the model."
        )
    collection = _drop_blank_queries(read_collection(folder, split))
    loaded = nullcontext(model) if isinstance(model, Reranker) else load_reranker(model, **loading)
    with loaded as reranker, progress_bar(visible=progress) as bar:
        stage = find_candidates(collection, embedder, run_file, fetch_k, bar)
        first, second = _draw_halves(collection, stage, max_queries, seed)
        source = f"{collection.name}{f', {split}' if split else ''}, top {fetch_k} of {stage.name}"
        # Before scoring, which may take an hour.
        fitted = _count_half(source, "fit on", first)
        held_out = _count_half(source, "hold out", second)
        scored = [
            ScoredQuery(reranker.score(query.pairs), _list_labels(query))
            for query in bar.track([*first, *second], description="scoring")
        ]
    to_fit, to_measure = scored[: len(first)], scored[len(first) :]
    chosen, log_loss = better_method(to_fit) if method == "auto" else (method, {})
    source = f"{source}: {fitted.pairs} pairs of {fitted.queries} queries, {fitted.relevant} relevant"
    curve = replace(fit(chosen, to_fit), model=label_of(model), fitted_on=source)
    before, after = reranker.as_uncalibrated, curve.probability
    ece_before, ece_after = (calibration_error(to_measure, probability) for probability in (before, after))
    return CalibrationResult(
        replace(curve, ece_before=ece_before, ece_after=ece_after),
        fitted=fitted,
        held_out=held_out,
        brier_before=brier_score(to_measure, before),
        brier_after=brier_score(to_measure, after),
        thresholds=[threshold_effect(to_measure, after, threshold) for threshold in THRESHOLDS],
        log_loss=log_loss,
    )


def _drop_blank_queries(collection: Collection) -> Collection:
    """The collection with the qrels of queries that are in queries.jsonl and not blank."""
    check_qrels(collection)
    qrels = {
        name: grades for name, grades in collection.qrels.items() if not is_blank(collection.queries.get(name, ""))
    }
    if not qrels:
        raise InvalidInputError(
            f"None of the {len(collection.qrels)} judged queries of {collection.name} has a text in queries.jsonl. "
            f"Give the qrels of these queries."
        )
    return replace(collection, qrels=qrels)


def _draw_halves(
    collection: Collection, stage: FirstStage, max_queries: int | None, seed: int
) -> tuple[list[JudgedQuery], list[JudgedQuery]]:
    """Queries in random order, whatever their order in the files; those of equal texts are in the same half."""
    texts = sorted({collection.queries[name] for name in stage.candidates})
    random.Random(seed).shuffle(texts)  # noqa: S311 - no secret
    place = {text: number for number, text in enumerate(texts)}
    names = sorted(stage.candidates, key=lambda name: (place[collection.queries[name]], name))[:max_queries]
    queries = build_queries(replace(collection, qrels={name: collection.qrels[name] for name in names}), stage)
    half = len(queries) // 2
    while 0 < half < len(queries) and queries[half].text == queries[half - 1].text:
        half += 1
    return queries[:half], queries[half:]


def _list_labels(query: JudgedQuery) -> list[bool]:
    """Whether each pair of the query is relevant."""
    relevant = query.is_relevant
    return [relevant[position] for position in query.positions]


def _count_half(source: str, purpose: str, queries: list[JudgedQuery]) -> Half:
    """The numbers of a half; it needs `MIN_ANSWERED` queries with a relevant candidate, and other candidates."""
    labels = [_list_labels(query) for query in queries]
    half = Half(
        queries=len(labels),
        answered=sum(map(any, labels)),
        pairs=sum(map(len, labels)),
        relevant=sum(map(sum, labels)),
    )
    if half.answered < MIN_ANSWERED:
        raise InvalidInputError(
            f"{source}: of the {half.queries} queries to {purpose}, {half.answered} have a relevant passage among "
            f"their candidates, expected at least {MIN_ANSWERED} in either half. Give more judged queries, more "
            f"candidates (fetch_k), or the run of a retriever that finds more."
        )
    if half.relevant == half.pairs:
        raise InvalidInputError(
            f"{source}: all {half.pairs} candidates of the {half.queries} queries to {purpose} are relevant, expected "
            f"others too. Give the candidates that a retriever finds, not only the relevant passages."
        )
    return half
