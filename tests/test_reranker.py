from __future__ import annotations

import asyncio
import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerank_plugins import (
    InvalidInputError,
    Pair,
    RankedResult,
    Reranker,
    ScoredPair,
    Scorer,
    ScoringError,
    load_reranker,
    sigmoid,
)

DOCUMENTS = ["b two", "a one", "d four", "c three"]


class Plain:
    """Gives the scores it was made with and remembers the pairs it was given."""

    def __init__(self, *scores: Any) -> None:
        self.scores = scores
        self.pairs: list[Pair] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """The scores, as they are."""
        self.pairs = pairs
        return list(self.scores)


class Letters:
    """Scores a passage by its first letter: a is best."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """4 for a, 3 for b, and so on."""
        return [float(ord("e") - ord(passage[0])) for _, passage in pairs]


class Slow(Letters):
    """Takes its time."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """As `Letters`, after 0.3 s."""
        time.sleep(0.3)
        return super().score(pairs)


class Detailed(Plain):
    """Calls passages of more than five characters truncated."""

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """The scores, each with whether its passage is long."""
        scores = zip(self.score(pairs), pairs, strict=False)  # too few scores stay too few
        return [ScoredPair(score, len(passage) > 5) for score, (_, passage) in scores]


class Probabilities(Plain):
    """Says that its scores are probabilities."""

    scale = "probability"


class NumpyDetailed(Detailed):
    """Gives numpy's numbers and numpy's booleans."""

    scale = "probability"

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """As `Detailed`, in numpy's types."""
        detailed = super().score_detailed(pairs)
        return [ScoredPair(np.float32(scored.score), np.bool_(scored.truncated)) for scored in detailed]  # type: ignore[arg-type]


def test_results_carry_index_score_and_document() -> None:
    """Results come best first, each with its place in the input, its score and its text."""
    assert Reranker(Plain(-1.0, 2.0)).rerank("q", ["bad", "good"]) == [
        RankedResult(1, sigmoid(2.0), "good"),
        RankedResult(0, sigmoid(-1.0), "bad"),
    ]


def test_the_scorer_gets_query_and_document_pairs() -> None:
    """The scorer is given (query, document) tuples, in input order, all in one call."""
    scorer = Plain(1.0, 2.0)
    Reranker(scorer).rerank("the query", ["one", "two"])
    assert scorer.pairs == [("the query", "one"), ("the query", "two")]


@pytest.mark.parametrize("number", [np.float32, np.float64, float, int, bool])
def test_scores_are_built_in_floats(number: Callable[[float], Any]) -> None:
    """Whatever kind of number a scorer gives, a result's score is a float, on either scale."""
    scores = [number(1), number(0)]
    for scale in ("logit", "probability"):
        results = Reranker(Plain(*scores), scale=scale).rerank("q", DOCUMENTS[:2])  # type: ignore[arg-type]
        assert {type(result.score) for result in results} == {float}


def test_detailed_numpy_scores_become_built_in() -> None:
    """Numbers and booleans of numpy from a detailed scorer become float and bool."""
    (result,) = Reranker(NumpyDetailed(0.5)).rerank("q", ["long document"])
    assert (type(result.score), type(result.truncated)) == (float, bool)


def test_an_array_of_scores_is_accepted() -> None:
    """A scorer may return a numpy array where a list was asked for."""

    class Array(Plain):
        def score(self, pairs: list[Pair], /) -> Any:
            return np.array(super().score(pairs), dtype=np.float32)

    assert [result.index for result in Reranker(Array(0.0, 3.0)).rerank("q", DOCUMENTS[:2])] == [1, 0]


def test_equal_scores_keep_their_input_order() -> None:
    """Ties are settled by the place in the input."""
    results = Reranker(Plain(1, 2, 1, 2)).rerank("q", DOCUMENTS)
    assert [result.index for result in results] == [1, 3, 0, 2]


def test_duplicates_keep_their_own_places() -> None:
    """The same text twice is two results with two indices."""
    results = Reranker(Letters()).rerank("q", ["b", "a", "b", "a"])
    assert [(result.index, result.document) for result in results] == [(1, "a"), (3, "a"), (0, "b"), (2, "b")]


def test_documents_may_come_from_a_generator() -> None:
    """Any iterable is read, once."""

    def documents() -> Iterator[str]:
        yield from DOCUMENTS

    results = Reranker(Letters()).rerank("q", documents())
    assert [result.document for result in results] == sorted(DOCUMENTS)


