"""Reads text files with byte order marks, Windows line ends, stray bytes or gzip."""

from __future__ import annotations

import codecs
import gzip
import json
import logging
import re
import zlib
from pathlib import Path
from typing import Any

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError

_log = logging.getLogger("rerank_plugins")

_GZIP, _PDF = b"\x1f\x8b\x08", b"%PDF-"

# First bytes of files that are mistaken for texts: an error names the kind.
_KINDS = {
    "a PDF": _PDF,
    "a zip archive, as .docx and .xlsx are": b"PK\x03\x04",
    "a Parquet file": b"PAR1",
    "compressed by bzip2": b"BZh",
    "compressed by xz": b"\xfd7zXZ\0",
    "compressed by Zstandard": b"\x28\xb5\x2f\xfd",
}

# Largest share of unreadable characters: above the share of accents in any language in Latin-1, below that in texts of
# other scripts and in binary files.
_MAX_STRAY_SHARE = 0.3

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_lines(data: bytes, source: str) -> list[tuple[int, str]]:
    """The lines of a text file that are not blank, each with its number, from 1; see `read_text`."""
    return split_lines(read_text(data, source))


def read_text(data: bytes, source: str) -> str:
    """Decode UTF-8 ``data``, which may be compressed by gzip; `InvalidInputError` if they are no text in UTF-8.

    A byte order mark is removed. A byte that is not UTF-8 becomes U+FFFD, with a warning.
    """
    if data.startswith(_GZIP):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as exc:
            raise InvalidInputError(f"{source} is a damaged gzip file ({exc}), expected a whole one or text.") from exc
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise InvalidInputError(f"{source} is in UTF-16, expected UTF-8. Save it as UTF-8 and try again.")
    text = data.decode("utf-8-sig", errors="replace")
    stray = text.count("\N{REPLACEMENT CHARACTER}") - data.count("\N{REPLACEMENT CHARACTER}".encode())
    problem = _problem(data, stray, len(text))
    if problem:
        raise InvalidInputError(
            f"{source} is no UTF-8 text: {problem}. Expected UTF-8: save it so, or convert it to text, and try again."
        )
    if stray:
        _log.warning("%s: %d of %d characters are no UTF-8 and became U+FFFD.", source, stray, len(text))
    return text


def _problem(data: bytes, stray: int, characters: int) -> str | None:
    """Why the bytes are not UTF-8 text; None if they are."""
    known = next((name for name, start in _KINDS.items() if data.startswith(start)), None)
    if data.startswith(_PDF) or (known and (b"\0" in data or stray)):
        return f"it is {known}"
    if b"\0" in data:
        return "it has NUL bytes, as binary files have, and UTF-16 and UTF-32"
    if stray > _MAX_STRAY_SHARE * characters:
        return f"{stray} of {characters} characters cannot be read, as in binary files or in another encoding"
    return None


def split_lines(text: str) -> list[tuple[int, str]]:
    """The lines of a text that are not blank, each with its number, from 1."""
    # Not splitlines(): it also breaks at characters that JSON and prose may hold inside a line.
    lines = ((number, line.rstrip("\r")) for number, line in enumerate(text.split("\n"), start=1))
    return [(number, line) for number, line in lines if not is_blank(line)]


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
        problem = "has no string field 'text'" if isinstance(row, dict) else f"is a JSON {type(row).__name__}"
        raise InvalidInputError(
            f'{source}, line {number} {problem}. Expected one object a line: {{"text": "..."}}; other fields are kept.'
        )
    return row


def without_surrogates(text: str) -> str:
    """Text that UTF-8 can carry: surrogate pairs joined, lone surrogates replaced by U+FFFD."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
