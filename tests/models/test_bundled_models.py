"""The bundled models: their size, their tokenizer, and that reranking improves the embedder's order."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from rerank_plugins import Reranker, load_reranker
from rerank_plugins.hub import find_model
from rerank_plugins.retrieval import load_embedder

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def reranker() -> Reranker:
    return load_reranker("rerank-mini-en")


def reciprocal_ranks(folder: Path, reranker: Reranker, *, most: int, depth: int = 50) -> Iterator[tuple[float, float]]:
    """Yield the reciprocal rank at 10 of the most relevant passage before and after reranking the top ``depth``."""
    rows = [json.loads(line) for line in (folder / "corpus.jsonl").read_text(encoding="utf-8").splitlines()]
    texts = {row["_id"]: row["text"] for row in rows}
    queries = [json.loads(line) for line in (folder / "queries.jsonl").read_text(encoding="utf-8").splitlines()]
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
        qrels = [(row["query-id"], row["corpus-id"], int(row["score"])) for row in csv.DictReader(file, delimiter="\t")]
    best = max(score for *_, score in qrels)
    relevant = {query: passage for query, passage, score in qrels if score == best}
    embed = load_embedder("embed-static-en")
    vectors, names = embed(list(texts.values())), list(texts)
    random.Random(0).shuffle(queries)
    for query in queries[:most]:
        order = np.argsort(-(vectors @ embed([query["text"]])[0]), kind="stable")[:depth]
        candidates = [names[position] for position in order]
        after = [candidates[r.index] for r in reranker.rerank(query["text"], [texts[name] for name in candidates])]
        yield tuple(_reciprocal_rank(ranked, relevant[query["_id"]]) for ranked in (candidates, after))  # type: ignore[misc]


def _reciprocal_rank(ranked: list[str], relevant: str) -> float:
    return 1.0 / (ranked.index(relevant) + 1) if relevant in ranked[:10] else 0.0


@pytest.mark.parametrize(("most", "depth"), [(10, 20), pytest.param(30, 50, marks=pytest.mark.slow)])
def test_reranking_lifts_the_right_passage_on_the_example_corpus(reranker: Reranker, most: int, depth: int) -> None:
    """Over some of the example questions the mean reciprocal rank rises by at least 0.1."""
    pairs = list(reciprocal_ranks(ROOT / "examples/data/english", reranker, most=most, depth=depth))
    before, after = np.mean(pairs, axis=0)
    assert len(pairs) == most
    assert after >= before + 0.1


@pytest.mark.slow
@pytest.mark.data
def test_reranking_lifts_the_right_passage_on_real_search_queries(reranker: Reranker) -> None:
    """On 25 queries of nq-qed the mean reciprocal rank rises by at least 0.1 over the static embedder's."""
    folder = SHARED / "nq-qed"
    if not folder.is_dir():
        pytest.skip("../shared/data is not on this machine")
    before, after = np.mean(list(reciprocal_ranks(folder, reranker, most=25)), axis=0)
    assert after >= before + 0.1


def test_the_passage_that_answers_beats_the_one_with_the_same_word(reranker: Reranker) -> None:
    """The passage on the phone, without the word Apple, beats the one on apples."""
    documents = ["Apples are a healthy fruit, rich in fibre.", "The iPhone 15 Pro has a frame of titanium."]
    best, worst = reranker.rerank("What is Apple's newest phone made of?", documents)
    assert (best.index, worst.index) == (1, 0)


def test_its_tokenizer_reads_pairs_as_the_library_does(reranker: Reranker) -> None:
    """AutoTokenizer on the model's folder gives the ids and segments that our encoder gives."""
    theirs = AutoTokenizer.from_pretrained(find_model("rerank-mini-en"))
    for query, passage in (("what is it?", "A passage."), ("naïve café", "苹果 apple [brackets] 🍎")):
        expected = theirs(query, passage)
        (ours,) = reranker.scorer.encoder.encode([(query, passage)])  # type: ignore[attr-defined]
        assert ours.input_ids == expected["input_ids"]
        assert ours.token_type_ids == expected["token_type_ids"]


@pytest.mark.parametrize(("name", "most"), [("rerank-mini-en", 29_000_000), ("embed-static-en", 10_000_000)])
def test_they_are_small_and_have_a_card(name: str, most: int) -> None:
    """Each folder is below its limit, and has a card with licence and results and no unfilled placeholder."""
    folder = ROOT / "models" / name
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < most
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: apache-2.0" in card
    assert "| nq-qed |" in card
    assert "<!--" not in card
