"""`PairTemplate`: the special tokens around a query and a passage, read from the tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers import Tokenizer

from rerank_plugins.errors import ModelLoadError

__all__ = ["PairTemplate", "read_template"]


class PairTemplate(NamedTuple):
    """The special tokens before, between and after query and passage, and the token type of each part."""

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    prefix_types: list[int]
    middle_types: list[int]
    suffix_types: list[int]
    query_type: int
    passage_type: int

    @property
    def special_tokens(self) -> int:
        """How many special tokens a pair has."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def apply(self, query: Sequence[int], passage: Sequence[int]) -> tuple[list[int], list[int]]:
        """Input ids and token type ids of a pair."""
        ids = [*self.prefix, *query, *self.middle, *passage, *self.suffix]
        types = [
            *self.prefix_types,
            *[self.query_type] * len(query),
            *self.middle_types,
            *[self.passage_type] * len(passage),
            *self.suffix_types,
        ]
        return ids, types


def read_template(tokenizer: Tokenizer, *, token_types: bool) -> PairTemplate:
    """Encode a pair of letters and take what the tokenizer put before, between and after them.

    Args:
        tokenizer: With truncation and padding off.
        token_types: Whether the model tells token types apart; else all are 0.

    Raises:
        ModelLoadError: The tokenizer has no template for pairs.
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
    ids, types = probe.ids, probe.type_ids if token_types else [0] * len(probe.ids)
    return PairTemplate(
        prefix=ids[:query_start],
        middle=ids[query_end:passage_start],
        suffix=ids[passage_end:],
        prefix_types=types[:query_start],
        middle_types=types[query_end:passage_start],
        suffix_types=types[passage_end:],
        query_type=types[query_start],
        passage_type=types[passage_start],
    )
