"""The uncertainty of a mean over queries: a bootstrap interval, and a paired randomization test."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.evaluation.results import Interval

try:
    from scipy.stats import bootstrap, permutation_test
except ImportError as exc:
    raise MissingExtraError("eval", "An evaluation", str(exc.name)) from exc

__all__ = ["RESAMPLES", "interval", "p_value"]

RESAMPLES = 10_000
"""Resamples of the bootstrap, and sign patterns of the test: enough for the third digit of the results."""

# Numbers in memory at a time while resampling: 16 MB.
_BLOCK = 2_000_000


def interval(values: Iterable[float], seed: int) -> Interval:
    """The mean of ``values``, with the 95 % percentile bootstrap interval over them.

    The interval of a single value is the value itself.
    """
    sample = np.fromiter(values, dtype=np.float64)
    mean = float(sample.mean())
    if len(sample) == 1:
        return Interval(mean, mean, mean)
    bounds = bootstrap(
        (sample,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BLOCK // len(sample)),
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(bounds.low), float(bounds.high))


def p_value(differences: Iterable[float], seed: int) -> float:
    """Two-sided p of the mean difference under random signs of the differences.

    Exact if there are no more sign patterns than `RESAMPLES` (13 queries); otherwise (b + 1) / (n + 1) of that many
    random ones, which is 0.0002 at least. The p of a single difference is 1.
    """
    sample = np.fromiter(differences, dtype=np.float64)
    if len(sample) == 1:
        return 1.0
    test = permutation_test(
        (sample,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=max(1, _BLOCK // len(sample)),
        random_state=np.random.default_rng(seed),
    )
    return float(test.pvalue)
