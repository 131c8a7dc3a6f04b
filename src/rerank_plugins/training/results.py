"""What a training found: values to print, to write as JSON, or to put on a card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rerank_plugins.evaluation.results import Evaluation, Interval


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What there was to learn from. All numbers but ``passages`` are of queries."""

    collection: str
    split: str
    """Of the judgements that were learned from."""
    test_split: str | None
    """Of those that were evaluated on; None where they were held out of ``split``."""
    passages: int
    judged: int
    """Learned from, with a passage judged relevant."""
    unjudged: int
    """Learned from by the teacher's scores alone; 0 without a teacher."""
    development: int
    """Held out to choose the best step by."""
    test: int
    """Held out for the evaluation, whether all of them were evaluated or a sample."""
    without_relevant: int
    """Left out: the passages judged relevant are blank, or not in the corpus."""
    without_negative: int
    """Left out: no candidate that is not judged relevant."""
    leaking: int
    """Left out because they share their text or a relevant passage with a query that is evaluated."""


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The model after some step."""

    step: int
    """0 is the model before training."""
    loss: float | None
    """Mean cross-entropy in nats of the lists since the loss was noted before; None where none was noted."""
    development: float
    """nDCG@10 of the development queries, over the candidates of the first stage."""


@dataclass(frozen=True, slots=True)
class Change:
    """nDCG@10 of the trained model less that of another order of the same candidates of the same queries."""

    compared_with: str
    """The base, or the first stage where the base had no ranking head."""
    difference: Interval
    p_value: float
    """Two-sided paired randomization test."""
    better: int
    """Queries whose nDCG@10 is higher; the next: lower. The others are equal."""
    worse: int
    verdict: str
    """In words: whether the training helped, hurt, or cannot be told."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training, from the data to the evaluation."""

    folder: Path
    """For `load_reranker`."""
    base: str
    new_head: bool
    """The base had no ranking head and got a new one."""
    teacher: str | None
    options: dict[str, Any]
    """By the names that `train_reranker` has."""
    data: TrainingData
    steps: int
    best_step: int
    """Whose weights were kept: the first of the best development nDCG@10. 0: no step was better than the base."""
    curve: list[CurvePoint]
    seconds: float
    """What the steps and the development took, all sittings together."""
    machine: str
    """What it was trained on."""
    fidelity: dict[str, Any]
    """The int8 export's report; see `rerank_plugins.export`."""
    int8_is_default: bool
    evaluation: Evaluation
    """Of the base, if it had a ranking head, of the trained model, and of the teacher if that was asked for."""
    change: Change
    development_verdict: str
    """In words: what training did to the order of the development queries."""

    def as_json(self) -> dict[str, Any]:
        """All numbers, as `json` writes them: what is in ``work/training.json``."""
        return {**asdict(self), "folder": str(self.folder)}
