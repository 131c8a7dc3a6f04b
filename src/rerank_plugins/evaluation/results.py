"""What an evaluation found: values to print, to write as JSON, or to draw."""

from __future__ import annotations

from dataclasses import dataclass

METRICS = ("nDCG@10", "RR@10", "R@10")
"""The names are ir-measures'. nDCG@10 decides; RR@10 is what MRR@10 is the mean of; R@10 is recall in the first ten."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries, and its 95 % bootstrap confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """How good one order of the candidates is. Values lie in [0, 1]."""

    means: dict[str, Interval]
    """By metric."""
    per_query: dict[str, dict[str, float]]
    """By metric, then by query id."""


@dataclass(frozen=True, slots=True)
class QueryChange:
    """What reranking did to one query."""

    query_id: str
    query: str
    before: float
    """nDCG@10 of the first stage's order."""
    after: float
    first_relevant_before: int | None
    """Rank, from 1, of the best-ranked relevant passage; None where no candidate is relevant."""
    first_relevant_after: int | None
    top_before: str
    """The text of the passage that was first."""
    top_after: str
    relevant: str
    """The text of a passage judged relevant: the one the first stage ranked best, if it found any."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """One reranker beside the first stage."""

    model: str
    """As it was asked for."""
    engine: str
    precision: str
    ranking: Ranking
    difference: Interval
    """nDCG@10 after less nDCG@10 before, over queries."""
    p_value: float
    """Two-sided paired randomization test of that difference."""
    better: int
    """Queries whose nDCG@10 rose; the next: fell. The others are equal."""
    worse: int
    seconds: dict[str, float]
    """By query id: how long its candidates took, one query at a time."""
    by_depth: dict[int, float]
    """Mean nDCG@10 where only so many candidates are reranked, and the others follow in their order."""
    changes: list[QueryChange]
    """Every query, the one that lost most first."""
    scores: dict[str, list[tuple[float, bool]]]
    """By query id, for every candidate in the first stage's order: its score in [0, 1], and whether it is relevant."""
    verdict: str
    """In words: whether reranking helps here, hurts, or cannot be told from these queries."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Several rerankers over the same candidates of the same queries."""

    collection: str
    passages: int
    queries: int
    """How many were judged, have candidates and were evaluated."""
    first_stage: str
    top_k: int
    """Candidates a query, at most."""
    recall: float
    """Mean share of a query's relevant passages that are among its candidates: no reranker can find the others."""
    before: Ranking
    rerankers: list[Reranked]
    machine: str
    """Processor and number of threads the latencies belong to."""
