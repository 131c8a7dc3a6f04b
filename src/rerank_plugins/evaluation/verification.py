"""Published scores of known models, and whether an installation computes them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import rank, sigmoid
from rerank_plugins.scorers.base import Scale

__all__ = ["Verification", "verify"]

Computed = Literal["fp32", "fp16", "bf16", "int8"]
"""The precisions of scores, from the finest to the coarsest."""

TOLERANCE: dict[Computed, dict[Scale, float]] = {
    # fastembed's tests have it for bge-reranker-base's logits. A sigmoid moves by a quarter of its logit at most, so
    # 1e-3 also covers other kernels and other orders of summation.
    "fp32": {"logit": 1e-3, "probability": 1e-3},
    # fp16 logits move by up to 0.02 with batch and GPU. 0.05 is chosen: both sides may move, and a step of fp16 is
    # 0.008 near 8. The bound for sigmoids is that of bf16, because a quarter of 0.05 would be more than it.
    "fp16": {"logit": 0.05, "probability": 0.01},
    # ±0.01 is published for sigmoids. For logits four steps of bf16 between 8 and 16 are chosen.
    "bf16": {"logit": 0.25, "probability": 0.01},
    # Chosen, not measured on these models: half a logit is the step from 0.50 to 0.62. A sigmoid moves by a quarter of
    # it at most. Whether an int8 model still ranks as before is in its fidelity report.
    "int8": {"logit": 0.5, "probability": 0.125},
}
"""The largest difference that passes, by the coarser of two precisions and by the scale of the published score."""


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One published score."""

    query: str
    passage: str
    score: float
    scale: Scale
    """``"logit"``, or ``"probability"`` for its sigmoid."""
    precision: Computed
    """The precision that it was computed in."""
    source: str
    """Where it was published, if that is known."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published score and the one that was computed here, on the published scale."""

    published: PublishedScore
    here: float
    difference: float
    """Here less published."""
    tolerance: float
    ok: bool


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """The passages of one query, best first, by the published scores and by those computed here."""

    query: str
    published: tuple[str, ...]
    here: tuple[str, ...]
    ok: bool
    """False if two passages changed places whose published scores differ by more than two tolerances."""


@dataclass(frozen=True, slots=True)
class Verification:
    """The scores that an installation computes, compared with the published ones."""

    published_as: str
    """The model's name among `PUBLISHED`."""
    engine: str
    """``"openvino"``, ``"torch"``, or the class of a custom scorer."""
    precision: Computed
    device: str
    scores: tuple[Comparison, ...]
    orders: tuple[OrderComparison, ...]
    """One entry for each query that has several passages."""

    @property
    def ok(self) -> bool:
        """Whether every score is within its tolerance and every order is the published one."""
        return all(one.ok for one in self.scores) and all(one.ok for one in self.orders)


def _read_published() -> dict[str, tuple[PublishedScore, ...]]:
    lines = (Path(__file__).parent / "published_scores.jsonl").read_text(encoding="utf-8").splitlines()
    published: dict[str, tuple[PublishedScore, ...]] = {}
    for row in map(json.loads, lines):
        model = row.pop("model")
        published[model] = (*published.get(model, ()), PublishedScore(**row))
    return published


# Of the first pair of bge-reranker-v2-m3, another GPU gave -5.65625.
PUBLISHED = _read_published()
"""Published scores by the last part of a model's name."""


# Of models that are not BAAI's.
_OWNERS = {"Qwen3-Reranker-0.6B": "Qwen", "Qwen3-Reranker-0.6B-seq-cls": "tomaarsen"}


def repository_of(name: str) -> str:
    """The repository on the hub of one of `PUBLISHED`."""
    return f"{_OWNERS.get(name, 'BAAI')}/{name}"


def published_name(model: str, given: str | None = None) -> str:
    """The name in `PUBLISHED` that applies to a model: ``given``, or the last part of its name or folder."""
    name = Path(model).name if given is None else given
    if name not in PUBLISHED:
        raise InvalidInputError(
            f"There are no published scores of {name!r}, only of {', '.join(PUBLISHED)}. If {model!r} holds one of "
            f"these models, such as an export of it, say which: --as {next(iter(PUBLISHED))} (published_as in Python)."
        )
    return name


