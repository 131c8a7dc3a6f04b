"""What a list may be drawn from."""

from __future__ import annotations

from pathlib import Path

import pytest

from collections_to_learn import Made, made
from rerank_plugins import InvalidInputError
from rerank_plugins.retrieval.first_stage import read_run_file
from rerank_plugins.training.dataset import Material, TrainingQuery, gathered
from rerank_plugins.training.splits import divide


def material(collection: Made, folder: Path, *, unjudged: bool = False) -> Material:
    collection.write(folder)
    division = divide(folder, split=None, test_split=None, development=0.1, seed=0, drop_leaks=False, unjudged=unjudged)
    return gathered(division, read_run_file(folder.with_suffix(".run"), division.all_judged))


def of(found: Material, name: str) -> TrainingQuery:
    return next(query for query in found.queries if query.id == name)


@pytest.fixture
def learned_from(tmp_path: Path) -> str:
    """A query that is not held out for the development."""
    return material(made(), tmp_path / "any").queries[0].id


def test_neither_blank_passages_nor_copies_are_wrong_answers(tmp_path: Path, learned_from: str) -> None:
    """A blank one says nothing, a copy of a relevant one is relevant, and a text counts once."""
    collection = made()
    number = learned_from[1:]
    collection.passages |= {
        "blank": " \n",
        "copy": collection.passages[f"p{number}b"].upper(),
        "twice": collection.passages[f"p{number}c"],
    }
    collection.candidates[learned_from] = ["copy", "blank", f"p{number}c", "twice", f"p{number}b", f"p{number}a"]
    query = of(material(collection, tmp_path / "odd"), learned_from)
    assert query.relevant == (f"p{number}b",)
    assert query.others == (f"p{number}c", f"p{number}a")


def test_a_relevant_passage_need_not_be_found(tmp_path: Path, learned_from: str) -> None:
    """It is learned from although the first stage missed it."""
    collection = made()
    number = learned_from[1:]
    collection.candidates[learned_from] = [f"p{number}a"]
    query = of(material(collection, tmp_path / "missed"), learned_from)
    assert query.relevant == (f"p{number}b",)


def test_a_query_without_a_wrong_answer_is_counted_and_left_out(tmp_path: Path, learned_from: str) -> None:
    """With nothing but relevant candidates there is nothing to prefer it to."""
    collection = made()
    collection.candidates[learned_from] = [f"p{learned_from[1:]}b"]
    found = material(collection, tmp_path / "none")
    assert found.data.without_negative == 1
    assert learned_from not in {query.id for query in found.queries}


def test_too_few_with_wrong_answers_are_refused(tmp_path: Path) -> None:
    """What is left after that is counted again."""
    collection = made()
    collection.candidates = {query: [f"p{query[1:]}b"] for query in collection.queries}
    with pytest.raises(InvalidInputError, match=r"has 0 queries to learn from .* 70 that have no candidate beside"):
        material(collection, tmp_path / "none")


def test_a_teacher_gets_queries_nobody_judged(tmp_path: Path) -> None:
    """They have candidates and nothing relevant, and count towards what is needed."""
    found = material(made(trained=30, unjudged=40), tmp_path / "unjudged", unjudged=True)
    assert (found.data.judged, found.data.unjudged) == (20, 40)
    assert of(found, "q45").relevant == ()
    assert set(of(found, "q45").others) == {"p45a", "p45b", "p45c"}
