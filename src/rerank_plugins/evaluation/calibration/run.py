"""`calibrate`: judged queries in, a `Calibration` out, with what it is worth on queries it has not seen."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from rich.progress import Progress

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
from rerank_plugins.evaluation.candidates import first_stage, progress_bar
from rerank_plugins.evaluation.systems import label_of
from rerank_plugins.loading import load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import sigmoid
from rerank_plugins.retrieval.beir import Collection, read_collection
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.retrieval.first_stage import FirstStage

FEWEST_ANSWERED = 10
"""Queries with a relevant candidate that each half needs. Chosen, not measured: with fewer, chance decides."""


@dataclass(frozen=True, slots=True)
class Half:
    """The queries that were fitted on, or those that were held out."""

    queries: int
    answered: int
    """Queries with a relevant candidate."""
    pairs: int
    relevant: int
    """Pairs that are."""


@dataclass(frozen=True, slots=True)
class CalibrationResult:
    """A calibration, and what was measured on the queries that were held out."""

    calibration: Calibration
    """Its ``ece_before`` and ``ece_after`` are of the held-out queries too."""
    fitted: Half
    held_out: Half
    brier_before: float
    """Mean squared error of the probabilities, in [0, 1]."""
    brier_after: float
    thresholds: list[ThresholdEffect]
    log_loss: dict[str, float]
    """By method, in nats a pair, cross-validated within the fitted half; empty where nothing had to be chosen."""


def calibrate(
    folder: str | Path,
    model: str | Path | Reranker,
    *,
    method: Literal["auto"] | Method = "auto",
    embedder: str = BUNDLED_EMBEDDER,
    run: str | Path | None = None,
    top_k: int = 50,
    split: str | None = None,
    queries: int | None = None,
    seed: int = 0,
    progress: bool = False,
    **loading: Any,
) -> CalibrationResult:
    """Fit a calibration to the candidates of judged queries, and measure it on other queries.

    Half of the queries, drawn by ``seed``, are fitted on, the other half is held out. A candidate is relevant if its
    grade is above 0; one that nobody judged counts as not relevant. So a probability is that of being judged relevant,
    for one of ``top_k`` candidates of such a first stage: another one, or another depth, has another share of relevant
    candidates.

    Args:
        folder: A folder in BEIR layout, with judgements.
        model: What `load_reranker` takes, or a `Reranker`, whose own calibration is not asked.
        method: ``"platt"``, ``"isotonic"``, or the one of lower log-loss in cross-validation over the queries that are
            fitted on; with fewer than 1,000 pairs to fit on it is Platt's.
        embedder: The first stage: ``"embed-static-en"``, or a sentence-transformers model. Exact search.
        run: Instead of an embedder, a TREC run file of your own retriever.
        top_k: Candidates a query, at least 1.
        split: Which qrels/SPLIT.tsv; None takes the first there is of test, dev, train.
        queries: How many judged queries, a random sample drawn by ``seed``; None takes all.
        seed: Of the sample and of the halves.
        progress: Show how far it is, on standard error.
        **loading: Options of `load_reranker`: those that the calibration will be used with.

    Raises:
        InvalidInputError: An option outside its range; a collection or a run that cannot be used; too few queries;
            scores that tell nothing.
        MissingExtraError: The extra ``eval`` is not installed.
        ModelNotFoundError, ModelLoadError, ScoringError: As of `load_reranker` and `Reranker.score`.
    """
    _check(method=method, top_k=top_k, queries=queries, run=run, embedder=embedder)
    if isinstance(model, Reranker) and loading:
        raise InvalidInputError(f"Got a Reranker and, beside it, {' and '.join(loading)}: it is loaded already.")
    collection = _judged(read_collection(expand(folder), split))
    given: AbstractContextManager[Reranker] = (
        nullcontext(model) if isinstance(model, Reranker) else load_reranker(model, **loading)
    )
    bar = progress_bar(shown=progress)
    with given as reranker, bar:
        stage = first_stage(collection, embedder, run, top_k, bar)
        drawn = _drawn(collection, stage, seed)[:queries]
        half = _middle([collection.queries[name] for name in drawn])
        source = f"{collection.name}{f', {split}' if split else ''}, top {top_k} of {stage.name}"
        labelled = [_labelled(collection, stage, name) for name in drawn]
        # Before they are scored, which may take an hour.
        _half(source, "fit on", labelled[:half])
        _half(source, "hold out", labelled[half:])
        scored = _scored(reranker, collection, stage, drawn, bar)
    return _measured(reranker, label_of(model), source, method, scored[:half], scored[half:])


def _judged(collection: Collection) -> Collection:
    """With the judgements of queries that are there and say something."""
    if not collection.judgements:
        raise InvalidInputError(
            f"{collection.name} has no judgements, and what is relevant must be known. Expected qrels/test.tsv with "
            f"lines of query-id, corpus-id and score."
        )
    known = {
        name: grades for name, grades in collection.judgements.items() if not is_blank(collection.queries.get(name, ""))
    }
    if not known:
        raise InvalidInputError(
            f"None of the {len(collection.judgements)} judged queries of {collection.name} has a text in "
            f"queries.jsonl. Give the judgements of these queries."
        )
    return replace(collection, judgements=known)


def _drawn(collection: Collection, stage: FirstStage, seed: int) -> list[str]:
    """Query ids in random order, whatever order they come in; those of equal texts beside each other."""
    texts = sorted({collection.queries[name] for name in stage.candidates})
    random.Random(seed).shuffle(texts)  # noqa: S311 - a sample, no secret
    place = {text: number for number, text in enumerate(texts)}
    return sorted(stage.candidates, key=lambda name: (place[collection.queries[name]], name))


def _middle(texts: Sequence[str]) -> int:
    """Where the second half begins: a question that was fitted on is not held out under another id."""
    half = len(texts) // 2
    while 0 < half < len(texts) and texts[half] == texts[half - 1]:
        half += 1
    return half


def _check(*, method: str, top_k: int, queries: int | None, run: str | Path | None, embedder: str) -> None:
    if method not in ("auto", *get_args(Method)):
        raise InvalidInputError(f"method must be 'auto', 'platt' or 'isotonic', got {method!r}.")
    for name, value in (("top_k", top_k), ("queries", 1 if queries is None else queries)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise InvalidInputError(f"{name} must be a whole number of at least 1, got {value!r}.")
    if run is not None and embedder != BUNDLED_EMBEDDER:
        raise InvalidInputError(f"Candidates come from a run file or from an embedder: leave {run} or {embedder} out.")


def _scored(
    reranker: Reranker, collection: Collection, stage: FirstStage, names: Sequence[str], bar: Progress
) -> list[ScoredQuery]:
    scored = []
    for name in bar.track(names, description="scoring"):
        query, passages = collection.queries[name], _filled(collection, stage, name)
        scores = reranker.score((query, collection.passages[passage]) for passage in passages)
        scored.append(ScoredQuery(scores, _labelled(collection, stage, name).relevant))
    return scored


def _filled(collection: Collection, stage: FirstStage, name: str) -> list[str]:
    # A reranker gives blank passages 0.0 without the model.
    return [passage for passage, _ in stage.candidates[name] if not is_blank(collection.passages[passage])]


def _labelled(collection: Collection, stage: FirstStage, name: str) -> ScoredQuery:
    """What is known of a query before it is scored."""
    grades, passages = collection.judgements.get(name, {}), _filled(collection, stage, name)
    return ScoredQuery([0.0] * len(passages), [grades.get(passage, 0) > 0 for passage in passages])


def _measured(
    reranker: Reranker,
    model: str,
    source: str,
    method: Literal["auto"] | Method,
    fitted: list[ScoredQuery],
    held_out: list[ScoredQuery],
) -> CalibrationResult:
    first, second = _half(source, "fit on", fitted), _half(source, "hold out", held_out)
    chosen, log_loss = better_method(fitted) if method == "auto" else (method, {})
    curve = fit(chosen, fitted)
    uncalibrated = sigmoid if reranker.scale == "logit" else float
    calibration = replace(
        curve,
        model=model,
        fitted_on=f"{source}: {first.pairs} pairs of {first.queries} queries, {first.relevant} relevant",
        ece_before=calibration_error(held_out, uncalibrated),
        ece_after=calibration_error(held_out, curve.probability),
    )
    return CalibrationResult(
        calibration=calibration,
        fitted=first,
        held_out=second,
        brier_before=brier_score(held_out, uncalibrated),
        brier_after=brier_score(held_out, curve.probability),
        thresholds=threshold_effects(held_out, curve.probability),
        log_loss=log_loss,
    )


def _half(source: str, part: str, queries: list[ScoredQuery]) -> Half:
    """Its numbers, if there are enough.

    Raises:
        InvalidInputError: Too few queries have a relevant candidate, or there is nothing but relevant ones.
    """
    half = Half(
        queries=len(queries),
        answered=sum(query.answered for query in queries),
        pairs=sum(len(query.scores) for query in queries),
        relevant=sum(sum(query.relevant) for query in queries),
    )
    if half.answered < FEWEST_ANSWERED:
        raise InvalidInputError(
            f"{source}: of the {half.queries} queries to {part}, {half.answered} have a relevant passage among their "
            f"candidates, expected at least {FEWEST_ANSWERED} in either half. Give more judged queries, more "
            f"candidates (top_k), or the run of a retriever that finds more."
        )
    if half.relevant == half.pairs:
        raise InvalidInputError(
            f"{source}: all {half.pairs} candidates of the {half.queries} queries to {part} are relevant, and what is "
            f"not relevant must be seen too. Give the candidates that a retriever finds, not the judged passages alone."
        )
    return half
