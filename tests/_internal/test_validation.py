"""Checks of pairs, documents and numbers, at the places that take them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from rerank_plugins import InvalidInputError, Reranker
from rerank_plugins._internal.validation import check_documents, check_query, check_score_threshold, check_top_n
from rerank_plugins.langchain import RerankCrossEncoder
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.testing import WordOverlap
from scorers import ByLength
from stand_in_models import PASSAGES, QUERIES

Score = Callable[[Any], list[float]]

PAIRS = [(QUERIES[0], PASSAGES[0]), (QUERIES[1], PASSAGES[2]), (QUERIES[2], PASSAGES[3])]

FORMS: dict[str, Callable[[], Any]] = {
    "a list of tuples": lambda: PAIRS,
    "a list of lists": lambda: [list(pair) for pair in PAIRS],
    "a tuple of tuples": lambda: tuple(PAIRS),
    "a numpy array": lambda: np.array(PAIRS),
    "a numpy array of objects": lambda: np.array(PAIRS, dtype=object),
    "numpy strings": lambda: [(np.str_(query), np.str_(passage)) for query, passage in PAIRS],
    "two pairs": lambda: PAIRS[:2],
    "one pair in a list": lambda: PAIRS[:1],
    "one tuple": lambda: PAIRS[0],
    "one list": lambda: list(PAIRS[0]),
    "one numpy array": lambda: np.array(PAIRS[0]),
    "one pair of two letters each": lambda: ["AI", "ML"],
    "values of a table": lambda: pd.DataFrame(PAIRS).to_numpy(),
    "none": list,
    "an empty array": lambda: np.empty((0, 2), dtype=str),
}

FORMS_OF_OURS: dict[str, Callable[[], Any]] = {
    "a list of numpy arrays": lambda: list(np.array(PAIRS)),
    "a generator": lambda: (pair for pair in PAIRS),
    "rows of a table": lambda: pd.DataFrame(PAIRS).itertuples(index=False),
    "a column of a table": lambda: pd.Series(PAIRS),
    "items of a dictionary": lambda: dict(PAIRS).items(),
}


@pytest.fixture(params=["Reranker", "RerankCrossEncoder", "CrossEncoderScorer"])
def score(request: pytest.FixtureRequest, bert_openvino: CrossEncoderScorer) -> Score:
    """The method ``score`` of each class that has one over the same model."""
    reranker = Reranker(bert_openvino)
    return {
        "Reranker": reranker.score,
        "RerankCrossEncoder": RerankCrossEncoder(reranker=reranker).score,
        "CrossEncoderScorer": bert_openvino.score,
    }[request.param]


@pytest.fixture(scope="module")
def predict(bert_folder: Path) -> Score:
    """Logits by sentence-transformers' ``CrossEncoder.predict`` of the same model; of one pair a list of one."""
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(bert_folder), device="cpu", max_length=256, local_files_only=True)

    def logits(pairs: Any) -> list[float]:
        found = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False)
        return [float(one) for one in np.atleast_1d(found)]

    return logits


@pytest.mark.parametrize("form", FORMS)
def test_pairs_are_read_as_sentence_transformers_reads_them(score: Score, predict: Score, form: str) -> None:
    """Whatever they come in, the same numbers; of one pair alone, a list of its one."""
    assert score(FORMS[form]()) == pytest.approx(predict(FORMS[form]()), abs=1e-3)


@pytest.mark.parametrize("form", FORMS_OF_OURS)
def test_pairs_may_be_any_iterable(score: Score, form: str) -> None:
    """Also where sentence-transformers would take it for one text: the numbers are those of the list."""
    assert score(FORMS_OF_OURS[form]()) == pytest.approx(score(PAIRS), abs=1e-4)


