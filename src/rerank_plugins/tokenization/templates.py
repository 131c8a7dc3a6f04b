"""`PairTemplate`: the special tokens around a query and a passage, read from the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from rerank_plugins.errors import ModelLoadError


class PairTemplate(NamedTuple):
    """The special tokens before, between and after query and passage, and the token type of each part."""

    special_ids: tuple[list[int], list[int], list[int]]
    special_types: tuple[list[int], list[int], list[int]]
    query_type: int
    passage_type: int

    @property
    def special_tokens(self) -> int:
        """How many special tokens a pair has."""
        return sum(map(len, self.special_ids))

    def apply(self, query: Sequence[int], passage: Sequence[int]) -> tuple[list[int], list[int]]:
        """Input ids and token type ids of a pair."""
        query_types, passage_types = [self.query_type] * len(query), [self.passage_type] * len(passage)
        return _join(self.special_ids, query, passage), _join(self.special_types, query_types, passage_types)


def _join(special: tuple[list[int], ...], query: Sequence[int], passage: Sequence[int]) -> list[int]:
    prefix, middle, suffix = special
    return [*prefix, *query, *middle, *passage, *suffix]


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
            "'catdog'. Expected the tokenizer of a cross-encoder; if the model joins them by words of a prompt, this "
            "version cannot run it."
        )

    def split(row: list[int]) -> tuple[list[int], list[int], list[int]]:
        return row[:query_start], row[query_end:passage_start], row[passage_end:]

    types = probe.type_ids if token_types else [0] * len(probe.ids)
    return PairTemplate(split(probe.ids), split(types), types[query_start], types[passage_start])
