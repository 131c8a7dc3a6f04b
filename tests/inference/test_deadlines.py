from __future__ import annotations

import asyncio
import string
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gated_engine import GatedEngine
from rerank_plugins import DeadlineExceededError, InvalidInputError, Pair, Reranker
from rerank_plugins.testing import FailingEngine, SlowEngine, toy_reranker
from scorers import ByLength

TEXTS = [f"{number} " + "apple pear "[number % 5 :] * (1 + number % 7) for number in range(60)]


class SlowScorer(ByLength):
    """20 ms a pair."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair, late."""
        time.sleep(0.02 * len(pairs))
        return super().score(pairs)


def slow() -> Reranker:
    """5 ms a document."""
    return toy_reranker(SlowEngine(seconds=0, seconds_a_row=0.005))


def test_a_deadline_leaves_out_what_comes_last() -> None:
    """The documents found first are scored, and the others follow them in their order, with score None."""
    results = slow().rerank("q", TEXTS, deadline=0.15)
    scored = [result for result in results if result.score is not None]
    assert 0 < len(scored) < 60
    assert sorted(result.index for result in scored) == list(range(len(scored)))
    assert [result.index for result in results[len(scored) :]] == list(range(len(scored), 60))
    assert {result.truncated for result in results[len(scored) :]} == {None}
    scores = [result.score for result in scored if result.score is not None]
    assert scores == sorted(scores, reverse=True)


def test_what_a_deadline_left_scored_has_its_own_score() -> None:
    """A document's score is the one it has without a deadline."""
    reranker = slow()
    whole = {result.index: result.score for result in reranker.rerank("q", TEXTS)}
    part = [result for result in reranker.rerank("q", TEXTS, deadline=0.15) if result.score is not None]
    assert [result.score for result in part] == pytest.approx([whole[result.index] for result in part], abs=1e-6)


def test_a_deadline_far_away_changes_nothing() -> None:
    """All are scored, in the same order as without one."""
    reranker = toy_reranker()
    whole, part = reranker.rerank("q", TEXTS), reranker.rerank("q", TEXTS, deadline=60)
    assert [result.index for result in part] == [result.index for result in whole]
    assert reranker.stats().partial == 0


def test_a_deadline_can_be_an_error() -> None:
    """on_deadline='raise' says how many had a score, and is a TimeoutError as well; it is counted."""
    reranker = slow()
    with pytest.raises(DeadlineExceededError, match=r"of 60 documents had a score after deadline=0\.05 s") as caught:
        reranker.rerank("q", TEXTS, deadline=0.05, on_deadline="raise")
    assert isinstance(caught.value, TimeoutError)
    assert (reranker.stats().expired, reranker.stats().cancelled) == (1, 0)


def test_a_deadline_holds_while_the_model_is_busy() -> None:
    """Who waits behind a batch that does not end is answered all the same, without scores, and in order."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(reranker.rerank, "q", ["busy"])
        engine.until_begun(1)
        results = reranker.rerank("q", ["a", "b", "c"], deadline=0.05)
        waiting = reranker.stats().waiting_pairs
        engine.let(10)
        assert len(other.result()) == 1
    assert [(result.index, result.score) for result in results] == [(0, None), (1, None), (2, None)]
    assert waiting == 1
    assert engine.batches == [["busy"]]


async def test_a_deadline_holds_in_an_event_loop() -> None:
    """Arerank answers in part as rerank does."""
    results = await slow().arerank("q", TEXTS, deadline=0.1)
    assert 0 < sum(result.score is not None for result in results) < 60
    with pytest.raises(DeadlineExceededError):
        await slow().arerank("q", TEXTS, deadline=0.05, on_deadline="raise")


def test_unscored_documents_stand_before_blank_ones_and_pass_the_threshold() -> None:
    """What was not judged is not dropped by a threshold; what is blank is known to say nothing."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(reranker.rerank, "q", ["busy"])
        engine.until_begun(1)
        results = reranker.rerank("q", ["a", " ", "b"], deadline=0.01)
        above = reranker.rerank("q", ["a", " ", "b"], deadline=0.01, score_threshold=0.9)
        engine.let(10)
        other.result()
    assert [(result.index, result.score) for result in results] == [(0, None), (2, None), (1, 0.0)]
    assert [(result.index, result.score) for result in above] == [(0, None), (2, None)]


def test_a_deadline_missed_with_an_error_can_keep_the_order() -> None:
    """on_error='keep_order' also covers on_deadline='raise'."""
    results = slow().rerank("q", TEXTS, deadline=0.02, on_deadline="raise", on_error="keep_order", top_n=3)
    assert [(result.index, result.score) for result in results] == [(0, None), (1, None), (2, None)]


