from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heartbeat import longest_gap
from rerank_plugins import RankedResult, Reranker, load_reranker
from rerank_plugins._internal.blank import is_blank
from rerank_plugins.retrieval import example_corpus, read_corpus
from rerank_plugins.testing import toy_reranker


@pytest.fixture(scope="module")
def bundled() -> Reranker:
    """The bundled model."""
    return load_reranker("rerank-mini-en")


@pytest.fixture(scope="module")
def toy() -> Reranker:
    """One without a model."""
    return toy_reranker(max_length=64)


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real passages, cut short so that thousands of calls take seconds."""
    return [passage.text[: 20 + 7 * n % 120] for n, passage in enumerate(read_corpus(example_corpus()))]


@pytest.mark.parametrize("count", [64, pytest.param(2000, marks=pytest.mark.slow)])
def test_16_threads_with_mixed_options_get_their_serial_scores(bundled: Reranker, texts: list[str], count: int) -> None:
    """Calls of 1 to 4 documents, with top_n, thresholds, blank documents, deadlines far away: not one score differs."""
    draw = random.Random(0)
    ways: list[dict[str, Any]] = [
        {},
        {"top_n": 2},
        {"score_threshold": 0.1},
        {"deadline": 60.0, "on_deadline": "raise"},
    ]
    calls = []
    for number in range(count // 8):
        found = draw.sample([*texts, " "], draw.randint(1, 4))
        calls.append((f"what is {texts[number % len(texts)][:20]}", found, draw.choice(ways)))
    serial = [bundled.rerank(query, found, **options) for query, found, options in calls]
    order = [number % len(calls) for number in range(count)]
    draw.shuffle(order)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: bundled.rerank(calls[n][0], calls[n][1], **calls[n][2]), order))
    assert answers == [serial[number] for number in order]


@pytest.mark.parametrize(("tasks", "documents"), [(64, 2), pytest.param(64, 50, marks=pytest.mark.slow)])
def test_64_tasks_leave_the_loop_free(bundled: Reranker, texts: list[str], tasks: int, documents: int) -> None:
    """64 tasks get their serial scores, to the last bit, and a heartbeat beside them never misses 50 ms."""
    calls = [(f"about {texts[n][:30]}", [text[:40] for text in texts[n : n + documents]]) for n in range(tasks)]
    serial = [bundled.rerank(query, found) for query, found in calls]
    answers: list[list[RankedResult]] = []

    async def work() -> None:
        answers.extend(await asyncio.gather(*(bundled.arerank(query, found) for query, found in calls)))

    gap = longest_gap(work())
    assert answers == serial
    assert gap < 0.05


DOCUMENTS = st.lists(st.text(max_size=80) | st.text(alphabet="ab ☠\ud800\u200b\n", max_size=80), max_size=12)


@settings(max_examples=150)
@given(
    query=st.text(max_size=40).filter(lambda text: not is_blank(text)),
    documents=DOCUMENTS,
    top_n=st.none() | st.integers(0, 15),
)
def test_any_text_is_ranked(toy: Reranker, query: str, documents: list[str], top_n: int | None) -> None:
    """Whatever the texts: nothing is changed, every document comes once, scores in [0, 1], ties in input order."""
    given_documents = list(documents)
    results = toy.rerank(query, documents, top_n=top_n)
    assert documents == given_documents
    assert len(results) == min(len(documents), len(documents) if top_n is None else top_n)
    assert len({result.index for result in results}) == len(results)
    assert all(result.document == documents[result.index] for result in results)
    keys = [(is_blank(documents[r.index]), -(r.score or 0.0)) for r in results]
    assert [key[0] for key in keys] == sorted(key[0] for key in keys)
    scores = [result.score for result in results if result.score is not None]
    assert all(0 <= score <= 1 for score in scores)
    assert scores == sorted(scores, reverse=True)


@settings(max_examples=60)
@given(documents=DOCUMENTS, budgets=st.tuples(st.integers(1, 3000), st.integers(1, 3000)), parts=st.integers(1, 5))
def test_scores_do_not_depend_on_the_batch(documents: list[str], budgets: tuple[int, int], parts: int) -> None:
    """Whatever the token budget, and whether asked at once or in parts, a document's score is the same."""
    first, second = (toy_reranker(token_budget=budget) for budget in budgets)
    whole = {result.index: result.score for result in first.rerank("query", documents)}
    apart: dict[int, float | None] = {}
    for start in range(parts):
        some = second.rerank("query", documents[start::parts])
        apart |= {start + parts * result.index: result.score for result in some}
    assert apart == pytest.approx(whole, abs=1e-6)
