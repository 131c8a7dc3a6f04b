"""`train_reranker`: from a collection and a base to a model, its int8 export, its evaluation and its model card."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rerank_plugins._internal.files import expand, free_bytes
from rerank_plugins._internal.options import takes_options
from rerank_plugins.errors import InvalidInputError, RerankError, TrainingError
from rerank_plugins.evaluation.candidates import find_candidates, progress_bar
from rerank_plugins.evaluation.results import Evaluation
from rerank_plugins.evaluation.run import evaluate
from rerank_plugins.evaluation.systems import label_of, load_systems
from rerank_plugins.export import Export, export_model
from rerank_plugins.export.calibration_data import CALIBRATION_PAIRS
from rerank_plugins.hub.lookup import find_model
from rerank_plugins.hub.weights import count_fp32_bytes, fingerprint_weights, hash_file
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.first_stage import FirstStage
from rerank_plugins.training.base_model import choose_hardware, find_base_folder, load_base_model, set_threads
from rerank_plugins.training.callbacks import EvaluationCallback, LearningCurve
from rerank_plugins.training.checkpoints import Checkpoints
from rerank_plugins.training.config import HINTS, TrainingConfig
from rerank_plugins.training.dataset import (
    TeacherLogits,
    TrainingDataset,
    TrainingExamples,
    TrainingList,
    build_dataset,
    check_size,
    sample_lists,
)
from rerank_plugins.training.distillation import compute_teacher_logits
from rerank_plugins.training.model_card import write_model_card
from rerank_plugins.training.results import Training
from rerank_plugins.training.splits import DataSplits, split_queries
from rerank_plugins.training.trainer import choose_evaluation_steps, train_model
from rerank_plugins.training.verdicts import compare_with_base, describe_development
from rerank_plugins.training.workspace import (
    TrainingOutcome,
    digest_collection,
    open_work_folder,
    publish,
    read_candidates,
    read_outcome,
    write_candidates,
    write_json,
    write_outcome,
)

# Two checkpoints of weights and two moments each, the best model, and the one that replaces it.
_COMPARED_QUERIES = 40
_COPIES = 8


@takes_options(TrainingConfig, hints=HINTS)
def train_reranker(config: TrainingConfig) -> Training:
    """Train a cross-encoder on the qrels of a collection, on a teacher's scores, or on both.

    A training that was stopped, in whatever way, resumes when it is called again with the same arguments. It computes
    on CUDA or MPS where there is one, else on the CPU, in bf16 where that is fast. It seeds the global random number
    generators of torch, numpy and Python.

    {options}

    Returns:
        The model's folder, its learning curve, the fidelity of its int8, and its evaluation beside the base.

    Raises:
        InvalidInputError: An option outside its range; a collection, a run file or a folder that cannot be used; too
            few queries, or some that leak; another training in the output folder.
        ModelNotFoundError: The base or the teacher was not found.
        ModelLoadError: Their files cannot be used; the base has no torch weights.
        MissingExtraError: The extra ``train`` is not installed.
        TrainingError, ExportError: Disk or memory is full, or a folder cannot be written to. Call again afterwards.
    """
    with TrainingRun.open(config) as run:
        dataset, stage, outcome = run.train()
        return run.finish(dataset, stage, outcome)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """One call of `train_reranker`. What an earlier call has done is not done again."""

    config: TrainingConfig
    work: Path
    base_folder: Path
    splits: DataSplits

    @classmethod
    @contextmanager
    def open(cls, config: TrainingConfig) -> Iterator[TrainingRun]:
        """Check everything that a person can get wrong before anything is computed, and lock the output folder."""
        base_folder = find_base_folder(config.base)
        splits = split_queries(config)
        check_size(splits.data)
        options = _resume_options(config, base_folder)
        set_threads(config.threads)
        output = expand(config.output_folder)
        with open_work_folder(output, expand(config.folder), options, fresh=config.fresh) as work:
            try:
                yield cls(config, work, base_folder, splits)
            except RerankError:
                raise
            except OSError as exc:
                raise TrainingError(
                    f"The training in {output} ended early: {exc}. Free space if the disk is full, and run the same "
                    f"command again."
                ) from exc

    @property
    def output(self) -> Path:
        """The folder of the model."""
        return self.work.parent

    @property
    def curve(self) -> LearningCurve:
        """The learning curve so far."""
        return LearningCurve(self.work / "log.jsonl")

    def train(self) -> tuple[TrainingDataset, FirstStage, TrainingOutcome]:
        """Train up to the last step and write the model into the output folder."""
        with progress_bar(visible=self.config.progress) as bar:
            stage = self._find_candidates(bar)
            dataset = build_dataset(self.splits, stage)
            outcome = read_outcome(self.work, self.output) or self._train(dataset, bar)
        return dataset, stage, outcome

    def finish(self, dataset: TrainingDataset, stage: FirstStage, outcome: TrainingOutcome) -> Training:
        """Export the model to int8, evaluate it, and write its model card."""
        config, base, output = self.config, str(self.config.base), str(self.output)
        exported = _export_int8(self.output, dataset, config.seed, progress=config.progress)
        evaluation = self._evaluate(stage, outcome)
        points = self.curve.points
        training = Training(
            folder=self.output,
            base=base,
            new_head=outcome.new_head,
            teacher=None if config.teacher is None else label_of(config.teacher),
            options=config.recipe,
            data=dataset.data,
            steps=outcome.steps,
            best_step=outcome.best_step,
            curve=points,
            seconds=self.curve.seconds,
            machine=outcome.machine,
            fidelity=exported.report,
            int8_is_default=exported.is_default,
            evaluation=evaluation,
            change=compare_with_base(evaluation, output, None if outcome.new_head else base, config.seed),
            development_verdict=describe_development(points, outcome.best_step, dataset.data.development),
        )
        # Not beside the weights, which may be shared: it holds texts.
        write_json(self.work / "training.json", training.as_json())
        write_model_card(training)
        return training

    def _find_candidates(self, bar: Progress) -> FirstStage:
        stage = read_candidates(self.work)
        if stage is None:
            config = self.config
            stage = find_candidates(self.splits.all_queries, config.embedder, config.run_file, config.fetch_k, bar)
            write_candidates(self.work, stage)
        return stage

    def _train(self, dataset: TrainingDataset, bar: Progress) -> TrainingOutcome:
        config = self.config
        base = load_base_model(str(config.base), self.base_folder, max_length=config.max_length, seed=config.seed)
        lists = sample_lists(dataset.queries, list_size=config.list_size, epochs=config.epochs, seed=config.seed)
        steps = math.ceil(len(lists) / config.batch_size)
        pairs = sum(len(one.passages) for one in lists)
        callback = EvaluationCallback(
            base=base,
            hardware=choose_hardware(),
            development=dataset.development,
            checkpoints=Checkpoints(self.work),
            curve=self.curve,
            config=config,
            steps=steps,
            evaluation_steps=choose_evaluation_steps(steps, pairs, dataset.development),
            bar=bar,
        )
        self._check_free_space()
        if config.progress:
            bar.console.print(_describe_plan(callback, dataset), markup=False, highlight=False, soft_wrap=True)
        train_model(TrainingExamples(dataset, lists, self._score_by_teacher(dataset, lists, bar), config), callback)
        best = callback.checkpoints.best
        if best is None:
            raise TrainingError(f"The best model is missing in {self.work}. Start anew with fresh=True (--fresh).")
        publish(best.folder, self.output)
        outcome = TrainingOutcome(steps, best.step, base.new_head, callback.hardware.description)
        write_outcome(self.work, self.output, outcome)
        callback.checkpoints.delete_all()
        return outcome

    def _score_by_teacher(
        self, dataset: TrainingDataset, lists: Sequence[TrainingList], bar: Progress
    ) -> TeacherLogits | None:
        config = self.config
        if config.teacher is None:
            return None
        loading = {"max_length": config.max_length, "threads": config.threads}
        with load_systems([config.teacher], **({} if isinstance(config.teacher, Reranker) else loading)) as (teacher,):
            return compute_teacher_logits(teacher, dataset.collection, lists, self.work, bar)

    def _evaluate(self, stage: FirstStage, outcome: TrainingOutcome) -> Evaluation:
        config = self.config
        models: list[str | Path | Reranker] = [str(self.output)]
        if not outcome.new_head:
            models.insert(0, config.base)
        if config.evaluate_teacher and config.teacher is not None and config.teacher not in models:
            models.append(config.teacher)
        return evaluate(
            self.splits.select(self.splits.test),
            models,
            run_file=stage,
            fetch_k=config.fetch_k,
            max_queries=config.max_test_queries,
            seed=config.seed,
            work_folder=self.work,
            progress=config.progress,
            threads=config.threads,
        )

    def _check_free_space(self) -> None:
        present = sum(file.stat().st_size for file in self.output.rglob("*") if file.is_file())
        needed = _COPIES * count_fp32_bytes(self.base_folder) - present
        free = free_bytes(self.output)
        if needed > free:
            raise TrainingError(
                f"The training takes {needed / 1e9:.2f} GB in {self.output}, for two checkpoints and the best model, "
                f"and {free / 1e9:.2f} GB are free. Free space, or name another output_folder."
            )


def _resume_options(config: TrainingConfig, base_folder: Path) -> dict[str, Any]:
    """Everything that the weights depend on: a training with other values is not resumed."""
    run_file = None if config.run_file is None else expand(config.run_file)
    if run_file is not None and not run_file.is_file():
        raise InvalidInputError(f"There is no file {run_file}. Give the TREC run file of your retriever as run_file.")
    return {
        "data": digest_collection(expand(config.folder)),
        "base": _digest_weights(base_folder),
        "teacher": _identify_teacher(config),
        "split": config.split,
        "test_split": config.test_split,
        "run_file": None if run_file is None else hash_file(run_file),
        **config.recipe,
    }


def _identify_teacher(config: TrainingConfig) -> str | None:
    teacher = config.teacher
    if isinstance(teacher, str):
        return f"{teacher} {_digest_weights(find_model(teacher))[:16]}"
    return None if teacher is None else label_of(teacher)


def _digest_weights(folder: Path) -> str:
    digests = [str(entry[-1]) for entry in fingerprint_weights(folder).values()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _describe_plan(callback: EvaluationCallback, dataset: TrainingDataset) -> str:
    data, config = dataset.data, callback.config
    head = " The base has no ranking head and gets a new one, of random weights." if callback.base.new_head else ""
    return (
        f"{data.collection}: {data.judged:,} judged queries to learn from and {data.unjudged:,} without qrels, "
        f"{data.development:,} to choose the best step by, {data.test:,} to evaluate. Left out: "
        f"{data.describe_left_out()}.{head}\n{callback.steps:,} steps of {config.batch_size} lists of "
        f"{config.list_size}, {callback.hardware.description}; checkpoints every "
        f"{config.minutes_between_checkpoints:g} minutes in {callback.checkpoints.folder}."
    )


def _export_int8(output: Path, dataset: TrainingDataset, seed: int, *, progress: bool) -> Export:
    """Export the model in ``output``; the calibration data holds no test query."""
    judged = [query for query in dataset.queries if query.relevant] or dataset.queries
    size = min(len(judged), CALIBRATION_PAIRS + _COMPARED_QUERIES)
    sample = random.Random(seed).sample(judged, size)  # noqa: S311 - a sample, no secret
    passages = dict.fromkeys(passage for query in sample for passage in (*query.relevant, *query.others))
    collection = Collection(
        dataset.collection.name,
        passages={passage: dataset.collection.passages[passage] for passage in passages},
        queries={query.id: dataset.collection.queries[query.id] for query in sample},
        qrels={query.id: dict.fromkeys(query.relevant, 1) for query in sample if query.relevant},
    )
    return export_model(output, "int8", calibration_data=collection, max_queries=_COMPARED_QUERIES, progress=progress)
