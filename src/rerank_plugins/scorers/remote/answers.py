"""Answers of servers: their scores, by index and by nothing else; or what is wrong with them."""

from __future__ import annotations

import json
from typing import Any

from rerank_plugins._internal.secret import Secret
from rerank_plugins.errors import RemoteResponseError
from rerank_plugins.scorers.remote.dialect import Dialect
from rerank_plugins.scorers.remote.failures import find_message, find_words, without_key

_LARGEST = 1e300


def parse_json(content: bytes, where: str, key: Secret | None = None) -> Any:
    """The JSON of an answer; `RemoteResponseError`, without ``key``, for anything else."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as exc:
        begin = find_words(content, key)
        what = f"begins {begin!r}" if begin else "is empty"
        raise RemoteResponseError(
            f"{where} answered something that is no JSON ({exc}); it {what}. Check that the address is that of a "
            f"rerank server, and that nothing between changes its answers.",
            status=200,
        ) from None  # a JSON error holds the whole answer, in which the key may be


def read_scores(dialect: Dialect, answer: Any, count: int, where: str, key: Secret | None = None) -> list[float]:
    """One finite score a document, in the order of the request.

    `RemoteResponseError` for an index that is missing, doubled or out of range, and for a score that is no number.
    """
    try:
        entries = dialect.entries(answer)
    except (KeyError, TypeError, AttributeError, IndexError) as exc:
        words = find_words(json.dumps(find_message(answer)).encode(), key)
        said = f" It says: {words}" if words else ""
        raise RemoteResponseError(
            f"{where} answered JSON of another shape than {dialect.name} has ({type(exc).__name__}: {exc}).{said} "
            f"Check which server it is: the part before the colon of the model's name says how it is spoken to.",
            status=200,
        ) from exc
    scores: dict[int, float] = {}
    for index, score in entries:
        if type(index) is not int or not 0 <= index < count:
            raise _nonsense(where, f"the index {index!r}, expected 0 to {count - 1}", key)
        if index in scores:
            raise _nonsense(where, f"the index {index} twice", key)
        # Written so that NaN fails it too.
        if isinstance(score, bool) or not isinstance(score, int | float) or not abs(score) <= _LARGEST:
            raise _nonsense(where, f"the score {score!r} for index {index}, expected a finite number", key)
        scores[index] = float(score)
    missing = [index for index in range(count) if index not in scores]
    if missing:
        got = f"{len(scores)} scores for {count} documents; the first without one is {missing[0]}"
        raise _nonsense(where, got, key)
    return [scores[index] for index in range(count)]


def _nonsense(where: str, got: str, key: Secret | None) -> RemoteResponseError:
    # The key goes before the text is shortened, which could leave half of it.
    got = without_key(key, got)
    return RemoteResponseError(
        f"{where} gave {got[:200]}. Nothing was ranked: with a wrong index every score may belong to another document. "
        f"Look into the server's log, and check that nothing between changes its answers.",
        status=200,
    )