def test_inputs_stay_untouched() -> None:
    """The list of documents is neither sorted nor changed, and its strings come back as they are."""
    documents = [*DOCUMENTS, " padded ", ""]
    before = copy.copy(documents)
    results = Reranker(Plain(1, 2, 3, 4, 5)).rerank("q", documents)
    assert documents == before
    assert all(result.document is documents[result.index] for result in results)


def test_blank_documents_come_last_without_the_scorer() -> None:
    """A document of white space scores 0.0, stands after all others, even the worst, and is never scored."""
    scorer = Plain(-1000.0, 1.0)
    results = Reranker(scorer).rerank("q", ["", "worst", " \n\t\u3000", "best"])
    assert [(result.index, result.score) for result in results] == [(3, sigmoid(1.0)), (1, 0.0), (0, 0.0), (2, 0.0)]
    assert scorer.pairs == [("q", "worst"), ("q", "best")]


@pytest.mark.parametrize("documents", [[], ["", "  "]])
def test_nothing_to_score_does_not_call_the_scorer(documents: list[str]) -> None:
    """No documents give no results, blank ones blank results; a scorer that would fail is not asked."""
    scorer = Plain("not a score")
    assert [result.score for result in Reranker(scorer).rerank("q", documents)] == [0.0] * len(documents)
    assert scorer.pairs == []


def test_top_n_and_threshold_are_applied() -> None:
    """Only scores at or above the threshold are returned, and at most top_n of them."""
    reranker = Reranker(Plain(0.4, 0.9, 0.5, 0.7), scale="probability")
    assert [r.index for r in reranker.rerank("q", DOCUMENTS, score_threshold=0.5)] == [1, 3, 2]
    assert [r.index for r in reranker.rerank("q", DOCUMENTS, score_threshold=0.5, top_n=2)] == [1, 3]
    assert reranker.rerank("q", DOCUMENTS, top_n=0) == []


@pytest.mark.parametrize("options", [{"top_n": -1}, {"top_n": 1.5}, {"score_threshold": 2}])
def test_bad_options_are_refused_before_scoring(options: dict[str, Any]) -> None:
    """A wrong top_n or threshold is an error before the scorer works for nothing."""
    scorer = Plain(1.0)
    with pytest.raises(InvalidInputError):
        Reranker(scorer).rerank("q", ["a"], **options)
    assert scorer.pairs == []


@pytest.mark.parametrize(
    ("scorer", "scale", "expected"),
    [
        (Plain(0.25), None, sigmoid(0.25)),
        (Plain(0.25), "probability", 0.25),
        (Probabilities(0.25), None, 0.25),
        (Probabilities(0.25), "logit", sigmoid(0.25)),
    ],
)
def test_scale_says_what_scores_are(scorer: Scorer, scale: Any, expected: float) -> None:
    """Logits get a sigmoid, probabilities none; the argument goes before the scorer's word, logit is the default."""
    assert Reranker(scorer, scale=scale).rerank("q", ["a"])[0].score == expected


def test_an_unknown_scale_is_refused() -> None:
    """A scale that does not exist is an error that names the two there are."""
    with pytest.raises(InvalidInputError, match="'logit' or 'probability', got 'percent'"):
        Reranker(Plain(), scale="percent")  # type: ignore[arg-type]


def test_something_without_score_is_refused() -> None:
    """A model's name in place of a scorer is an error that points to load_reranker."""
    with pytest.raises(InvalidInputError, match=r"got str.*load_reranker"):
        Reranker("BAAI/bge-reranker-v2-m3")  # type: ignore[arg-type]


def test_plain_scorers_leave_truncation_open() -> None:
    """Where the scorer cannot tell, truncated is None."""
    assert Reranker(Plain(1.0)).rerank("q", ["long document"])[0].truncated is None


def test_detailed_scorers_tell_of_truncation() -> None:
    """Where the scorer can tell, truncated is true or false, each with its own document."""
    results = Reranker(Detailed(1.0, 3.0, 2.0)).rerank("q", ["short", "long document", "", "tiny"])
    assert [(result.index, result.truncated) for result in results] == [(1, True), (3, False), (0, False), (2, False)]


def test_arerank_gives_what_rerank_gives() -> None:
    """The asynchronous way gives the same results."""
    reranker = Reranker(Letters())
    results = asyncio.run(reranker.arerank("q", iter(DOCUMENTS), top_n=3, score_threshold=0.6))
    assert results == reranker.rerank("q", DOCUMENTS, top_n=3, score_threshold=0.6)
    assert len(results) == 3


