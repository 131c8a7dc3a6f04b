"""A teacher's logits of the passages in the lists, kept on disk as they come."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.progress import Progress

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.evaluation.score_log import QueryScores, ScoreLog, open_score_log
from rerank_plugins.evaluation.systems import System
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.training.lists import TrainingList, as_logit

Taught = dict[str, dict[str, float]]
"""query id → passage id → the teacher's logit."""


def taught(
    teacher: System, collection: Collection, lists: Sequence[TrainingList], folder: Path, bar: Progress
) -> Taught:
    """The logits of every pair in ``lists``, each computed once; those of an earlier run are read from ``folder``.

    Raises:
        InvalidInputError: The teacher says the same of every pair.
    """
    asked: dict[str, dict[str, None]] = {}
    for one in lists:
        asked.setdefault(one.query, {}).update(dict.fromkeys(one.passages))
    identity = teacher.identity()
    # Of a scorer of somebody's own nobody can tell whether it is the one of yesterday.
    place = (
        nullcontext(ScoreLog()) if identity is None else open_score_log(folder, teacher.label, json.dumps([identity]))
    )
    found: Taught = {}
    task = bar.add_task(f"asking the teacher {teacher.label}", total=len(asked))
    with place as kept:
        for query, passages in asked.items():
            found[query] = _logits(teacher, _as_judged(collection, query, list(passages)), kept)
            bar.advance(task)
    bar.remove_task(task)
    if all(len(set(logits.values())) == 1 for logits in found.values()):
        raise InvalidInputError(
            f"The teacher {teacher.label} gives all passages of a query the same score, for every query: it teaches "
            f"nothing. Name another, or train without one."
        )
    return found


def _as_judged(collection: Collection, query: str, passages: list[str]) -> JudgedQuery:
    """What the scores are kept for."""
    texts = [collection.passages[passage] for passage in passages]
    return JudgedQuery(query, collection.queries[query], passages, texts, {}, "")


def _logits(teacher: System, query: JudgedQuery, kept: ScoreLog) -> dict[str, float]:
    scored = kept.get(query)
    if scored is None:
        start = time.perf_counter()
        scores = teacher.reranker.score(query.pairs)
        scored = QueryScores([*scores], time.perf_counter() - start)
        kept.put(query, scored)
    raw = [math.nan if score is None else score for score in scored.scores]
    logits = raw if teacher.reranker.scale == "logit" else [as_logit(score) for score in raw]
    return dict(zip(query.candidates, logits, strict=True))
