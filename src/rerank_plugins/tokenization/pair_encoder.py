"""`PairEncoder`: from pairs of texts to rows of token ids, from many threads.

A Hugging Face fast tokenizer keeps truncation and padding as state, and threads that share one truncate each other's
inputs. Here both are switched off once, at construction, and this module truncates and joins the texts itself;
afterwards the tokenizer is only read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from tokenizers import Tokenizer, normalizers
from tokenizers.models import WordPiece

from rerank_plugins._internal.loading_options import MAX_QUERY_SHARE
from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.scorers.base import Pair
from rerank_plugins.tokenization.settings import TokenizerSettings, read_tokenizer_settings
from rerank_plugins.tokenization.templates import Slot, build_template, count_common, read_template

__all__ = ["EncodedPair", "PairEncoder"]

# Share of a window that the next one repeats, so that a sentence on the border is read whole. Chosen, not measured.
_WINDOW_OVERLAP = 0.25

# Of a long text only the beginning is tokenized, with this many tokens more than are used: the last tokens before the
# cut may differ from those of the whole text. A word of WordPiece has at most 100.
_MARGIN = 128

# Characters tokenized for each token that is needed, at first. English, Chinese and most languages have fewer.
_CHARACTERS_PER_TOKEN = 8

# A text is cut at white space, if there is some in this many characters before the cut.
_CUT_WITHIN = 1024

# WordPiece reads a longer word as one unknown token, unless its file gives another length.
_MAX_WORD_CHARACTERS = 100

# No white space by which a tokenizer may separate words. Control characters are none: BERT removes them from words.
_NO_SEPARATOR = "[^ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"


class EncodedPair(NamedTuple):
    """One row for the model. Both lists have the same length, at most ``max_length``."""

    input_ids: list[int]
    token_type_ids: list[int]
    truncated: bool


class _Text(NamedTuple):
    """The token ids of a text, as many as can be used, and whether these are all of them."""

    ids: Sequence[int]
    complete: bool
    after: Sequence[int] | None = None
    """The template's tokens behind the whole text, where its last word changes them."""


