"""What is learned: from qrels, from a teacher, and nothing where there is nothing to learn."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from statistics import fmean

import pytest

from collections_to_learn import KINDS, KeywordTeacher, make_collection, train, weights
from rerank_plugins import InvalidInputError, Reranker, TrainingError, load_reranker
from rerank_plugins.training import CurvePoint, Training
from rerank_plugins.training.callbacks import LearningCurve


def curve(output: Path) -> list[CurvePoint]:
    return LearningCurve(output / "work" / "log.jsonl").points


def preferred(model: Path) -> str:
    """The kind of passage that a model puts first for queries it has not seen, on the mean."""
    with load_reranker(model, engine="torch", precision="fp32", device="cpu") as reranker:
        numbers = range(900, 910)
        scores = {
            kind: fmean(reranker.score((f"what is baked {number}", f"{words} {number}") for number in numbers))
            for kind, words in KINDS.items()
        }
    return max(scores, key=scores.__getitem__)


def test_qrels_are_learned(base: Path, data: Path, tmp_path: Path) -> None:
    """nDCG@10 of the development rises from chance to 1, the loss falls, and unseen queries are ordered so too."""
    output = tmp_path / "output"
    train(data, base, output)
    points = curve(output)
    assert points[0].development < 0.8
    assert max(point.development for point in points) == 1.0
    losses = [point.loss for point in points if point.loss is not None]
    assert losses[-1] < 0.5 < losses[0]
    assert preferred(output) == "b"


def test_a_teacher_teaches_by_queries_without_qrels(base: Path, tmp_path: Path) -> None:
    """Beside ten judged queries for the development, what is learned is the teacher's order, against the qrels."""
    folder = make_collection(trained=20, unjudged=70).write(tmp_path / "unjudged")
    teacher = KeywordTeacher("sunlight")
    train(folder, base, tmp_path / "output", teacher=Reranker(teacher), teacher_weight=1.0)
    assert preferred(tmp_path / "output") == "c"
    asked = {query for query, _ in teacher.pairs}
    assert {"what is baked 40", "what is baked 101"} <= asked
    assert not {f"what is baked {number}" for number in range(20, 32)} & asked  # those that are evaluated


@pytest.mark.slow
def test_a_teacher_of_no_weight_changes_nothing_for_judged_queries(base: Path, data: Path, tmp_path: Path) -> None:
    """With weight 0 the weights are those of a training without one."""
    train(data, base, tmp_path / "alone", epochs=1)
    train(data, base, tmp_path / "taught", epochs=1, teacher=Reranker(KeywordTeacher("cat")), teacher_weight=0.0)
    assert weights(tmp_path / "alone") == weights(tmp_path / "taught")


def test_where_no_step_is_better_the_weights_stay(training: Training, data: Path, tmp_path: Path) -> None:
    """A base that orders the development perfectly stays as it is."""
    outcome = train(data, training.folder, tmp_path / "output", epochs=1)
    assert outcome.best_step == 0
    assert weights(tmp_path / "output") == weights(training.folder)


def test_scores_that_are_no_numbers_end_the_training(base: Path, data: Path, tmp_path: Path) -> None:
    """NaN would be put in some order, and might be taken for the best."""
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(base, tmp_path / "broken", ignore=shutil.ignore_patterns("openvino"))
    tensors = load_file(broken / "model.safetensors")
    tensors["classifier.bias"][0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"After step 0 of 18 the model gives scores that are not finite. Its base"):
        train(data, broken, tmp_path / "output")


def test_a_teacher_that_prefers_nothing_is_refused(base: Path, data: Path, tmp_path: Path) -> None:
    """The same score for everything teaches nothing."""
    with pytest.raises(InvalidInputError, match="gives all passages of a query the same score, for every query"):
        train(data, base, tmp_path / "output", teacher=Reranker(KeywordTeacher("marzipan")))
