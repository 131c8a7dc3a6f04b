"""Queries with random scores and qrels that follow a known curve."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from rerank_plugins import Pair, sigmoid
from rerank_plugins.evaluation.calibration.curves import ScoredQuery

Curve = Callable[[float], float]


def logistic(score: float) -> float:
    return sigmoid(0.7 * score - 3.0)


class Reads:
    """Scores a passage by the number in its text; remembers the queries in their order."""

    def __init__(self) -> None:
        self.queries: list[str] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One number a pair."""
        self.queries += [query for query, _ in pairs[:1]]
        return [float(passage) for _, passage in pairs]


def judged_queries(curve: Curve, queries: int, candidates: int = 50) -> list[ScoredQuery]:
    """Queries whose candidates are relevant with the probability of the curve."""
    chance = random.Random(0)
    scores = [[chance.gauss(0, 3) for _ in range(candidates)] for _ in range(queries)]
    return [ScoredQuery(row, [chance.random() < curve(score) for score in row]) for row in scores]


def write(folder: Path, queries: list[ScoredQuery]) -> Path:
    """Write the queries as a collection for `Reads`, with a file ``run`` of all candidates."""
    lines: dict[str, list[str]] = {"corpus.jsonl": [], "queries.jsonl": [], "qrels/test.tsv": [], "run": []}
    for number, query in enumerate(queries):
        lines["queries.jsonl"].append(json.dumps({"_id": f"q{number}", "text": f"q{number}"}))
        for place, (score, relevant) in enumerate(zip(query.scores, query.relevant, strict=True)):
            name = f"p{number}-{place}"
            lines["corpus.jsonl"].append(json.dumps({"_id": name, "text": repr(score)}))
            lines["qrels/test.tsv"].append(f"q{number}\t{name}\t{int(relevant)}")
            lines["run"].append(f"q{number} Q0 {name} {place} {-place} test")
    (folder / "qrels").mkdir(parents=True)
    for name, rows in lines.items():
        (folder / name).write_text("\n".join(rows))
    return folder
