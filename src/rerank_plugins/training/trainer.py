"""The steps of a training, by sentence-transformers' trainer, from the start or from a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from safetensors import SafetensorError
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.data_collator import CrossEncoderDataCollator
from sentence_transformers.cross_encoder.losses import ListNetLoss
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback

from rerank_plugins.backends.torch import ran_out_of_memory
from rerank_plugins.errors import TrainingError
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.training.base_model import quiet
from rerank_plugins.training.callbacks import EvaluationCallback
from rerank_plugins.training.checkpoints import step_of
from rerank_plugins.training.dataset import TrainingExamples

MAX_EVALUATIONS = 10
"""Evaluations of the development queries, besides the one before training."""

# An evaluation is a forward pass only, a third of a training step: so both take about as long.
_EVALUATED_PER_TRAINED_PAIR = 3

WARMUP = 0.1
"""Share of the steps in which the learning rate rises from 0; it falls to 0 over the others."""

WEIGHT_DECAY = 0.01


def choose_evaluation_steps(steps: int, training_pairs: int, development: Sequence[JudgedQuery]) -> list[int]:
    """The steps after which the development queries are scored: up to ten, evenly spaced, at least two."""
    pairs = sum(len(query.positions) for query in development)
    times = min(max(2, _EVALUATED_PER_TRAINED_PAIR * training_pairs // max(1, pairs)), MAX_EVALUATIONS, steps)
    return sorted({math.ceil(steps * number / times) for number in range(1, times + 1)})


def train_model(examples: TrainingExamples, callback: EvaluationCallback) -> None:
    """Train the callback's base on every example once, in order; the best model is in the callback's checkpoints.

    Raises:
        TrainingError: Memory or the disk is full. The last complete checkpoint stays.
    """
    checkpoint = callback.checkpoints.find_latest()
    callback.prepare(None if checkpoint is None else step_of(checkpoint))
    try:
        with quiet():
            trainer = _build_trainer(examples, callback)
            trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    except (OSError, RuntimeError, SafetensorError) as exc:  # torch raises RuntimeError where the disk is full
        raise _training_error(exc, callback) from exc


def _training_error(exc: Exception, callback: EvaluationCallback) -> TrainingError:
    # Where the system itself has no memory left, torch raises a plain RuntimeError.
    if ran_out_of_memory(exc, callback.hardware.device) or "allocate memory" in str(exc):
        advice = "Memory ran out: give a smaller batch_size, list_size or max_length, and start with fresh=True"
    else:
        advice = "Free space if the disk is full, and run the same command again"
    latest = callback.checkpoints.find_latest()
    state = (
        "No checkpoint was written yet" if latest is None else f"The checkpoint of step {step_of(latest)} is complete"
    )
    return TrainingError(f"The training in {callback.checkpoints.folder} ended early: {exc}. {state}. {advice}.")


class _Trainer(CrossEncoderTrainer):
    """Without sentence-transformers' model card, which would look for the base on the hub."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Add none: `model_card.write_model_card` writes the card."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        del state_dict
        self.model.save_pretrained(str(output_dir or self.args.output_dir), create_model_card=False)


class _Collator(CrossEncoderDataCollator):
    """Builds the examples of a batch from their numbers: all texts of all epochs may not fit into memory."""

    examples: TrainingExamples

    def __call__(self, features: list[dict[str, Any]]) -> Any:
        return super().__call__([self.examples[feature["number"]] for feature in features])


def _build_trainer(examples: TrainingExamples, callback: EvaluationCallback) -> Any:
    config, hardware, encoder = callback.config, callback.hardware, callback.base.encoder
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(callback.checkpoints.folder),
        num_train_epochs=1,  # the examples are those of all epochs
        per_device_train_batch_size=config.batch_size,
        batch_sampler=lambda dataset, **options: DefaultBatchSampler(
            SequentialSampler(dataset), options["batch_size"], drop_last=False
        ),
        learning_rate=config.learning_rate,
        warmup_steps=WARMUP,
        weight_decay=WEIGHT_DECAY,
        seed=config.seed,
        bf16=hardware.autocast == "bf16",
        fp16=hardware.autocast == "fp16",
        use_cpu=hardware.device == "cpu",
        dataloader_pin_memory=hardware.device == "cuda",
        eval_strategy="no",
        save_strategy="no",  # `EvaluationCallback` decides when
        logging_steps=max(1, callback.steps // 100),
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # noqa: SLF001 - there is no public way; ListNetLoss computes on one GPU
    collator = _Collator(preprocess_fn=encoder.preprocess)
    collator.examples = examples
    trainer = _Trainer(
        model=encoder,
        args=arguments,
        train_dataset=Dataset.from_dict({"number": list(range(len(examples)))}),
        loss=ListNetLoss(encoder, mini_batch_size=-1 if hardware.device != "cpu" else None),
        data_collator=collator,
        callbacks=[callback],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer
