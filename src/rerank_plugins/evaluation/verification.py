"""Published scores of known models, and whether an installation computes them.

from rerank_plugins import load_reranker
from rerank_plugins.evaluation.verification import verify

assert verify(load_reranker("BAAI/bge-reranker-v2-m3"), "bge-reranker-v2-m3").ok
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import rank, sigmoid
from rerank_plugins.scorers.base import Scale

Computed = Literal["fp32", "fp16", "bf16", "int8"]
"""What scores are computed in, from the finest to the coarsest."""

TOLERANCE: dict[Computed, dict[Scale, float]] = {
    # fastembed's tests give it for bge-reranker-base's logits. A sigmoid moves by a quarter of its logit at most, so
    # that 1e-3 leaves other kernels and other orders of summing room.
    "fp32": {"logit": 1e-3, "probability": 1e-3},
    # fp16 logits move by up to 0.02 with batch and GPU. Chosen: both sides may, and a step of fp16 is 0.008 near 8.
    # A quarter of it is more than bf16, the coarser one, is granted as a sigmoid: that bound holds here too.
    "fp16": {"logit": 0.05, "probability": 0.01},
    # ±0.01 is published for sigmoids. Chosen for logits: four steps of bf16 between 8 and 16.
    "bf16": {"logit": 0.25, "probability": 0.01},
    # Chosen, not measured on these models: half a logit lies between 0.50 and 0.62. A sigmoid moves by a quarter of it
    # at most. Whether an int8 model still ranks as before is what its fidelity report says.
    "int8": {"logit": 0.5, "probability": 0.125},
}
"""Largest difference that passes, by the coarser of two precisions and by the scale of the published score."""


@dataclass(frozen=True, slots=True)
class PublishedScore:
    """One score as it was published."""

    query: str
    passage: str
    score: float
    scale: Scale
    """``"logit"``, or ``"probability"`` for its sigmoid."""
    precision: Computed
    """What it was computed in."""
    source: str
    """Where it was published, as far as that is known."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A published score beside the one that was computed here, on the published scale."""

    published: PublishedScore
    here: float
    difference: float
    """Here less published."""
    tolerance: float
    ok: bool


@dataclass(frozen=True, slots=True)
class OrderComparison:
    """The passages of one query, best first, by the published scores and by those of here."""

    query: str
    published: tuple[str, ...]
    here: tuple[str, ...]
    ok: bool
    """False if two passages changed places whose published scores lie further apart than two tolerances."""


@dataclass(frozen=True, slots=True)
class Verification:
    """What an installation computes beside what was published."""

    published_as: str
    """The model's name among `PUBLISHED`."""
    engine: str
    """``"openvino"``, ``"torch"``, or the class of a scorer of one's own."""
    precision: Computed
    device: str
    scores: tuple[Comparison, ...]
    orders: tuple[OrderComparison, ...]
    """One for each query that has several passages."""

    @property
    def ok(self) -> bool:
        """Whether every score is within its tolerance and every order is the published one."""
        return all(one.ok for one in self.scores) and all(one.ok for one in self.orders)


# Another GPU gave -5.65625 for its first pair.
_FLAG = "BAAI's example of FlagReranker with use_fp16=True"
_MILVUS = "Milvus's documentation of BGERerankFunction with device='cpu'"
_FASTEMBED = "fastembed's tests (TextCrossEncoder), to within 1e-3"
_BF16 = "sigmoids in bf16, to within 0.01; where they were published is not noted"

_AI = "What event in 1956 marked the official birth of artificial intelligence as a discipline?"
_PLANET = "Which planet is known as the Red Planet?"
_PLANETS = (
    "Venus is often called Earth's twin because of its similar size and proximity.",
    "Mars, known for its reddish appearance, is often referred to as the Red Planet.",
    "Jupiter, the largest planet in our solar system, has a prominent red spot.",
    "Saturn, famous for its rings, is sometimes mistaken for the Red Planet.",
)