WRONG: dict[str, tuple[Any, str]] = {
    "a string": ("query", "got str"),
    "bytes": (b"query", "got bytes"),
    "nothing": (None, "got NoneType"),
    "a number": (3, "got int"),
    "a dictionary": ({"query": "passage"}, "got dict"),
    "three strings": (["query", "a", "b"], r"got str at position 0 \(counted from 0\), 3 of 3 in all"),
    "one string": (["query"], "got str at position 0"),
    "a generator of strings": ((lambda: (text for text in ("query", "passage"))), "got str at position 0"),
    "a set of strings": ({"query", "passage"}, "got str at position 0"),
    "a table": (pd.DataFrame({"query": ["q"], "passage": ["p"]}), "got str at position 0"),
    "a query and its documents": (("query", ["a", "b"]), "got a tuple of str and list at position 0"),
    "no passage": (("query", None), "got a tuple of str and NoneType at position 0"),
    "a passage of bytes": (("query", b"a"), "got a tuple of str and bytes at position 0"),
    "no query among others": ([PAIRS[0], (None, "a")], r"got a tuple of NoneType and str at position 1 .* 1 of 2"),
    "a string among pairs": ([PAIRS[0], PAIRS[1], "ab"], "got str at position 2"),
    "a set among pairs": ([PAIRS[0], {"query", "passage"}], "got set at position 1"),
    "a pair of three": ([PAIRS[0], ("q", "a", "b")], "got a tuple of 3 at position 1"),
    "an array of numbers": (np.zeros((2, 2)), "got a list of float and float at position 0"),
    "an array of bytes": (np.array([[b"q", b"a"]]), "got a list of bytes and bytes at position 0"),
    "an array of three columns": (np.array([["q", "a", "b"]]), "got a list of 3 at position 0"),
    "an array without dimensions": (np.array("query"), "got ndarray"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_pair_is_named(score: Score, wrong: str) -> None:
    """The error says what was got, where, and what was expected; nothing is scored."""
    given, message = WRONG[wrong]
    with pytest.raises(InvalidInputError, match=rf"pairs must be \(query, passage\) .*, {message}"):
        score(given() if callable(given) else given)


@pytest.mark.parametrize("given", [["ab"], [("query", None)], "query"])
def test_the_double_reads_pairs_like_the_real_thing(given: Any) -> None:
    """What a real scorer refuses does not pass in somebody's tests."""
    with pytest.raises(InvalidInputError, match="pairs must be"):
        WordOverlap().score(given)


DOCUMENTS = ["short", "the longest of them", "not so short"]

DOCUMENT_FORMS: dict[str, Callable[[], Any]] = {
    "numpy": lambda: np.array(DOCUMENTS),
    "numpy objects": lambda: np.array(DOCUMENTS, dtype=object),
    "pandas": lambda: pd.Series(DOCUMENTS, index=[7, 8, 9]),
    "pandas strings": lambda: pd.Series(DOCUMENTS, dtype="string"),
    "a generator": lambda: (text for text in DOCUMENTS),
    "values of a dictionary": lambda: dict(enumerate(DOCUMENTS)).values(),
    "keys of a dictionary": lambda: dict.fromkeys(DOCUMENTS).keys(),
    "a tuple": lambda: tuple(DOCUMENTS),
}


@pytest.mark.parametrize("form", DOCUMENT_FORMS)
def test_documents_may_be_any_column_of_strings(form: str) -> None:
    """Arrays, columns, generators: the results are those of a list, with positions in the order given."""
    results = Reranker(ByLength()).rerank(np.str_("query"), DOCUMENT_FORMS[form]())
    assert [(one.index, one.document) for one in results] == [(1, DOCUMENTS[1]), (2, DOCUMENTS[2]), (0, DOCUMENTS[0])]
    json.dumps([one.document for one in results])


@pytest.mark.parametrize(
    "documents",
    [
        {"id": "text"},
        pd.DataFrame({"text": DOCUMENTS}),
        np.array([DOCUMENTS, DOCUMENTS]),
    ],
    ids=["a dictionary", "a table", "an array of rows"],
)
def test_documents_that_would_be_read_by_their_names_are_refused(documents: Any) -> None:
    """Ids and names of columns are not ranked as if they were texts."""
    with pytest.raises(InvalidInputError, match=f"got a {type(documents).__name__}. Give its texts alone"):
        Reranker(ByLength()).rerank("query", documents)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (pd.Series(["a", None]), r"got (NoneType|float) at position 1"),
        (pd.Series(["a", None], dtype="string"), "got (NAType|float) at position 1"),
        (np.array([b"a"]), "got bytes_ at position 0"),
    ],
)
def test_a_gap_in_a_column_is_named(documents: Any, message: str) -> None:
    """A missing text is an error with its position, whatever the column calls it."""
    with pytest.raises(InvalidInputError, match=message):
        Reranker(ByLength()).rerank("query", documents)


