"""What is learned: from judgements, from a teacher, and nothing where there is nothing to learn."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from statistics import fmean

import pytest

from collections_to_learn import KINDS, Prefers, learn, made, weights
from rerank_plugins import InvalidInputError, Reranker, TrainingError, load_reranker
from rerank_plugins.evaluation.candidates import progress_bar
from rerank_plugins.evaluation.systems import load_systems
from rerank_plugins.retrieval import read_collection
from rerank_plugins.training import CurvePoint, Training
from rerank_plugins.training.distillation import taught
from rerank_plugins.training.learning_curve import CurveFile
from rerank_plugins.training.lists import TrainingList


def curve(out: Path) -> list[CurvePoint]:
    return CurveFile(out / "work" / "log.jsonl").points()


def preferred(model: Path) -> str:
    """The kind of passage that a model puts first for queries it has not seen, on the mean."""
    with load_reranker(model, engine="torch", precision="fp32", device="cpu") as reranker:
        numbers = range(900, 910)
        scores = {
            kind: fmean(reranker.score((f"what is baked {number}", f"{words} {number}") for number in numbers))
            for kind, words in KINDS.items()
        }
    return max(scores, key=scores.__getitem__)


def test_judgements_are_learned(pupil: Path, data: Path, tmp_path: Path) -> None:
    """nDCG@10 of the development rises from chance to 1, the loss falls, and unseen queries are ordered so too."""
    out = tmp_path / "out"
    learn(data, pupil, out)
    points = curve(out)
    assert points[0].development < 0.8
    assert max(point.development for point in points) == 1.0
    losses = [point.loss for point in points if point.loss is not None]
    assert losses[-1] < 0.5 < losses[0]
    assert preferred(out) == "b"


def test_a_teacher_teaches_by_queries_that_nobody_judged(pupil: Path, tmp_path: Path) -> None:
    """Beside ten judged queries for the development, what is learned is the teacher's order, against the judges'."""
    folder = made(trained=20, unjudged=70).write(tmp_path / "unjudged")
    teacher = Prefers("sunlight")
    learn(folder, pupil, tmp_path / "out", teacher=Reranker(teacher), teacher_weight=1.0)
    assert preferred(tmp_path / "out") == "c"
    asked = {query for query, _ in teacher.asked}
    assert {"what is baked 40", "what is baked 101"} <= asked
    assert not {f"what is baked {number}" for number in range(20, 32)} & asked  # those that are evaluated


@pytest.mark.slow
def test_a_teacher_of_no_weight_changes_nothing_for_judged_queries(pupil: Path, data: Path, tmp_path: Path) -> None:
    """With weight 0 the weights are those of a training without one."""
    learn(data, pupil, tmp_path / "alone", epochs=1)
    learn(data, pupil, tmp_path / "taught", epochs=1, teacher=Reranker(Prefers("cat")), teacher_weight=0.0)
    assert weights(tmp_path / "alone") == weights(tmp_path / "taught")


def test_where_no_step_is_better_the_weights_stay(whole: Training, data: Path, tmp_path: Path) -> None:
    """A base that orders the development perfectly is kept as it is."""
    told = learn(data, whole.folder, tmp_path / "out", epochs=1)
    assert told["best_step"] == 0
    assert weights(tmp_path / "out") == weights(whole.folder)


def test_scores_that_are_no_numbers_end_the_training(pupil: Path, data: Path, tmp_path: Path) -> None:
    """NaN would be put in some order, and might be taken for the best."""
    from safetensors.torch import load_file, save_file

    broken = shutil.copytree(pupil, tmp_path / "broken", ignore=shutil.ignore_patterns("openvino"))
    tensors = load_file(broken / "model.safetensors")
    tensors["classifier.bias"][0] = math.nan
    save_file(tensors, broken / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TrainingError, match=r"After step 0 of 18 the model gives scores that are not finite. Its base"):
        learn(data, broken, tmp_path / "out")


def test_a_teacher_that_prefers_nothing_is_refused(pupil: Path, data: Path, tmp_path: Path) -> None:
    """The same score for everything teaches nothing."""
    with pytest.raises(InvalidInputError, match="gives all passages of a query the same score, for every query"):
        learn(data, pupil, tmp_path / "out", teacher=Reranker(Prefers("marzipan")))


LISTS = [TrainingList("q1", ("p1a", "p1b"), judged=False), TrainingList("q1", ("p1b", "p1c"), judged=False)]


def test_every_pair_is_asked_for_once(tmp_path: Path) -> None:
    """However many lists it is in."""
    teacher = Prefers("bread")
    collection = made()
    folder = collection.write(tmp_path / "data")
    with load_systems([Reranker(teacher)]) as (one,), progress_bar(visible=False) as bar:
        found = taught(one, read_collection(folder), LISTS, tmp_path, bar)
    assert found == {"q1": {"p1a": -5.0, "p1b": 5.0, "p1c": -5.0}}
    assert len(teacher.asked) == 3


def test_a_teachers_probabilities_become_logits(tmp_path: Path) -> None:
    """Clipped, so that 0 and 1 are finite."""

    class Sure(Prefers):
        def score(self, pairs: list[tuple[str, str]], /) -> list[float]:
            return [float(self.word in passage) for _, passage in pairs]

    folder = made().write(tmp_path / "data")
    sure = Reranker(Sure("bread"), scale="probability")
    with load_systems([sure]) as (one,), progress_bar(visible=False) as bar:
        found = taught(one, read_collection(folder), LISTS, tmp_path, bar)
    assert found["q1"]["p1b"] == pytest.approx(13.8, abs=0.1)
    assert found["q1"]["p1a"] == pytest.approx(-13.8, abs=0.1)


def test_a_teachers_scores_are_kept(bert_openvino: object, fresh_ir: Path, tmp_path: Path) -> None:
    """A training that goes on does not ask for them again."""
    del bert_openvino
    folder = made().write(tmp_path / "data")
    with load_reranker(fresh_ir, engine="openvino", precision="fp32") as teacher:
        found = []
        for _ in range(2):
            with load_systems([teacher]) as (one,), progress_bar(visible=False) as bar:
                found.append(taught(one, read_collection(folder), LISTS, tmp_path, bar))
            rows = teacher.stats().rows
        assert found[0] == found[1]
        assert rows == 3
