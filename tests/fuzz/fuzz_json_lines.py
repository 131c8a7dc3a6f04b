"""Whatever bytes `rerank-plugins rank` is given: documents, or an error that names the source and the line."""

from __future__ import annotations

import codecs
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable
from json import decoder, scanner
from typing import Any
from unittest import mock

from rerank_plugins import InvalidInputError
from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.text import json_object, read_text, split_lines
from rerank_plugins.cli.rank import Row, _is_object, _read, _read_strings, _read_whole, _text

SOURCE = "-"

# Beyond this Python's limit of recursion decides, and it depends on who calls.
_DEEP = 500

# So it does beyond its limit of digits (`sys.int_info.default_max_str_digits`).
_LONG_NUMBER = re.compile(r"[0-9]{4301}")

_SHOWN = 200

SEEDS = [
    b"",
    b"one document\nanother\r\n\n  \t\nthe last",
    b'{"text": "a"}\n{"text": "b", "id": 1}\r\n',
    b'\xef\xbb\xbf{"text": "a mark"}\n\xef\xbb\xbf{"text": "another"}',
    b'{"text": "\\ud800", "x": [NaN, -Infinity, 1e999, -0]}\n{"text": "\\u0000\\ud83d\\ude00"}',
    b'{"text": "a"}\n\n{"text": 1}\n',
    b'{"text": "a"}\n{"text": "b"\n',
    b'{"text": "a"}\n["text"]\n',
    b'{"id": 1}\n',
    b'{"text": "a", "text": null}',
    b'{"text": "a"}\n{"text": "b\xff\xc3"}\n\x01\n',
    b'{"text": "a"}\n\x00\n',
    b"\xd0\xcf \xe0\xa1\xb1 \x1a\xe1",
    b'["a", {"text": "b"}]',
    b'[\n  "a",\n  "b"\n]\n',
    b'["a", 1]',
    b'["a", "b"',
    b'["a"]\n["b"]\n',
    b"[1] a note\n[2] another\n",
    b'{\n  "text": "a"\n}\n',
    b'{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n',
    b"{a brace\n}\n",
    b'"a"\n"\\u4e2d"\n',
    b'"a" and\n"b"\n',
    b'{"text": "\xe2\x80\xa8 \xc2\x85 \x0b\x0c"}\nplain',
    b"text \xe2\x80\xa8 and \xc2\x85 and \x0b and \x0c end\nplain",
    "utf-16".encode("utf-16-le"),
    codecs.BOM_UTF16_LE + "utf-16".encode("utf-16-le"),
    codecs.BOM_UTF16_BE + "utf-16".encode("utf-16-be"),
    codecs.BOM_UTF32_BE + "utf-32".encode("utf-32-be"),
    b'{"text": "a"}\n{"text": "b", "x": ' + b"[" * 4000,
    b'{"text": "a"}\n{"text": "b", "x": ' + b'{"":' * 1200 + b"0" + b"}" * 1200 + b"}",
    b'{"text": "a"}\n{"text": "b", "x": ' + b"9" * 4400 + b"}",
    b'{"text": "a", "x": ' + b"[" * 1200 + b"]" * 1200 + b"}\nplain",
    b'{"text": "a", "x": ' + b"9" * 4400 + b"}\nplain",
    b"[" + b"9" * 4400 + b"\nplain",
    b'[\n  \xd6\x9e\xdd\n  "b"\n]\n',  # a line that is blank, and no white space to JSON
]

WORDS = [
    b'{"text": "a"}\n',
    b'{"text": "',
    b'"text"',
    b": null}",
    b": 1e999}",
    b"NaN",
    b"true",
    b'"}',
    b"\r\n",
    b"\n\n",
    b"\\ud800",
    b"\\u0000",
    b"[" * 60,
    b'{"":' * 15,
    b"9" * 60,
    codecs.BOM_UTF8,
    codecs.BOM_UTF16_LE,
    codecs.BOM_UTF16_BE,
    b"\xe2\x80\xa8",
    b"\xc2\x85",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\x1c",
]


class _Visible(json.JSONDecoder):
    """The standard library's decoder without its C code, in which libFuzzer sees no branches.

    Its verdict is not asked for: in Python 3.11 it takes a tab for a digit, and digits of other scripts.
    """

    def __init__(self) -> None:
        super().__init__()
        self.parse_string = decoder.py_scanstring
        self.scan_once = scanner.py_make_scanner(self)


