"""What happens between the steps: development queries are scored, the best model and checkpoints are kept."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
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
from rerank_plugins.training.arithmetic import Arithmetic
from rerank_plugins.training.base_model import Base
from rerank_plugins.training.checkpoints import Checkpoints
from rerank_plugins.training.learning_curve import CurveFile

_NDCG = "nDCG@10"
_PREDICTED = 32


@dataclass(kw_only=True)
class Watch(TrainerCallback):
    """Follows one training."""

    base: Base
    arithmetic: Arithmetic
    development: Sequence[JudgedQuery]
    checkpoints: Checkpoints
    curve: CurveFile
    steps: int
    evaluated: Sequence[int]
    """The steps after which the development queries are scored."""
    minutes: float
    """Between two checkpoints."""
    bar: Progress
    told: bool
    """Whether somebody looks at the bar: then every evaluation is a line above it."""
    loss: float | None = None
    best: float = -1.0
    task: TaskID = field(default=TaskID(0))
    started: float = 0.0
    saved: float = 0.0

    def begin(self, resumed: int | None) -> None:
        """Called before the trainer is made; ``resumed``: the step of the checkpoint it goes on from."""
        if resumed is None:
            self.checkpoints.clear()
        kept = self.checkpoints.best()
        self.best = -1.0 if kept is None else kept.development
        self.started = time.monotonic() - self.curve.cut(-1 if resumed is None else resumed)
        self.saved = time.monotonic()
        self.task = self.bar.add_task("training", total=self.steps, completed=resumed or 0)

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Score the development queries by the model as it came."""
        del args, control, others
        if state.global_step == 0:
            self._evaluate(0)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Note the loss."""
        del args, control, others
        if logs and "loss" in logs:
            self.loss = float(logs["loss"])
            self.curve.add(state.global_step, self._seconds(), loss=self.loss)
            self._describe()

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> Any:
        """Score the development queries when it is time, and ask for a checkpoint when it is time."""
        del args, others
        step = state.global_step
        self.bar.update(self.task, completed=step)
        if step in self.evaluated:
            self._evaluate(step)
        if time.monotonic() - self.saved >= 60 * self.minutes and step < self.steps:
            self.checkpoints.make_room()
            control.should_save = True
        return control

    def on_save(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """The checkpoint is there to its last file."""
        del args, control, others
        self.checkpoints.mark_whole(state.global_step)
        self.saved = time.monotonic()

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Take the bar away."""
        del args, state, control, others
        self.bar.remove_task(self.task)

    def _evaluate(self, step: int) -> None:
        scores = development_scores(self.base, self.development, self.arithmetic.dtype)
        if not all(map(math.isfinite, scores)):
            raise TrainingError(
                f"After step {step} of {self.steps} the model gives scores that are not finite. "
                + ("Its base does: give another." if step == 0 else "Begin anew (--fresh) with a lower learning_rate.")
            )
        value = development_ndcg(self.development, scores)
        better = value > self.best
        if better:
            self.best = value
            self.checkpoints.keep_best(step, value, self.base.save)
        self.curve.add(step, self._seconds(), development=value)
        self._describe()
        if self.told:
            loss = "" if self.loss is None else f"loss {self.loss:.4f}, "
            mark = ", the best so far" if better else ""
            self.bar.console.print(
                f"step {step:,} of {self.steps:,}: {loss}development nDCG@10 {value:.4f}{mark}", highlight=False
            )

    def _describe(self) -> None:
        loss = "" if self.loss is None else f", loss {self.loss:.3f}"
        self.bar.update(self.task, description=f"training{loss}, development nDCG@10 {self.best:.3f}")

    def _seconds(self) -> float:
        return time.monotonic() - self.started


def development_scores(base: Base, queries: Sequence[JudgedQuery], autocast: torch.dtype | None) -> list[float]:
    """One a pair of `JudgedQuery.pairs`, query after query, computed as it is trained."""
    pairs = [(without_surrogates(query), without_surrogates(text)) for one in queries for query, text in one.pairs]
    device = base.encoder.device.type
    with nullcontext() if autocast is None else torch.autocast(device, dtype=autocast):
        found = base.encoder.predict(
            pairs, batch_size=_PREDICTED, activation_fn=torch.nn.Identity(), show_progress_bar=False
        )
    return [float(score) for score in found]


def development_ndcg(queries: Sequence[JudgedQuery], scores: Sequence[float]) -> float:
    """Mean nDCG@10 of the candidates in the order of ``scores``."""
    found = iter(scores)
    orders = []
    for query in queries:
        placed: list[float | None] = [None] * len(query.texts)
        for position in query.positions:
            placed[position] = next(found)
        orders.append(order_by_score(placed, len(placed)))
    return fmean(compute_metrics(queries, orders, [_NDCG])[_NDCG].values())
