"""Files that people take for lines of text, at the command line and wherever texts are read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_plugins import InvalidInputError
from rerank_plugins._internal.text import read_lines
from rerank_plugins.cli import main
from rerank_plugins.cli.rank import _read
from rerank_plugins.retrieval import read_collection

TEXT = "Wie heiß muss der Ofen für Brot sein?\n面包要烤多长时间？\n"
ROWS = ["a first text", {"text": "a second", "id": 7}, "第三 \u2028 text"]


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("documents.txt", TEXT)
    return file.getvalue()


BINARY: dict[str, tuple[bytes, str]] = {
    "zip": (zipped(), "a zip archive"),
    "parquet": (b"PAR1\x15\x04\x15\x10\x00\x02PAR1", "a Parquet file"),
    "pdf": (b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\n", "a PDF"),
    "png": (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "NUL bytes"),
    "bzip2": (bz2.compress(TEXT.encode()), "compressed by bzip2"),
    "xz": (lzma.compress(TEXT.encode()), "compressed by xz"),
    "zstandard": (b"\x28\xb5\x2f\xfd\x20\x05)\x00\x00hello", "compressed by Zstandard"),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(9), "NUL bytes"),
    "gzip in gzip": (gzip.compress(gzip.compress(TEXT.encode())), "no UTF-8 text"),
    "UTF-16": (TEXT.encode("utf-16"), "UTF-16"),
    "UTF-16, other bytes first": ("\ufeff".encode("utf-16-be") + TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-16 without its mark": (TEXT.encode("utf-16-le"), "UTF-16"),
    "UTF-16 without its mark, other bytes first": (TEXT.encode("utf-16-be"), "UTF-16"),
    "UTF-32": (TEXT.encode("utf-32"), "UTF-16"),
    "UTF-32 without its mark": (TEXT.encode("utf-32-be"), "UTF-32"),
    "UTF-8 with NULs": (b"a text\0another", "NUL bytes"),
    "GB 18030": ("面包要烤多长时间？".encode("gb18030"), "another encoding"),
    "Shift JIS": ("パンはどのくらい焼きますか".encode("shift_jis"), "another encoding"),
    "EUC-KR": ("빵은 얼마나 굽나요".encode("euc-kr"), "another encoding"),
    "Windows-1251": ("Сколько печь хлеб?".encode("cp1251"), "another encoding"),
    "random bytes": (bytes(np.random.default_rng(0).integers(1, 256, 500, dtype=np.uint8)), "another encoding"),
    "half a gzip file": (gzip.compress(TEXT.encode())[:30], "a damaged gzip file"),
    "gzip with a wrong sum": (gzip.compress(TEXT.encode())[:-6] + b"\0\0\0\0\0\0", "a damaged gzip file"),
}


@pytest.mark.parametrize("kind", BINARY)
def test_what_is_no_utf_8_text_is_refused(kind: str) -> None:
    """The error says what it is, as far as its bytes tell, and that UTF-8 is expected."""
    data, message = BINARY[kind]
    with pytest.raises(InvalidInputError, match=rf"^documents\.txt is .*{message}") as caught:
        read_lines(data, "documents.txt")
    assert "xpected" in str(caught.value)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    "data",
    [TEXT.encode(), TEXT.encode("utf-8-sig"), TEXT.replace("\n", "\r\n").encode(), f"\u200b\n{TEXT}\ufeff".encode()],
    ids=["UTF-8", "a byte order mark", "Windows ends", "lines that show nothing"],
)
def test_text_is_read_packed_or_not(pack: Callable[[bytes], bytes], data: bytes) -> None:
    """Lines that show something, whatever their ends, also compressed by gzip, whatever the file is called."""
    assert [line for _, line in read_lines(pack(data), "documents.txt")] == TEXT.splitlines()


def test_some_stray_bytes_are_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Text with accents in Latin-1 is read, each as U+FFFD, and the log says how many; UTF-8 says nothing."""
    assert read_lines("Wie heiß muss der Ofen sein?".encode("latin-1"), "x.txt") == [
        (1, "Wie hei\ufffd muss der Ofen sein?")
    ]
    assert [record.getMessage() for record in caplog.records] == [
        "x.txt: 1 of 28 characters are no UTF-8 and became U+FFFD."
    ]
    caplog.clear()
    read_lines("ein \ufffd, das da steht".encode(), "x.txt")
    assert not caplog.records


ARRAYS = {
    "on one line": json.dumps(ROWS),
    "over several lines": json.dumps(ROWS, indent=2),
    "with Windows ends": json.dumps(ROWS, indent=2, ensure_ascii=False).replace("\n", "\r\n"),
    "after blank lines": "\n\u200b\n" + json.dumps(ROWS, indent=2),
}