class PairEncoder:
    """Encodes (query, passage) pairs as the tokenizer's own pair template does.

    Safe to use from many threads. If nothing is truncated the ids equal those of ``AutoTokenizer(query, passage)``. The
    query is truncated to ``max_query_share`` of ``max_length``, then the passage to what is left, both at the end; or
    the passage is read in overlapping windows.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        max_query_share: float = MAX_QUERY_SHARE,
        max_windows: int = 1,
        settings: TokenizerSettings | None = None,
    ) -> None:
        """Take over ``tokenizer``: its truncation and padding are switched off for good.

        ``max_length``, the most tokens of a row with its special tokens, is lowered to that of ``settings``. It is an
        `InvalidInputError` if two texts do not fit, and a `ModelLoadError` if the tokenizer has no template for pairs.
        """
        self.settings = TokenizerSettings() if settings is None else settings
        # Only if they are on: other encoders may be reading a tokenizer that is shared.
        if tokenizer.truncation is not None:
            tokenizer.no_truncation()
        if tokenizer.padding is not None:
            tokenizer.no_padding()
        self._tokenizer = tokenizer
        text = self.settings.pair_text
        self._template = (
            read_template(tokenizer, token_types=self.settings.token_types)
            if text is None
            else build_template(tokenizer, text)
        )
        self._unknown_id, self._max_word_characters = _read_unknown_token(tokenizer)
        max_length = min(max_length, self.settings.max_length or max_length)
        special_tokens = self._template.special_tokens
        if max_length < special_tokens + 2:
            what = "special tokens" if text is None else "tokens of the model's template, its instruction included"
            raise InvalidInputError(
                f"max_length must leave room for a query and a passage beside {special_tokens} {what}: "
                f"got {max_length}, expected at least {special_tokens + 2}."
            )
        self.max_length = max_length
        self.max_windows = max_windows
        self.max_query_tokens = min(max_length - special_tokens - 1, max(1, int(max_query_share * max_length)))

    @classmethod
    def from_folder(
        cls,
        folder: Path,
        max_length: int,
        *,
        max_query_share: float = MAX_QUERY_SHARE,
        max_windows: int = 1,
        instruction: str | None = None,
    ) -> PairEncoder:
        """Read ``folder/tokenizer.json`` and the template of pairs; ``instruction`` as in `load_reranker`.

        `ModelLoadError` if a file is missing or damaged, or a decoder has no template.
        """
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelLoadError(
                f"{folder} has no tokenizer.json. Expected a fast tokenizer's file beside config.json; "
                f"download the model again, or save one with AutoTokenizer.from_pretrained(...).save_pretrained."
            )
        settings = read_tokenizer_settings(folder, instruction)
        return cls(
            _load_tokenizer(path, settings),
            max_length,
            max_query_share=max_query_share,
            max_windows=max_windows,
            settings=settings,
        )

    def encode(self, pairs: list[Pair]) -> list[EncodedPair]:
        """One row a pair, in order. A query of many pairs is tokenized once."""
        return [self._compose(query, passage) for query, passage in self._tokenize_pairs(pairs)]

    def windows(self, pairs: list[Pair]) -> list[list[EncodedPair]]:
        """The rows of each pair, in order: one if the passage fits, else overlapping windows over the passage.

        If ``max_windows`` leave the passage's end unread, every row of the pair is marked truncated.
        """
        return [self._compose_windows(query, passage) for query, passage in self._tokenize_pairs(pairs)]

    def _tokenize_pairs(self, pairs: list[Pair]) -> list[tuple[_Text, _Text]]:
        distinct = list(dict.fromkeys(query for query, _ in pairs))
        prompted = [self.settings.prompt + query for query in distinct]
        template = self._template
        queries = dict(zip(distinct, self._tokenize(prompted, template.query, template.special_ids[1]), strict=True))
        passages = self._tokenize([passage for _, passage in pairs], template.passage, template.special_ids[2])
        return [(queries[query], passage) for (query, _), passage in zip(pairs, passages, strict=True)]

    def _tokenize(self, texts: list[str], slot: Slot, after: list[int]) -> list[_Text]:
        """The tokens of texts that stand in ``slot``; ``after`` are the template's tokens behind a text that is cut."""
        texts = [text.strip() for text in texts] if slot.strips else texts
        # No pair uses more tokens of a text.
        limit = self.max_length * self.max_windows
        enough = limit + _MARGIN
        size = _CHARACTERS_PER_TOKEN * enough
        parts = [_cut_text(text, size) for text in texts]
        tokens: dict[int, _Text] = {}
        remaining = list(range(len(texts)))
        while remaining:
            batch = [without_surrogates(parts[number]) for number in remaining]
            wholes = [len(parts[number]) == len(texts[number]) for number in remaining]
            rows = self._read(batch, wholes, slot)
            for number, part, whole, row in zip(remaining, batch, wholes, rows, strict=True):
                if not whole and len(row) < enough:
                    continue
                behind = count_common(row[::-1], after[::-1]) if whole and slot.after else 0
                ids = row[: len(row) - behind]
                complete = whole and len(ids) <= limit and not self._has_too_long_word(part, ids)
                tokens[number] = _Text(ids[:limit], complete, row[len(ids) :] if whole and slot.after else None)
            remaining = [number for number in remaining if number not in tokens]
            for number in remaining:  # texts of very long words, or of white space
                parts[number] = _cut_text(texts[number], 8 * len(parts[number]))
        return [tokens[number] for number in range(len(texts))]

    def _read(self, batch: list[str], wholes: list[bool], slot: Slot) -> list[list[int]]:
        """The tokens of texts in their slot, behind those of the text before it; with the text after a whole one."""
        written = [slot.before + part + slot.after * whole for part, whole in zip(batch, wholes, strict=True)]
        encodings = self._tokenizer.encode_batch_fast(written, add_special_tokens=False)
        rows: list[list[int]] = [encoding.ids for encoding in encodings]
        for place, row in enumerate(rows):
            if row[: len(slot.tokens_before)] != slot.tokens_before:
                # The text changes tokens before it, as a combining accent may: read it alone.
                rows[place] = self._read([batch[place]], [wholes[place]], Slot(after=slot.after))[0]
            else:
                rows[place] = row[len(slot.tokens_before) :]
        return rows

    def _has_too_long_word(self, text: str, ids: list[int]) -> bool:
        """Whether an unknown token stands for a word that is too long for the tokenizer."""
        limit = self._max_word_characters
        if self._unknown_id not in ids or not re.search(f"{_NO_SEPARATOR}{{{limit + 1}}}", text):
            return False
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans = zip(encoding.ids, encoding.offsets, strict=True)
        return any(number == self._unknown_id and end - start > limit for number, (start, end) in spans)

    def _compose_windows(self, query: _Text, passage: _Text) -> list[EncodedPair]:
        window = self._passage_tokens(query)
        if self.max_windows == 1 or len(passage.ids) <= window or self._fits(query, passage):
            return [self._compose(query, passage)]
        starts, reach_end = _list_window_starts(len(passage.ids), window, self.max_windows)
        complete = passage.complete and reach_end
        return [self._compose(query, _Text(passage.ids[start : start + window], complete)) for start in starts]

    def _compose(self, query: _Text, passage: _Text) -> EncodedPair:
        query_ids = query.ids[: self.max_query_tokens]
        middle = query.after if len(query_ids) == len(query.ids) else None
        fits = self._fits(query, passage)
        passage_ids = passage.ids if fits else passage.ids[: self._passage_tokens(query)]
        complete = query.complete and passage.complete
        truncated = not complete or len(query_ids) < len(query.ids) or len(passage_ids) < len(passage.ids)
        ids, types = self._template.apply(query_ids, passage_ids, middle, passage.after if fits else None)
        return EncodedPair(ids, types, truncated)

    def _fits(self, query: _Text, passage: _Text) -> bool:
        """Whether the whole passage, with the template's tokens as they are behind it, has room beside the query."""
        after = self._template.special_ids[2] if passage.after is None else passage.after
        room = self._passage_tokens(query) + len(self._template.special_ids[2])
        return len(passage.ids) + len(after) <= room

    def _passage_tokens(self, query: _Text) -> int:
        """How many tokens of a passage that is cut fit beside ``query``."""
        prefix, middle, suffix = self._template.special_ids
        if query.after is not None and len(query.ids) <= self.max_query_tokens:
            middle = list(query.after)
        used = len(prefix) + min(len(query.ids), self.max_query_tokens) + len(middle) + len(suffix)
        return self.max_length - used


