from __future__ import annotations

from pathlib import Path

import pytest

from rerank_plugins import InvalidInputError
from rerank_plugins.retrieval import Collection
from rerank_plugins.retrieval.trec_run import read_run_file

SMALL = Collection("small", {"a": "one", "b": "two", "c": "three"}, {"q": "1", "r": "2"}, {"q": {"a": 1}})


def run_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bm25.run"
    path.write_text(text)
    return path


def test_a_run_is_ordered_by_score_then_rank(tmp_path: Path) -> None:
    """A run's lines may come in any order; scores decide, then ranks, and fetch_k cuts."""
    path = run_file(tmp_path, "q Q0 b 2 5.5 x\nq Q0 a 1 7 x\nq Q0 c 1 5.5 x\n")
    stage = read_run_file(path, SMALL, fetch_k=2)
    assert stage.name == "bm25.run"
    assert stage.candidates == {"q": [("a", 7.0), ("c", 5.5)]}


def test_queries_of_a_run_without_qrels_are_passed_over(tmp_path: Path) -> None:
    """A run over all queries serves a collection that judged some."""
    path = run_file(tmp_path, "r Q0 b 1 5 x\nq\tQ0\ta\t1\t7\tx\n")
    assert list(read_run_file(path, SMALL).candidates) == ["q"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 a 1 x", "line 2 is 'q Q0 a 1 x'. Expected a line of a TREC run"),
        ("q Q0 a first 2 x", "Expected a line of a TREC run"),
        ("q Q0 a 1 nan x", "rank and score are finite numbers"),
        ("q Q0 a 1 inf x", "rank and score are finite numbers"),
        ("q Q0 a nan 1 x", "rank and score are finite numbers"),
        ("z Q0 a 1 2 x", "names the query 'z', which small does not have"),
        ("q Q0 z 1 2 x", "names the passage 'z', which small does not have"),
        ("q Q0 b 1 2 x", "has 'b' a second time for the query 'q'"),
    ],
)
def test_wrong_lines_of_a_run_are_named(tmp_path: Path, line: str, message: str) -> None:
    """A wrong line is an error with its number and what was expected."""
    path = run_file(tmp_path, f"q Q0 b 1 5 x\n{line}\n")
    with pytest.raises(InvalidInputError, match="line 2") as error:
        read_run_file(path, SMALL)
    assert message in str(error.value)


def test_a_run_of_other_queries_is_refused(tmp_path: Path) -> None:
    """A run none of whose queries is judged cannot be evaluated."""
    with pytest.raises(InvalidInputError, match="no judged query of small"):
        read_run_file(run_file(tmp_path, "r Q0 b 1 5 x\n"), SMALL)


def test_ids_with_spaces_need_tabs_in_a_run_file(tmp_path: Path) -> None:
    """With tabs between the values ids may have spaces; a line with spaces instead is an error that says so."""
    collection = Collection("files", {"file one.pdf": "text"}, {"q": "1"}, {})
    stage = read_run_file(run_file(tmp_path, "q\tQ0\tfile one.pdf\t1\t2.5\tmine\n"), collection)
    assert stage.candidates == {"q": [("file one.pdf", 2.5)]}
    with pytest.raises(InvalidInputError, match="or with tabs where ids have spaces"):
        read_run_file(run_file(tmp_path, "q Q0 file one.pdf 1 2.5 mine\n"), collection)
