"""From texts to token ids, without ever touching the tokenizer's state.

A Hugging Face fast tokenizer keeps truncation and padding as state, and threads that share one
silently cut each other's inputs. Here both are switched off once, at construction, and cutting and
composing are done by this module; afterwards the tokenizer is only read.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from tokenizers import Tokenizer, normalizers
from tokenizers.models import WordPiece

from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.scorers.base import Pair
from rerank_plugins.tokenization.settings import TokenizerSettings, read_tokenizer_settings
from rerank_plugins.tokenization.token_cache import TokenCache, Tokens

MAX_QUERY_SHARE = 0.5
"""Share of ``max_length`` that a query may take; the rest is the passage's."""

WINDOW_OVERLAP = 0.25
"""Share of a window that the next one reads again, so that no sentence is only seen in halves. Chosen, not measured."""


# Of a text that is cut so many tokens more are computed than are read: where it was cut, its last ones may be others
# than in the whole text. A word of WordPiece has 100 at most.
_MARGIN = 128

# Characters for a token that are computed at first: of English, Chinese and most others they hold more tokens.
_CHARACTERS = 8

# Where a text is cut, it is at white space if there is some among so many characters.
_CUT_WITHIN = 1024

# What WordPiece makes of a longer word is one unknown token, if its file says nothing else.
_LONGEST_WORD = 100

# Every white space that a tokenizer may separate words by. Not control characters: BERT's takes them out of a word.
_NO_SEPARATOR = "[^ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


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
        settings: TokenizerSettings | None = None,
    ) -> None:
        """Take ownership of ``tokenizer``: its truncation and padding are switched off for good.

        Args:
            tokenizer: Must be used by nobody else.
            max_length: Most tokens of a row, special tokens included.
            max_query_share: In (0, 1).
            token_cache: How many passages' token ids are kept for when they come again.
            max_windows: How many windows `windows` gives of a passage, at most.
            settings: What the model's folder says beside; its ``max_length`` lowers the one given.

        Raises:
            InvalidInputError: ``max_length`` leaves no place for texts.
            ModelLoadError: The tokenizer does not tell query and passage apart.
        """
        self.settings = TokenizerSettings() if settings is None else settings
        # Only if there is something to switch off: others may read from a tokenizer that is shared.
        if tokenizer.truncation is not None:
            tokenizer.no_truncation()
        if tokenizer.padding is not None:
            tokenizer.no_padding()
        self._shared: _SharedTokenizer | None = None
        self._tokenizer = tokenizer
        self._template = _read_template(tokenizer, token_types=self.settings.token_types)
        self._unknown, self._longest_word = _read_unknown(tokenizer)
        max_length = min(max_length, self.settings.max_length or max_length)
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
        settings = read_tokenizer_settings(folder)
        shared = _load_tokenizer(path, settings)
        encoder = cls(
            shared.tokenizer,
            max_length,
            max_query_share=max_query_share,
            token_cache=token_cache,
            max_windows=max_windows,
            settings=settings,
        )
        encoder._shared = shared
        return encoder

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
        queries = dict(zip(distinct, self._tokens([self.settings.prompt + query for query in distinct]), strict=True))
        texts = [passage for _, passage in pairs]
        passages = self._tokens(texts) if self._kept is None else self._kept.tokens(texts, self._tokens)
        return [(queries[query], passage) for (query, _), passage in zip(pairs, passages, strict=True)]

    def _tokens(self, texts: list[str]) -> list[Tokens]:
        # The rows of a pair have no more of any text.
        most = self.max_length * self.max_windows
        enough = most + _MARGIN
        size = _CHARACTERS * enough
        parts = [text if len(text) <= size else _beginning(text, size) for text in texts]
        found: list[Tokens | None] = [None] * len(texts)
        left = list(range(len(texts)))
        while left:
            batch = [without_surrogates(parts[number]) for number in left]
            encodings = self._tokenizer.encode_batch_fast(batch, add_special_tokens=False)
            for number, part, encoding in zip(left, batch, encodings, strict=True):
                whole = len(parts[number]) == len(texts[number])
                if whole or len(encoding) >= enough:
                    complete = whole and len(encoding) <= most and not self._hides_a_word(part, encoding.ids)
                    found[number] = Tokens(encoding.ids[:most], complete)
            left = [number for number in left if found[number] is None]
            for number in left:  # of very long words, or of white space
                parts[number] = _beginning(texts[number], 8 * len(parts[number]))
        return [tokens for tokens in found if tokens is not None]

    def _hides_a_word(self, text: str, ids: list[int]) -> bool:
        """Whether an unknown token stands for a word that was too long to be read."""
        if self._unknown not in ids or not re.search(f"{_NO_SEPARATOR}{{{self._longest_word + 1}}}", text):
            return False
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return any(number == self._unknown and end - start > self._longest_word for number, (start, end) in spans)

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


class _SharedTokenizer:
    """Holds a tokenizer that is in memory once: XLM-R's takes about as much as a small model."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer


_tokenizers: WeakValueDictionary[tuple[object, ...], _SharedTokenizer] = WeakValueDictionary()


def _load_tokenizer(path: Path, settings: TokenizerSettings) -> _SharedTokenizer:
    state = path.stat()
    key = (path.resolve(), state.st_size, state.st_mtime_ns, settings.lower_case, settings.normalization)
    found = _tokenizers.get(key)
    if found is not None:
        return found
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # tokenizers raises a bare Exception for a damaged file
        raise ModelLoadError(f"{path} cannot be read ({exc}). Download the model again.") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    own = settings.normalization
    if own is not None and isinstance(tokenizer.model, WordPiece):
        tokenizer.normalizer = normalizers.BertNormalizer(
            clean_text=True,
            handle_chinese_chars=own.chinese_apart,
            strip_accents=own.strip_accents,
            lowercase=own.lower_case,
        )
    if settings.lower_case:
        others = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *others])
    return _tokenizers.setdefault(key, _SharedTokenizer(tokenizer))


def _beginning(text: str, size: int) -> str:
    """The first ``size`` characters, to the last white space in them if that is near."""
    if len(text) <= size:
        return text
    part = text[:size]
    tail = part[-_CUT_WITHIN:]
    words = tail.rstrip().rsplit(maxsplit=1)
    return part[: size - len(tail) + len(tail[: tail.rindex(words[1])].rstrip())] if len(words) == 2 else part


def _read_unknown(tokenizer: Tokenizer) -> tuple[int | None, int]:
    """The id that stands for what the tokenizer does not know, and the length from which on a word is that."""
    model: Any = tokenizer.model
    token = getattr(model, "unk_token", None)
    unknown = getattr(model, "unk_id", None) if token is None else tokenizer.token_to_id(token)
    return unknown, getattr(model, "max_input_chars_per_word", _LONGEST_WORD)


def _read_template(tokenizer: Tokenizer, *, token_types: bool) -> _Template:
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
    if query_end == passage_at:
        raise ModelLoadError(
            "The tokenizer's pair template puts nothing between query and passage: it would read 'cat' and 'dog' as "
            "'catdog'. Expected the tokenizer of a cross-encoder; if the model joins them by words of a prompt, this "
            "version cannot run it."
        )
    ids, types = probe.ids, probe.type_ids if token_types else [0] * len(probe.ids)
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
