"""Evaluations with random numbers, for tests of the report."""

from __future__ import annotations

import random
from statistics import fmean

from rerank_plugins.evaluation.results import METRICS, Evaluation, Interval, QueryChange, Ranking, Reranked


def around(values: list[float]) -> Interval:
    mean = fmean(values)
    return Interval(mean, mean - 0.02, mean + 0.02)


def ranking(values: list[float]) -> Ranking:
    per_query = {f"q{number}": value for number, value in enumerate(values)}
    return Ranking(dict.fromkeys(METRICS, around(values)), dict.fromkeys(METRICS, per_query))


def reranked(
    before: list[float], *, model: str, seed: int = 0, gain: float = 0.4, relevant: bool = True, fetch_k: int = 50
) -> Reranked:
    """Each query's nDCG@10 moves by up to ``gain``, and more often up; with a gain of 0 nothing moves."""
    chance = random.Random(seed)
    after = [min(1.0, max(0.0, value + gain * chance.uniform(-0.5, 1))) for value in before]
    ranks = [(chance.randint(1, fetch_k), chance.randint(1, fetch_k)) if relevant else (None, None) for _ in before]
    changes = [
        QueryChange(f"q{number}", f"query {number}", old, new, *rank, "first before", "first after", "relevant")
        for number, (old, new, rank) in enumerate(zip(before, after, ranks, strict=True))
    ]
    differences = [new - old for old, new in zip(before, after, strict=True)]
    return Reranked(
        model=model,
        engine="openvino",
        precision="int8",
        ranking=ranking(after),
        difference=around(differences),
        p_value=0.0004,
        better=sum(difference > 0 for difference in differences),
        worse=sum(difference < 0 for difference in differences),
        seconds={f"q{number}": chance.uniform(0.1, 0.3) * (seed + 1) for number in range(len(before))},
        by_depth={depth: fmean(before) + gain * (depth / (150 + 20 * seed)) for depth in (5, 10, 20, 50)},
        changes=sorted(changes, key=lambda change: change.after - change.before),
        scores={
            f"q{number}": [(chance.random(), relevant and place == 0) for place in range(fetch_k)]
            for number in range(len(before))
        },
        verdict=f"Reranking with number {seed} helps.",
    )


def evaluation(
    *, queries: int = 40, models: tuple[str, ...] = ("rerank-mini-en",), gain: float = 0.4, relevant: bool = True
) -> Evaluation:
    """Random numbers, the same for the same arguments."""
    chance = random.Random(7)
    before = [chance.random() for _ in range(queries)]
    return Evaluation(
        collection="made-up",
        passages=366,
        queries=queries,
        first_stage="embed-static-en",
        fetch_k=50,
        recall=0.95,
        before=ranking(before),
        rerankers=[
            reranked(before, model=model, seed=seed, gain=gain, relevant=relevant) for seed, model in enumerate(models)
        ],
        machine="a processor, 2 threads",
    )