@pytest.mark.parametrize("on_deadline", ["partial", "raise"])
def test_a_scorer_of_ones_own_is_asked_in_parts(on_deadline: str) -> None:
    """It is given 16 documents at a time in their order, and the clock is read in between."""
    reranker = Reranker(SlowScorer())
    if on_deadline == "raise":
        with pytest.raises(DeadlineExceededError, match=r"\d+ of 60 documents"):
            reranker.rerank("q", TEXTS, deadline=0.5, on_deadline="raise")
        return
    results = reranker.rerank("q", TEXTS, deadline=0.5, on_deadline="partial")
    scored = sorted(result.index for result in results if result.score is not None)
    assert scored in (list(range(16)), list(range(32)))


@pytest.mark.parametrize("deadline", [0, -1, float("nan"), float("inf"), True, "0.2"])
def test_a_deadline_must_be_seconds(deadline: object) -> None:
    """Anything but a number above 0 is refused, with what was got."""
    with pytest.raises(InvalidInputError, match="deadline must be a number of seconds above 0"):
        toy_reranker().rerank("q", ["a"], deadline=deadline)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["on_deadline", "on_error"])
def test_unknown_ways_are_refused(name: str) -> None:
    """A misspelt choice is no silent default."""
    with pytest.raises(InvalidInputError, match=f"{name} must be '.*' or '.*', got 'partly'"):
        toy_reranker().rerank("q", ["a"], **{name: "partly"})  # type: ignore[arg-type]


def test_a_deadline_after_very_short_texts() -> None:
    """Texts of more tokens than characters, special ones included, and no speed known: each unit has a row at least."""
    reranker = toy_reranker(FailingEngine(at=1))
    reranker.rerank("q", list(string.ascii_letters), on_error="keep_order")
    results = reranker.rerank("q", TEXTS[:10], deadline=3)
    assert all(result.score is not None for result in results)


@settings(max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 200), max_size=40),
    top_n=st.none() | st.integers(0, 50),
    threshold=st.none() | st.floats(0, 1),
    milliseconds=st.integers(1, 30),
)
def test_a_deadline_never_loses_or_invents(
    lengths: list[int], top_n: int | None, threshold: float | None, milliseconds: int
) -> None:
    """Whatever is left out: every document comes once, the scored first, the others in their order, at most top_n."""
    texts = ["x" * length for length in lengths]
    reranker = toy_reranker(SlowEngine(seconds=0, seconds_a_row=0.001))
    results = reranker.rerank("q", texts, deadline=milliseconds / 1000)
    assert sorted(result.index for result in results) == list(range(len(texts)))
    kinds = [2 if not texts[r.index] else 1 if r.score is None else 0 for r in results]
    assert kinds == sorted(kinds)
    unscored = [result.index for result in results if result.score is None]
    assert unscored == sorted(unscored)
    cut = reranker.rerank("q", texts, deadline=milliseconds / 1000, top_n=top_n, score_threshold=threshold)
    assert len(cut) <= (len(texts) if top_n is None else top_n)
    assert all(result.score is None or result.score >= (threshold or 0) for result in cut)


async def test_many_deadlines_in_one_loop() -> None:
    """50 calls with deadlines, more than there is time for, are all answered, each with all its documents."""
    reranker = slow()
    answers = await asyncio.gather(*(reranker.arerank(f"q{n}", TEXTS[:20], deadline=0.3) for n in range(50)))
    assert {len(results) for results in answers} == {20}
    assert any(result.score is not None for results in answers for result in results)
    assert reranker.stats().partial > 0
    assert reranker.stats().waiting_pairs == 0


def test_a_huge_document_does_not_spoil_the_deadlines_of_others() -> None:
    """After a document of megabytes, of which little was read, calls with a deadline still have scores to give."""
    reranker = toy_reranker(SlowEngine(seconds=0.01), max_length=64, token_budget=256)
    reranker.rerank("query", ["x" * 3_000_000])
    results = reranker.rerank("query", [f"a document of thirty {number:09}" for number in range(2000)], deadline=1.0)
    scored = sum(result.score is not None for result in results)
    assert 0 < scored < 2000


@pytest.mark.parametrize("deadline", [1e10, 1e308])
async def test_a_deadline_may_be_ages_away(deadline: float) -> None:
    """It is as good as none, sync and async, and harms no neighbour."""
    reranker = toy_reranker()
    reranker.rerank("q", ["a"])
    assert reranker.rerank("q", ["a"], deadline=deadline)[0].score is not None
    late, other = await asyncio.gather(reranker.arerank("q", ["a"], deadline=deadline), reranker.arerank("q", ["b"]))
    assert late[0].score is not None
    assert other[0].score is not None
    assert reranker.stats().worker_restarts == 0


def test_the_wait_of_a_call_that_never_had_its_turn_is_counted() -> None:
    """Under overload, when it matters, queue_seconds grows."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reranker.rerank, "q", ["first"])
        engine.until_begun(1)
        with pytest.raises(TimeoutError, match=r"\(\d+\.\d{3} s of it before their turn came\)"):
            reranker.rerank("q", ["late"], deadline=0.2, on_deadline="raise")
        assert reranker.stats().queue_seconds >= 0.2
        engine.let(5)
        first.result()
