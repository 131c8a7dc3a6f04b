from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from rerank_plugins import InvalidInputError, ModelLoadError, Pair
from rerank_plugins.tokenization.pair_encoder import EncodedPair, PairEncoder

UNCUT = 100_000

SAMPLES: list[Pair] = [
    ("how do plants make food", "photosynthesis turns sunlight, water and air into sugar."),
    ("植物如何制造食物?", "光合作用把阳光、水和空气变成糖。"),
    ("Mixed 中文 and English", "Ein Satz mit Umlauten: äöüß, ÉCOLE, ﬁne"),
    ("", ""),
    ("only a query", ""),
    ("", "only a passage"),
    ("  spaces \t\n", "\u3000full width\u00a0spaces "),
    ("nul\0byte", "\0\0"),
    ("من كتب هذا؟", "כתב אותו סופר \u202eabc\u202c"),
    ("👩‍👩‍👧‍👦 family 🇩🇪", "🙂" * 50),
    ("<s> specials </s> [SEP]", "in the [CLS] text <pad> [MASK] <mask>"),
    ("a\u0301\u0301\u0301", "zero\u200bwidth\ufeff"),
]


class Tokenization(NamedTuple):
    """A tokenizer as transformers reads it, and this package's encoder over the same files."""

    auto: Any
    encoder: PairEncoder


@pytest.fixture(scope="module", params=["bert", pytest.param("xlmr_tokenizer", marks=pytest.mark.data)])
def tokenization(request: pytest.FixtureRequest) -> Tokenization:
    """BERT's way and XLM-R's way of tokenizing, in turn."""
    from transformers import AutoTokenizer

    folder: Path = request.getfixturevalue(f"{request.param}_folder")
    return Tokenization(AutoTokenizer.from_pretrained(folder), PairEncoder.from_folder(folder, UNCUT))


