from __future__ import annotations

import contextvars
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from gated_engine import GatedEngine
from rerank_plugins import OutOfMemoryError, Pair, Reranker, ScoringError
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.testing import (
    POISON,
    DyingEngine,
    FailingEngine,
    NaNEngine,
    SmallMemoryEngine,
    ToyEngine,
    toy_reranker,
)

TEXTS = ["apple", "plums", "grape", "bread"]


def scores(reranker: Reranker, texts: list[str]) -> dict[int, float | None]:
    """By position."""
    return {result.index: result.score for result in reranker.rerank("q", texts)}


def together(engine: Any, *calls: list[str], **options: Any) -> list[Any]:
    """What calls give that reach the model in one batch: their results, or their errors."""
    gate = GatedEngine()

    class Gated(type(engine)):  # type: ignore[misc]
        def logits(self, *arrays: Any) -> Any:
            gate.logits(*arrays)
            return super().logits(*arrays)

    engine.__class__ = Gated
    reranker = toy_reranker(engine, **options)
    with ThreadPoolExecutor(20) as pool:
        first = pool.submit(reranker.rerank, "q", ["first"])
        gate.until_begun(1)
        futures = [pool.submit(reranker.rerank, "q", texts) for texts in calls]
        while reranker.stats().waiting_pairs < 1 + sum(map(len, calls)):
            pass
        gate.let(1000)
        first.result()
        answers = [future.exception() or future.result() for future in futures]
    assert any(len(set(batch) & {text for texts in calls for text in texts}) > 1 for batch in gate.batches)
    return answers


def test_nan_names_the_documents_and_harms_no_neighbour() -> None:
    """The request with a NaN gets a ScoringError with the positions; one of the same batch its scores."""
    bad, good = together(NaNEngine(), ["apple", f"pear{POISON}"], ["apple", "plums"])
    with pytest.raises(ScoringError, match=r"NaN or infinite scores for documents 1 \(counted from 0\)"):
        raise bad
    assert {result.index: result.score for result in good} == pytest.approx(scores(toy_reranker(), ["apple", "plums"]))


def test_a_poisoned_request_fails_alone() -> None:
    """Of a batch that fails, each request is computed by itself, and only the one to blame gets the error."""
    good, bad, also = together(FailingEngine(), ["apple"], [POISON * 5], ["plums"])
    with pytest.raises(ScoringError, match="fails on purpose"):
        raise bad
    assert [result.score for result in good] == pytest.approx([scores(toy_reranker(), ["apple"])[0]])
    assert [result.score for result in also] == pytest.approx([scores(toy_reranker(), ["plums"])[0]])


def test_what_fails_now_works_again_later() -> None:
    """After a batch that failed the next call is answered."""
    reranker = toy_reranker(FailingEngine(at=2))
    first = scores(reranker, TEXTS)
    with pytest.raises(ScoringError, match="batch 2 fails"):
        reranker.rerank("q", TEXTS)
    assert scores(reranker, TEXTS) == first


@pytest.mark.parametrize("padded_tokens", [20, 50, 200, 2000])
def test_memory_that_runs_out_makes_smaller_batches(padded_tokens: int) -> None:
    """The unfinished rows are computed in batches of half the size, down to one row; and it is remembered."""
    texts = [f"{number}".ljust(3 + number % 13, "a") for number in range(100)]
    engine = SmallMemoryEngine(padded_tokens=padded_tokens)
    reranker = toy_reranker(engine)
    assert scores(reranker, texts) == pytest.approx(scores(toy_reranker(), texts))
    stats = reranker.stats()
    assert (stats.out_of_memory > 0) == (padded_tokens < 2000)
    assert padded_tokens // 2 <= stats.token_budget <= padded_tokens or stats.token_budget == 2048
    assert scores(reranker, texts)
    assert reranker.stats().out_of_memory == stats.out_of_memory