@pytest.mark.parametrize("form", ARRAYS)
def test_a_json_array_is_its_items(tmp_path: Path, form: str) -> None:
    """Strings and objects with a text, each a document, whatever its lines."""
    file = tmp_path / "documents.json"
    file.write_bytes(ARRAYS[form].encode())
    assert _read(str(file)) == ROWS


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("[]", []),
        ('{\n  "text": "one",\n  "id": 1\n}\n', [{"text": "one", "id": 1}]),
        ('"a \\u4e2d"\n\n"b"\n', ["a 中", "b"]),
        ('"Yes," she said.\n"b"\n', ['"Yes," she said.', '"b"']),
        ("[1] A note.\n[2] Another.\n", ["[1] A note.", "[2] Another."]),
        ("[a link](there)\n", ["[a link](there)"]),
        ("[[a page]] of a wiki\n", ["[[a page]] of a wiki"]),
        ("{braces} of a template\n", ["{braces} of a template"]),
        ("{\n  int x;\n}\n", ["{", "  int x;", "}"]),
    ],
)
def test_what_begins_like_json_is_read_for_what_it_is(tmp_path: Path, content: str, rows: list[object]) -> None:
    """JSON as its values, text with brackets, braces and quotes as its lines."""
    file = tmp_path / "documents.txt"
    file.write_text(content, encoding="utf-8")
    assert _read(str(file)) == rows


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('["a", 1]', r"item 1 \(counted from 0\) is of type int"),
        ('["a", null]', "item 1 .* is of type NoneType"),
        ('[["a"], ["b"]]', "item 0 .* is of type list"),
        ("[1, 2]", "item 0 .* is of type int"),
        ('[{"text": "a"}, {"body": "b"}]', r"item 1 .* is an object of the fields \['body'\]"),
        ('[{"text": null}]', r"item 0 .* is an object of the fields \['text'\]"),
        ('{\n  "documents": ["a", "b"]\n}', r"item 0 .* is an object of the fields \['documents'\]"),
        ('["a", "b"', "begins like JSON, and the whole is none"),
        ('[\n  "a",\n  "b",\n]', "begins like JSON, and the whole is none"),
        ('[\n  {\n    "text": "a"\n  }\n', "begins like JSON, and the whole is none"),
        ('["a", "b"]\n["c"]\n', "begins like JSON, and the whole is none"),
        ('{\n  "text": "a"\n}\n{\n  "text": "b"\n}\n', "begins like JSON, and the whole is none"),
        ('{"text": "a"\n{"text": "b"}\n', "begins like JSON, and the whole is none"),
    ],
)
def test_json_that_is_no_documents_is_refused(tmp_path: Path, content: str, message: str) -> None:
    """The error names the place, and the forms that are read; nothing is ranked as lines of brackets."""
    file = tmp_path / "documents.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=rf"documents\.json, line 1 .*{message}.*Expected an array"):
        _read(str(file))


@pytest.mark.parametrize("name", ["documents.csv", "documents.TSV", "documents.csv.gz"])
def test_a_table_is_refused_by_its_name(name: str) -> None:
    """The error says how to make documents of it, and how to rank its lines as they are."""
    with pytest.raises(InvalidInputError, match=rf"{name} is a table.*lines=True.*--documents - < {name}"):
        _read(name)


@pytest.mark.parametrize("way", ["a file", "standard input"])
def test_the_command_line_refuses_and_says_so(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, one message, and nothing on standard output, for a file and for standard input."""
    file = tmp_path / "documents.txt"
    file.write_bytes(BINARY["zip"][0])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(BINARY["zip"][0])))
    source = str(file) if way == "a file" else "-"
    monkeypatch.setattr(sys, "argv", ["rerank-plugins", "rank", "query", "--documents", source])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert "is no UTF-8 text: it is a zip archive" in printed.err


def test_a_collection_may_be_packed(tmp_path: Path) -> None:
    """Corpus, queries and judgements are read through gzip; an array in their place is refused by its line."""
    files = {
        "corpus.jsonl": '{"_id": "d", "text": "a text"}\n',
        "queries.jsonl": '{"_id": "q", "text": "a query"}\n',
        "qrels/test.tsv": "query-id\tcorpus-id\tscore\nq\td\t1\n",
    }
    (tmp_path / "qrels").mkdir()
    for name, content in files.items():
        (tmp_path / name).write_bytes(gzip.compress(content.encode()))
    found = read_collection(tmp_path)
    assert (found.passages, found.queries, found.qrels) == ({"d": "a text"}, {"q": "a query"}, {"q": {"d": 1}})
    (tmp_path / "corpus.jsonl").write_text('[{"_id": "d", "text": "a text"}]', encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"corpus\.jsonl, line 1 is a JSON list. Expected one object a line"):
        read_collection(tmp_path)
