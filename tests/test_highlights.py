"""Documents into sentences, and the best sentence of each document that is returned."""

from __future__ import annotations

import logging
import sys
import time
from types import SimpleNamespace

import pytest

from doc_pages import names_left_by
from rerank_plugins import (
    ClosedError,
    DeadlineExceededError,
    Highlight,
    InvalidInputError,
    Pair,
    RankedResult,
    Reranker,
    ScoredPair,
    load_reranker,
)
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins.highlights import MAX_SENTENCES, sentence_spans
from rerank_plugins.retrieval import example_corpus, read_corpus
from rerank_plugins.testing import SlowEngine, WordOverlap, toy_reranker
from scorers import ByLength, Gives

PHONE = "The phone was shown in September. Its frame is made of titanium. It costs 999 dollars."
FRUIT = "Apples are a healthy fruit. Eat one a day."
QUERY = "titanium."


def sentence(result: RankedResult) -> str | None:
    found = result.highlight
    return None if found is None else result.document[found.start : found.end]


@pytest.fixture(scope="module")
def bundled() -> Reranker:
    """The bundled English model."""
    return load_reranker("rerank-mini-en")


class Passages(WordOverlap):
    """As `WordOverlap`; remembers the passages of each call."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        self.calls.append([passage for _, passage in pairs])
        return super().score(pairs)


class Slow(WordOverlap):
    """Scores all documents, after their deadline."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        time.sleep(0.02)
        return super().score(pairs)


class FailsAfterwards(WordOverlap):
    """Scores documents, and raises when it is asked again."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair, once."""
        self.asked += 1
        if self.asked > 1:
            raise self.error
        return super().score(pairs)


class StopsAfter(WordOverlap):
    """Has a queue, and at the deadline of its second call ``count`` scores."""

    queue_seconds = 0.0

    def __init__(self, count: int) -> None:
        self.count = count
        self.calls = 0

    def submit(self, pairs: list[Pair], /, *, deadline: Deadline | None = None) -> StopsAfter:
        """All scores of the first call."""
        self.calls += 1
        count = len(pairs) if self.calls == 1 else self.count
        self.partial = deadline is not None and deadline.partial
        self.scored = [ScoredPair(score, False) if n < count else None for n, score in enumerate(self.score(pairs))]
        return self

    def result(self) -> list[ScoredPair | None]:
        """What there is, if that is enough."""
        if None in self.scored and not self.partial:
            raise DeadlineExceededError
        return self.scored


