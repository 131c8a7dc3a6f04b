"""One call of a reranker: what is ranked, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins.results import RankedResult, rank
from rerank_plugins.scorers.scoring_call import Scored

OnError = Literal["raise", "keep_order"]
"""What a call does when scoring fails: raise, or answer in retrieval order."""


@dataclass(slots=True)
class Call:
    """What is ranked, and what became of it."""

    query: str
    texts: list[str]
    top_n: int | None
    score_threshold: float | None
    deadline: Deadline | None
    on_error: OnError
    filled: list[int] = field(init=False)
    """Positions of the documents that say something."""
    scored: Scored | None = None
    """One for each of ``filled``; None for all where scoring failed."""

    def __post_init__(self) -> None:
        self.filled = [position for position, text in enumerate(self.texts) if not is_blank(text)]

    def results(self, as_score: Callable[[float], float]) -> list[RankedResult]:
        """The documents in their new order, with ``as_score`` of the scorer's numbers."""
        if self.scored is None:
            return [RankedResult(position, None, text) for position, text in enumerate(self.texts)][: self.top_n]
        found = {position: one for position, one in zip(self.filled, self.scored, strict=True) if one is not None}
        positions = list(found)
        raw = [one.score for one in found.values()]
        scores = [as_score(score) for score in raw]
        # Sorted by the scorer's numbers: logits differ where their sigmoids are both 1.0, or a calibration is level.
        order = rank(scores, score_threshold=self.score_threshold, order_by=raw)
        ranked = [
            RankedResult(positions[i], scores[i], self.texts[positions[i]], found[positions[i]].truncated)
            for i in order
        ]
        unscored = [RankedResult(p, None, self.texts[p]) for p in self.filled if p not in found]
        told = set(self.filled)
        blank = [RankedResult(p, 0.0, text, truncated=False) for p, text in enumerate(self.texts) if p not in told]
        kept_blank = [] if self.score_threshold else blank
        return [*ranked, *unscored, *kept_blank][: self.top_n]
