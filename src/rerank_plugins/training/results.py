"""The results of a training, to print, to write as JSON, or to put on a model card."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rerank_plugins.evaluation.results import Evaluation, Interval


@dataclass(frozen=True, slots=True)
class TrainingData:
    """The data of a training. All counts but ``passages`` are of queries."""

    collection: str
    split: str
    """The qrels that were learned from."""
    test_split: str | None
    """The qrels that were evaluated on; None where the test queries were held out of ``split``."""
    passages: int
    judged: int
    """Training queries with a passage judged relevant."""
    unjudged: int
    """Training queries without qrels, learned from the teacher's scores alone; 0 without a teacher."""
    development: int
    """Queries held out to choose the best step by."""
    test: int
    """Queries held out for the evaluation, whether all of them were evaluated or a sample."""
    without_relevant: int
    """Queries left out because their relevant passages are blank, or not in the corpus."""
    without_negative: int
    """Queries left out because all of their candidates are judged relevant."""
    leaking: int
    """Queries left out because they share their text or a relevant passage with a test query."""

    def describe_left_out(self) -> str:
        """How many queries were left out, and why."""
        reasons = (
            (self.without_relevant, "whose relevant passages are blank or not in the corpus"),
            (self.without_negative, "without a candidate that is not judged relevant"),
            (self.leaking, "that share their text or a relevant passage with a test query"),
        )
        return "; ".join(f"{count:,} {reason}" for count, reason in reasons if count) or "none"


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """An evaluation of the development queries."""

    step: int
    """The step before it; 0 is the model before training."""
    loss: float | None
    """Mean cross-entropy in nats of the lists since the loss was logged before; None where none was logged."""
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
    """Queries whose nDCG@10 is higher."""
    worse: int
    """Queries whose nDCG@10 is lower."""
    verdict: str
    """Whether the training helped, hurt, or cannot be told, in words."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training, from the data to the evaluation."""

    folder: Path
    """The folder of the model, for `load_reranker`."""
    base: str
    new_head: bool
    """Whether the base had no ranking head and got a new one."""
    teacher: str | None
    options: dict[str, Any]
    """The options that the weights depend on, by the names that `train_reranker` has."""
    data: TrainingData
    steps: int
    best_step: int
    """The step whose weights are used: the first with the best development nDCG@10; 0 if no step beat the base."""
    curve: list[CurvePoint]
    seconds: float
    """Seconds of training and of development evaluations, of all runs together."""
    machine: str
    """The processor and precision it was trained in."""
    fidelity: dict[str, Any]
    """The report of the int8 export; see `rerank_plugins.export`."""
    int8_is_default: bool
    evaluation: Evaluation
    """The evaluation of the base, if it had a ranking head, of the trained model, and of the teacher if requested."""
    change: Change
    development_verdict: str
    """How training changed the order of the development queries, in words."""

    def as_json(self) -> dict[str, Any]:
        """All values for `json`; also written to ``work/training.json``."""
        return {**asdict(self), "folder": str(self.folder)}