def verify(reranker: Reranker, published_as: str, *, precision: Computed | None = None) -> Verification:
    """Score the published pairs and compare.

    Args:
        reranker: A reranker with any scorer. Scores are converted to the scale of the published ones.
        published_as: One of the names in `PUBLISHED`; a name on the hub may stand before it.
        precision: The precision of the reranker. None takes its engine's, or ``"fp32"``, the strictest, for a scorer
            without an engine.

    Raises:
        InvalidInputError: There are no published scores of that name, or no such precision.
        ScoringError: The scorer gave something that is not one finite number a pair.
    """
    name = published_name(published_as)
    engine: Any = getattr(reranker.scorer, "engine", None)
    computed: Computed = getattr(engine, "precision", "fp32") if precision is None else precision
    if computed not in TOLERANCE:
        raise InvalidInputError(f"precision must be one of {', '.join(get_args(Computed))}; got {computed!r}.")
    published = PUBLISHED[name]
    raw = reranker.score([(one.query, one.passage) for one in published])
    scores = tuple(_compare(one, score, reranker.scale, computed) for one, score in zip(published, raw, strict=True))
    return Verification(
        name,
        engine=str(getattr(engine, "name", type(reranker.scorer).__name__)),
        precision=computed,
        device=str(getattr(engine, "device", "unknown")),
        scores=scores,
        orders=_compare_orders(scores, raw),
    )


def _compare(published: PublishedScore, score: float, scale: Scale, computed: Computed) -> Comparison:
    if scale != published.scale:
        score = sigmoid(score) if scale == "logit" else _logit(score)
    coarser = max(published.precision, computed, key=list(TOLERANCE).index)
    tolerance = TOLERANCE[coarser][published.scale]
    difference = score - published.score
    return Comparison(published, score, difference, tolerance, abs(difference) <= tolerance)


def _logit(probability: float) -> float:
    """The inverse of `sigmoid`, finite for 0 and 1 too."""
    inside = min(max(probability, 5e-324), 1 - 2**-53)
    return math.log(inside) - math.log1p(-inside)


def _compare_orders(scores: Sequence[Comparison], raw: Sequence[float]) -> tuple[OrderComparison, ...]:
    """Compare orders by the ``raw`` scores, which differ where sigmoids are both 1.0."""
    orders = []
    pairs = zip(scores, raw, strict=True)
    # PUBLISHED has the pairs of a query side by side.
    for query, group in groupby(pairs, key=lambda pair: pair[0].published.query):
        compared, after = zip(*group, strict=True)
        before = [one.published.score for one in compared]
        # Two passages closer than that may be in either order, because each may move by its tolerance.
        distance = 2 * compared[0].tolerance
        places = range(len(compared))
        swapped = any(before[i] - before[j] > distance and after[i] < after[j] for i in places for j in places)
        published, here = (tuple(compared[i].published.passage for i in rank(order)) for order in (before, after))
        if len(places) > 1:
            orders.append(OrderComparison(query, published, here, ok=not swapped))
    return tuple(orders)


def explain(result: Verification, model: str) -> str:
    """The message for a failed verification of ``model``: what is off, and what to check."""
    off = [one for one in result.scores if not one.ok]
    findings = []
    for scale, word in (("logit", "logit"), ("probability", "sigmoid")):
        differences = [abs(one.difference) for one in off if one.published.scale == scale]
        if differences:
            findings.append(f"by up to {max(differences):.3g} as a {word}")
    swapped = sum(not one.ok for one in result.orders)
    findings.append(
        f"the order is another one for {swapped} of {len(result.orders)} queries" if swapped else "the order is kept"
    )
    return (
        f"This installation does not compute what was published for {result.published_as}: {len(off)} of "
        f"{len(result.scores)} scores are off, {', '.join(findings)}.\n"
        f"What to look at:\n"
        f"  - the weights: {model} may hold those of another model, or a damaged file. To get them anew: "
        f"hf download {repository_of(result.published_as)} --local-dir models/{result.published_as}\n"
        f'  - the precision: {result.precision} here; the finest is --precision fp32 (precision="fp32" in Python).\n'
        f'  - the engine: {result.engine} here; the reference is --engine torch (engine="torch" in Python).\n'
        f"  - rerank-plugins doctor says which engines, versions and files there are."
    )