@pytest.fixture
def tokenizer(bert_folder: Path) -> Tokenizer:
    """The BERT stand-in's tokenizer, anew for each test."""
    return Tokenizer.from_file(str(bert_folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def bert_json(bert_folder: Path) -> str:
    """The BERT stand-in's tokenizer.json."""
    return (bert_folder / "tokenizer.json").read_text(encoding="utf-8")


def assert_agree(tokenization: Tokenization, query: str, passage: str) -> None:
    """Ids and type ids are those of AutoTokenizer, and nothing was cut."""
    # As lists: of two plain strings AutoTokenizer takes an empty second one for none at all.
    expected = tokenization.auto([query], [passage], return_token_type_ids=True)
    row = tokenization.encoder.encode([(query, passage)])[0]
    assert row == EncodedPair(expected["input_ids"][0], expected["token_type_ids"][0], truncated=False)


def pieces(tokenizer: Tokenizer, row: EncodedPair) -> str:
    """The row's tokens as text."""
    return " ".join(tokenizer.id_to_token(number) for number in row.input_ids)


def query_tokens(row: EncodedPair) -> int:
    """Tokens of the query in a BERT row: segment 0 without [CLS] and the first [SEP]."""
    return row.token_type_ids.count(0) - 2


@pytest.mark.parametrize(("query", "passage"), SAMPLES)
def test_uncut_pairs_agree_with_auto_tokenizer(tokenization: Tokenization, query: str, passage: str) -> None:
    """English, Chinese and odd texts give token for token what AutoTokenizer(query, passage) gives."""
    assert_agree(tokenization, query, passage)


@given(query=st.text(max_size=60), passage=st.text(max_size=200))
def test_any_text_agrees_with_auto_tokenizer(tokenization: Tokenization, query: str, passage: str) -> None:
    """So does any text that UTF-8 can carry."""
    assert_agree(tokenization, query, passage)


def test_many_pairs_are_encoded_in_their_order(tokenization: Tokenization) -> None:
    """A list of pairs, queries repeated, gives one row a pair, each as if it were alone."""
    pairs = [*SAMPLES, *reversed(SAMPLES)]
    assert tokenization.encoder.encode(pairs) == [tokenization.encoder.encode([pair])[0] for pair in pairs]


def test_bert_rows_have_the_bert_template(tokenizer: Tokenizer) -> None:
    """[CLS] query [SEP] passage [SEP], with segment 1 from the passage on."""
    row = PairEncoder(tokenizer, 64).encode([("cat", "the mat")])[0]
    assert pieces(tokenizer, row) == "[CLS] cat [SEP] the mat [SEP]"
    assert row.token_type_ids == [0, 0, 0, 1, 1, 1]


@pytest.mark.data
@pytest.mark.parametrize("tokenization", ["xlmr_tokenizer"], indirect=True)
def test_xlmr_rows_have_the_xlmr_template(tokenization: Tokenization) -> None:
    """<s> query </s></s> passage </s>, with the ids of the original: Hello World! is 35378 6661 38."""
    (row,) = tokenization.encoder.encode([("Hello World!", "Hello World!")])
    assert row.input_ids == [0, 35378, 6661, 38, 2, 2, 35378, 6661, 38, 2]
    assert row.token_type_ids == [0] * 10


@given(query=st.text("ab 食", max_size=60), passage=st.text("ab 食", max_size=90), max_length=st.integers(5, 80))
def test_rows_are_never_longer_than_max_length(bert_json: str, query: str, passage: str, max_length: int) -> None:
    """Whatever the texts, a row has at most max_length tokens, and as many type ids as ids."""
    row = PairEncoder(Tokenizer.from_str(bert_json), max_length).encode([(query, passage)])[0]
    assert len(row.token_type_ids) == len(row.input_ids) <= max_length


@given(query=st.text("ab 食", max_size=60), passage=st.text("ab 食", max_size=90), max_length=st.integers(5, 80))
def test_truncated_says_whether_a_token_was_lost(bert_json: str, query: str, passage: str, max_length: int) -> None:
    """``truncated`` is true exactly if the row has fewer tokens than it would have with room for all."""
    row = PairEncoder(Tokenizer.from_str(bert_json), max_length).encode([(query, passage)])[0]
    whole = PairEncoder(Tokenizer.from_str(bert_json), UNCUT).encode([(query, passage)])[0]
    assert row.truncated == (len(row.input_ids) < len(whole.input_ids))


@given(words=st.integers(1, 200), max_length=st.integers(5, 120), share=st.floats(0.05, 0.95))
def test_a_query_takes_no_more_than_its_share(bert_json: str, words: int, max_length: int, share: float) -> None:
    """A query has at most its share of max_length, at least one token, and leaves one for the passage."""
    encoder = PairEncoder(Tokenizer.from_str(bert_json), max_length, max_query_share=share)
    row = encoder.encode([("plants " * words, "food " * 200)])[0]
    assert 1 <= query_tokens(row) <= max(1, share * max_length)
    assert row.token_type_ids.count(1) >= 2


def test_a_long_query_is_cut_to_half_by_default(tokenizer: Tokenizer) -> None:
    """With max_length 20 a query keeps its first 10 tokens; the passage has the other 7 beside 3 specials."""
    encoder = PairEncoder(tokenizer, 20)
    row = encoder.encode([("plants " * 50, "food " * 50)])[0]
    assert (query_tokens(row), row.token_type_ids.count(1) - 1, len(row.input_ids)) == (10, 7, 20)


def test_a_short_query_leaves_its_room_to_the_passage(tokenizer: Tokenizer) -> None:
    """What a query does not use of its share is the passage's."""
    row = PairEncoder(tokenizer, 20).encode([("plants", "food " * 50)])[0]
    assert (query_tokens(row), row.token_type_ids.count(1) - 1) == (1, 16)


def test_cutting_keeps_the_beginning(tokenizer: Tokenizer) -> None:
    """Of a passage that is too long the first tokens are kept, and the closing token stands after them."""
    row = PairEncoder(tokenizer, 7).encode([("cat", "bread is baked from flour")])[0]
    assert pieces(tokenizer, row) == "[CLS] cat [SEP] bread is baked [SEP]"


@pytest.mark.parametrize(
    ("query", "passage", "expected"),
    [("cat", "food", False), ("cat", "food " * 60, True), ("cat " * 60, "food", True), ("cat " * 60, "", True)],
)
def test_truncated_tells_of_query_and_of_passage(
    tokenizer: Tokenizer, query: str, passage: str, *, expected: bool
) -> None:
    """A cut passage is reported, and so is a cut query."""
    assert PairEncoder(tokenizer, 32).encode([(query, passage)])[0].truncated is expected


def test_a_tokenizer_set_to_cut_and_pad_is_cured(tokenizer: Tokenizer) -> None:
    """Truncation and padding that a tokenizer.json brings along are switched off, and stay off in use."""
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=64)
    encoder = PairEncoder(tokenizer, 32)
    rows = encoder.encode([("cat", "the cat sat on the mat"), ("cat " * 60, "food " * 60)])
    assert (tokenizer.truncation, tokenizer.padding) == (None, None)
    assert [len(row.input_ids) for row in rows] == [10, 32]


@pytest.fixture
def many_pairs() -> list[Pair]:
    """Pairs of many lengths, some of which every encoder has to cut."""
    return [(f"how do plants {'make ' * (number % 9)}food", "food water " * number) for number in range(60)]


def in_threads(encoders: list[PairEncoder], pairs: list[Pair]) -> Iterator[list[EncodedPair]]:
    """Each encoder in a thread of its own, all at the same time, over and over."""
    with ThreadPoolExecutor(len(encoders)) as pool:
        yield from pool.map(lambda encoder: [encoder.encode(pairs) for _ in range(10)][-1], encoders)


def test_threads_with_different_lengths_do_not_cut_each_other(tokenizer: Tokenizer, many_pairs: list[Pair]) -> None:
    """Eight threads that encode to eight lengths over one tokenizer get what they would get alone."""
    encoders = [PairEncoder(tokenizer, length) for length in (8, 12, 16, 24, 32, 48, 64, 128)]
    alone = [encoder.encode(many_pairs) for encoder in encoders]
    assert list(in_threads(encoders, many_pairs)) == alone


def test_threads_may_share_one_encoder(tokenizer: Tokenizer, many_pairs: list[Pair]) -> None:
    """Eight threads that share an encoder all get the serial result."""
    encoder = PairEncoder(tokenizer, 32)
    alone = encoder.encode(many_pairs)
    assert list(in_threads([encoder] * 8, many_pairs)) == [alone] * 8


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb", "\udc00\ud800", "food \ud83d"])
def test_a_lone_surrogate_is_read_as_the_replacement_character(tokenization: Tokenization, text: str) -> None:
    """Half a surrogate pair, which UTF-8 cannot carry, becomes U+FFFD and nothing else changes."""
    cured = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
    rows = tokenization.encoder.encode([(text, f"cat {text}"), (cured, f"cat {cured}")])
    assert rows[0] == rows[1]


def test_a_surrogate_pair_is_read_as_its_character(tokenization: Tokenization) -> None:
    """Two surrogates that belong together are the character they stand for."""
    rows = tokenization.encoder.encode([("\ud83d\ude00 cat", "\ud83d\ude00"), ("😀 cat", "😀")])
    assert rows[0] == rows[1]


@pytest.mark.parametrize("max_length", [-1, 0, 3, 4])
def test_max_length_without_room_is_refused(tokenizer: Tokenizer, max_length: int) -> None:
    """A max_length that the special tokens fill is an error that names the smallest one possible."""
    with pytest.raises(InvalidInputError, match=f"got {max_length}, expected at least 5"):
        PairEncoder(tokenizer, max_length)


def test_a_folder_without_tokenizer_is_refused(tmp_path: Path) -> None:
    """A folder without tokenizer.json is an error that names the file and how to make one."""
    with pytest.raises(ModelLoadError, match=r"no tokenizer\.json.*save_pretrained"):
        PairEncoder.from_folder(tmp_path, 64)


def test_a_tokenizer_that_knows_no_letters_is_refused(tmp_path: Path) -> None:
    """A tokenizer that gives no tokens for text is an error, and no encoder of empty rows."""
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {}, "merges": []}}', encoding="utf-8")
    with pytest.raises(ModelLoadError, match="no tokens for a plain letter"):
        PairEncoder.from_folder(tmp_path, 64)
