"""Checks of what callers give: queries, documents, pairs, and numbers in a range."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError

_PAIRS = "(query, passage) tuples or lists of two strings"
_ONE_QUERY = "For one query and its documents there is rerank(query, documents)."


def check_query(query: str) -> None:
    """Raise `InvalidInputError` unless ``query`` is a string that is not blank."""
    if not isinstance(query, str):
        raise InvalidInputError(f"query must be a string, got {type(query).__name__}.")
    if is_blank(query):
        raise InvalidInputError(
            f"query is blank, got {query[:40]!a}. Documents can only be ranked for a question: give its text."
        )


def check_documents(documents: Iterable[str]) -> list[str]:
    """The documents as a list; raises `InvalidInputError` unless they are strings."""
    if isinstance(documents, str | bytes):
        raise InvalidInputError(
            f"documents must be an iterable of strings, got one {type(documents).__name__}. "
            f"For a single document give a list: [document]."
        )
    if isinstance(documents, Mapping) or getattr(documents, "ndim", 1) > 1:
        # Iterating over a dictionary gives its keys, over a table the names of its columns.
        raise InvalidInputError(
            f"documents must be an iterable of strings, got a {type(documents).__name__}. Give its texts alone, in "
            f"order: list(documents.values()) of a dictionary, the column that has them of a table."
        )
    try:
        iterator = iter(documents)
    except TypeError:
        raise InvalidInputError(f"documents must be an iterable of strings, got {type(documents).__name__}.") from None
    texts = list(iterator)
    wrong = [position for position, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        kinds = ", ".join(sorted({type(texts[position]).__name__ for position in wrong}))
        raise InvalidInputError(
            f"documents must be strings, got {kinds} at position {format_positions(wrong)} (counted from 0) of "
            f"{len(texts)}. Nothing was ranked and nothing was changed: leave these out, or give their text."
        )
    return texts


def check_pairs(pairs: Iterable[Any]) -> list[tuple[str, str]]:
    """Pairs in the forms that sentence-transformers takes, as a list; raises `InvalidInputError` for anything else."""
    sequence = _as_list(pairs)
    if isinstance(sequence, list | tuple) and len(sequence) == 2 and any(isinstance(text, str) for text in sequence):
        sequence = [sequence]
    iterable = isinstance(sequence, Iterable) or hasattr(sequence, "__getitem__")
    if isinstance(sequence, str | bytes | Mapping) or not iterable:
        raise InvalidInputError(f"pairs must be {_PAIRS}, got {type(pairs).__name__}. {_ONE_QUERY}")
    items = [_as_list(pair) for pair in sequence]
    wrong = [position for position, pair in enumerate(items) if not _is_pair(pair)]
    if wrong:
        raise InvalidInputError(
            f"pairs must be {_PAIRS}, got {_describe(items[wrong[0]])} at position {wrong[0]} (counted from 0), "
            f"{len(wrong)} of {len(items)} in all. Nothing was scored. {_ONE_QUERY}"
        )
    return [(str(query), str(passage)) for query, passage in items]


def check_top_n(top_n: Any) -> int | None:
    """``top_n``; raises `InvalidInputError` unless it is None or an integer of at least 0."""
    if top_n is None:
        return None
    if isinstance(top_n, bool) or not isinstance(top_n, int | Integral):
        raise InvalidInputError(
            f"top_n must be an integer or None (all), got {top_n!r} of type {type(top_n).__name__}."
        )
    if int(top_n) < 0:
        raise InvalidInputError(f"top_n must be 0 or more, or None for all, got {top_n}.")
    return top_n if isinstance(top_n, int) else int(top_n)


def check_score_threshold(score_threshold: object) -> float | None:
    """``score_threshold``; raises `InvalidInputError` unless it is None or a number in [0, 1]."""
    if score_threshold is None:
        return None
    if isinstance(score_threshold, bool) or not isinstance(score_threshold, Real):
        raise InvalidInputError(
            f"score_threshold must be a number in [0, 1] or None, got {score_threshold!r} "
            f"of type {type(score_threshold).__name__}."
        )
    if not 0.0 <= float(score_threshold) <= 1.0:  # written so that NaN fails it too
        raise InvalidInputError(
            f"score_threshold must lie in [0, 1], got {score_threshold!r}. Scores are probabilities: "
            f"a threshold on raw logits x becomes rerank_plugins.sigmoid(x)."
        )
    return float(score_threshold)


def format_positions(positions: list[int]) -> str:
    """Positions for a message, at most ten of them."""
    first = ", ".join(map(str, positions[:10]))
    return f"{first} and {len(positions) - 10} more" if len(positions) > 10 else first


def _as_list(value: Any) -> Any:
    """A numpy array as a list, anything else unchanged."""
    return value.tolist() if hasattr(value, "tolist") and not isinstance(value, str | bytes) else value


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)


def _describe(pair: Any) -> str:
    if not isinstance(pair, list | tuple):
        return type(pair).__name__
    if len(pair) != 2:
        return f"a {type(pair).__name__} of {len(pair)}"
    return f"a {type(pair).__name__} of {' and '.join(type(text).__name__ for text in pair)}"