def _fp16_logit(query: str, passage: str, score: float) -> PublishedScore:
    return PublishedScore(query, passage, score, "logit", "fp16", _FLAG)


def _fp32_sigmoid(passage: str, score: float) -> PublishedScore:
    return PublishedScore(_AI, passage, score, "probability", "fp32", _MILVUS)


def _fp32_logit(passage: str, score: float) -> PublishedScore:
    return PublishedScore("What is the capital of France?", passage, score, "logit", "fp32", _FASTEMBED)


def _red_planet(*scores: float) -> tuple[PublishedScore, ...]:
    return tuple(
        PublishedScore(_PLANET, passage, score, "probability", "bf16", _BF16)
        for passage, score in zip(_PLANETS, scores, strict=True)
    )


PUBLISHED: dict[str, tuple[PublishedScore, ...]] = {
    "bge-reranker-v2-m3": (
        _fp16_logit("query", "passage", -5.65234375),
        _fp16_logit("what is panda?", "hi", -8.1875),
        _fp16_logit(
            "what is panda?",
            "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear "
            "species endemic to China.",
            5.26171875,
        ),
        _fp32_sigmoid(
            "In 1950, Alan Turing published his seminal paper, 'Computing Machinery and Intelligence,' proposing the "
            "Turing Test as a criterion of intelligence, a foundational concept in the philosophy and development of "
            "artificial intelligence.",
            0.0326971950177779,
        ),
        _fp32_sigmoid(
            "The Dartmouth Conference in 1956 is considered the birthplace of artificial intelligence as a field; "
            "here, John McCarthy and others coined the term 'artificial intelligence' and laid out its basic goals.",
            0.9911615761470803,
        ),
        _fp32_sigmoid(
            "In 1951, British mathematician and computer scientist Alan Turing also developed the first program "
            "designed to play chess, demonstrating an early example of AI in game strategy.",
            0.0042116724917325935,
        ),
        _fp32_sigmoid(
            "The invention of the Logic Theorist by Allen Newell, Herbert A. Simon, and Cliff Shaw in 1955 marked the "
            "creation of the first true AI program, which was capable of solving logic problems, akin to proving "
            "mathematical theorems.",
            0.006514905766152258,
        ),
        *_red_planet(0.01855, 1.0, 0.78906, 0.98828),
    ),
    "bge-reranker-base": (
        _fp32_logit("Paris is the capital of France.", 6.15733337),
        _fp32_logit("Berlin is the capital of Germany.", -3.65939403),
        *_red_planet(0.87891, 0.99609, 0.99609, 0.05029),
    ),
    "bge-reranker-large": _red_planet(0.69922, 1.0, 0.97266, 0.81641),
}
"""By the last part of a model's name."""


def published_name(model: str, given: str | None = None) -> str:
    """Which of `PUBLISHED` applies to a model: ``given``, or the last part of the model's name or folder.

    Raises:
        InvalidInputError: None does.
    """
    name = Path(model).name if given is None else given
    if name not in PUBLISHED:
        raise InvalidInputError(
            f"There are no published scores of {name!r}, only of {', '.join(PUBLISHED)}. If {model!r} holds one of "
            f"these models, such as an export of it, say which: --as {next(iter(PUBLISHED))}."
        )
    return name


def verify(reranker: Reranker, published_as: str, *, precision: Computed | None = None) -> Verification:
    """Score the published pairs and compare.

    Args:
        reranker: With any scorer. Scores on the other scale than a published one are brought to it.
        published_as: One of `PUBLISHED`.
        precision: What the reranker computes in. None takes what its engine says, or ``"fp32"``, the strictest, where
            a scorer says nothing.

    Raises:
        InvalidInputError: There are no published scores of that name, or no such precision.
        ScoringError: The scorer gave something that is not one finite number a pair.
    """
    if published_as not in PUBLISHED:
        raise InvalidInputError(
            f"published_as must be one of {', '.join(PUBLISHED)}, which have published scores; got {published_as!r}."
        )
    engine: Any = getattr(reranker.scorer, "engine", None)
    computed: Computed = getattr(engine, "precision", "fp32") if precision is None else precision
    if computed not in TOLERANCE:
        raise InvalidInputError(f"precision must be one of {', '.join(get_args(Computed))}; got {computed!r}.")
    published = PUBLISHED[published_as]
    raw = reranker.score([(one.query, one.passage) for one in published])
    scores = tuple(_compared(one, score, reranker.scale, computed) for one, score in zip(published, raw, strict=True))
    return Verification(
        published_as,
        engine=str(getattr(engine, "name", type(reranker.scorer).__name__)),
        precision=computed,
        device=str(getattr(engine, "device", "unknown")),
        scores=scores,
        orders=_orders(scores, raw),
    )


