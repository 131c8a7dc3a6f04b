"""From texts to token ids, without ever touching the tokenizer's state.

A Hugging Face fast tokenizer keeps truncation and padding as state, and threads that share one
silently cut each other's inputs. Here both are switched off once, at construction, and cutting and
composing are done by this module; afterwards the tokenizer is only read.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tokenizers import Tokenizer

from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.scorer import Pair
from rerank_plugins.text_lines import without_surrogates
from rerank_plugins.token_cache import TokenCache, Tokens

MAX_QUERY_SHARE = 0.5
"""Share of ``max_length`` that a query may take; the rest is the passage's."""

WINDOW_OVERLAP = 0.25
"""Share of a window that the next one reads again, so that no sentence is only seen in halves. Chosen, not measured."""


class EncodedPair(NamedTuple):
    """One row for the model; both lists have the same length, at most ``max_length``."""

    input_ids: list[int]
    token_type_ids: list[int]
    truncated: bool


class _Template(NamedTuple):
    """The special tokens around a query and a passage, and the segment id of every token."""

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    prefix_types: list[int]
    middle_types: list[int]
    suffix_types: list[int]
    query_type: int
    passage_type: int

    @property
    def specials(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)


class PairEncoder:
    """Encodes (query, passage) pairs as the tokenizer's own pair template does.

    Safe to use from many threads. Where nothing is cut the ids equal those of
    ``AutoTokenizer(query, passage)``. The query is cut to ``max_query_share`` of ``max_length``,
    then the passage to what is left, both at the end; or the passage is read in overlapping windows.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        max_query_share: float = MAX_QUERY_SHARE,
        token_cache: int = 0,
        max_windows: int = 1,
    ) -> None:
        """Take ownership of ``tokenizer``: its truncation and padding are switched off for good.

        Args:
            tokenizer: Must be used by nobody else.
            max_length: Most tokens of a row, special tokens included.
            max_query_share: In (0, 1).
            token_cache: How many passages' token ids are kept for when they come again.
            max_windows: How many windows `windows` gives of a passage, at most.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = _read_template(tokenizer)
        room = max_length - self._template.specials
        if room < 2:
            raise InvalidInputError(
                f"max_length must leave room for a query and a passage beside {self._template.specials} "
                f"special tokens: got {max_length}, expected at least {self._template.specials + 2}."
            )
        self.max_length = max_length
        self.max_windows = max_windows
        self.max_query_tokens = min(room - 1, max(1, int(max_query_share * max_length)))
        self._kept = TokenCache(token_cache) if token_cache else None

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        max_length: int,
        *,
        max_query_share: float = MAX_QUERY_SHARE,
        token_cache: int = 0,
        max_windows: int = 1,
    ) -> PairEncoder:
        """Read ``folder/tokenizer.json``; `ModelLoadError` if it is missing or damaged."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelLoadError(
                f"{folder} has no tokenizer.json. Expected a fast tokenizer's file beside config.json; "
                f"download the model again, or save one with AutoTokenizer.from_pretrained(...).save_pretrained."
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as exc:  # tokenizers raises a bare Exception for a damaged file
            raise ModelLoadError(f"{path} cannot be read ({exc}). Download the model again.") from exc
        return cls(
            tokenizer,
            max_length,
            max_query_share=max_query_share,
            token_cache=token_cache,
            max_windows=max_windows,
        )

    def encode(self, pairs: list[Pair]) -> list[EncodedPair]:
        """One row a pair, in order. A query that stands in many pairs is encoded once."""
        return [self._compose(query, passage) for query, passage in self._tokenized(pairs)]

    def windows(self, pairs: list[Pair]) -> list[list[EncodedPair]]:
        """The rows of each pair, in order: one if the passage fits into it, else overlapping windows over the passage.

        What ``max_windows`` leaves unread is the passage's end; then every row of the pair is called truncated.
        """
        return [self._rows(query, passage) for query, passage in self._tokenized(pairs)]

    def _tokenized(self, pairs: list[Pair]) -> list[tuple[Tokens, Tokens]]:
        distinct = list(dict.fromkeys(query for query, _ in pairs))
        queries = dict(zip(distinct, self._tokens(distinct), strict=True))
        texts = [passage for _, passage in pairs]
        passages = self._tokens(texts) if self._kept is None else self._kept.tokens(texts, self._tokens)
        return [(queries[query], passage) for (query, _), passage in zip(pairs, passages, strict=True)]

    def _tokens(self, texts: list[str]) -> list[Tokens]:
        encodings = self._tokenizer.encode_batch_fast(
            [without_surrogates(text) for text in texts], add_special_tokens=False
        )
        # The rows of a pair have no more of any text.
        most = self.max_length * self.max_windows
        return [Tokens(encoding.ids[:most], len(encoding) <= most) for encoding in encodings]

    def _rows(self, query: Tokens, passage: Tokens) -> list[EncodedPair]:
        room = self.max_length - self._template.specials - min(len(query.ids), self.max_query_tokens)
        length = len(passage.ids)
        if length <= room or self.max_windows == 1:
            return [self._compose(query, passage)]
        overlap = int(WINDOW_OVERLAP * room)
        count = min(self.max_windows, -(-(length - overlap) // (room - overlap)))
        end = min(length, count * (room - overlap) + overlap)
        # Spread evenly: the last one ends where the text does, and overlaps no more than the others.
        starts = [number * (end - room) // (count - 1) for number in range(count)]
        complete = passage.complete and end == length
        return [self._compose(query, Tokens(passage.ids[start : start + room], complete)) for start in starts]

    def _compose(self, query: Tokens, passage: Tokens) -> EncodedPair:
        template = self._template
        query_ids = query.ids[: self.max_query_tokens]
        room = self.max_length - template.specials - len(query_ids)
        passage_ids = passage.ids[:room]
        whole = query.complete and passage.complete
        return EncodedPair(
            [*template.prefix, *query_ids, *template.middle, *passage_ids, *template.suffix],
            [
                *template.prefix_types,
                *[template.query_type] * len(query_ids),
                *template.middle_types,
                *[template.passage_type] * len(passage_ids),
                *template.suffix_types,
            ],
            not whole or len(query_ids) < len(query.ids) or len(passage_ids) < len(passage.ids),
        )


def _read_template(tokenizer: Tokenizer) -> _Template:
    """Encode one pair and see what the tokenizer put before, between and after the two."""
    probe = tokenizer.encode("a", "b")
    sequence = probe.sequence_ids
    if 0 not in sequence or 1 not in sequence:
        raise ModelLoadError(
            "The tokenizer gives no tokens for a plain letter, so its pair template cannot be read. "
            "Expected the tokenizer of a cross-encoder."
        )
    query_at, passage_at = sequence.index(0), sequence.index(1)
    query_end = len(sequence) - sequence[::-1].index(0)
    passage_end = len(sequence) - sequence[::-1].index(1)
    ids, types = probe.ids, probe.type_ids
    return _Template(
        prefix=ids[:query_at],
        middle=ids[query_end:passage_at],
        suffix=ids[passage_end:],
        prefix_types=types[:query_at],
        middle_types=types[query_end:passage_at],
        suffix_types=types[passage_end:],
        query_type=types[query_at],
        passage_type=types[passage_at],
    )
