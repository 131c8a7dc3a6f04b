"""`PairTemplate`: the tokens around a query and a passage, read from the tokenizer or from the text of a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.pair_text import PairText

_Read = Callable[[str], list[int]]

# Texts that begin and end in ways that a tokenizer may join with what stands beside them.
_PROBES = (
    *(
        "0",
        "1 2 3 4",
        "word",
        " word ",
        "Word.",
        "words\n",
        "\n\nwords",
        "?",
        "植物",
        "(a)",
        "'s",
        "'S\n \n",
        "  two  ",
        "",
    ),
    *("-", "://x", "é", ">>", "<", ":", "x:", "a/"),
)

# A place to part the fixed text is looked for in so many characters before a query or a document.
_PART_WITHIN = 24


class Slot(NamedTuple):
    """A place for a text: what stands around it, which decides how the text's own ends are read."""

    before: str = ""
    after: str = ""
    tokens_before: list[int] = []  # noqa: RUF012 - never changed
    """The tokens of ``before``, which are not the text's."""
    strips: bool = False
    """Whether white space around the text is taken away."""


class PairTemplate(NamedTuple):
    """The tokens before, between and after query and passage, and the token type of each part."""

    special_ids: tuple[list[int], list[int], list[int]]
    special_types: tuple[list[int], list[int], list[int]]
    query_type: int = 0
    passage_type: int = 0
    query: Slot = Slot()
    passage: Slot = Slot()

    @property
    def special_tokens(self) -> int:
        """How many tokens of a pair are the template's."""
        return sum(map(len, self.special_ids))

    def apply(
        self,
        query: Sequence[int],
        passage: Sequence[int],
        middle: Sequence[int] | None = None,
        suffix: Sequence[int] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Input ids and token type ids of a pair; ``middle`` and ``suffix`` where they differ from the template's."""
        prefix = self.special_ids[0]
        parts = (prefix, query, *self._part(1, middle), passage, *self._part(2, suffix))
        ids = [number for part in parts for number in part]
        first, between, last = self.special_types
        if middle is not None or suffix is not None:
            return ids, [0] * len(ids)  # a template of words has no token types
        types = [*first, *[self.query_type] * len(query), *between, *[self.passage_type] * len(passage), *last]
        return ids, types

    def _part(self, number: int, given: Sequence[int] | None) -> tuple[Sequence[int]]:
        return (self.special_ids[number] if given is None else given,)


def read_template(tokenizer: Tokenizer, *, token_types: bool) -> PairTemplate:
    """Encode a pair of letters and take what the tokenizer put before, between and after them.

    The tokenizer's truncation and padding must be off. Without ``token_types`` all token types are 0.
    `ModelLoadError` if the tokenizer has no template for pairs.
    """
    probe = tokenizer.encode("a", "b")
    sequence = probe.sequence_ids
    if 0 not in sequence or 1 not in sequence:
        raise ModelLoadError(
            "The tokenizer gives no tokens for a plain letter, so its pair template cannot be read. "
            "Expected the tokenizer of a cross-encoder."
        )
    query_start, passage_start = sequence.index(0), sequence.index(1)
    query_end = len(sequence) - sequence[::-1].index(0)
    passage_end = len(sequence) - sequence[::-1].index(1)
    if query_end == passage_start:
        raise ModelLoadError(
            "The tokenizer's pair template puts nothing between query and passage: it would read 'cat' and 'dog' as "
            "'catdog'. Expected the tokenizer of a cross-encoder or, if the model joins them by words, "
            "chat_template.jinja beside it: docs/models.md shows how it is written."
        )

    def split(row: list[int]) -> tuple[list[int], list[int], list[int]]:
        return row[:query_start], row[query_end:passage_start], row[passage_end:]

    types = probe.type_ids if token_types else [0] * len(probe.ids)
    return PairTemplate(split(probe.ids), split(types), types[query_start], types[passage_start])


def build_template(tokenizer: Tokenizer, text: PairText) -> PairTemplate:
    """The template of a pair that is written as one text and read as a whole.

    A tokenizer may join the end of a fixed text with the beginning of what follows: ": " and "what" are read as ":" and
    " what". So the fixed texts are parted where no query and no document changes the tokens on either side.
    `ModelLoadError` if there is no such place.
    """

    def read(words: str) -> list[int]:
        return tokenizer.encode(words, add_special_tokens=False).ids

    prefix = _part_prefix(read, text)
    lead, skipped = _part_middle(read, text)
    middle = text.middle[:lead]
    ids = (
        prefix,
        _common_end(*(read(text.prefix + probe + middle)[len(prefix) :] for probe in _PROBES[:2])),
        _common_end(*(read(text.middle + probe + text.suffix)[len(skipped) :] for probe in _PROBES[:2])),
    )
    return PairTemplate(
        special_ids=ids,
        special_types=([0] * len(ids[0]), [0] * len(ids[1]), [0] * len(ids[2])),
        query=Slot(text.prefix, middle, prefix, text.strips_query),
        passage=Slot(text.middle, text.suffix, skipped, text.strips_document),
    )


def _part_prefix(read: _Read, text: PairText) -> list[int]:
    """The tokens of as much of the prefix as no query changes."""
    wholes = [read(text.prefix + probe + text.middle) for probe in _PROBES]
    for end in range(len(text.prefix), max(0, len(text.prefix) - _PART_WITHIN) - 1, -1):
        tokens = read(text.prefix[:end])
        if all(whole[: len(tokens)] == tokens for whole in wholes):
            return tokens
    raise ModelLoadError(_explain_no_part(text.prefix))


def _part_middle(read: _Read, text: PairText) -> tuple[int, list[int]]:
    """How many characters of the middle belong to the query's side, and their tokens as read before a document.

    The tokens of a whole pair are those of the query's side and, behind these tokens, those of the document's.
    """
    queries = _PROBES[:8]
    wholes = {(q, d): read(text.prefix + q + text.middle + d + text.suffix) for q in queries for d in _PROBES}
    wholes |= {(q, d): read(text.prefix + q + text.middle + d + text.suffix) for q in _PROBES for d in queries[:3]}
    documents = {d: read(text.middle + d + text.suffix) for d in _PROBES}
    for end in range(len(text.middle), max(0, len(text.middle) - _PART_WITHIN) - 1, -1):
        heads = {q: read(text.prefix + q + text.middle[:end]) for q in _PROBES}
        if any(whole[: len(heads[q])] != heads[q] for (q, _), whole in wholes.items()):
            continue
        tails = {(q, d): whole[len(heads[q]) :] for (q, d), whole in wholes.items()}
        skipped = len(documents["0"]) - len(tails["0", "0"])
        before = documents["0"][:skipped]
        if skipped >= 0 and all(documents[d] == before + tail for (_, d), tail in tails.items()):
            return end, before
    raise ModelLoadError(_explain_no_part(text.middle))


def _explain_no_part(text: str) -> str:
    return (
        f"The tokenizer splits the template's text {text[-_PART_WITHIN:]!r} into other tokens before some words than "
        f"before others, so that a long text cannot be cut behind it. Expected one with a special token near its "
        f"end. Use sentence-transformers for this model, or another model."
    )


def _common_end(first: list[int], second: list[int]) -> list[int]:
    """The longest list that both end with."""
    length = count_common(first[::-1], second[::-1])
    return first[len(first) - length :]


def count_common(first: Sequence[int], second: Sequence[int]) -> int:
    """With how many equal numbers two lists begin."""
    differing = (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)
    return next(differing, min(len(first), len(second)))
