"""Highlights: documents into sentences, and the best sentence of each.

Sentences are found by sentencex, of the extra ``highlight``, which is imported when it is first needed.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.validation import check_query
from rerank_plugins.errors import ClosedError, InvalidInputError, MissingExtraError
from rerank_plugins.results import Highlight, RankedResult
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair, Scorer
from rerank_plugins.scorers.scoring_call import Asked
from rerank_plugins.stats import Counts

_log = logging.getLogger("rerank_plugins.runtime")

LONGEST = 400
"""Characters of a sentence, at most; what has no end before that is cut at a line break, a comma or a space."""

MOST = 256
"""Sentences of a document that are scored, at most: its first ones. They cost about as much as reading it once."""

Span = tuple[int, int]
"""Where a text begins and ends in another, as Python counts characters."""

# Bytes in UTF-8 of letters and digits: a Chinese character says about as much as three Latin letters.
_SAYS_SOMETHING = 8

_LINE_END = re.compile(r"(?:\r\n|[\n\r\x85\u2028\u2029])\s*")
_OPENS = re.compile(r"\s*#{1,6}\s|.*[:：]\s*\Z", re.DOTALL)
_LETTERS = re.compile(r"\w+")
_SURROGATE = re.compile("[\ud800-\udfff]")
# Where a long text is cut rather; the first that is found near its middle.
_CUTS = (_LINE_END, re.compile(r"[;；，、]\s*|,\s+"), re.compile(r"\s+"))


def check_highlight(highlight: object) -> None:
    """Raise `InvalidInputError` unless it is a boolean, `MissingExtraError` where it is True without the extra."""
    if not isinstance(highlight, bool):
        raise InvalidInputError(f"highlight must be True or False, got {highlight!r}.")
    if highlight:
        _splitter()


def sentence_spans(text: str) -> list[Span]:
    """Where the sentences of a text are, in order, without the whitespace around them.

    Together they hold all that is not blank. A line break ends a sentence, unless a lower-case
    letter follows: that text was wrapped. What says little alone (``1.``, a bullet, a word), a Markdown heading, and
    what ends with a colon are joined to what follows. None is longer than `LONGEST`.

    Raises:
        MissingExtraError: The extra ``highlight`` is not installed.
    """
    # As many characters as before, so that offsets stay: a lone surrogate cannot be handed to the splitter.
    told = _SURROGATE.sub("\N{REPLACEMENT CHARACTER}", text)
    edges = [0, *(one["end_index"] for one in _splitter()("en", told))]
    lines = [span for edge in pairwise(edges) for span in _lines(told, *edge)]
    short = [piece for span in _joined(told, lines) for piece in _cut(told, *span)]
    return [span for span in (_stripped(told, *piece) for piece in short) if not is_blank(text[slice(*span)])]


class Sentences:
    """The sentences of ranked documents, to be scored for their query."""

    def __init__(self, query: str, results: Iterable[RankedResult]) -> None:
        """Split the documents that have a score; of the others there is nothing to say."""
        check_query(query)
        self._results = list(results)
        wrong = [type(one).__name__ for one in self._results if not isinstance(one, RankedResult)]
        if wrong:
            raise InvalidInputError(
                f"results must be RankedResults, got {wrong[0]}, {len(wrong)} of {len(self._results)} in all. "
                f"Give what rerank returned."
            )
        self._spans = [_scorable(one) for one in self._results]
        self.scored: Sequence[ScoredPair | None] | None = None
        """One for each of `pairs`; None for all where scoring failed."""
        # A document of one sentence is its own highlight.
        self.pairs: list[Pair] = [
            (query, one.document[start:end])
            for one, spans in zip(self._results, self._spans, strict=True)
            for start, end in spans
            if len(spans) > 1
        ]

    @contextmanager
    def asked(self, scorer: Scorer, scale: Scale, counts: Counts) -> Iterator[Asked]:
        """Around the scoring of `pairs`: what it adds to the counters, and that a failure is not the ranking's."""
        try:
            yield Asked(scorer, scale, self.pairs, range(len(self.pairs)))
        except ClosedError:
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, the ranking is there
            _log.warning("No highlights: %s: %s", type(exc).__name__, exc)
        scored = [one for one in self.scored or () if one is not None]
        counts.add(pairs=len(scored), truncated=sum(one.truncated is True for one in scored))

    def best(self, as_score: Callable[[float], float]) -> list[RankedResult]:
        """The results with their highlights; None where not every sentence of the document has a score."""
        scored = iter([None] * len(self.pairs) if self.scored is None else self.scored)
        return [
            replace(result, highlight=_best(result, spans, scored, as_score))
            for result, spans in zip(self._results, self._spans, strict=True)
        ]