def test_only_the_unfinished_rows_are_computed_again() -> None:
    """Rows that had their logits when memory ran out keep them."""
    computed = []

    class Counting(ToyEngine):
        def logits(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            computed.append(len(input_ids))
            return super().logits(input_ids, attention_mask, token_type_ids)

    texts = [f"{number:l>400}" for number in range(10)] + [f"{number:s>5}" for number in range(40)]
    # Batches of long rows fit; 40 short ones do not.
    reranker = toy_reranker(SmallMemoryEngine(Counting(), padded_tokens=404 * 3), token_budget=404 * 2)
    assert len(scores(reranker, texts)) == 50
    assert sum(computed) == 50


def test_a_row_that_fits_nowhere_fails_its_own_request() -> None:
    """One pair too long for the memory is an OutOfMemoryError, which is a ScoringError; shorter ones go on."""
    reranker = toy_reranker(SmallMemoryEngine(padded_tokens=100))
    with pytest.raises(OutOfMemoryError, match="padded tokens do not fit"):
        reranker.rerank("q", ["a" * 300, "b"])
    assert issubclass(OutOfMemoryError, ScoringError | MemoryError)
    assert len(reranker.rerank("q", TEXTS)) == 4


def test_other_errors_are_not_taken_for_memory() -> None:
    """An engine's RuntimeError, whatever it says, makes no batch smaller."""

    class Complains(ToyEngine):
        def logits(self, *_: Any) -> Any:
            raise RuntimeError("out of memory, says a file name")

    reranker = toy_reranker(Complains())
    with pytest.raises(ScoringError, match="says a file name"):
        reranker.rerank("q", TEXTS)
    assert (reranker.stats().out_of_memory, reranker.stats().token_budget) == (0, 2048)


def test_a_dead_worker_is_reported_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    """Whose batch it was gets a ScoringError; the others are answered by the next worker; it is logged and counted."""
    reranker = toy_reranker(DyingEngine(at=2))
    first = scores(reranker, TEXTS)
    with caplog.at_level(logging.ERROR, "rerank_plugins.runtime"), pytest.raises(ScoringError, match="SystemExit"):
        reranker.rerank("q", TEXTS)
    assert scores(reranker, TEXTS) == first
    assert reranker.stats().worker_restarts == 1
    assert [record.message for record in caplog.records] == [
        "The thread that computes ended with SystemExit: batch 2 fails on purpose. Another takes its place."
    ]


def test_who_waits_behind_a_dead_worker_is_answered() -> None:
    """Requests that had no part in the batch do not notice."""
    *dead, alive = together(DyingEngine(), [f"apple{POISON}"], ["pears."], ["bread" * 50])
    assert [str(error) for error in dead] == [
        "The thread that computes ended while at work: SystemExit: batch 2 fails on purpose"
    ] * 2
    assert [result.score for result in alive] == pytest.approx([scores(toy_reranker(), ["bread" * 50])[0]])


@pytest.mark.parametrize(
    "engine", [FailingEngine(at=1), NaNEngine(at=1), DyingEngine(at=1), SmallMemoryEngine(padded_tokens=1)]
)
def test_every_fault_can_be_answered_in_retrieval_order(engine: Any, caplog: pytest.LogCaptureFixture) -> None:
    """With on_error='keep_order' the documents come back unranked; one line in the log, one in the counters."""
    reranker = toy_reranker(engine)
    with caplog.at_level(logging.WARNING, "rerank_plugins.runtime"):
        found = reranker.rerank("q", TEXTS, on_error="keep_order")
    assert [(result.index, result.score, result.document) for result in found] == [
        (number, None, text) for number, text in enumerate(TEXTS)
    ]
    assert reranker.stats().unranked == 1
    lines = [record.message for record in caplog.records if "retrieval order" in record.message]
    assert len(lines) == 1
    assert lines[0].startswith("4 documents stay in retrieval order: ")


def test_wrong_arguments_are_raised_whatever_on_error_says() -> None:
    """keep_order is for what fails, not for what was asked wrongly."""
    with pytest.raises(ValueError, match="query is blank"):
        toy_reranker().rerank(" ", TEXTS, on_error="keep_order")


def test_faults_write_to_nobodys_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a handler of the user's, nothing is printed."""
    toy_reranker(DyingEngine(at=1)).rerank("q", TEXTS, on_error="keep_order")
    assert capfd.readouterr() == ("", "")


class PanicError(BaseException):
    """As a Rust extension raises: no Exception."""


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_logits_is_an_error(change: int) -> None:
    """An engine that gives one too few, or too many, is found out, and the thread lives on."""

    class Miscounts(ToyEngine):
        def logits(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            found = super().logits(input_ids, attention_mask, token_type_ids)
            return found[:change] if change < 0 else [*found, 0.0]

    reranker = toy_reranker(Miscounts())
    with pytest.raises(ScoringError, match=r"The engine gave \d logits for 3 rows"):
        reranker.rerank("q", ["a", "b", "c"])
    assert reranker.stats().worker_restarts == 0


class PanickingEncoder:
    """An encoder around another that panics at a text, as a Rust extension can."""

    def __init__(self, encoder: Any) -> None:
        self._encoder = encoder
        self.max_length = encoder.max_length

    def windows(self, pairs: list[Pair]) -> Any:
        """The rows of each pair."""
        if any("PANIC" in passage for _, passage in pairs):
            raise PanicError("no")
        return self._encoder.windows(pairs)


def test_a_panic_while_encoding_is_its_requests_own() -> None:
    """Whose texts the tokenizer fails on gets a ScoringError, no pair is lost, and no neighbour or thread is harmed."""
    engine = GatedEngine()
    encoder: Any = PanickingEncoder(toy_reranker().scorer.encoder)  # type: ignore[attr-defined]
    reranker = Reranker(CrossEncoderScorer(encoder, engine))
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(reranker.rerank, "q", ["first"])
        engine.until_begun(1)
        good = pool.submit(reranker.rerank, "q", ["a"])
        bad = pool.submit(reranker.rerank, "q", ["PANIC", "fine"])
        while reranker.stats().waiting_pairs < 4:
            time.sleep(0.001)
        engine.let(10)
        assert len(first.result()) == len(good.result()) == 1
        with pytest.raises(ScoringError, match="The model failed: PanicError: no"):
            bad.result()
    assert reranker.stats().worker_restarts == 0


def test_the_callers_context_reaches_the_engine() -> None:
    """What an engine logs or traces belongs to the call it works for."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    seen = []

    class Looks(ToyEngine):
        def logits(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            seen.append(tenant.get())
            return super().logits(input_ids, attention_mask, token_type_ids)

    reranker = toy_reranker(Looks())
    for name in ("a", "b"):
        contextvars.copy_context().run(lambda name=name: (tenant.set(name), reranker.rerank("q", ["x"])))
    assert seen == ["a", "b"]
