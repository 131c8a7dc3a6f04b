"""The steps of a training, by sentence-transformers' trainer: from a checkpoint or from the start, to the last."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import MissingExtraError, TrainingError
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.training.base_model import Base, quiet
from rerank_plugins.training.checkpoints import Checkpoints, step_of
from rerank_plugins.training.config import Recipe
from rerank_plugins.training.dataset import Material
from rerank_plugins.training.distillation import Taught
from rerank_plugins.training.lists import TrainingList, log_shares, targets

try:
    from datasets import Dataset
    from safetensors import SafetensorError
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator
    from sentence_transformers.cross_encoder.losses import ListNetLoss
    from torch.utils.data import SequentialSampler
    from transformers import PrinterCallback

    from rerank_plugins.backends.torch import ran_out_of_memory
    from rerank_plugins.training.callbacks import Watch
except ImportError as exc:
    raise MissingExtraError("train", "Training", str(exc.name)) from exc

MOST_EVALUATIONS = 10
"""Of the development queries, beside the one before training."""

# An evaluation computes forward only, a third of a training step: so both take about as long.
_PAIRS_TO_A_TRAINED_ONE = 3

WARMUP = 0.1
"""Share of the steps in which the learning rate rises from 0; it falls to 0 over the others."""

WEIGHT_DECAY = 0.01


class TrainingLists:
    """The lists with their texts and targets, made when they are asked for."""

    def __init__(self, material: Material, lists: Sequence[TrainingList], taught: Taught | None, weight: float) -> None:
        self._texts, self._queries = material.collection.passages, material.collection.queries
        self._lists, self._taught, self._weight = lists, taught, weight

    def __len__(self) -> int:
        return len(self._lists)

    def row(self, number: int) -> dict[str, Any]:
        """What ListNetLoss takes: a query, its passages, and the logarithms of the shares they should get."""
        one = self._lists[number]
        logits = None if self._taught is None else self._taught[one.query]
        return {
            "query": without_surrogates(self._queries[one.query]),
            "docs": [without_surrogates(self._texts[passage]) for passage in one.passages],
            "labels": log_shares(targets(one, logits, self._weight)),
        }


def evaluated_steps(steps: int, list_pairs: int, development: Sequence[JudgedQuery]) -> list[int]:
    """After which steps the development queries are scored: up to ten times, evenly, at least twice."""
    cost = sum(len(query.positions) for query in development)
    times = min(max(2, _PAIRS_TO_A_TRAINED_ONE * list_pairs // max(1, cost)), MOST_EVALUATIONS, steps)
    return sorted({math.ceil(steps * number / times) for number in range(1, times + 1)})


def fit(base: Base, rows: TrainingLists, watch: Watch, recipe: Recipe, checkpoints: Checkpoints) -> None:
    """Train ``base`` on every row once, in order; the best model is kept in ``checkpoints``.

    Raises:
        TrainingError: Memory or the disk is full. The last whole checkpoint stays.
    """
    resumed = checkpoints.newest()
    watch.begin(None if resumed is None else step_of(resumed))
    try:
        with quiet():
            trainer = _trainer(base, rows, watch, recipe, checkpoints.folder)
            trainer.train(resume_from_checkpoint=None if resumed is None else str(resumed))
    except (OSError, RuntimeError, SafetensorError) as exc:  # torch reports a full disk as RuntimeError
        raise _ended_early(exc, watch, checkpoints) from exc


def _ended_early(exc: Exception, watch: Watch, checkpoints: Checkpoints) -> TrainingError:
    # What torch says where the system itself has no memory left is no error of a kind of its own.
    if ran_out_of_memory(exc, watch.arithmetic.device) or "allocate memory" in str(exc):
        advice = "Memory ran out: give a smaller batch_size, list_size or max_length, and begin with fresh=True"
    else:
        advice = "Make room if the disk is full, and give the same command again"
    whole = checkpoints.newest()
    kept = "No checkpoint was written yet" if whole is None else f"The checkpoint of step {step_of(whole)} is whole"
    return TrainingError(f"The training in {checkpoints.folder} ended early: {exc}. {kept}. {advice}.")


class _Trainer(CrossEncoderTrainer):
    """Without the model card that would look for the base on the hub, and without its callback."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: `card.write_card` writes what was measured."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        self.model.save_pretrained(str(output_dir or self.args.output_dir), create_model_card=False)


class _Collator(CrossEncoderDataCollator):
    """Looks up the rows whose numbers it is given: all texts of all epochs at once may not fit into memory."""

    rows: TrainingLists

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        return super().__call__([self.rows.row(feature["row"]) for feature in features])


def _trainer(base: Base, rows: TrainingLists, watch: Watch, recipe: Recipe, folder: Path) -> Any:
    arithmetic = watch.arithmetic
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,  # the rows are those of all epochs
        per_device_train_batch_size=recipe.batch_size,
        batch_sampler=lambda dataset, **options: DefaultBatchSampler(
            SequentialSampler(dataset), options["batch_size"], drop_last=False
        ),
        learning_rate=recipe.learning_rate,
        warmup_steps=WARMUP,
        weight_decay=WEIGHT_DECAY,
        seed=recipe.seed,
        bf16=arithmetic.autocast == "bf16",
        fp16=arithmetic.autocast == "fp16",
        use_cpu=arithmetic.device == "cpu",
        dataloader_pin_memory=arithmetic.device == "cuda",
        eval_strategy="no",
        save_strategy="no",  # `Watch` says when
        logging_steps=max(1, watch.steps // 100),
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001 - the way there is; several would need a loss that knows it
    collator = _Collator(preprocess_fn=base.encoder.preprocess)
    collator.rows = rows
    trainer = _Trainer(
        model=base.encoder,
        args=arguments,
        train_dataset=Dataset.from_dict({"row": list(range(len(rows)))}),
        loss=ListNetLoss(base.encoder, mini_batch_size=-1 if arithmetic.device != "cpu" else None),
        data_collator=collator,
        callbacks=[watch],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