def in_part(deadline: Deadline | None) -> Deadline | None:
    """The deadline, as one that is answered with what there is: a highlight is no reason to fail a ranking."""
    return None if deadline is None else deadline._replace(partial=True)


def written(result: RankedResult) -> dict[str, Any] | None:
    """The highlight of a result as JSON has it: where it is in ``result.document``, and its text."""
    found = result.highlight
    if found is None:
        return None
    return {"start": found.start, "end": found.end, "text": result.document[found.start : found.end]}


def _scorable(result: RankedResult) -> list[Span]:
    if result.score is None:
        return []
    # No more than that many sentences can hold: of five megabytes the splitter would take seconds.
    beginning = result.document[: LONGEST * MOST]
    try:
        spans = sentence_spans(beginning)
    except MissingExtraError:
        raise
    except Exception as exc:  # noqa: BLE001 - whatever it is, the ranking is there
        _log.warning("No highlight: %s: %s", type(exc).__name__, exc)
        return []
    if len(beginning) < len(result.document) and len(spans) > 1:
        spans.pop()  # it may be cut
    return spans[:MOST]


def _best(
    result: RankedResult,
    spans: list[Span],
    scored: Iterator[ScoredPair | None],
    as_score: Callable[[float], float],
) -> Highlight | None:
    if not spans or result.score is None:
        return None
    if len(spans) == 1:
        return Highlight(*spans[0], result.score)
    own = [next(scored) for _ in spans]
    raw = [one.score for one in own if one is not None]
    if len(raw) < len(spans):
        return None
    best = max(range(len(spans)), key=raw.__getitem__)  # of equal ones the first
    return Highlight(*spans[best], as_score(raw[best]))


def _splitter() -> Callable[[str, str], list[dict[str, Any]]]:
    """Sentences of a text in a language, one after the other, nothing left out.

    English rules end sentences at 。！？ as well; on the two example corpora Chinese ones gave the same.
    """
    try:
        from sentencex import get_sentence_boundaries
    except ImportError as exc:
        raise MissingExtraError("highlight", "Finding sentences", str(exc.name)) from exc
    found: Callable[[str, str], list[dict[str, Any]]] = get_sentence_boundaries
    return found


def _lines(text: str, start: int, end: int) -> Iterator[Span]:
    for line_end in _LINE_END.finditer(text, start, end):
        if line_end.end() < end and not text[line_end.end()].islower():
            yield start, line_end.end()
            start = line_end.end()
    yield start, end


def _joined(text: str, spans: list[Span]) -> list[Span]:
    """Each span says something; the last one's rest goes to the one before it."""
    joined: list[Span] = []
    start, said = 0, 0
    for begin, end in spans:
        part = text[begin:end]
        said += sum(len(word.encode()) for word in _LETTERS.findall(part))
        if said >= _SAYS_SOMETHING and not _OPENS.match(part):
            joined.append((start, end))
            start, said = end, 0
    if start < len(text):
        if said < _SAYS_SOMETHING and joined:
            start = joined.pop()[0]
        joined.append((start, len(text)))
    return joined


def _cut(text: str, start: int, end: int) -> Iterator[Span]:
    """Halves of halves, until each is short enough."""
    if end - start <= LONGEST:
        yield start, end
        return
    middle = (start + end) // 2
    places = (
        [found.end() for found in cut.finditer(text, middle - LONGEST // 4, middle + LONGEST // 4)] for cut in _CUTS
    )
    near = next((found for found in places if found), [middle])
    place = min(near, key=lambda one: abs(one - middle))
    yield from _cut(text, start, place)
    yield from _cut(text, place, end)


def _stripped(text: str, start: int, end: int) -> Span:
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    return start, start + len(part.strip())
