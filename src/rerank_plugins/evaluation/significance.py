"""The uncertainty of a mean over queries: a bootstrap interval, and a paired randomization test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.evaluation.results import Interval

try:
    from scipy.stats import bootstrap, permutation_test
except ImportError as exc:
    raise MissingExtraError("eval", "An evaluation", str(exc.name)) from exc

RESAMPLES = 10_000
"""Resamples of the bootstrap, and sign patterns of the test: enough for the third digit of the results."""

# Numbers in memory at a time while resampling: 16 MB.
_BLOCK = 2_000_000


def interval(values: Iterable[float], seed: int) -> Interval:
    """The mean of ``values`` with its 95 % percentile bootstrap interval, of no width for a single value."""
    sample = np.fromiter(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, mean, mean)
    bounds = bootstrap((sample,), np.mean, method="percentile", **_resampling(len(sample), seed)).confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high))


def p_value(differences: Iterable[float], seed: int) -> float:
    """Two-sided p of the mean difference under random signs of the differences.

    Exact if there are no more sign patterns than `RESAMPLES` (13 queries); otherwise (b + 1) / (n + 1) of that many
    random ones, which is 0.0002 at least. The p of a single difference is 1.
    """
    sample = np.fromiter(differences, dtype=np.float64)
    if len(sample) == 1:
        return 1.0
    test = permutation_test((sample,), np.mean, permutation_type="samples", **_resampling(len(sample), seed))
    return float(test.pvalue)


def _resampling(queries: int, seed: int) -> dict[str, Any]:
    batch = max(1, _BLOCK // queries)
    return {"n_resamples": RESAMPLES, "batch": batch, "random_state": np.random.default_rng(seed)}
