"""Whatever texts and lengths a `PairEncoder` is given: rows that keep its promises, and no error."""

from __future__ import annotations

import functools
import math
import re
from itertools import product
from typing import NamedTuple

from tokenizers import Encoding, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from rerank_plugins import InvalidInputError, Pair
from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.hub import find_model
from rerank_plugins.tokenization.pair_encoder import EncodedPair, PairEncoder
from rerank_plugins.tokenization.templates import PairTemplate, read_template

# Far more than any max_length here has room for, and still quick.
_MOST_CHARACTERS = 1_000

# A byte that is no UTF-8 stands for half a surrogate pair; which half, its first bits say.
_HALVES = {0xDC00 + byte: (0xD800 if byte < 0xC0 else 0xDC00) + byte for byte in range(0x80, 0x100)}


class Kind(NamedTuple):
    """A tokenizer, once for the encoder and once for the check, and the special tokens of its pairs."""

    used: Tokenizer
    pristine: Tokenizer
    before: list[int]
    between: list[int]
    after: list[int]

    @property
    def specials(self) -> int:
        """How many there are."""
        return len(self.before) + len(self.between) + len(self.after)

    def ids(self, text: str) -> list[int]:
        """All tokens of a text."""
        return self.pristine.encode(_cured(text), add_special_tokens=False).ids

    def pair(self, query: str, passage: str) -> Encoding:
        """The tokenizer's own row of a pair."""
        return self.pristine.encode(_cured(query), _cured(passage))


class Case(NamedTuple):
    """What an input stands for."""

    max_length: int
    share: float
    pairs: list[Pair]


def data_of(max_length: int, share: float, *texts: str | bytes, repeat: int = 0) -> bytes:
    """The input that `case_of` reads as this; the first two texts are queries."""
    raw = [text if isinstance(text, bytes) else text.encode() for text in texts]
    return bytes([max_length, round(share * 255)]) + b"\xff".join(bytes([repeat]) + text for text in raw)


def case_of(data: bytes) -> Case:
    """A length, a share in (0, 1), and texts: each a byte that says how often, then what."""
    max_length, share = (*data[:2], 0, 0)[:2]
    texts = [_text_of(piece) for piece in data[2:].split(b"\xff")[:5]]
    pairs = list(product(texts[:2], texts[2:] or [""]))
    return Case(max_length, min(max(share / 255, math.ulp(0)), math.nextafter(1, 0)), pairs)


SEEDS = [
    b"",
    data_of(0, 0.5, "a", "b", "c"),
    data_of(5, 0.5, "cat", "dog", "the mat"),
    data_of(6, 0, "cats and dogs", "", "bread is baked from flour", "", "."),
    data_of(7, 1, "cats and dogs", "dog", "bread is baked from flour", "flour"),
    data_of(64, 0.5, "how do plants make food", "", "photosynthesis turns sunlight into sugar", "water"),
    data_of(40, 0.3, "植物如何制造食物?", "cat", "光合作用把阳光、水和空气变成糖。", "äöüß, ﬁne", "\u3000"),
    data_of(40, 0.3, "من كتب هذا؟", "\u202e", "כתב אותו סופר \u202eabc\u202c", "zero\u200bwidth\ufeff", "\u200d"),
    data_of(32, 0.5, b"\x80", b"food \xc0\x80", b"\x80\xc0 cat", b"\xf0\x9f\x98\x80\x80", "👩‍👩‍👧‍👦 🇩🇪"),
    data_of(32, 0.5, "\0", "nul\0byte", "\0\0", "\x1c\x85", "[SEP] in [CLS] </s> text<s>"),
    data_of(255, 0.5, "plants ", "a", "food water ", "a\u0301", "\u200b", repeat=215),
    data_of(20, 0.1, "how", "", "\u0301", "ﷺ", repeat=255),
    data_of(8, 0, b"\x96\x81\0\0\1QQQQQQQQQQ\0\x1c", "b", repeat=226),
]

WORDS = ["[SEP]", "[CLS]", "</s>", "<unk>", "\0", "\u200b", "\u202e", "\ufeff", "\u0301", "ﷺ", "🇩🇪", "食", "▁"]


def check(data: bytes, encoder_class: type[PairEncoder] = PairEncoder) -> None:
    """An encoder of each kind of tokenizer keeps every promise for the case that ``data`` stands for."""
    case = case_of(data)
    for kind in (word_piece(), unigram()):
        if case.max_length < kind.specials + 2:
            _check_refused(kind, case, encoder_class)
        else:
            _check_rows(kind, case, encoder_class)


def _check_refused(kind: Kind, case: Case, encoder_class: type[PairEncoder]) -> None:
    """A length without room for both texts is an error that says the least one."""
    try:
        encoder_class(kind.used, case.max_length, max_query_share=case.share)
    except InvalidInputError as error:
        assert f"got {case.max_length}, expected at least {kind.specials + 2}" in str(error)  # noqa: PT017 - no pytest
    else:
        raise AssertionError(case)


def _check_rows(kind: Kind, case: Case, encoder_class: type[PairEncoder]) -> None:
    """Rows are right, and the same alone and in company."""
    encoder = encoder_class(kind.used, case.max_length, max_query_share=case.share)
    pairs = list(case.pairs)
    rows = encoder.encode(pairs)
    assert pairs == case.pairs
    assert len(rows) == len(case.pairs)
    query_tokens = {query: _query_tokens(kind, case, query, encoder) for query in dict(case.pairs)}
    for pair, row in zip(case.pairs, rows, strict=True):
        _check_row(kind, case, pair, row, query_tokens=query_tokens[pair[0]])
        assert encoder.encode([pair]) == [row]


