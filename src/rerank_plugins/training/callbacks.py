"""Between the steps of a training: score the development queries, save the best model, checkpoints and the curve."""

# ruff: noqa: ARG002 - transformers calls every method with the same arguments.

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from rich.progress import Progress, TaskID
from transformers import TrainerCallback

from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import TrainingError
from rerank_plugins.evaluation.comparison import order_by_score
from rerank_plugins.evaluation.metrics import compute_metrics
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.training.base_model import BaseModel, Hardware
from rerank_plugins.training.checkpoints import Checkpoints
from rerank_plugins.training.config import TrainingConfig
from rerank_plugins.training.results import CurvePoint

_NDCG = "nDCG@10"
_EVALUATION_BATCH_SIZE = 32


class LearningCurve:
    """``log.jsonl``: a line for each logged loss, and one for each evaluation of the development queries."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, step: int, seconds: float, **values: float) -> None:
        """Write a line with ``loss`` or ``development``; ``seconds`` of training so far."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values, "seconds": round(seconds, 3)}) + "\n")

    def truncate(self, step: int) -> None:
        """Delete the lines after ``step``, for a training that resumes from its checkpoint."""
        lines = [line for line in self._read() if line["step"] <= step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    @property
    def points(self) -> list[CurvePoint]:
        """Every evaluation, with the last loss that was logged before it."""
        loss: float | None = None
        points = []
        for line in self._read():
            loss = line.get("loss", loss)
            if "development" in line:
                points.append(CurvePoint(line["step"], loss, line["development"]))
        return points

    @property
    def seconds(self) -> float:
        """Seconds of training up to the last line."""
        return max((float(line["seconds"]) for line in self._read()[-1:]), default=0.0)

    def _read(self) -> list[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # Without the incomplete line that a killed process leaves at the end.
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]


@dataclass(kw_only=True)
class EvaluationCallback(TrainerCallback):
    """Scores the development queries during a training, and decides when to save."""

    base: BaseModel
    hardware: Hardware
    development: Sequence[JudgedQuery]
    checkpoints: Checkpoints
    curve: LearningCurve
    config: TrainingConfig
    steps: int
    evaluation_steps: Sequence[int]
    """The steps after which the development queries are scored."""
    bar: Progress
    loss: float | None = None
    best: float = -1.0
    task: TaskID = field(default=TaskID(0))
    start_time: float = 0.0
    save_time: float = 0.0

    def prepare(self, resumed_step: int | None) -> None:
        """Read the state of the checkpoint that the training resumes from, before the trainer is made."""
        if resumed_step is None:
            self.checkpoints.delete_all()
        best = self.checkpoints.best
        self.best = -1.0 if best is None else best.development
        self.curve.truncate(-1 if resumed_step is None else resumed_step)
        self.save_time = time.monotonic()
        self.start_time = self.save_time - self.curve.seconds
        self.task = self.bar.add_task("training", total=self.steps, completed=resumed_step or 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Score the development queries with the base model."""
        if state.global_step == 0:
            self._evaluate(0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Write the loss to the curve."""
        if logs and "loss" in logs:
            self.loss = float(logs["loss"])
            self.curve.add(state.global_step, self._seconds(), loss=self.loss)
            self._update_bar()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Score the development queries and ask for a checkpoint when it is time."""
        step = state.global_step
        self.bar.update(self.task, completed=step)
        if step in self.evaluation_steps:
            self._evaluate(step)
        if time.monotonic() - self.save_time >= 60 * self.config.minutes_between_checkpoints and step < self.steps:
            self.checkpoints.delete_old()
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Mark the checkpoint as complete: all of its files are written."""
        self.checkpoints.write_digests(state.global_step)
        self.save_time = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Remove the progress bar."""
        self.bar.remove_task(self.task)

    def _evaluate(self, step: int) -> None:
        scores = score_development(self.base, self.development, self.hardware.dtype)
        if not all(map(math.isfinite, scores)):
            raise TrainingError(
                f"After step {step} of {self.steps} the model gives scores that are not finite. "
                + ("Its base does: give another." if step == 0 else "Start anew (--fresh) with a lower learning_rate.")
            )
        value = development_ndcg(self.development, scores)
        better = value > self.best
        if better:
            self.best = value
            self.checkpoints.save_best(step, value, self.base.save)
        self.curve.add(step, self._seconds(), development=value)
        self._update_bar()
        if self.config.progress:
            loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
            mark = ", the best so far" if better else ""
            self.bar.console.print(
                f"step {step:,} of {self.steps:,}: {loss}development nDCG@10 {value:.4f}{mark}", highlight=False
            )

    def _update_bar(self) -> None:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        self.bar.update(self.task, description=f"training{loss}, development nDCG@10 {self.best:.3f}")

    def _seconds(self) -> float:
        return time.monotonic() - self.start_time


def score_development(base: BaseModel, queries: Sequence[JudgedQuery], autocast: torch.dtype | None) -> list[float]:
    """A logit for each pair of `JudgedQuery.pairs`, query after query, in the precision of the training."""
    pairs = [(without_surrogates(query), without_surrogates(text)) for one in queries for query, text in one.pairs]
    device = base.encoder.device.type
    with nullcontext() if autocast is None else torch.autocast(device, dtype=autocast):
        logits = base.encoder.predict(
            pairs, batch_size=_EVALUATION_BATCH_SIZE, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
    return [float(logit) for logit in logits]


def development_ndcg(queries: Sequence[JudgedQuery], scores: Sequence[float]) -> float:
    """Mean nDCG@10 of the candidates in the order of ``scores``."""
    remaining = iter(scores)
    orders = []
    for query in queries:
        row: list[float | None] = [None] * len(query.texts)
        for position in query.positions:
            row[position] = next(remaining)
        orders.append(order_by_score(row, len(row)))
    return fmean(compute_metrics(queries, orders, [_NDCG])[_NDCG].values())
