"""Lines of a text file as people really have them: byte order marks, Windows ends, stray bytes."""

from __future__ import annotations

import codecs
import json
import re
from pathlib import Path
from typing import Any

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.paths import expand

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_lines(data: bytes, source: str) -> list[tuple[int, str]]:
    """The lines of UTF-8 ``data`` that are not blank, each with its number, from 1.

    A byte order mark is taken off, and a byte that is no UTF-8 becomes U+FFFD. `InvalidInputError` for
    UTF-16, which would be read as garbage.
    """
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InvalidInputError(f"{source} is in UTF-16, expected UTF-8. Save it as UTF-8 and try again.")
    text = data.decode("utf-8-sig", errors="replace")
    # Not splitlines(): it also breaks at characters that JSON and prose may hold inside a line.
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in lines if line.strip()]


def read_file(path: Path) -> bytes:
    """The bytes of a file or a pipe; `InvalidInputError` if it is not there or is a folder."""
    try:
        return expand(path).read_bytes()
    except OSError as exc:
        raise InvalidInputError(
            f"There is no file {path} to read ({exc.strerror}). Give a file, one document a line."
        ) from exc


def json_object(line: str, source: str, number: int) -> dict[str, Any]:
    """The JSON object in ``line``; it must have a string under ``text``."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as exc:
        raise InvalidInputError(f"{source}, line {number} is not JSON ({exc}). Expected one object a line.") from exc
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InvalidInputError(
            f'{source}, line {number} has no string field \'text\'. Expected {{"text": "..."}}; other fields are kept.'
        )
    return row


def without_surrogates(text: str) -> str:
    """Text that UTF-8 can carry: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
