"""A teacher's logits of the passages in the lists, written to disk as they are computed."""

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
from rerank_plugins.training.dataset import TeacherLogits, TrainingList

MIN_PROBABILITY = 1e-6
"""Probabilities of a teacher are clipped this far from 0 and 1, which is a logit of 14."""


def compute_teacher_logits(
    teacher: System, collection: Collection, lists: Sequence[TrainingList], folder: Path, bar: Progress
) -> TeacherLogits:
    """The logits of every pair in ``lists``, each computed once; those of an earlier run are read from ``folder``.

    Raises:
        InvalidInputError: The teacher gives every pair the same score.
    """
    passages: dict[str, dict[str, None]] = {}
    for one in lists:
        passages.setdefault(one.query, {}).update(dict.fromkeys(one.passages))
    identity = teacher.identity()
    # Whether a scorer of the user's own is the same as before is unknown, so its scores are not written.
    opened = (
        nullcontext(ScoreLog()) if identity is None else open_score_log(folder, teacher.label, json.dumps([identity]))
    )
    logits: TeacherLogits = {}
    task = bar.add_task(f"scoring with the teacher {teacher.label}", total=len(passages))
    with opened as score_log:
        for query, ids in passages.items():
            texts = [collection.passages[passage] for passage in ids]
            judged = JudgedQuery(query, collection.queries[query], list(ids), texts, {}, "")
            logits[query] = _score(teacher, judged, score_log)
            bar.advance(task)
    bar.remove_task(task)
    if all(len(set(row.values())) == 1 for row in logits.values()):
        raise InvalidInputError(
            f"The teacher {teacher.label} gives all passages of a query the same score, for every query: it teaches "
            f"nothing. Name another, or train without one."
        )
    return logits


def _score(teacher: System, query: JudgedQuery, score_log: ScoreLog) -> dict[str, float]:
    scored = score_log.get(query)
    if scored is None:
        start = time.perf_counter()
        scores = teacher.reranker.score(query.pairs)
        scored = QueryScores([*scores], time.perf_counter() - start)
        score_log.put(query, scored)
    logits = [math.nan if score is None else score for score in scored.scores]
    if teacher.reranker.scale != "logit":
        logits = [probability_to_logit(probability) for probability in logits]
    return dict(zip(query.candidates, logits, strict=True))


def probability_to_logit(probability: float) -> float:
    """The inverse of the sigmoid, finite at 0 and 1 as well."""
    clipped = min(max(probability, MIN_PROBABILITY), 1 - MIN_PROBABILITY)
    return math.log(clipped / (1 - clipped))
