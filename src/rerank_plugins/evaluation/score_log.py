"""Scores of an evaluation on disk, so that one that was killed goes on where it stopped."""

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


@dataclass(frozen=True, slots=True)
class Scored:
    """What a reranker made of a query's candidates."""

    scores: list[float | None]
    """The scorer's own numbers, in the candidates' order; None for a blank passage, which is not scored."""
    seconds: float
    """How long it took."""


class KeptScores:
    """One JSON line a query; of the texts, digests only."""

    def __init__(self, file: BinaryIO | None = None, found: dict[str, Scored] | None = None) -> None:
        """``file`` None keeps nothing; ``found`` are those of earlier runs, by digest."""
        self._file = file
        self._found = found or {}

    def get(self, query: JudgedQuery) -> Scored | None:
        """The query's scores, if its text and its candidates are those they were computed for."""
        return self._found.get(query.digest)

    def put(self, query: JudgedQuery, scored: Scored) -> None:
        """Write them down at once."""
        if self._file is not None:
            line = {"query_id": query.id, "texts": query.digest, "seconds": scored.seconds, "scores": scored.scores}
            try:
                self._file.write(json.dumps(line).encode() + b"\n")
                self._file.flush()
            except OSError as exc:
                raise _unwritable(Path(self._file.name), exc) from exc


@contextmanager
def kept_scores(folder: Path, label: str, identity: str) -> Iterator[KeptScores]:
    """Those in ``folder`` of the reranker called ``label`` whose scores and seconds depend on ``identity``.

    Raises:
        InvalidInputError: The folder cannot be written to, or another evaluation of this reranker is at work in it.
    """
    slug = re.sub(r"[^\w.-]+", "-", label.rstrip("/").rsplit("/", maxsplit=1)[-1])
    path = folder / f"scores-{slug}-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.jsonl"
    try:
        with ExitStack() as opened:
            opened.enter_context(FileLock(path.with_suffix(".lock")).acquire(timeout=0))
            file = opened.enter_context(path.open("a+b"))
            ready = opened.pop_all()
    except Timeout as exc:
        raise InvalidInputError(
            f"Another evaluation of {label} is at work in {folder}. Wait for it, or name another folder."
        ) from exc
    except OSError as exc:
        raise _unwritable(path, exc) from exc
    with ready:
        yield KeptScores(file, _complete_lines(file))


def _complete_lines(file: BinaryIO) -> dict[str, Scored]:
    """What the file holds; the half line that a kill leaves at its end is cut off."""
    file.seek(0)
    data = file.read()
    file.truncate(data.rfind(b"\n") + 1)
    found = {}
    for line in data.split(b"\n")[:-1]:
        try:
            row = json.loads(line)
            scored = Scored([_number(score) for score in row["scores"]], float(row["seconds"]))
            found[str(row["texts"])] = scored
        except (ValueError, TypeError, KeyError):
            continue  # not ours, or damaged: computed again
    return found


def _number(value: Any) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _unwritable(path: Path, exc: OSError) -> InvalidInputError:
    return InvalidInputError(f"{path} cannot be written ({exc}). Make room, or name another folder to keep scores in.")