def test_arerank_leaves_the_event_loop_free() -> None:
    """While a slow scorer works, other tasks of the event loop go on."""

    async def beats_while_reranking() -> int:
        task = asyncio.create_task(Reranker(Slow()).arerank("q", DOCUMENTS))
        beats = 0
        while not task.done():
            await asyncio.sleep(0.01)
            beats += 1
        return beats

    assert asyncio.run(beats_while_reranking()) > 5


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf, np.float32("nan")])
@pytest.mark.parametrize("double", [Plain, Detailed])
def test_scores_that_are_not_finite_are_an_error(double: type[Plain], number: float) -> None:
    """NaN and infinity are an error with the documents' positions in the input, blank ones counted."""
    with pytest.raises(ScoringError, match=r"documents 2, 4 \(counted from 0\)"):
        Reranker(double(1.0, number, 2.0, number)).rerank("q", ["a", "", "b", "c", "d"])


@pytest.mark.parametrize("scorer", [Plain(), Plain(1.0), Plain(1.0, 2.0, 3.0), Detailed(1.0)])
def test_a_wrong_number_of_scores_is_an_error(scorer: Plain) -> None:
    """Too few scores, or too many, are an error with both numbers."""
    with pytest.raises(ScoringError, match=f"gave {len(scorer.scores)} scores for 2 pairs"):
        Reranker(scorer).rerank("q", ["a", "b"])


def test_probabilities_outside_the_unit_interval_are_an_error() -> None:
    """A scorer whose probabilities are none is an error with the positions and the other scale."""
    with pytest.raises(ScoringError, match=r"documents 0, 2 \(counted from 0\).*scale='logit'"):
        Reranker(Probabilities(1.5, 0.5, -0.1)).rerank("q", ["a", "b", "c"])


@pytest.mark.parametrize("score", [None, "high", [0.5]])
def test_scores_that_are_no_numbers_are_an_error(score: object) -> None:
    """Something that is no number in place of a score is an error of this package."""
    with pytest.raises(ScoringError):
        Reranker(Plain(score)).rerank("q", ["a"])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_load_reranker_reranks(bert_folder: Path, engine: Any) -> None:
    """A folder becomes a reranker: scores in (0, 1), falling, truncation reported, built-in floats."""
    reranker = load_reranker(bert_folder, engine=engine, precision="fp32", device="cpu", max_length=16)
    results = reranker.rerank("how do plants make food", ["the cat", "water " * 60, "bread and salt"])
    assert sorted(result.index for result in results) == [0, 1, 2]
    assert [result.score for result in results] == sorted({result.score for result in results}, reverse=True)
    assert {result.index: result.truncated for result in results} == {0: False, 1: True, 2: False}
    assert all(type(result.score) is float and 0 < result.score < 1 for result in results)


def test_logits_whose_sigmoids_are_both_one_keep_their_order() -> None:
    """Logits of 50, 80 and 100 are all 1.0 as probabilities, and still the highest comes first."""
    results = Reranker(Plain(50.0, 80.0, 100.0, 40.0)).rerank("q", list("abcd"))
    assert [result.index for result in results] == [2, 1, 0, 3]
    assert results[0].score == 1.0


def test_numpy_numbers_are_taken_for_top_n_and_threshold() -> None:
    """An np.int64 and an np.float32 are numbers like others."""
    reranker = Reranker(Plain(1.0, 2.0, -3.0))
    assert len(reranker.rerank("q", list("abc"), top_n=np.int64(2))) == 2  # type: ignore[arg-type]
    assert len(reranker.rerank("q", list("abc"), score_threshold=np.float32(0.5))) == 2  # type: ignore[arg-type]


def test_an_error_inside_a_generator_of_documents_is_the_callers_own() -> None:
    """A TypeError raised by the user's generator is not taken for a wrong argument."""

    def documents() -> Iterator[str]:
        yield "fine"
        raise TypeError("in the generator")

    with pytest.raises(TypeError, match="in the generator") as caught:
        Reranker(Plain(1.0)).rerank("q", documents())
    assert not isinstance(caught.value, InvalidInputError)


def test_a_scorer_that_empties_its_argument_harms_nobody() -> None:
    """What a scorer does to the list of pairs does not change what is ranked."""

    class Empties(Plain):
        def score(self, pairs: list[Pair], /) -> list[float]:
            pairs.clear()
            return list(self.scores)

    assert [result.index for result in Reranker(Empties(1.0, 2.0)).rerank("q", ["a", "b"])] == [1, 0]


def test_a_copy_of_a_reranker_shares_its_model() -> None:
    """deepcopy, which frameworks do to their parts, does not copy weights."""
    reranker = Reranker(Plain(1.0))
    assert copy.deepcopy(reranker) is reranker
