"""What people give to be ranked: checked, and told apart."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError


def check_query(query: str) -> None:
    """Raise `InvalidInputError` unless ``query`` is a string that says something."""
    if not isinstance(query, str):
        raise InvalidInputError(f"query must be a string, got {type(query).__name__}.")
    if is_blank(query):
        raise InvalidInputError(
            f"query is blank, got {query[:40]!a}. Documents can only be ranked for a question: give its text."
        )


def checked_documents(documents: Iterable[str]) -> list[str]:
    """The documents as a list; `InvalidInputError` unless they are strings."""
    if isinstance(documents, str | bytes):
        raise InvalidInputError(
            f"documents must be an iterable of strings, got one {type(documents).__name__}. "
            f"For a single document give a list: [document]."
        )
    if isinstance(documents, Mapping) or getattr(documents, "ndim", 1) > 1:
        # Read one by one, a dictionary gives its keys and a table the names of its columns.
        raise InvalidInputError(
            f"documents must be an iterable of strings, got a {type(documents).__name__}. Give its texts alone, in "
            f"order: list(documents.values()) of a dictionary, the column that has them of a table."
        )
    try:
        given = iter(documents)
    except TypeError:
        raise InvalidInputError(f"documents must be an iterable of strings, got {type(documents).__name__}.") from None
    texts = list(given)
    wrong = [position for position, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        kinds = ", ".join(sorted({type(texts[position]).__name__ for position in wrong}))
        raise InvalidInputError(
            f"documents must be strings, got {kinds} at position {listed(wrong)} (counted from 0) of {len(texts)}. "
            f"Nothing was ranked and nothing was changed: leave these out, or give their text."
        )
    return texts


def checked_pairs(pairs: Iterable[Any]) -> list[tuple[str, str]]:
    """Query-passage pairs as sentence-transformers takes them, as a list of tuples; one pair alone is a list of one.

    Raises:
        InvalidInputError: Something among them is no pair of two strings. Says where, and what it is.
    """
    given = _unpacked(pairs)
    if isinstance(given, list | tuple) and len(given) == 2 and any(isinstance(text, str) for text in given):
        given = [given]
    sequence = isinstance(given, Iterable) or hasattr(given, "__getitem__")
    if isinstance(given, str | bytes | Mapping) or not sequence:
        raise InvalidInputError(f"pairs must be {_PAIRS}, got {type(pairs).__name__}. {_ONE_QUERY}")
    read = [_unpacked(pair) for pair in given]
    wrong = [position for position, pair in enumerate(read) if not _is_pair(pair)]
    if wrong:
        raise InvalidInputError(
            f"pairs must be {_PAIRS}, got {_described(read[wrong[0]])} at position {wrong[0]} (counted from 0), "
            f"{len(wrong)} of {len(read)} in all. Nothing was scored. {_ONE_QUERY}"
        )
    return [(str(query), str(passage)) for query, passage in read]


_PAIRS = "(query, passage) tuples or lists of two strings"
_ONE_QUERY = "For one query and its documents there is rerank(query, documents)."


def _unpacked(given: Any) -> Any:
    """An array of numpy as a list, anything else as it is: what has one item is an array's item else."""
    return given.tolist() if hasattr(given, "tolist") and not isinstance(given, str | bytes) else given


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def _described(pair: Any) -> str:
    if not isinstance(pair, list | tuple):
        return type(pair).__name__
    if len(pair) != 2:
        return f"a {type(pair).__name__} of {len(pair)}"
    return f"a {type(pair).__name__} of {' and '.join(type(text).__name__ for text in pair)}"


def listed(positions: list[int], most: int = 10) -> str:
    """Positions for a message."""
    shown = ", ".join(str(position) for position in positions[:most])
    return f"{shown} and {len(positions) - most} more" if len(positions) > most else shown
