"""`rerank-plugins rank`: documents from a file or standard input, best first."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from rerank_plugins._internal.text import json_object, read_file, read_text, split_lines
from rerank_plugins._internal.validation import check_score_threshold, check_top_n
from rerank_plugins.cli.options import LOADING, PANEL, takes_options
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.highlights import check_highlight, highlight_as_dict
from rerank_plugins.loading import load_reranker
from rerank_plugins.results import RankedResult

Row = str | dict[str, Any]
"""A document as it was given: a line of text, or a JSON object with the text under ``text``."""

# What is meant as JSON: an array of strings or objects, an object with a key.
_BEGINS_JSON = re.compile(r"""\s*(?:\[\s*["{]|\{\s*"[^"\n]*"\s*:)""")

_JSON_FORMS = (
    "Expected an array of strings or of objects with a string field 'text', or one such object a line, as jq -c writes "
    'them. Text that begins so can be given as {"text": "..."}.'
)


@takes_options(LOADING, argument="loading", panel=PANEL)
def rank(
    query: Annotated[str, typer.Argument(help="The question.")],
    documents: Annotated[str, typer.Option(help="A file of text lines or JSON lines, or - for standard input.")],
    top_n: Annotated[int | None, typer.Option(help="How many to print; all without it.")] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Print scores at or above this, 0 to 1.")] = None,
    *,
    highlight: Annotated[bool, typer.Option("--highlight", help="Show the best sentence of each document.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    loading: dict[str, Any],
) -> None:
    """Print documents with their scores, best first.

    Each line of the input is a document: plain text, or, if the first line is a JSON object, a JSON object
    with a field "text". Or the input is one JSON array, of strings or of such objects. gzip is unpacked; tables
    (.csv, .tsv), binary files and other encodings than UTF-8 are refused.

    --json prints index (documents counted from 0), score, truncated and the document as it was given, and with
    --highlight where its best sentence is. Without --json that sentence follows the document, on a line of its own,
    unless it is the whole document.
    """
    check_highlight(highlight)
    check_top_n(top_n)
    check_score_threshold(score_threshold)
    rows = _read(documents)
    texts = [_text(row) for row in rows]
    if not texts:
        return
    reranker = load_reranker(**loading)
    results = reranker.rerank(query, texts, top_n=top_n, score_threshold=score_threshold, highlight=highlight)
    if json_output:
        for result in results:
            _print_json(result, rows[result.index], highlight=highlight)
        return
    console = Console(soft_wrap=True, highlight=False)
    for place, result in enumerate(results, start=1):
        console.print(Text(f"{place:>3}  {result.score:.4f}  {result.document}"))
        sentence = highlight_as_dict(result)
        if sentence is not None and sentence["text"] != result.document.strip():
            console.print(Text(f"             > {sentence['text']}", style="bold"))


def _print_json(result: RankedResult, row: Row, *, highlight: bool) -> None:
    placed: dict[str, Any] = {"index": result.index, "score": result.score, "truncated": result.truncated}
    placed |= {"highlight": highlight_as_dict(result)} if highlight else {}
    placed["document"] = row
    # ASCII, so that a lone surrogate or a narrow terminal encoding cannot end the output half way.
    print(json.dumps(placed))  # noqa: T201 - the result goes to standard output as it is


def _read(source: str) -> list[Row]:
    """Documents as they were given. The first line decides whether they are JSON or text."""
    if source.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        raise InvalidInputError(
            f"{source} is a table, and which column is the text is not known. Expected lines of text or JSON lines "
            f"with a field 'text'. With pandas: read_csv(...).rename(columns={{'...': 'text'}})"
            f".to_json('documents.jsonl', orient='records', lines=True). Or rank its lines as they are: "
            f"--documents - < {source}"
        )
    data = sys.stdin.buffer.read() if source == "-" else read_file(Path(source))
    text = read_text(data, source)
    lines = split_lines(text)
    if not lines:
        return []
    number, first = lines[0]
    if _is_object(first):
        return [json_object(line, source, number) for number, line in lines]
    rows: list[Row] | None = None
    if first.lstrip().startswith(("[", "{")):
        rows = _read_whole(text[text.index(first) :], f"{source}, line {number}")
    elif first.lstrip().startswith('"'):
        rows = _read_strings(line for _, line in lines)
    return [line for _, line in lines] if rows is None else rows


def _read_whole(text: str, place: str) -> list[Row] | None:
    """The items of a JSON array, or one object over several lines; None for what is no JSON."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as exc:
        if not _BEGINS_JSON.match(text):
            return None  # text may begin with a bracket
        raise InvalidInputError(f"{place} begins like JSON, and the whole is none ({exc}). {_JSON_FORMS}") from exc
    rows = found if isinstance(found, list) else [found]
    for position, row in enumerate(rows):
        if not isinstance(row.get("text") if isinstance(row, dict) else row, str):
            got = f"an object of the fields {list(row)}" if isinstance(row, dict) else f"of type {type(row).__name__}"
            raise InvalidInputError(
                f"{place} begins JSON whose item {position} (counted from 0) is {got}. {_JSON_FORMS}"
            )
    return rows


def _read_strings(lines: Iterable[str]) -> list[Row] | None:
    """What lines stand for that are all JSON strings; None where one is not."""
    try:
        found = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return None
    return found if all(isinstance(one, str) for one in found) else None


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except json.JSONDecodeError:
        return False
    except (ValueError, RecursionError):
        # JSON, and more than Python reads: an error that names the line, not a document of brackets.
        return line.lstrip().startswith("{")


def _text(row: Row) -> str:
    return row if isinstance(row, str) else str(row["text"])
