"""Texts into sentences."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.highlights import MAX_CHARACTERS, sentence_spans


def said(text: str) -> list[str]:
    return [text[start:end] for start, end in sentence_spans(text)]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        pytest.param(
            'Dr. Lee paid 3.5 dollars. "Is it new?" he asked. It was.',
            ["Dr. Lee paid 3.5 dollars.", '"Is it new?" he asked. It was.'],
            id="abbreviations, decimals, quotes, and a rest that says little",
        ),
        pytest.param(
            "苹果发布了新手机。边框是钛金属！电池能用一天吗？",
            ["苹果发布了新手机。", "边框是钛金属！", "电池能用一天吗？"],
            id="Chinese",
        ),
        pytest.param(
            "苹果发布了iPhone 15 Pro。It has a titanium frame. 价格为999美元。",
            ["苹果发布了iPhone 15 Pro。", "It has a titanium frame.", "价格为999美元。"],
            id="both",
        ),
        pytest.param(
            "Party 🎉👨‍👩‍👧 tonight. Bring caf\u0065\u0301 and 𝒳 books. See you.",
            ["Party 🎉👨‍👩‍👧 tonight.", "Bring caf\u0065\u0301 and 𝒳 books. See you."],
            id="emoji, combining and astral characters",
        ),
        pytest.param(
            "\tFirst line is here\r\n\r\n  Second line is here \nwrapped in the middle\nThird line is here\t\n",
            ["First line is here", "Second line is here \nwrapped in the middle", "Third line is here"],
            id="line ends and tabs",
        ),
        pytest.param(
            "1. Frame\n2. Battery of the phone\n## Materials\nMade of titanium.\nColours: red or white.\nSizes:\nlarge",
            [
                "1. Frame\n2. Battery of the phone",
                "## Materials\nMade of titanium.",
                "Colours: red or white.",
                "Sizes:\nlarge",
            ],
            id="numbers, bullets, headings and colons go with what follows",
        ),
        pytest.param(
            "The end is near \ud800 now. Another one.", ["The end is near \ud800 now.", "Another one."], id="half"
        ),
        pytest.param("Ok.", ["Ok."], id="little is something where there is nothing else"),
        pytest.param(" \n\t\u3000", [], id="blank"),
        pytest.param("\u200b\ufeff\0", [], id="what shows nothing"),
        pytest.param("", [], id="empty"),
    ],
)
def test_sentences_as_a_reader_sees_them(text: str, sentences: list[str]) -> None:
    """Offsets cut exactly these sentences out of the text."""
    assert said(text) == sentences


# What splitters stumble over, beside arbitrary text.
PIECES = st.sampled_from(
    [*'.!?。！？\n\r\t "“”「」()（）#-•*1aA字\u0301\u200d\ud800\udfff\u2028\x85\xa0\u3000', "😀", "Dr. ", ": "]
)
ANY = st.one_of(
    st.text(st.characters(), max_size=200),
    st.lists(PIECES, max_size=120).map("".join),
    st.lists(st.sampled_from(["word", "字", ". ", "\n", " ", ", ", "a" * 150]), max_size=120).map("".join),
)


@given(ANY)
def test_spans_hold_all_that_is_said(text: str) -> None:
    """Of any text: in order, apart, inside, none blank, no whitespace around; all that is left out is blank."""
    spans = sentence_spans(text)
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert all(before <= start for (_, before), (start, _) in pairwise(spans))
    assert all(text[start:end] == text[start:end].strip() for start, end in spans)
    assert not any(is_blank(text[start:end]) for start, end in spans)
    edges = [0, *(edge for span in spans for edge in span), len(text)]
    assert all(is_blank(text[start:end]) for start, end in zip(edges[::2], edges[1::2], strict=True))
    assert all(end - start <= MAX_CHARACTERS for start, end in spans)


def test_what_has_no_end_is_cut_where_a_reader_would() -> None:
    """Long text without full stops is cut at line breaks, commas or spaces, into readable pieces."""
    table = "\n".join(f"row {number}, {'x ' * 20}" for number in range(40))
    assert all(piece.startswith("row") for piece in said(table))
    clauses = "手机的边框很轻，" * 200
    assert all(piece.endswith("，") for piece in said(clauses))
    words = "word " * 500
    assert {piece.replace("word", "").strip() for piece in said(words)} == {""}
    for text in (table, clauses, words, "x" * 1000):
        lengths = [len(piece) for piece in said(text)]
        assert max(lengths) <= MAX_CHARACTERS
        assert min(lengths) >= MAX_CHARACTERS // 8


@pytest.mark.parametrize("text", ["word " * 40_000, "- a\n" * 20_000, "a:\n" * 20_000, "字" * 100_000, '"a ' * 30_000])
def test_splitting_takes_time_by_length(text: str) -> None:
    """What looks like no sentence, or like thousands, takes no more than seconds."""
    start = time.perf_counter()
    sentence_spans(text)
    assert time.perf_counter() - start < 5
