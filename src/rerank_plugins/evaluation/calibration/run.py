"""`calibrate`: fits a `Calibration` to judged queries, and measures it on other queries."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.files import expand
from rerank_plugins.calibration import Calibration, Method
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.calibration.curves import ScoredQuery, better_method, fit
from rerank_plugins.evaluation.calibration.error import (
    ThresholdEffect,
    brier_score,
    calibration_error,
    threshold_effects,
)
from rerank_plugins.evaluation.candidates import check_options, find_candidates, progress_bar
from rerank_plugins.evaluation.queries import JudgedQuery, build_queries, check_qrels
from rerank_plugins.evaluation.systems import label_of
from rerank_plugins.loading import load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import sigmoid
from rerank_plugins.retrieval.beir import Collection, read_collection
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.retrieval.first_stage import FirstStage

__all__ = ["CalibrationResult", "Half", "calibrate"]

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
    check_options(
        "calibrate",
        embedder=embedder,
        run_file=run_file,
        fetch_k=fetch_k,
        max_queries=max_queries,
        seed=seed,
        loading=loading,
    )
    if method not in ("auto", *get_args(Method)):
        raise InvalidInputError(f"method must be 'auto', 'platt' or 'isotonic', got {method!r}.")
    if isinstance(model, Reranker) and loading:
        raise InvalidInputError(
            f"Got a Reranker and {', '.join(loading)}. Give these options to load_reranker, or name the model."
        )
    collection = _drop_blank_queries(read_collection(expand(folder), split))
    loaded: AbstractContextManager[Reranker] = (
        nullcontext(model) if isinstance(model, Reranker) else load_reranker(model, **loading)
    )
    with loaded as reranker, progress_bar(visible=progress) as bar:
        stage = find_candidates(collection, embedder, run_file, fetch_k, bar)
        sample = _shuffle_queries(collection, stage, seed)[:max_queries]
        queries = build_queries(replace(collection, qrels={name: collection.qrels[name] for name in sample}), stage)
        half = _middle([query.text for query in queries])
        source = f"{collection.name}{f', {split}' if split else ''}, top {fetch_k} of {stage.name}"
        # Before scoring, which may take an hour.
        fitted = _count_half(source, "fit on", queries[:half])
        held_out = _count_half(source, "hold out", queries[half:])
        scored = [
            ScoredQuery(reranker.score(query.pairs), _labels(query))
            for query in bar.track(queries, description="scoring")
        ]
    source = f"{source}: {fitted.pairs} pairs of {fitted.queries} queries, {fitted.relevant} relevant"
    chosen, log_loss = better_method(scored[:half]) if method == "auto" else (method, {})
    curve = replace(fit(chosen, scored[:half]), model=label_of(model), fitted_on=source)
    return _measure(curve, scored[half:], reranker, fitted=fitted, held_out=held_out, log_loss=log_loss)


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


def _shuffle_queries(collection: Collection, stage: FirstStage, seed: int) -> list[str]:
    """Query ids in random order, whatever their order in the files; those of equal texts are neighbours."""
    texts = sorted({collection.queries[name] for name in stage.candidates})
    random.Random(seed).shuffle(texts)  # noqa: S311 - no secret
    place = {text: number for number, text in enumerate(texts)}
    return sorted(stage.candidates, key=lambda name: (place[collection.queries[name]], name))


def _middle(texts: Sequence[str]) -> int:
    """Where the second half begins: a text that is fitted on is not held out under another id."""
    half = len(texts) // 2
    while 0 < half < len(texts) and texts[half] == texts[half - 1]:
        half += 1
    return half


def _labels(query: JudgedQuery) -> list[bool]:
    """Whether each pair of the query is relevant."""
    relevant = query.is_relevant
    return [relevant[position] for position in query.positions]


def _count_half(source: str, purpose: str, queries: list[JudgedQuery]) -> Half:
    """The numbers of a half.

    Raises:
        InvalidInputError: Too few queries have a relevant candidate, or all candidates are relevant.
    """
    labels = [_labels(query) for query in queries]
    half = Half(
        queries=len(queries),
        answered=sum(any(row) for row in labels),
        pairs=sum(len(row) for row in labels),
        relevant=sum(sum(row) for row in labels),
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


def _measure(
    curve: Calibration,
    queries: list[ScoredQuery],
    reranker: Reranker,
    *,
    fitted: Half,
    held_out: Half,
    log_loss: dict[str, float],
) -> CalibrationResult:
    uncalibrated = sigmoid if reranker.scale == "logit" else float
    return CalibrationResult(
        calibration=replace(
            curve,
            ece_before=calibration_error(queries, uncalibrated),
            ece_after=calibration_error(queries, curve.probability),
        ),
        fitted=fitted,
        held_out=held_out,
        brier_before=brier_score(queries, uncalibrated),
        brier_after=brier_score(queries, curve.probability),
        thresholds=threshold_effects(queries, curve.probability),
        log_loss=log_loss,
    )