def _query_tokens(kind: Kind, case: Case, query: str, encoder: PairEncoder) -> int:
    """How many tokens of the query are kept beside no passage; beside any other they must be the same ones."""
    kept = len(encoder.encode([(query, "")])[0].input_ids) - kind.specials
    whole = len(kind.ids(query))
    share = case.share * case.max_length
    room = case.max_length - kind.specials - 1
    assert min(whole, 1) <= kept <= min(whole, room, max(1, share))
    # It is cut only where its share, or the passage's one token, wants it.
    assert kept == whole or kept + 1 > min(room, share)
    return kept


def _check_row(kind: Kind, case: Case, pair: Pair, row: EncodedPair, *, query_tokens: int) -> None:
    """The row is the beginning of the query and of the passage between the special tokens."""
    query, passage = (kind.ids(text) for text in pair)
    passage_tokens = len(row.input_ids) - kind.specials - query_tokens
    kept = [*kind.before, *query[:query_tokens], *kind.between, *passage[: max(0, passage_tokens)], *kind.after]
    assert row.input_ids == kept
    assert len(row.token_type_ids) == len(row.input_ids) <= case.max_length
    assert passage_tokens >= min(len(passage), 1)
    # A passage is cut only where the row is full.
    assert passage_tokens == len(passage) or len(row.input_ids) == case.max_length
    uncut = kind.pair(*pair)
    assert row.truncated == (len(row.input_ids) < len(uncut.ids) or _hides_a_word(kind, uncut))
    types = zip(uncut.type_ids, _kept(uncut, query_tokens, passage_tokens), strict=True)
    assert row.token_type_ids == [segment for segment, kept in types if kept]


def _hides_a_word(kind: Kind, uncut: Encoding) -> bool:
    """Whether an unknown token of the row stands for a word of more than WordPiece's 100 characters."""
    unknown = kind.pristine.token_to_id("[UNK]")
    return any(
        number == unknown and end - start > 100 for number, (start, end) in zip(uncut.ids, uncut.offsets, strict=True)
    )


def _kept(uncut: Encoding, query_tokens: int, passage_tokens: int) -> list[bool]:
    """For every token of the tokenizer's own row, whether the cut one still has it."""
    room = {None: len(uncut.ids), 0: query_tokens, 1: passage_tokens}
    kept = []
    for sequence in uncut.sequence_ids:
        kept.append(room[sequence] > 0)
        room[sequence] -= 1
    return kept


def _text_of(piece: bytes) -> str:
    text = piece[1:].decode("utf-8", "surrogateescape").translate(_HALVES)
    # Most bytes say once, for long texts are slow.
    repeat = 1 + max(0, piece[0] - 200) ** 3 // 80 if piece else 0
    return (text * repeat)[:_MOST_CHARACTERS]


def _cured(text: str) -> str:
    """Surrogate pairs joined, other surrogates U+FFFD; by another way than the encoder's."""
    joined = re.sub("[\ud800-\udbff][\udc00-\udfff]", _join, text)
    return re.sub("[\ud800-\udfff]", "\ufffd", joined)


def _join(match: re.Match[str]) -> str:
    high, low = match[0]
    return chr(0x10000 + ((ord(high) - 0xD800) << 10) + ord(low) - 0xDC00)


@functools.cache
def word_piece() -> Kind:
    """The tokenizer of the bundled reranker; its pairs have a [CLS] before each text."""
    file = str(find_model("rerank-mini-en") / "tokenizer.json")
    cls, sep = 101, 102
    return Kind(Tokenizer.from_file(file), Tokenizer.from_file(file), [cls], [sep, cls], [sep])


@functools.cache
def unigram() -> Kind:
    """A small one built as XLM-R's: pieces with scores, ▁ for a space, two </s> in the middle."""
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    words = ["▁", "▁the", "▁pl", "ant", "ants", "food", "▁cat", "食", "物", "\u0301"]
    pieces = [*words, *"abcdefghijklmnopqrstuvwxyz."]
    scores = [*((name, 0.0) for name in specials), *((piece, -len(pieces) + len(piece)) for piece in pieces)]
    made = Tokenizer(models.Unigram(scores, unk_id=3, byte_fallback=False))
    made.normalizer = normalizers.Sequence(
        [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made.add_special_tokens(specials)
    return Kind(made, Tokenizer.from_str(made.to_str()), [0], [2, 2], [2])


def main() -> None:
    """Fuzz until something is found or the time is up."""
    from with_atheris import run

    encoder = [PairEncoder.__init__, PairEncoder.encode, PairEncoder._tokenize, PairEncoder._compose]
    helpers = [read_template, PairTemplate.apply, without_surrogates, case_of]
    checks = [_check_refused, _check_rows, _check_row, _query_tokens]
    words = [*(word.encode() for word in WORDS), b"\xff\x00", b"\xff\xff", b"\x80\xc0"]
    run(check, seeds=SEEDS, words=words, subjects=[*encoder, *helpers, *checks])


if __name__ == "__main__":
    main()
