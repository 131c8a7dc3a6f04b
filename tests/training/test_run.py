"""A whole training: the folder it writes, and its results."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rerank_plugins import Pair, load_reranker
from rerank_plugins.hub.fidelity_report import read_reports
from rerank_plugins.training import Training

PAIRS: list[Pair] = [("what is baked", "bread is baked from flour"), ("what is baked", "the cat sat on the mat")]


def test_the_model_is_loaded_by_all_who_load_models(training: Training) -> None:
    """`load_reranker`, on either engine and in int8, and sentence-transformers give the same order."""
    from sentence_transformers import CrossEncoder

    direct = CrossEncoder(str(training.folder), device="cpu", local_files_only=True).predict(PAIRS).tolist()
    assert direct[0] > direct[1]
    for engine, precision in (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "int8")):
        with load_reranker(training.folder, engine=engine, precision=precision, device="cpu") as reranker:  # type: ignore[arg-type]
            found = [reranker.as_score(score) for score in reranker.score(PAIRS)]
        assert found == pytest.approx(direct, abs=0.05 if precision == "int8" else 1e-4)


def test_the_folder_holds_a_model_and_nothing_of_the_texts(training: Training) -> None:
    """What people hand on; the work beside it holds no checkpoint any more."""
    assert sorted(path.name for path in training.folder.iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "openvino",
        "tokenizer.json",
        "tokenizer_config.json",
        "work",
    ]
    assert not list((training.folder / "work").glob("checkpoint-*"))
    assert not list((training.folder / "work").glob("best-*"))
    texts = [
        path.read_text(errors="replace")
        for path in training.folder.rglob("*")
        if path.is_file() and path.suffix in {".md", ".json"} and "work" not in path.parts[len(training.folder.parts) :]
    ]
    assert not [text for text in texts if "bread is baked from flour" in text]


def test_nothing_is_written_into_the_collection(training: Training, data: Path) -> None:
    """It is read only."""
    del training
    assert sorted(path.relative_to(data).as_posix() for path in data.rglob("*")) == [
        "corpus.jsonl",
        "qrels",
        "qrels/test.tsv",
        "qrels/train.tsv",
        "queries.jsonl",
    ]


def test_base_and_model_are_evaluated_on_the_same_queries(training: Training, base: Path) -> None:
    """Those of the test split, over the same candidates; the difference is of the two, query by query."""
    first, trained = training.evaluation.rerankers
    assert (first.model, trained.model) == (str(base), str(training.folder))
    before, after = (one.ranking.per_query["nDCG@10"] for one in (first, trained))
    assert before.keys() == after.keys() == {f"q{number}" for number in range(80, 92)}
    assert set(after.values()) == {1.0}
    mean = sum(after[query] - before[query] for query in after) / len(after)
    assert training.change.difference.mean == pytest.approx(mean)
    assert training.change.better == sum(value < 1 for value in before.values())
    assert training.change.verdict.startswith("Better than base: nDCG@10 rises by")


def test_int8_was_not_made_with_queries_that_are_evaluated(training: Training) -> None:
    """Its report is of queries that were learned from, and is beside the model."""
    report = read_reports(training.folder)["int8"]
    assert report == training.fidelity
    assert report["texts"] == "bakery"
    assert report["queries"] == report["ndcg_at_10"]["queries"] == 35  # half of the 70


def test_a_copy_of_the_folder_without_its_work_is_the_model(training: Training, tmp_path: Path) -> None:
    """What is handed on loads elsewhere."""
    copy = shutil.copytree(training.folder, tmp_path / "copy", ignore=shutil.ignore_patterns("work"))
    with load_reranker(copy, precision="int8", engine="openvino") as reranker:
        first, _ = reranker.rerank(*[PAIRS[0][0], [text for _, text in PAIRS]])
    assert first.index == 0
