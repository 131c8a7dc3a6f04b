"""Scores of an evaluation on disk, so that one that was killed continues where it stopped."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rerank_plugins._internal.files import acquire_lock
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import JudgedQuery


@dataclass(frozen=True, slots=True)
class QueryScores:
    """The scores of a query's candidates."""

    scores: list[float | None]
    """The scorer's raw scores, in the candidates' order; None for a blank passage, which is not scored."""
    seconds: float
    """How long scoring took."""


class ScoreLog:
    """One JSON line a query. It holds digests of the texts, not the texts."""

    def __init__(self, file: BinaryIO | None = None, scores: dict[str, QueryScores] | None = None) -> None:
        """Write to ``file``, or nowhere with None; ``scores`` are those of earlier runs, by digest."""
        self._file = file
        self._scores = scores or {}

    def get(self, query: JudgedQuery) -> QueryScores | None:
        """The query's scores, if they were computed for its text and its candidates."""
        return self._scores.get(query.digest)

    def put(self, query: JudgedQuery, scores: QueryScores) -> None:
        """Write the scores to disk at once."""
        if self._file is not None:
            line = {"query_id": query.id, "texts": query.digest, "seconds": scores.seconds, "scores": scores.scores}
            try:
                self._file.write(json.dumps(line).encode() + b"\n")
                self._file.flush()
            except OSError as exc:
                raise _write_error(Path(self._file.name), exc) from exc


@contextmanager
def open_score_log(folder: Path, label: str, identity: str) -> Iterator[ScoreLog]:
    """Open the log in ``folder`` of the reranker ``label``, whose scores and seconds depend on ``identity``."""
    slug = re.sub(r"[^\w.-]+", "-", label.rstrip("/").rsplit("/", maxsplit=1)[-1])
    path = folder / f"scores-{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"

    def refuse() -> None:
        raise InvalidInputError(
            f"Another evaluation of {label} is at work in {folder}. Wait for it, or name another folder."
        )

    with ExitStack() as stack:
        try:
            stack.enter_context(acquire_lock(path.with_suffix(".lock"), refuse))
            file = stack.enter_context(path.open("a+b"))
            scores = _read_complete_lines(file)
        except OSError as exc:
            raise _write_error(path, exc) from exc
        yield ScoreLog(file, scores)


def _read_complete_lines(file: BinaryIO) -> dict[str, QueryScores]:
    """The scores in the file, by digest. A half line at the end, left by a kill, is cut off."""
    file.seek(0)
    data = file.read()
    file.truncate(data.rfind(b"\n") + 1)
    scores = {}
    for line in data.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
            numbers = [None if score is None else float(score) for score in row["scores"]]
            if all(score is None or math.isfinite(score) for score in numbers):
                scores[str(row["texts"])] = QueryScores(numbers, float(row["seconds"]))
        except (ValueError, TypeError, KeyError):
            continue  # not a line of this log, or damaged: computed again
    return scores


def _write_error(path: Path, exc: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path} cannot be written ({exc}). Free disk space, or name another folder for scores.")
