"""Curves from raw scores to probabilities: Platt's and the isotonic one, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from rerank_plugins.calibration import Calibration, Method
from rerank_plugins.errors import InvalidInputError, MissingExtraError

try:
    from sklearn.isotonic import IsotonicRegression
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
except ImportError as exc:
    raise MissingExtraError("eval", "Fitting a calibration", str(exc.name)) from exc

FOLDS = 5

MIN_ISOTONIC_PAIRS = 1000
"""With fewer pairs the isotonic curve overfits, and folds are too small to show it. scikit-learn's user guide on
calibration gives the same number."""

# More knots hardly change the curve, and make its file large.
_MAX_KNOTS = 200


@dataclass(frozen=True, slots=True)
class ScoredQuery:
    """The raw scores of a query's candidates, and which of these are relevant."""

    scores: list[float]
    relevant: list[bool]

    @property
    def answered(self) -> bool:
        """Whether any candidate is relevant."""
        return any(self.relevant)


def pool(queries: Sequence[ScoredQuery]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """All scores and all labels, as one array each."""
    scores = np.array([score for query in queries for score in query.scores], dtype=np.float64)
    return scores, np.array([label for query in queries for label in query.relevant], dtype=np.bool_)


def fit(method: Method, queries: Sequence[ScoredQuery]) -> Calibration:
    """Fit a curve to the pairs of the queries; its metadata (``model``, ``fitted_on``, ``ece_*``) is still empty.

    Raises:
        InvalidInputError: Higher scores are not more often relevant, so that a non-decreasing curve is flat.
    """
    curve = (_fit_platt if method == "platt" else _fit_isotonic)(*pool(queries))
    if curve is None:
        raise InvalidInputError(
            "Relevant documents have no higher scores than others, so no calibration of these scores can tell them "
            "apart. Check that the model reads the language, and that the qrels belong to the texts."
        )
    return Calibration(method=method, model="", fitted_on="", ece_before=0.0, ece_after=0.0, **curve)


def better_method(queries: Sequence[ScoredQuery]) -> tuple[Method, dict[str, float]]:
    """The method of lower log-loss in cross-validation over `FOLDS` folds of queries; Platt's if both are equal.

    Returns:
        The method, and the log-loss of both in nats a pair. Platt's and an empty dictionary for fewer pairs than
        `MIN_ISOTONIC_PAIRS`.
    """
    pairs = sum(len(query.scores) for query in queries)
    if pairs < MIN_ISOTONIC_PAIRS:
        return "platt", {}
    # Sorted, so that each fold has about as many queries with a relevant candidate.
    ordered = sorted(queries, key=lambda query: query.answered)
    losses: dict[str, float] = dict.fromkeys(get_args(Method), 0.0)
    for method in get_args(Method):
        for fold in range(FOLDS):
            curve = fit(method, [query for at, query in enumerate(ordered) if at % FOLDS != fold])
            scores, relevant = pool(ordered[fold::FOLDS])
            probabilities = [curve.probability(score) for score in scores.tolist()]
            losses[method] += float(log_loss(relevant, probabilities, labels=[False, True], normalize=False)) / pairs
    return ("isotonic" if losses["isotonic"] < losses["platt"] else "platt"), losses


def _fit_platt(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> dict[str, Any] | None:
    """Logistic regression on the score, with the targets of Platt (1999), "Probabilistic Outputs for SVMs", 2.2.

    These are not quite 0 and 1, so that the slope stays finite where the scores separate the two perfectly.
    """
    middle, width = scores.mean(), scores.std()
    if not width:
        return None
    positives = int(relevant.sum())
    targets = np.where(relevant, (positives + 1) / (positives + 2), 1 / (len(relevant) - positives + 2))
    column = ((scores - middle) / width)[:, np.newaxis]
    # A target t is a pair of label 1 and weight t beside one of label 0 and weight 1 - t.
    regression = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(
        np.concatenate([column, column]),
        np.repeat([1, 0], len(column)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    slope = float(regression.coef_[0, 0] / width)
    if slope <= 0:
        return None
    return {"slope": slope, "intercept": float(regression.intercept_[0] - slope * middle)}


def _fit_isotonic(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> dict[str, Any] | None:
    # The rule of succession: n pairs of one kind do not justify a probability of exactly 0 or 1.
    edge = 1 / (len(scores) + 2)
    regression = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(scores, relevant)
    knots, values = regression.X_thresholds_, regression.y_thresholds_
    if values[0] == values[-1]:
        return None
    indices = np.unique(np.linspace(0, len(knots) - 1, _MAX_KNOTS).round().astype(int))
    return {"scores": tuple(knots[indices].tolist()), "probabilities": tuple(values[indices].tolist())}
