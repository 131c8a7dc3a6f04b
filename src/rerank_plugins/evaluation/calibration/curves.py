"""Curves from raw scores to probabilities: Platt's and the isotonic one, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rerank_plugins.calibration import Calibration, Method
from rerank_plugins.errors import InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ScoredQuery", "better_method", "fit", "pool"]

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
    import numpy as np

    scores = np.array([score for query in queries for score in query.scores], dtype=np.float64)
    return scores, np.array([label for query in queries for label in query.relevant], dtype=np.bool_)


def fit(method: Method, queries: Sequence[ScoredQuery]) -> Calibration:
    """Fit a curve to the pairs of the queries; its metadata (``model``, ``fitted_on``, ``ece_*``) is still empty.

    Raises:
        InvalidInputError: Higher scores are not more often relevant, so that a non-decreasing curve is flat.
        MissingExtraError: scikit-learn is not installed.
    """
    try:
        import sklearn.isotonic
        import sklearn.linear_model  # noqa: F401 - imported here for one error message
    except ImportError as exc:
        raise MissingExtraError("eval", "Fitting a calibration", str(exc.name)) from exc
    curve = _platt(queries) if method == "platt" else _isotonic(queries)
    if curve is None:
        raise InvalidInputError(
            "Relevant documents have no higher scores than others, so no calibration of these scores can tell them "
            "apart. Check that the model reads the language, and that the qrels belong to the texts."
        )
    metadata: dict[str, Any] = {"model": "", "fitted_on": "", "ece_before": 0.0, "ece_after": 0.0}
    return Calibration(method=method, **metadata, **curve)


def better_method(queries: Sequence[ScoredQuery]) -> tuple[Method, dict[str, float]]:
    """The method of lower log-loss in cross-validation over `FOLDS` folds of queries; Platt's if both are equal.

    Returns:
        The method, and the log-loss of both in nats a pair. Platt's and an empty dictionary for fewer pairs than
        `MIN_ISOTONIC_PAIRS`.
    """
    if sum(len(query.scores) for query in queries) < MIN_ISOTONIC_PAIRS:
        return "platt", {}
    # Sorted, so that each fold has about as many queries with a relevant candidate.
    ordered = sorted(queries, key=lambda query: query.answered)
    losses: dict[str, float] = {}
    methods: tuple[Method, ...] = ("platt", "isotonic")
    for method in methods:
        total = 0.0
        for fold in range(FOLDS):
            held_out = ordered[fold::FOLDS]
            curve = fit(method, [query for at, query in enumerate(ordered) if at % FOLDS != fold])
            total += _log_loss(curve, held_out)
        losses[method] = total / sum(len(query.scores) for query in queries)
    return ("isotonic" if losses["isotonic"] < losses["platt"] else "platt"), losses


def _log_loss(curve: Calibration, queries: Sequence[ScoredQuery]) -> float:
    """The sum over all pairs, in nats."""
    from sklearn.metrics import log_loss

    scores, relevant = pool(queries)
    probabilities = [curve.probability(score) for score in scores.tolist()]
    return float(log_loss(relevant, probabilities, labels=[False, True], normalize=False))


def _platt(queries: Sequence[ScoredQuery]) -> dict[str, Any] | None:
    """Logistic regression on the score, with the targets of Platt (1999), "Probabilistic Outputs for SVMs", 2.2.

    These are not quite 0 and 1, so that the slope stays finite where the scores separate the two perfectly.
    """
    import numpy as np
    from sklearn.linear_model import LogisticRegression

    scores, relevant = pool(queries)
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


def _isotonic(queries: Sequence[ScoredQuery]) -> dict[str, Any] | None:
    import numpy as np
    from sklearn.isotonic import IsotonicRegression

    scores, relevant = pool(queries)
    # The rule of succession: n pairs of one kind do not justify a probability of exactly 0 or 1.
    edge = 1 / (len(scores) + 2)
    regression = IsotonicRegression(y_min=edge, y_max=1 - edge, out_of_bounds="clip").fit(scores, relevant)
    knots, values = regression.X_thresholds_, regression.y_thresholds_
    if values[0] == values[-1]:
        return None
    indices = np.unique(np.linspace(0, len(knots) - 1, _MAX_KNOTS).round().astype(int))
    return {"scores": tuple(knots[indices].tolist()), "probabilities": tuple(values[indices].tolist())}