def check(data: bytes, read: Callable[[str], list[Row]] = _read) -> None:
    """``read``, with ``data`` as standard input, gives documents or raises `InvalidInputError` and nothing else."""
    lines = _lines(data)
    try:
        with mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data))):
            rows = read(SOURCE)
    except InvalidInputError as error:
        _check_error(str(error), data, lines)
    else:
        _check_rows(rows, data, lines)


def _check_rows(rows: list[Row], data: bytes, lines: dict[int, str]) -> None:
    """A document a line: all as they stand, or all as JSON has them; or the items of one JSON value."""
    assert not _is_utf16(data)
    assert not _is_no_text(data)
    assert all(isinstance(_text(row), str) for row in rows)
    if any(map(_is_deep, lines.values())):
        return
    stand = [*lines.values()]
    if not stand or rows == stand:
        assert rows == stand
        first = next(iter(lines.values()), "")
        assert _object(first) is None
        assert not isinstance(_json(data.decode("utf-8-sig", "replace")), list | dict)
        return
    each, whole = [_json(line) for line in stand], _json("\n".join(stand))
    # As text, for NaN is unequal to itself.
    assert repr(rows) in {repr(each), repr(whole), repr([whole])}


def _check_error(message: str, data: bytes, lines: dict[int, str]) -> None:
    """The message names the source and the first line that is wrong, and says what is expected."""
    assert "expected" in message.lower()
    if _is_utf16(data):
        assert message.startswith(f"{SOURCE} is in UTF-16")
        return
    if _is_no_text(data):
        assert message.startswith(f"{SOURCE} is no UTF-8 text: ")
        return
    named = re.match(rf"{re.escape(SOURCE)}, line (\d+) ", message)
    assert named, message
    number, first = int(named[1]), next(iter(lines.values()))
    assert number in lines
    if any(map(_is_deep, lines.values())):
        return
    if _object(first) is None and not _LONG_NUMBER.search(first):
        # A file of text has no wrong lines: this one begins like JSON, and is no array of documents.
        assert first.lstrip()[0] in "[{"
        assert number == next(iter(lines))
        return
    before = [line for at, line in lines.items() if at < number]
    assert all(_is_document(line) for line in before)
    assert not _is_document(lines[number])


def _lines(data: bytes) -> dict[int, str]:
    """The lines that are not blank by their numbers; cut as bytes, unlike the reader does it."""
    texts = (line.decode("utf-8", "replace").rstrip("\r") for line in data.removeprefix(codecs.BOM_UTF8).split(b"\n"))
    return {number: text for number, text in enumerate(texts, start=1) if not is_blank(text)}


def _is_utf16(data: bytes) -> bool:
    return data[:2] in {codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE}


def _is_no_text(data: bytes) -> bool:
    text = data.decode("utf-8-sig", "replace")
    stray = text.count("\ufffd") - data.count(b"\xef\xbf\xbd")
    return b"\0" in data or data.startswith(b"%PDF-") or stray > 0.3 * len(text)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _object(line: str) -> dict[str, Any] | None:
    row = _json(line)
    return row if isinstance(row, dict) else None


def _check_and_show(data: bytes) -> None:
    """`check`, and what the lines are to JSON, for libFuzzer to see."""
    # Long and many ones would take all the time.
    for line in list(_lines(data).values())[:3]:
        with contextlib.suppress(ValueError, RecursionError):
            _Visible().decode(line[:_SHOWN])
    check(data)


def _is_document(line: str) -> bool:
    row = _object(line)
    return row is not None and isinstance(row.get("text"), str)


def _is_deep(line: str) -> bool:
    return line.count("[") + line.count("{") > _DEEP


def main() -> None:
    """Fuzz until something is found or the time is up."""
    from with_atheris import run

    reader = [
        _read,
        _is_object,
        _read_whole,
        _read_strings,
        read_text,
        split_lines,
        json_object,
        check,
        _check_rows,
        _check_error,
    ]
    standard = [decoder.JSONObject, decoder.JSONArray, decoder.py_scanstring, scanner.py_make_scanner]
    run(_check_and_show, seeds=SEEDS, words=WORDS, subjects=[*reader, *standard])


if __name__ == "__main__":
    main()
