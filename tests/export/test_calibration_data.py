"""Which pairs an export calibrates with and compares on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.export import export_model
from rerank_plugins.export.calibration_data import CALIBRATION_PAIRS, CANDIDATES, CalibrationData, read_calibration_data
from rerank_plugins.tokenization.pair_encoder import PairEncoder

Folder = Path


@pytest.fixture(scope="module")
def encoder(bert_folder: Path) -> PairEncoder:
    return PairEncoder.from_folder(bert_folder, 128)


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    """Thirty queries, each with one passage judged relevant that shares no word with it."""
    folder = tmp_path / "mine"
    (folder / "qrels").mkdir(parents=True)
    numbers = range(30)
    corpus = [{"_id": f"d{n}", "title": "", "text": f"passage {n} says {n * 7}"} for n in numbers]
    queries = [{"_id": f"q{n}", "text": f"what about {'abcdefghij'[n % 10] * 9}{n}"} for n in numbers]
    for name, rows in (("corpus", corpus), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{29 - n}\t1" for n in numbers)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def calibrating_queries(texts: CalibrationData) -> set[str]:
    return {query for query, _ in texts.calibration}


@pytest.mark.parametrize("queries", [1, 40, 10_000])
def test_no_query_both_calibrates_and_is_compared_on(encoder: PairEncoder, queries: int) -> None:
    """However many are asked for, at least half are left to calibrate with."""
    texts = read_calibration_data(None, encoder, queries)
    compared = {question.text for question in texts.compared}
    assert not compared & calibrating_queries(texts)
    assert len(compared) == min(queries, 66)
    assert len(texts.calibration) == CALIBRATION_PAIRS


def test_where_many_are_relevant_others_compete(encoder: PairEncoder, beir: Path) -> None:
    """With thirty relevant passages a query half of the candidates at most come from them: an order can be wrong."""
    rows = [{"_id": f"e{n}", "text": f"what about {'abcdefghij'[n % 10] * 9}{n} and others"} for n in range(30)]
    with (beir / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.writelines("\n" + json.dumps(row) for row in rows)
    with (beir / "qrels" / "test.tsv").open("w", encoding="utf-8") as file:
        file.writelines(f"q{query}\td{passage}\t1\n" for query in range(30) for passage in range(30))
    for question in read_calibration_data(beir, encoder, 10).compared:
        relevant = [name for name in question.documents if question.grades.get(name)]
        assert len(question.documents) == CANDIDATES
        assert CANDIDATES // 2 <= len(relevant) < CANDIDATES


def test_blank_passages_calibrate_nothing(encoder: PairEncoder, tmp_path: Path) -> None:
    """A file whose documents are all blank is an error that says so."""
    file = tmp_path / "blank.jsonl"
    rows = [{"query": f"what is {number}", "document": " " * number} for number in range(12)]
    file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    with pytest.raises(InvalidInputError, match="All passages to calibrate with are blank"):
        read_calibration_data(file, encoder, 4)


def test_a_tokenizer_without_chinese_gets_english_only(encoder: PairEncoder) -> None:
    """Rows of [UNK] calibrate nothing and compare nothing."""
    texts = read_calibration_data(None, encoder, 10)
    assert texts.source == "built-in, english"
    assert all(question.text.isascii() for question in texts.compared)


@pytest.mark.slow
@pytest.mark.data
def test_a_multilingual_tokenizer_gets_both_languages(xlmr_tokenizer_folder: Path) -> None:
    """Half of the queries are Chinese, and Chinese pairs calibrate too."""
    texts = read_calibration_data(None, PairEncoder.from_folder(xlmr_tokenizer_folder, 128), 10)
    assert texts.source == "built-in, english and chinese"
    assert sum(any(character > "\u4e00" for character in question.text) for question in texts.compared) == 5
    assert any(character > "\u4e00" for query in calibrating_queries(texts) for character in query)


def test_judged_passages_are_among_the_candidates(encoder: PairEncoder, beir: Path) -> None:
    """Also where they share no letters with the query; the others are filled up to twenty."""
    texts = read_calibration_data(beir, encoder, 8)
    assert len(texts.compared) == 8
    for question in texts.compared:
        assert len(question.documents) == CANDIDATES
        assert set(question.grades) <= set(question.documents)


def test_the_texts_have_one_digest(encoder: PairEncoder, beir: Path) -> None:
    """The same files give the same texts in the same order; another grade gives another digest."""
    first = read_calibration_data(beir, encoder, 8).sha256
    assert read_calibration_data(beir, encoder, 8).sha256 == first
    qrels = beir / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text(encoding="utf-8").replace("\t1\n", "\t2\n"), encoding="utf-8")
    assert read_calibration_data(beir, encoder, 8).sha256 != first


def test_a_files_pairs_stay_together(encoder: PairEncoder, pairs_file: Path) -> None:
    """Each query has the documents of its own lines first, and others after them."""
    for question in read_calibration_data(pairs_file, encoder, 4).compared:
        number = question.text.rsplit(" ", maxsplit=1)[-1]
        documents = list(question.documents.values())
        assert documents[:2] == [f"the number {number} is what {other} is not" for other in range(2)]
        assert len(documents) == CANDIDATES


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.jsonl", None, "There is no file"),
        ("empty.jsonl", b"", "has 0 queries, expected at least 10"),
        ("few.jsonl", b'{"query": "a", "document": "b"}\n', "has 1 queries, expected at least 10"),
        ("text.jsonl", b"hello\n", r"line 1 is not a pair. Expected {\"query\""),
        ("list.jsonl", b"[1]\n", "line 1 is not a pair"),
        ("types.jsonl", b'{"query": 1, "document": "b"}\n', "line 1 is not a pair"),
        ("half.jsonl", b'{"query": "a"}\n', "line 1 is not a pair"),
        ("wide.jsonl", '{"query": "a"}'.encode("utf-16"), "is in UTF-16"),
    ],
)
def test_texts_that_cannot_be_used_are_named(
    fresh_bert: Path, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """The error says file, line and what was expected, and the model's folder stays as it was."""
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    before = sorted(fresh_bert.rglob("*"))
    with pytest.raises(InvalidInputError, match=message):
        export_model(fresh_bert, "int8", calibration_data=path)
    assert sorted(fresh_bert.rglob("*")) == before


@settings(max_examples=30)
@given(lines=st.lists(st.text(max_size=30), max_size=15), query=st.text(max_size=20))
def test_any_file_gives_texts_or_an_input_error(
    encoder: PairEncoder, tmp_path_factory: pytest.TempPathFactory, lines: list[str], query: str
) -> None:
    """Arbitrary unicode in queries, documents and broken lines."""
    path = tmp_path_factory.mktemp("any") / "pairs.jsonl"
    rows = [json.dumps({"query": f"{query} {number}", "document": line}) for number, line in enumerate(lines)]
    path.write_text("\n".join(rows), encoding="utf-8")
    try:
        texts = read_calibration_data(path, encoder, 3)
    except InvalidInputError:
        assert len({line.strip() for line in rows}) < 10 or not any(line.strip() for line in lines)
    else:
        assert encoder.encode(texts.calibration)
        assert texts.sha256
