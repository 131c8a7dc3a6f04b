"""The interface of scorers, which turn (query, passage) pairs into scores."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from rerank_plugins._internal.deadline import Deadline

Pair = tuple[str, str]
"""A query and a passage, in this order."""

Scale = Literal["logit", "probability"]
"""What the scores of a scorer are: any real numbers, or probabilities in [0, 1]."""


class Scorer(Protocol):
    """Scores pairs. LangChain's ``BaseCrossEncoder`` has the same shape.

    A scorer may carry an attribute ``scale`` of type `Scale`; without one its scores are logits. It may carry a
    ``temperature``, by which a logit is divided before its sigmoid; without one that is 1.
    """

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One finite score a pair, in the order of the pairs; higher is more relevant."""


class ScoredPair(NamedTuple):
    """A score and whether its pair was truncated."""

    score: float
    truncated: bool | None
    """Whether the model saw less than the whole pair; None if that is not known."""


class Pending(Protocol):
    """Scores that are being computed."""

    @property
    def queue_seconds(self) -> float:
        """How long the pairs waited for their turn."""

    def result(self) -> list[ScoredPair | None]:
        """Wait for the scores: one a pair, in order; None for what a deadline left out."""

    async def aresult(self) -> list[ScoredPair | None]:
        """`result` without blocking the event loop."""


@runtime_checkable
class QueuedScorer(Protocol):
    """A scorer that serves many callers at once and keeps deadlines."""

    def submit(self, pairs: list[Pair], /, *, deadline: Deadline | None = None) -> Pending:
        """Have the pairs scored; returns at once."""


@runtime_checkable
class DetailedScorer(Scorer, Protocol):
    """A scorer that also says which pairs were truncated."""

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """As `score`, with the truncation of each pair."""
