"""Highlights: the best sentence of each document. Package sentencex splits it, imported when it is first needed."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any, cast

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.results import Highlight, RankedResult, rank
from rerank_plugins.scorers.base import Pair, ScoredPair

__all__ = ["highlight_as_dict", "sentence_spans"]

_log = logging.getLogger("rerank_plugins.runtime")

MAX_CHARACTERS = 400
"""The longest a sentence may be; a longer one is cut at a line break, a comma or a space."""

MAX_SENTENCES = 256
"""The number of sentences of a document that are scored, from its beginning.

Scoring them costs about as much as reading the document once.
"""

Span = tuple[int, int]
"""Start and end of a part of a text, counted in characters."""

# Bytes in UTF-8 of letters and digits: a Chinese character carries about as much as three Latin letters.
_MIN_BYTES = 8

_LINE_END = re.compile(r"(?:\r\n|[\n\r\x85\u2028\u2029])\s*")
_OPENS = re.compile(r"\s*#{1,6}\s|.*[:：]\s*\Z", re.DOTALL)
_LETTERS = re.compile(r"\w+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Where a long text is cut, in this order of preference, near its middle.
_CUTS = (_LINE_END, re.compile(r"[;；，、]\s*|,\s+"), re.compile(r"\s+"))


def check_highlight(highlight: object) -> bool:
    """The argument, a boolean; raises `InvalidInputError` unless it is one, `MissingExtraError` without the extra."""
    if not isinstance(highlight, bool):
        raise InvalidInputError(f"highlight must be True or False, got {highlight!r}.")
    if highlight:
        _get_splitter()
    return highlight


def sentence_spans(text: str) -> list[Span]:
    """The spans of a text's sentences, in order, without the whitespace around them.

    Together they cover everything that is not blank. A line break ends a sentence, unless a lower-case letter follows:
    then the line was wrapped. A part with little in it (``1.``, a bullet, a word), a Markdown heading, and a part that
    ends with a colon are joined to the next one. None is longer than `MAX_CHARACTERS`.
    """
    # The splitter takes no lone surrogates; one character replaces each, so that offsets stay.
    clean = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    # English rules end sentences at 。！？ as well; on the two example corpora Chinese rules gave the same sentences.
    edges = [0, *(sentence["end_index"] for sentence in _get_splitter()("en", clean))]
    lines = [span for edge in pairwise(edges) for span in _split_lines(clean, *edge)]
    pieces = [piece for span in _join_short(clean, lines) for piece in _split_long(clean, *span)]
    return [span for span in (_strip(clean, *piece) for piece in pieces) if not is_blank(text[slice(*span)])]


def split_documents(results: Iterable[RankedResult]) -> list[list[Span]]:
    """The sentences of each result's document; none for a result without a score."""
    return [[] if result.score is None else _split_document(result.document) for result in results]


def pair_sentences(query: str, results: Sequence[RankedResult], spans: Sequence[Sequence[Span]]) -> list[Pair]:
    """The query with each sentence; a document of one sentence needs no score, so its sentence is left out."""
    return [
        (query, result.document[start:end])
        for result, sentences in zip(results, spans, strict=True)
        if len(sentences) > 1
        for start, end in sentences
    ]


def choose_sentences(
    results: Sequence[RankedResult],
    spans: Sequence[Sequence[Span]],
    scored: Iterable[ScoredPair | None],
    as_score: Callable[[float], float],
) -> list[RankedResult]:
    """The results with their highlights; None where not every sentence of the document has a score.

    ``scored`` is what the scorer gave for the pairs of `pair_sentences`.
    """
    remaining = iter(scored)
    highlighted = []
    for result, sentences in zip(results, spans, strict=True):
        highlight = None
        if len(sentences) == 1 and result.score is not None:
            highlight = Highlight(*sentences[0], result.score)
        elif sentences:
            known = [pair.score for pair in islice(remaining, len(sentences)) if pair is not None]
            if len(known) == len(sentences):
                best = rank(known)[0]
                highlight = Highlight(*sentences[best], as_score(known[best]))
        highlighted.append(replace(result, highlight=highlight))
    return highlighted


def highlight_as_dict(result: RankedResult) -> dict[str, Any] | None:
    """The highlight of a result for JSON: its place in ``result.document`` and its text; None without one."""
    highlight = result.highlight
    if highlight is None:
        return None
    text = result.document[highlight.start : highlight.end]
    return {"start": highlight.start, "end": highlight.end, "text": text}


def _split_document(text: str) -> list[Span]:
    # `MAX_SENTENCES` reach no further: the splitter would take seconds for five megabytes.
    beginning = text[: MAX_CHARACTERS * MAX_SENTENCES]
    try:
        spans = sentence_spans(beginning)
    except Exception as exc:  # noqa: BLE001 - the ranking is valid without highlights
        _log.warning("No highlight: %s: %s", type(exc).__name__, exc)
        return []
    if len(beginning) < len(text) and len(spans) > 1:
        spans.pop()  # it may be cut off
    return spans[:MAX_SENTENCES]


def _get_splitter() -> Callable[[str, str], list[dict[str, Any]]]:
    try:
        from sentencex import get_sentence_boundaries
    except ImportError as exc:
        raise MissingExtraError("highlight", "Finding sentences", str(exc.name)) from exc
    return cast("Callable[[str, str], list[dict[str, Any]]]", get_sentence_boundaries)


def _split_lines(text: str, start: int, end: int) -> Iterator[Span]:
    for line_end in _LINE_END.finditer(text, start, end):
        if line_end.end() < end and not text[line_end.end()].islower():
            yield start, line_end.end()
            start = line_end.end()
    yield start, end


def _join_short(text: str, spans: list[Span]) -> list[Span]:
    """Join spans until each has enough text; what is left at the end joins the last span."""
    joined: list[Span] = []
    start, size = 0, 0
    for begin, end in spans:
        part = text[begin:end]
        size += sum(len(word.encode()) for word in _LETTERS.findall(part))
        if size >= _MIN_BYTES and not _OPENS.match(part):
            joined.append((start, end))
            start, size = end, 0
    if start < len(text):
        if size < _MIN_BYTES and joined:
            start = joined.pop()[0]
        joined.append((start, len(text)))
    return joined


def _split_long(text: str, start: int, end: int) -> Iterator[Span]:
    """Halve the span until each part is short enough."""
    if end - start <= MAX_CHARACTERS:
        yield start, end
        return
    middle = (start + end) // 2
    near = (middle - MAX_CHARACTERS // 4, middle + MAX_CHARACTERS // 4)
    places = ([match.end() for match in pattern.finditer(text, *near)] for pattern in _CUTS)
    candidates = next((ends for ends in places if ends), [middle])
    place = min(candidates, key=lambda end: abs(end - middle))
    yield from _split_long(text, start, place)
    yield from _split_long(text, place, end)


def _strip(text: str, start: int, end: int) -> Span:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())
