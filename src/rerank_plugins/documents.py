"""What people give to be ranked: checked, and told apart."""

from __future__ import annotations

from collections.abc import Iterable

from rerank_plugins.blank_text import is_blank
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


def listed(positions: list[int], most: int = 10) -> str:
    """Positions for a message."""
    shown = ", ".join(str(position) for position in positions[:most])
    return f"{shown} and {len(positions) - most} more" if len(positions) > most else shown
