"""Results of an evaluation: dataclasses to print, to write as JSON, or to plot."""

from __future__ import annotations

from dataclasses import dataclass, field

METRICS = ("nDCG@10", "RR@10", "R@10")
"""The names are ir-measures'. Verdicts are by nDCG@10; the mean of RR@10 is MRR@10; R@10 is recall in the first ten."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over queries, and its 95 % bootstrap confidence interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The metrics of one order of the candidates. Values lie in [0, 1]."""

    means: dict[str, Interval]
    """By metric."""
    per_query: dict[str, dict[str, float]]
    """By metric, then by query id."""


@dataclass(frozen=True, slots=True)
class QueryChange:
    """One query before and after reranking."""

    query_id: str
    query: str
    before: float
    """nDCG@10 of the first stage's order."""
    after: float
    """nDCG@10 after reranking."""
    first_relevant_before: int | None
    """Rank, from 1, of the best-ranked relevant passage; None if no candidate is relevant."""
    first_relevant_after: int | None
    """The same after reranking."""
    top_before: str
    """The text of the passage that was first."""
    top_after: str
    """The text of the passage that is first after reranking."""
    relevant: str
    """The text of a relevant passage: the one that the first stage ranked best, if it found any."""


@dataclass(frozen=True, slots=True)
class Reranked:
    """One reranker compared with the first stage."""

    model: str
    """The model as it was named by the caller."""
    engine: str
    precision: str
    ranking: Ranking
    difference: Interval
    """nDCG@10 after less nDCG@10 before, over queries."""
    p_value: float
    """Two-sided p of that difference, by a paired randomization test."""
    better: int
    """The number of queries whose nDCG@10 rose."""
    worse: int
    """The number of queries whose nDCG@10 fell."""
    seconds: dict[str, float]
    """By query id: how long scoring its candidates took, one query at a time."""
    by_depth: dict[int, float]
    """Mean nDCG@10 by the number of candidates that are reranked; the others follow in the first stage's order."""
    changes: list[QueryChange]
    """All queries, from the largest loss to the largest gain."""
    scores: dict[str, list[tuple[float, bool]]]
    """By query id, for every candidate in the first stage's order: its score in [0, 1], and whether it is relevant."""
    verdict: str
    """One paragraph: reranking helps here, hurts, or the queries cannot tell."""
    # What a run cost is no part of what it found: one that was continued finds the same for less.
    tokens: int = field(default=0, compare=False)
    """Tokens that were read in this evaluation, by the model's own count or by the server's, which may bill them.
    0 if it does not say. Scores that an earlier run kept in ``work_folder`` cost nothing again."""
    billed_units: float = field(default=0.0, compare=False)
    """What a service says it billed in its own unit, in this evaluation: Cohere's search units."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Several rerankers over the same candidates of the same queries."""

    collection: str
    passages: int
    """The number of passages in the collection."""
    queries: int
    """The number of queries that were evaluated: those with qrels and candidates."""
    first_stage: str
    fetch_k: int
    """The largest number of candidates a query."""
    recall: float
    """The mean share of a query's relevant passages that are among its candidates: the limit of any reranker."""
    before: Ranking
    rerankers: list[Reranked]
    machine: str
    """The processor and the number of threads that the latencies were measured on."""
