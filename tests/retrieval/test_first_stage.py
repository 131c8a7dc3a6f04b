from __future__ import annotations

import numpy as np
import pytest

from rerank_plugins.retrieval import Collection, example_collection, load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import retrieve


def letters(texts: list[str]) -> np.ndarray:
    """Unit vectors of letter counts: equal for anagrams."""
    counts = np.array([[text.count(letter) for letter in "ab"] for text in texts], dtype=np.float32)
    return counts / np.linalg.norm(counts, axis=1, keepdims=True)


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