def _compared(published: PublishedScore, score: float, scale: Scale, computed: Computed) -> Comparison:
    if scale != published.scale:
        score = sigmoid(score) if scale == "logit" else _logit(score)
    coarser = max(published.precision, computed, key=list(TOLERANCE).index)
    tolerance = TOLERANCE[coarser][published.scale]
    difference = score - published.score
    return Comparison(published, score, difference, tolerance, abs(difference) <= tolerance)


def _logit(probability: float) -> float:
    """The inverse of `sigmoid`; 0 and 1 as the nearest numbers that have one, so that the result is finite."""
    inside = min(max(probability, 5e-324), 1 - 2**-53)
    return math.log(inside) - math.log1p(-inside)


def _orders(scores: Sequence[Comparison], raw: Sequence[float]) -> tuple[OrderComparison, ...]:
    """``raw`` are the scorer's own numbers, which tell apart what is 1.0 as a sigmoid."""
    found = []
    for query in dict.fromkeys(one.published.query for one in scores):
        places = [place for place, one in enumerate(scores) if one.published.query == query]
        if len(places) < 2:
            continue
        before, after = [scores[place].published.score for place in places], [raw[place] for place in places]
        passages = [scores[place].published.passage for place in places]
        # Closer than that, each may move by its tolerance and they stand either way.
        distance = 2 * scores[places[0]].tolerance
        turned = any(
            before[i] - before[j] > distance and after[i] < after[j]
            for i in range(len(places))
            for j in range(len(places))
        )
        published, here = (tuple(passages[i] for i in rank(numbers)) for numbers in (before, after))
        found.append(OrderComparison(query, published, here, ok=not turned))
    return tuple(found)


def explain(found: Verification, model: str) -> str:
    """In words, for a person: what is off, and what to look at. ``model`` is what was loaded, as it was asked for."""
    off = [one for one in found.scores if not one.ok]
    worst = (
        f"by up to {max(abs(one.difference) for one in off if one.published.scale == scale):.3g} as a {word}"
        for scale, word in (("logit", "logit"), ("probability", "sigmoid"))
        if any(one.published.scale == scale for one in off)
    )
    turned = sum(not one.ok for one in found.orders)
    order = f"the order is another one for {turned} of {len(found.orders)} queries" if turned else "the order is kept"
    precision = (
        'this was precision="fp32", the finest there is'
        if found.precision == "fp32"
        else f'this was {found.precision}; compare with --precision fp32 (precision="fp32" in Python)'
    )
    engine = (
        'this was engine="torch", the reference; --engine openvino computes without it'
        if found.engine == "torch"
        else f'this was {found.engine}; compare with --engine torch (engine="torch" in Python), the reference'
    )
    return (
        f"This installation does not compute what was published for {found.published_as}: {len(off)} of "
        f"{len(found.scores)} scores are off, {', '.join([*worst, order])}.\n"
        f"What to look at:\n"
        f"  - the weights: {model} may hold those of another model, or a damaged file. To get them anew: "
        f"hf download BAAI/{found.published_as} --local-dir models/{found.published_as}\n"
        f"  - the precision: {precision}.\n"
        f"  - the engine: {engine}.\n"
        f"  - rerank-plugins doctor says which engines, versions and files there are."
    )