@pytest.mark.parametrize("top_n", [None, 0, 1, 10**9])
def test_good_top_n_passes(top_n: int | None) -> None:
    """None and integers from 0 up are accepted."""
    check_top_n(top_n)


@pytest.mark.parametrize("top_n", [-1, -100])
def test_negative_top_n_is_refused_with_its_value(top_n: int) -> None:
    """A negative top_n is an error that names the number got."""
    with pytest.raises(InvalidInputError, match=f"0 or more.*got {top_n}"):
        check_top_n(top_n)


@pytest.mark.parametrize(("top_n", "kind"), [(1.0, "float"), ("3", "str"), (True, "bool"), (False, "bool")])
def test_top_n_of_another_type_is_refused(top_n: object, kind: str) -> None:
    """A top_n that is no integer is an error that names its type."""
    with pytest.raises(InvalidInputError, match=f"integer.*of type {kind}"):
        check_top_n(top_n)


@pytest.mark.parametrize("threshold", [None, 0, 0.0, 0.5, 1, 1.0])
def test_good_threshold_passes(threshold: float | None) -> None:
    """None and numbers from 0 to 1, both included, are accepted."""
    check_score_threshold(threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf, -math.inf, 7])
def test_threshold_outside_the_unit_interval_is_refused(threshold: float) -> None:
    """A threshold that no score can be compared with is an error that tells what to do with logits."""
    with pytest.raises(InvalidInputError, match=r"\[0, 1\].*sigmoid"):
        check_score_threshold(threshold)


@pytest.mark.parametrize(("threshold", "kind"), [("0.5", "str"), (True, "bool"), ([0.5], "list")])
def test_threshold_of_another_type_is_refused(threshold: object, kind: str) -> None:
    """A threshold that is no number is an error that names its type."""
    with pytest.raises(InvalidInputError, match=f"number.*of type {kind}"):
        check_score_threshold(threshold)


@pytest.mark.parametrize("document", ["one document", b"one document"])
def test_one_string_for_documents_is_refused(document: Any) -> None:
    """A string is not taken for a list of its letters: the error says to give a list."""
    with pytest.raises(InvalidInputError, match=r"got one (str|bytes).*give a list: \[document\]"):
        check_documents(document)


@pytest.mark.parametrize("documents", [None, 3, 0.5, object()])
def test_documents_that_are_no_iterable_are_refused(documents: Any) -> None:
    """Something that cannot be read one by one is an error that names its type."""
    with pytest.raises(InvalidInputError, match=f"iterable of strings, got {type(documents).__name__}"):
        check_documents(documents)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        (["a", None, "b"], r"got NoneType at position 1 \(counted from 0\) of 3"),
        ([1, "a", 2.5], r"got float, int at position 0, 2 \(counted from 0\) of 3"),
        (["a", b"bytes"], r"got bytes at position 1 \(counted from 0\) of 2"),
        ([None] * 12, r"at position 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"),
    ],
)
def test_a_document_that_is_no_string_is_refused(documents: Any, message: str) -> None:
    """None, numbers and bytes among the documents are an error with their types and positions."""
    with pytest.raises(InvalidInputError, match=message):
        check_documents(documents)


@pytest.mark.parametrize("query", ["", "   ", "\n\t\u3000"])
def test_an_empty_query_is_refused(query: str) -> None:
    """A blank query is an error, for there is nothing to rank by."""
    with pytest.raises(InvalidInputError, match="query is blank"):
        check_query(query)


@pytest.mark.parametrize("query", [None, 3, b"query", ["query"]])
def test_a_query_that_is_no_string_is_refused(query: Any) -> None:
    """A query of another type is an error that names it."""
    with pytest.raises(InvalidInputError, match=f"query must be a string, got {type(query).__name__}"):
        check_query(query)
