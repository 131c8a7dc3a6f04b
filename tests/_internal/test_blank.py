"""What counts as blank, beside what real tokenizers read of it."""

from __future__ import annotations

import sys
import unicodedata
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from rerank_plugins import InvalidInputError, Reranker
from rerank_plugins._internal.blank import is_blank
from scorers import Remembers

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "rerank-mini-en"

NOTHING = [
    pytest.param("", id="empty"),
    pytest.param(" \n\t\u3000\u2028\x85", id="white space"),
    pytest.param("\u200b", id="zero-width space"),
    pytest.param("\u200b\u200c\u200d\u2060\u00ad", id="zero-width characters"),
    pytest.param("\ufeff", id="byte order mark"),
    pytest.param("\ufffe", id="byte order mark, bytes swapped"),
    pytest.param("\0\x01\x1b\x7f", id="control characters"),
    pytest.param("\u202e\u2066\u2069", id="directions"),
    pytest.param("\ufe0f\U000e0100", id="variation selectors"),
    pytest.param("\U000e0001\U000e0020", id="tags"),
    pytest.param("\u0301\u20e3\u093e", id="combining marks without a letter"),
    pytest.param("\ue000\U00100000", id="private use"),
    pytest.param("\u3164\u115f\u1160\uffa0\u2800", id="fillers"),
    pytest.param("\ud800", id="a lone surrogate"),
    pytest.param("\udc00\ud800", id="two surrogates that are no pair"),
    pytest.param("\udb40\udc01", id="a tag as two surrogates"),
    pytest.param("\ufffd", id="what could not be decoded"),
    pytest.param(" \u200b\n\ufe0f\0\u0301 ", id="several of these"),
]

SOMETHING = [
    *("a", "7", "?", "字", "の", "한", "ก", "क्ष", "é", "e\u0301", "م\u200dن", "\u200bx", "1\ufe0f\u20e3", "_", "…"),
    *("👍", "👩\u200d👩\u200d👧", "🇩🇪", "☠\ufe0f", "€", "−", "˘", "\ud83d\ude00", "\u200b\ud83d\ude00"),
    "\U0001fae8",  # of Unicode 15: this Python may not know it
]


@pytest.mark.parametrize("text", NOTHING)
def test_what_shows_nothing_is_blank(text: str) -> None:
    """White space, and whatever else a reader sees nothing of, by itself or together."""
    assert is_blank(text)


@pytest.mark.parametrize("text", SOMETHING, ids=ascii)
def test_what_shows_something_is_not_blank(text: str) -> None:
    """One letter, digit, punctuation mark or symbol is enough, in any script, whatever stands around it."""
    assert not is_blank(text)


def test_no_letter_digit_punctuation_mark_or_symbol_is_blank() -> None:
    """Of all of Unicode, beside the fillers, which show nothing, and U+FFFD, which stands for nothing readable."""
    signs = (chr(code) for code in range(sys.maxunicode + 1) if unicodedata.category(chr(code))[0] in "LNPS")
    assert [sign for sign in signs if is_blank(sign)] == list("\u115f\u1160\u2800\u3164\uffa0\ufffd")


@pytest.mark.parametrize("name", ["bundled", pytest.param("xlmr", marks=pytest.mark.data)])
def test_what_a_tokenizer_has_no_token_for_is_blank(name: str, request: pytest.FixtureRequest) -> None:
    """Characters of which the bundled model, or bge-reranker-v2-m3, would see nothing."""
    folder = BUNDLED if name == "bundled" else request.getfixturevalue("xlmr_tokenizer_folder")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Behind the first two planes there are ideographs, and ranges that are alike: some of each tell.
    codes = [*range(0xD800), *range(0xE000, 0x20000), *range(0x20000, sys.maxunicode + 1, 101)]
    characters = [chr(code) for code in codes]
    encodings = tokenizer.encode_batch_fast(characters, add_special_tokens=False)
    unseen = [character for character, found in zip(characters, encodings, strict=True) if not found.ids]
    assert unseen
    assert [character for character in unseen if not is_blank(character)] == []


@pytest.mark.parametrize("text", [" \n", "\u200b"])
def test_documents_that_show_nothing_come_last_without_the_scorer(text: str) -> None:
    """Such a document scores 0.0, behind the worst that says something, and is never scored."""
    scorer = Remembers()
    results = Reranker(scorer).rerank("q", [text, "short", "a longer one"])
    assert [(result.index, result.score) for result in results][2] == (0, 0.0)
    assert scorer.passages == ["short", "a longer one"]


@pytest.mark.parametrize("text", [" \n", "\u200b"])
def test_a_query_that_shows_nothing_is_refused(text: str) -> None:
    """It asks nothing, like a blank one, and the error says so."""
    with pytest.raises(InvalidInputError, match="query is blank"):
        Reranker(Remembers()).rerank(text, ["document"])
