"""Texts of which the model reads only the beginning."""

from __future__ import annotations

import functools
import random
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import Unigram

from rerank_plugins.hub import find_model
from rerank_plugins.tokenization.pair_encoder import PairEncoder
from stand_in_models import PASSAGES

WORDS = " ".join(PASSAGES).split()
draw = random.Random(0)


def joined(pieces: list[str], separator: str = " ", count: int = 6000) -> str:
    return separator.join(draw.choices(pieces, k=count))


# Each is longer than the characters of three windows, which are about 13,000.
LONG: dict[str, str] = {
    "English": joined(WORDS),
    "Chinese": joined(list("光合作用把阳光水和空气变成糖面包是用面粉烤成的"), "", 20_000),
    "both": joined([*WORDS, "植物如何制造食物"]),
    "one word": "a" * 200_000,
    "long words": joined(["a" * 120, "cat", ";;;;;", "日本語", "b" * 99]),
    "no spaces": joined(list("abcdefgh.,-"), "", 20_000),
    "white space first": " \n" * 20_000 + joined(WORDS),
    "accents": "e\u0301" * 20_000,
    "signs without tokens": "\u200b" * 20_000,
    "lines": joined(["line one\n", "\r\n", "\tline two "], ""),
    "emoji": "👩‍👩‍👧‍👦" * 3000,
}


@pytest.fixture(scope="module", params=["bundled", pytest.param("xlmr", marks=pytest.mark.data)])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    """A WordPiece tokenizer and a Unigram one, without truncation and padding."""
    folder = find_model("rerank-mini-en")
    if request.param == "xlmr":
        folder = request.getfixturevalue("xlmr_tokenizer_folder")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@functools.cache
def whole_ids(tokenizer: Tokenizer, kind: str) -> list[int]:
    ids: list[int] = tokenizer.encode(LONG[kind], add_special_tokens=False).ids
    return ids


class Counting:
    """A tokenizer that counts the characters that it is given."""

    def __init__(self, inner: Tokenizer) -> None:
        self.inner = inner
        self.characters = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        """As the tokenizer's."""
        self.characters += sum(map(len, texts))
        return self.inner.encode_batch_fast(texts, **options)


@pytest.mark.parametrize("kind", LONG)
@pytest.mark.parametrize("max_windows", [1, 3])
def test_the_tokens_are_those_of_the_whole_text(tokenizer: Tokenizer, kind: str, max_windows: int) -> None:
    """As far as the model reads, in windows too, the ids are the whole text's; what lies behind is called truncated."""
    if kind == "one word" and isinstance(tokenizer.model, Unigram):
        pytest.skip("one letter over and over: how Unigram begins depends on how it ends")
    encoder = PairEncoder(tokenizer, 512, max_windows=max_windows)
    expected = whole_ids(tokenizer, kind)[:480]
    row = encoder.windows([("", LONG[kind])])[0][0]
    before = len(encoder.encode([("", "")])[0].input_ids) - 1
    assert row.input_ids[before : before + len(expected)] == expected
    assert row.truncated == (kind != "signs without tokens")


@pytest.mark.parametrize("kind", ["English", "Chinese", "both", "no spaces", "lines", "long words"])
def test_work_is_in_proportion_to_what_is_read(tokenizer: Tokenizer, kind: str) -> None:
    """Of a text of which 512 tokens are read, no more than 10,000 characters are tokenized."""
    counting: Any = Counting(tokenizer)
    PairEncoder(counting, 512).encode([("", LONG[kind])])
    assert 512 < counting.characters < 10_000 < len(LONG[kind])


@pytest.mark.parametrize(
    ("text", "truncated"),
    [
        ("a" * 100, False),
        ("a" * 101, True),
        ("a cat " + "b" * 1_000_000, True),
        ("a\x1c" * 120, True),  # white space to Python; BERT takes it out
        ("光" * 300, False),
        ("cat," * 60, False),
        ("☃ a cat", False),
    ],
)
def test_a_word_that_is_too_long_is_truncated(text: str, truncated: bool) -> None:  # noqa: FBT001
    """WordPiece reads a word of more than 100 characters as one unknown token, which the row says."""
    encoder = PairEncoder.from_folder(find_model("rerank-mini-en"), 512)
    assert encoder.encode([("a cat", text)])[0].truncated is truncated
