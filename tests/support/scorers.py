"""Scorers whose answers are known, and texts for them, that the tests of the adapters share."""

from __future__ import annotations

import threading
import time

from rerank_plugins import Pair, ScoredPair

QUERY = "What is the frame of the phone made of?"
TEXTS = [
    "Apples are a healthy fruit, rich in fibre.",
    "The iPhone 15 Pro has a frame of titanium.",
    "A frame of oak holds the picture in the hall.",
]


class ByLength:
    """The longer the passage, the higher its score."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        return [float(len(passage)) / 100 for _, passage in pairs]


class Slow(ByLength):
    """As `ByLength`, after 300 ms; remembers the threads it worked on."""

    def __init__(self) -> None:
        self.threads: set[int] = set()

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair, late."""
        self.threads.add(threading.get_ident())
        time.sleep(0.3)
        return super().score(pairs)


class CutsLong(ByLength):
    """As `ByLength`, and says that passages above 42 characters were cut."""

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """One logit a pair and whether it was cut."""
        return [ScoredPair(score, len(pair[1]) > 42) for score, pair in zip(self.score(pairs), pairs, strict=True)]


class Remembers(ByLength):
    """As `ByLength`, and remembers the passages it was given."""

    def __init__(self) -> None:
        self.passages: list[str] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        self.passages += [passage for _, passage in pairs]
        return super().score(pairs)


class Gives:
    """Gives the same numbers whatever it is asked."""

    def __init__(self, *scores: float) -> None:
        self.scores = scores

    def score(self, pairs: list[Pair], /) -> list[float]:
        """The numbers, however many pairs there are."""
        del pairs
        return list(self.scores)
