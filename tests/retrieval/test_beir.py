"""Collections in BEIR layout, and what is said of files that are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.retrieval import example_collection, read_collection, read_corpus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two passages, two queries, and qrels of test and train."""
    rows = {
        "corpus": [{"_id": "d1", "title": "A title", "text": "a text"}, {"_id": 2, "title": "", "text": "no title"}],
        "queries": [{"_id": "q1", "text": "first"}, {"_id": "q2", "text": "second"}],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\t2\t0\n", encoding="utf-8")
    (tmp_path / "qrels" / "train.tsv").write_text("q2\t2\t1\r\n", encoding="utf-8")
    return tmp_path


def test_a_passage_is_its_title_and_its_text(folder: Path) -> None:
    """The text of a passage begins with its title; ids become strings."""
    collection = read_collection(folder)
    assert collection.passages == {"d1": "A title. a text", "2": "no title"}
    assert collection.queries == {"q1": "first", "q2": "second"}


def test_the_first_split_that_is_there_is_read(folder: Path) -> None:
    """Test before dev before train, with or without a header line; a split by name is read alone."""
    assert read_collection(folder).qrels == {"q1": {"d1": 2, "2": 0}}
    assert read_collection(folder, "train").qrels == {"q2": {"2": 1}}
    (folder / "qrels" / "test.tsv").unlink()
    assert read_collection(folder).qrels == {"q2": {"2": 1}}
    (folder / "qrels" / "train.tsv").unlink()
    assert read_collection(folder).qrels == {}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("corpus.jsonl", "", "is empty"),
        ("corpus.jsonl", "text\n", "line 1 is not JSON"),
        ("corpus.jsonl", '{"text": "x"}\n', "line 1 has no _id"),
        (
            "queries.jsonl",
            '{"_id": 1, "text": "x"}\n{"_id": "1", "text": "y"}\n',
            "line 2 has the _id '1' a second",
        ),
        ("queries.jsonl", '{"_id": 1}\n', "line 1 has no string field 'text'"),
        ("qrels/test.tsv", "q1 d1 1\n", "line 1 is 'q1 d1 1'. Expected a query's _id"),
        ("qrels/test.tsv", "query-id\tcorpus-id\tscore\nq1\td1\tyes\n", "line 2 is"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(folder: Path, name: str, content: str, message: str) -> None:
    """File, line, what was there and what was expected."""
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        read_collection(folder)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl"])
def test_a_missing_file_is_an_error_that_describes_the_layout(folder: Path, name: str) -> None:
    """Which file is missing, and what the layout is."""
    (folder / name).unlink()
    with pytest.raises(InvalidInputError, match=rf"has no {name}. Expected a folder in BEIR layout"):
        read_collection(folder)


def test_a_split_that_is_not_there_is_an_error(folder: Path) -> None:
    """A split that does not exist is an error, not an empty collection of qrels."""
    with pytest.raises(InvalidInputError, match=r"no qrels/dev\.tsv"):
        read_collection(folder, "dev")


@pytest.mark.parametrize(("language", "queries"), [("english", 132), ("chinese", 53)])
def test_the_example_collections_are_judged(language: str, queries: int) -> None:
    """Every query of the two has a passage that answers it."""
    collection = read_collection(example_collection(language))  # type: ignore[arg-type]
    answered = [query for query, grades in collection.qrels.items() if 2 in grades.values()]
    assert len(answered) == len(collection.queries) == queries


@pytest.mark.parametrize(
    ("lines", "message"),
    [("{broken", "line 1 is not JSON"), ('{"title": "no text"}', "no string field 'text'"), ("\n", "is empty")],
)
def test_a_corpus_that_cannot_be_read_names_the_line(tmp_path: Path, lines: str, message: str) -> None:
    """A file that is not JSON lines with text is an error that says where and what is wrong."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(lines, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        read_corpus(corpus)
