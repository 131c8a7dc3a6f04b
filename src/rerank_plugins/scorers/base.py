"""The one seam: whatever turns (query, passage) pairs into scores."""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from rerank_plugins._internal.deadline import Deadline

Pair = tuple[str, str]
"""A query and a passage, in this order."""

Scale = Literal["logit", "probability"]
"""What a scorer's numbers mean: any real number, or a probability in [0, 1]."""


class Scorer(Protocol):
    """Scores pairs. LangChain's ``BaseCrossEncoder`` has the same shape.

    A scorer may carry an attribute ``scale`` of type `Scale`; without one its scores are logits.
    """

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One finite score a pair, in the order of the pairs; higher is more relevant."""
        ...


class ScoredPair(NamedTuple):
    """A score, and whether the model saw less than the whole pair; None if that is not known."""

    score: float
    truncated: bool | None


class Pending(Protocol):
    """Scores that are on their way."""

    @property
    def queue_seconds(self) -> float:
        """How long the pairs waited for their turn."""
        ...

    def result(self) -> list[ScoredPair | None]:
        """Wait for them: one a pair, in order; None for what a deadline left out."""
        ...

    async def aresult(self) -> list[ScoredPair | None]:
        """`result` without blocking the event loop."""
        ...


@runtime_checkable
class QueuedScorer(Protocol):
    """A scorer that serves many callers at once, and keeps to deadlines."""

    def submit(self, pairs: list[Pair], /, *, deadline: Deadline | None = None) -> Pending:
        """Have the pairs scored; returns at once."""
        ...


@runtime_checkable
class DetailedScorer(Protocol):
    """A scorer that can also say which pairs it had to cut."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """As `Scorer.score`."""
        ...

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """As `score`, with the truncation of each pair."""
        ...
