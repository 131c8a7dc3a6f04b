"""How far a mean over queries can be trusted: a bootstrap interval, and a paired randomization test."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.evaluation.results import Interval

try:
    from scipy.stats import bootstrap, permutation_test
except ImportError as exc:
    raise MissingExtraError("eval", "An evaluation", str(exc.name)) from exc

RESAMPLES = 10_000
"""Resamples of the bootstrap, and sign flips of the test: enough for the third digit of what is reported."""

# Numbers held at once while resampling: 16 MB.
_BLOCK = 2_000_000


def interval(values: Iterable[float], seed: int) -> Interval:
    """The mean of ``values``, with the 95 % percentile bootstrap interval over them.

    Of a single value nothing can be said: the interval is the value itself.
    """
    given = np.fromiter(values, dtype=np.float64)
    mean = float(given.mean())
    if len(given) == 1:
        return Interval(mean, mean, mean)
    found = bootstrap(
        (given,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _BLOCK // len(given)),
        method="percentile",
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(found.low), float(found.high))


def p_value(differences: Iterable[float], seed: int) -> float:
    """Two-sided p of the mean difference, if each could as well have had the other sign.

    Exact where there are no more sign patterns than `RESAMPLES` (13 queries); else (b + 1) / (n + 1) of so many
    random ones, which is 0.0002 at least. A single difference proves nothing: 1.
    """
    given = np.fromiter(differences, dtype=np.float64)
    if len(given) == 1:
        return 1.0
    found = permutation_test(
        (given,),
        np.mean,
        permutation_type="samples",
        n_resamples=RESAMPLES,
        batch=max(1, _BLOCK // len(given)),
        random_state=np.random.default_rng(seed),
    )
    return float(found.pvalue)