# Tokenizers in memory, each once: XLM-R's takes about as much as a small model.
_tokenizers: WeakValueDictionary[tuple[object, ...], Tokenizer] = WeakValueDictionary()


def _load_tokenizer(path: Path, settings: TokenizerSettings) -> Tokenizer:
    state = path.stat()
    key = (path.resolve(), state.st_size, state.st_mtime_ns, settings.lower_case, settings.normalization)
    loaded = _tokenizers.get(key)
    if loaded is not None:
        return loaded
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # tokenizers raises a bare Exception for a damaged file
        raise ModelLoadError(f"{path} cannot be read ({exc}). Download the model again.") from exc
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if settings.normalization is not None and isinstance(tokenizer.model, WordPiece):
        tokenizer.normalizer = normalizers.BertNormalizer(**settings.normalization._asdict())
    if settings.lower_case:
        others = [] if tokenizer.normalizer is None else [tokenizer.normalizer]
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *others])
    return _tokenizers.setdefault(key, tokenizer)


def _list_window_starts(length: int, window: int, max_windows: int) -> tuple[list[int], bool]:
    """Where to start windows of ``window`` of a passage's ``length`` tokens, and whether they reach its end."""
    overlap = int(_WINDOW_OVERLAP * window)
    count = min(max_windows, -(-(length - overlap) // (window - overlap)))
    end = min(length, count * (window - overlap) + overlap)
    # Spread evenly: the last window ends where the text does and overlaps no more than the others.
    return [number * (end - window) // (count - 1) for number in range(count)], end == length


def _cut_text(text: str, size: int) -> str:
    """The first ``size`` characters, or fewer up to the last white space, if that is near."""
    if len(text) <= size:
        return text
    part = text[:size]
    tail = part[-_CUT_WITHIN:]
    words = tail.rstrip().rsplit(maxsplit=1)
    return part[: size - len(tail) + len(tail[: tail.rindex(words[1])].rstrip())] if len(words) == 2 else part


def _read_unknown_token(tokenizer: Tokenizer) -> tuple[int | None, int]:
    """The id of the unknown token, and the most characters of a word that is not read as that token."""
    model: Any = tokenizer.model
    token = getattr(model, "unk_token", None)
    unknown = getattr(model, "unk_id", None) if token is None else tokenizer.token_to_id(token)
    return unknown, getattr(model, "max_input_chars_per_word", _MAX_WORD_CHARACTERS)