@pytest.mark.parametrize("sentence", ["This sentence says something. ", f"{'word ' * 70}ends. "])
def test_of_a_long_document_so_many_sentences_are_scored(sentence: str) -> None:
    """Of many the first 256 sentences are scored, one by one, and the best is a sentence."""
    reranker = toy_reranker()
    (result,) = reranker.rerank("query", [sentence * (300_000 // len(sentence))], highlight=True)
    assert reranker.stats().pairs == 1 + MAX_SENTENCES
    assert result.highlight is not None
    assert result.document[result.highlight.start : result.highlight.end] == sentence.strip()


def test_without_time_left_no_sentence_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ranking took all the time that a call had, no document is split any more."""
    split: list[str] = []
    double = SimpleNamespace(get_sentence_boundaries=lambda _, text: split.append(text) or [])
    monkeypatch.setitem(sys.modules, "sentencex", double)
    results = Reranker(Slow()).rerank("query", ["One. Two.", "Three. Four."], deadline=0.01, highlight=True)
    assert all(result.score is not None and result.highlight is None for result in results)
    assert split == []


def test_a_splitter_that_fails_costs_no_ranking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where sentences cannot be found, documents come back ranked and scored, without highlights."""
    double = SimpleNamespace(get_sentence_boundaries=lambda _, text: int(text))
    monkeypatch.setitem(sys.modules, "sentencex", double)
    (result,) = toy_reranker().rerank("query", ["One. Two."], highlight=True)
    assert result.score is not None
    assert result.highlight is None


def test_the_best_sentence_of_each_document_returned() -> None:
    """`document[start:end]` is the sentence that scores best, with its score; only documents returned are split."""
    scorer = Passages()
    reranker = Reranker(scorer)
    (best,) = reranker.rerank(QUERY, [FRUIT, PHONE], top_n=1, highlight=True)
    assert sentence(best) == "Its frame is made of titanium."
    assert best.highlight == Highlight(34, 64, best.score or 0.0)
    assert scorer.calls == [[FRUIT, PHONE], [PHONE[start:end] for start, end in sentence_spans(PHONE)]]
    stats = reranker.stats()
    assert (stats.requests, stats.pairs) == (1, 2 + 3)


def test_without_highlight_nothing_more_is_scored() -> None:
    """The default leaves highlights out and asks the scorer once."""
    scorer = Passages()
    assert Reranker(scorer).rerank(QUERY, [PHONE])[0].highlight is None
    assert len(scorer.calls) == 1


def test_a_score_is_on_the_scale_of_the_results() -> None:
    """Probabilities stay what they are, logits become probabilities."""

    class Half(ByLength):
        scale = "probability"

    (result,) = Reranker(Half()).rerank(QUERY, [FRUIT], highlight=True)
    assert result.highlight == Highlight(0, 27, 0.27)


def test_one_sentence_is_its_own_highlight() -> None:
    """It is not scored again; blank documents have none."""
    scorer = Passages()
    results = Reranker(scorer).rerank(QUERY, [" The frame is titanium.\n", "  "], highlight=True)
    assert [(one.highlight and (one.highlight.start, one.highlight.end)) for one in results] == [(1, 23), None]
    assert results[0].highlight is not None
    assert results[0].highlight.score == results[0].score
    assert len(scorer.calls) == 1


async def test_the_async_call_gives_the_same(bundled: Reranker) -> None:
    """Arerank and rerank find the same sentences with the same scores."""
    documents = [FRUIT, PHONE, "", "One sentence."]
    expected = bundled.rerank(QUERY, documents, highlight=True)
    assert await bundled.arerank(QUERY, documents, highlight=True) == expected
    assert [one.highlight is not None for one in expected] == [True, True, True, False]


ANSWERS = {
    "What is Apple's 2023 phone made of?": "gave way to titanium",
    "How long does a turkey need in the oven?": "three hours at 165 degrees",
    "size of a football pitch": "between 100 and 110 metres",
    "how many strings on a bass": "four strings tuned",
    "How tall was the Saturn rocket?": "110 metres from base",
    "How many particles are in a mole?": "6.02214076",
}


def test_the_bundled_model_finds_the_answer(bundled: Reranker) -> None:
    """Of passages of the example corpus that answer a question, it marks the sentence that does."""
    passages = [passage.text for passage in read_corpus(example_corpus())]
    for question, answer in ANSWERS.items():
        (passage,) = [text for text in passages if answer in text]
        assert len(sentence_spans(passage)) > 1
        (result,) = bundled.rerank(question, [passage], highlight=True)
        assert answer in (sentence(result) or "")


def test_the_page_runs_as_it_stands() -> None:
    """docs/highlights.md prints the sentence that answers, and its score."""
    (printed,) = names_left_by("highlights.md")["printed"]
    text, score = printed.rsplit(maxsplit=1)
    assert text == "Its frame is made of titanium."
    assert 0 < float(score) < 1


@pytest.mark.parametrize("on_error", ["raise", "keep_order"])
@pytest.mark.parametrize("error", [RuntimeError("boom"), MemoryError("full")])
def test_a_failure_undoes_no_ranking(error: Exception, on_error: str, caplog: pytest.LogCaptureFixture) -> None:
    """The documents come back ranked and scored, without highlights, whatever on_error says; the log says why."""
    reranker = Reranker(FailsAfterwards(error))
    with caplog.at_level(logging.WARNING, "rerank_plugins.runtime"):
        results = reranker.rerank(QUERY, [FRUIT, PHONE], highlight=True, on_error=on_error)  # type: ignore[arg-type]
    assert [(one.index, one.highlight) for one in results] == [(1, None), (0, None)]
    assert all(one.score is not None for one in results)
    assert type(error).__name__ in caplog.text
    assert reranker.stats().unranked == 0


def test_a_closed_reranker_is_an_error() -> None:
    """ClosedError is raised all the same."""
    with pytest.raises(ClosedError):
        Reranker(FailsAfterwards(ClosedError("closed"))).rerank(QUERY, [PHONE], highlight=True)


def test_unscored_documents_have_none() -> None:
    """Where scoring the documents failed, they stay in their order and nothing is split."""
    results = Reranker(Gives(0.0)).rerank(QUERY, [FRUIT, PHONE], highlight=True, on_error="keep_order")
    assert [(one.score, one.highlight) for one in results] == [(None, None)] * 2


@pytest.mark.parametrize("on_deadline", ["partial", "raise"])
def test_a_deadline_leaves_out_what_is_not_scored(on_deadline: str) -> None:
    """What has no score of every sentence has no highlight; the ranking stays, and nothing is raised for it."""
    results = Reranker(StopsAfter(4)).rerank(
        QUERY,
        [PHONE, FRUIT],
        highlight=True,
        deadline=9,
        on_deadline=on_deadline,  # type: ignore[arg-type]
    )
    assert [sentence(one) for one in results] == ["Its frame is made of titanium.", None]
    assert [one.index for one in results] == [0, 1]


def test_sentences_have_what_is_left_of_the_deadline() -> None:
    """A model that takes 0.5 s a batch has no time for sentences in 0.9 s."""
    reranker = toy_reranker(SlowEngine(seconds=0.5))
    (result,) = reranker.rerank(QUERY, [PHONE], highlight=True, deadline=0.9)
    assert result.score is not None
    assert result.highlight is None
    reranker.close()


def test_highlight_is_a_boolean() -> None:
    """Anything else is refused before anything is scored."""
    scorer = Passages()
    with pytest.raises(InvalidInputError, match="highlight must be True or False, got 'yes'"):
        Reranker(scorer).rerank(QUERY, [PHONE], highlight="yes")  # type: ignore[arg-type]
    assert scorer.calls == []
