"""What went wrong with a request, in the server's own words, and whether the same request may succeed later."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http.client import responses
from typing import Any, NamedTuple

from rerank_plugins._internal.secret import Secret
from rerank_plugins.errors import (
    RemoteError,
    RemoteRateLimitError,
    RemoteTooLargeError,
    RemoteUnauthorizedError,
    RemoteUnavailableError,
)
from rerank_plugins.scorers.remote.dialect import Dialect

_RETRIED = frozenset({408, 429, 502, 503, 504, 529})
_MOST_WORDS = 300  # characters
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_FIELDS = ("error", "message", "detail", "msg", "title", "error_message")


class Failure(NamedTuple):
    """A request that failed."""

    kind: type[RemoteError]
    message: str
    status: int | None = None
    again: bool = False
    """Whether the same request may succeed later."""
    wait: float | None = None
    """Seconds that the server asks to wait; None where it does not say."""
    cause: BaseException | None = None

    def after(self, tries: int) -> Failure:
        """The same, and what was tried, for the message of the last try."""
        asked = "" if self.wait is None else f" It asks to wait {self.wait:g} s."
        return self._replace(message=f"{self.message}{asked}{f' It was tried {tries} times.' if tries > 1 else ''}")

    def error(self) -> RemoteError:
        """The error for a caller."""
        error = self.kind(self.message, status=self.status)
        error.__cause__ = self.cause
        return error


def from_status(
    dialect: Dialect, where: str, status: int, headers: Mapping[str, str], content: bytes, key: Secret | None = None
) -> Failure:
    """The failure that an answer with an error's status stands for."""
    kind, advice = _classify(dialect, status, find_words(content), headers, key)
    words = find_words(content, key)
    answered = f"{status} {responses.get(status, '')}".strip()
    said = f": {words}" if words else ""
    stop = "" if said.endswith((".", "!", "?")) else "."
    again = status in _RETRIED
    wait = read_retry_after(headers) if again else None
    return Failure(kind, f"{where} answered {answered}{said}{stop} {advice}", status, again, wait)


_UNAVAILABLE = (RemoteUnavailableError, "Look into the server's log; on_error='keep_order' answers without it.")
_MEANINGS: dict[int, tuple[type[RemoteError], str]] = {
    402: (RemoteUnauthorizedError, "The account has no credit left: add some, or use another key."),
    404: (RemoteError, "Check the address and the model's name."),
    408: _UNAVAILABLE,
    424: _UNAVAILABLE,
    429: (RemoteRateLimitError, "Send fewer requests at a time, ask for a higher limit, or try again later."),
}


def _classify(
    dialect: Dialect, status: int, words: str, headers: Mapping[str, str], key: Secret | None
) -> tuple[type[RemoteError], str]:
    """The error's class, and what to do."""
    if dialect.is_too_large(status, words):
        return RemoteTooLargeError, "Give shorter documents, or raise the server's limit."
    if status in (401, 403):
        places = " or ".join([*dialect.key_variables, "api_key"])
        return RemoteUnauthorizedError, f"Check the key ({places}), and that it may use this model."
    if 300 <= status < 400:
        target = without_key(key, headers.get("location", "elsewhere"))[:200]
        return RemoteError, f"It redirects to {target}, which is not followed: name that address if it is right."
    other = (RemoteError, "Check the model's name, and that no text is longer than the server takes.")
    return _MEANINGS.get(status, _UNAVAILABLE if status >= 500 else other)


def read_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``retry-after-ms`` or ``retry-after`` (seconds or a date); None where neither can be read."""
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        value = headers.get(name, "")
        try:
            seconds = float(value) * unit
        except ValueError:
            continue
        if 0 <= seconds < 1e9:  # NaN fails it too
            return seconds
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def find_words(content: bytes, key: Secret | None = None) -> str:
    """The message in a body, in one line of 300 characters at most; of a page its title; empty if none.

    The key is cut out after the JSON is read, where it may be written with escapes, and before the line is shortened.
    """
    try:
        words = find_message(json.loads(content)) or ""
    except (ValueError, RecursionError):
        text = content[:20_000].decode("utf-8", "replace")
        title = _TITLE.search(text)
        words = f"a page with the title {title[1].strip()!r}" if title else text
    line = " ".join("".join(one if one.isprintable() else " " for one in without_key(key, words)[:5_000]).split())
    return line if len(line) <= _MOST_WORDS else f"{line[: _MOST_WORDS - 1]}…"


def without_key(key: Secret | None, text: str) -> str:
    """What a server said, without the key."""
    return text if key is None else key.remove_from(text)


def find_message(value: Any, depth: int = 5) -> str | None:
    """The first text under the names that servers give to their messages, a few levels deep."""
    if isinstance(value, str):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return next((words for one in value if (words := find_message(one, depth - 1))), None)
    if isinstance(value, dict):
        return next((words for name in _FIELDS if (words := find_message(value.get(name), depth - 1))), None)
    return None
