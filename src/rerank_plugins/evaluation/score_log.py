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
from typing import Any, BinaryIO

from filelock import FileLock, Timeout

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import JudgedQuery

__all__ = ["QueryScores", "ScoreLog", "open_score_log"]


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
    """Open the log in ``folder`` of the reranker ``label``, whose scores and seconds depend on ``identity``.

    Raises:
        InvalidInputError: The folder cannot be written to, or another evaluation of this reranker has the log open.
    """
    slug = re.sub(r"[^\w.-]+", "-", label.rstrip("/").rsplit("/", maxsplit=1)[-1])
    path = folder / f"scores-{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
    try:
        with ExitStack() as stack:
            stack.enter_context(FileLock(path.with_suffix(".lock")).acquire(timeout=0))
            file = stack.enter_context(path.open("a+b"))
            resources = stack.pop_all()
    except Timeout as exc:
        raise InvalidInputError(
            f"Another evaluation of {label} is at work in {folder}. Wait for it, or name another folder."
        ) from exc
    except OSError as exc:
        raise _write_error(path, exc) from exc
    with resources:
        yield ScoreLog(file, _read_complete_lines(file))


def _read_complete_lines(file: BinaryIO) -> dict[str, QueryScores]:
    """The scores in the file, by digest. A half line at the end, left by a kill, is cut off."""
    file.seek(0)
    data = file.read()
    file.truncate(data.rfind(b"\n") + 1)
    scores = {}
    for line in data.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
            scores[str(row["texts"])] = QueryScores([_number(one) for one in row["scores"]], float(row["seconds"]))
        except (ValueError, TypeError, KeyError):
            continue  # not a line of this log, or damaged: computed again
    return scores


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _write_error(path: Path, exc: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path} cannot be written ({exc}). Free disk space, or name another folder for scores.")
