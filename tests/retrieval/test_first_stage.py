from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rerank_plugins import InvalidInputError
from rerank_plugins.retrieval import Collection, example_collection, load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import read_run_file, retrieve

SMALL = Collection("small", {"a": "one", "b": "two", "c": "three"}, {"q": "1", "r": "2"}, {"q": {"a": 1}})


def letters(texts: list[str]) -> np.ndarray:
    """Unit vectors of letter counts: equal for anagrams."""
    counts = np.array([[text.count(letter) for letter in "ab"] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


def run_file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "bm25.run"
    path.write_text(text)
    return path


def test_the_bundled_embedder_finds_most_answers() -> None:
    """Over the English example the static embedder has a relevant passage among its ten for most judged queries."""
    collection = read_collection(example_collection("english"))
    stage = retrieve(collection, load_embedder("embed-static-en"), name="embed-static-en", fetch_k=10)
    assert stage.candidates.keys() == collection.qrels.keys()
    hits = [
        any(collection.qrels[query].get(passage, 0) > 0 for passage, _ in found)
        for query, found in stage.candidates.items()
    ]
    assert all(len(found) == 10 for found in stage.candidates.values())
    assert sum(hits) > len(hits) / 2


def test_candidates_are_in_order_and_equal_ones_as_in_the_corpus() -> None:
    """Candidates come best first; of equal ones the first of the corpus is first."""
    collection = Collection("tiny", {"1": "b", "2": "ab", "3": "ba", "4": "a"}, {"q": "a"}, {})
    stage = retrieve(collection, letters, name="letters", fetch_k=3)
    assert [passage for passage, _ in stage.candidates["q"]] == ["4", "2", "3"]
    assert stage.candidates["q"][0][1] == pytest.approx(1.0)


def test_only_judged_queries_have_candidates() -> None:
    """Where some queries are judged, the others are left out; where none is, all have candidates."""
    judged = Collection("tiny", {"1": "b"}, {"q": "a", "r": "b"}, {"r": {"1": 1}})
    assert list(retrieve(judged, letters, name="letters").candidates) == ["r"]
    unjudged = Collection("tiny", {"1": "b"}, {"q": "a", "r": "b"}, {})
    assert list(retrieve(unjudged, letters, name="letters").candidates) == ["q", "r"]


def test_progress_is_reported_while_texts_are_embedded() -> None:
    """A collection of more than one step reports every step and ends at the whole."""
    passages = {str(number): "a" for number in range(1500)}
    steps: list[tuple[int, int]] = []
    retrieve(Collection("many", passages, {"q": "a"}, {}), letters, name="x", progress=lambda *step: steps.append(step))
    assert steps == [(1024, 1501), (1501, 1501)]


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
