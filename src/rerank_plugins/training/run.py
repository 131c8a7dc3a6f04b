"""One sitting of a training: what is done is kept, and what is kept is not done again."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from rerank_plugins._internal.files import free_bytes
from rerank_plugins.errors import InvalidInputError, RerankError, TrainingError
from rerank_plugins.evaluation.candidates import find_candidates, progress_bar
from rerank_plugins.evaluation.results import Evaluation
from rerank_plugins.evaluation.run import evaluate
from rerank_plugins.evaluation.systems import label_of, load_systems
from rerank_plugins.hub.lookup import find_model
from rerank_plugins.hub.weights import count_fp32_bytes, fingerprint_weights, hash_file
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.first_stage import FirstStage
from rerank_plugins.training.arithmetic import chosen_arithmetic, use_threads
from rerank_plugins.training.base_model import Base, load_base, trainable_folder
from rerank_plugins.training.callbacks import Watch
from rerank_plugins.training.checkpoints import Checkpoints, write_json
from rerank_plugins.training.config import Recipe
from rerank_plugins.training.dataset import Material, check_enough, gathered
from rerank_plugins.training.distillation import Taught, taught
from rerank_plugins.training.finishing import change, development_verdict, export, publish
from rerank_plugins.training.learning_curve import CurveFile
from rerank_plugins.training.lists import TrainingList, drawn
from rerank_plugins.training.model_card import write_card
from rerank_plugins.training.results import Training
from rerank_plugins.training.splits import Division, divide
from rerank_plugins.training.trainer import TrainingLists, evaluated_steps, fit
from rerank_plugins.training.workspace import (
    data_digest,
    keep_candidates,
    kept_candidates,
    mark_trained,
    trained,
    work_folder,
)

# Two checkpoints of weights and two moments each, the best model, and the one that takes its place.
_COPIES = 8


@dataclass(frozen=True, slots=True)
class Begun:
    """A training whose data and folder are in order."""

    work: Path
    base_folder: Path
    division: Division


@dataclass(frozen=True, slots=True)
class Learned:
    """A training after its last step."""

    stage: FirstStage
    material: Material
    told: dict[str, Any]
    """What `mark_trained` wrote."""


@dataclass(frozen=True, kw_only=True)
class Sitting:
    """One call of `train_reranker`: as much of a training as is not done yet."""

    folder: Path
    base: str
    out: Path
    teacher: str | Reranker | None
    splits: tuple[str | None, str | None]
    run_file: Path | None
    recipe: Recipe
    drop_leaks: bool
    test_queries: int | None
    evaluate_teacher: bool
    minutes: float
    threads: int | None
    progress: bool

    def run(self, *, fresh: bool) -> Training:
        """All of it; what an earlier call has done is not done again."""
        with self.begun(fresh=fresh) as begun:
            return self.finished(begun, self.learned(begun))

    @contextmanager
    def begun(self, *, fresh: bool = False) -> Iterator[Begun]:
        """Everything that can be wrong is found here, before anything is computed; then the folder is ours."""
        base_folder = trainable_folder(self.base)
        division = divide(
            self.folder,
            split=self.splits[0],
            test_split=self.splits[1],
            development=self.recipe.development,
            seed=self.recipe.seed,
            drop_leaks=self.drop_leaks,
            unjudged=self.teacher is not None,
        )
        check_enough(division.data)
        options = self._options(base_folder)
        use_threads(self.threads)
        with work_folder(self.out, self.folder, options, fresh=fresh) as work:
            try:
                yield Begun(work, base_folder, division)
            except RerankError:
                raise
            except OSError as exc:
                raise TrainingError(
                    f"The training in {self.out} ended early: {exc}. Make room if the disk is full, and give the same "
                    f"command again."
                ) from exc

    def learned(self, begun: Begun) -> Learned:
        """The model in its place, after the last step."""
        with progress_bar(visible=self.progress) as bar:
            stage = self._stage(begun, bar)
            material = gathered(begun.division, stage)
            told = trained(begun.work, self.out)
            if told is None:
                told = self._fitted(begun, material, bar)
        return Learned(stage, material, told)

    def finished(self, begun: Begun, learned: Learned) -> Training:
        """Its int8, its evaluation, and its card."""
        seed, told, data = self.recipe.seed, learned.told, learned.material.data
        exported = export(self.out, begun.work, learned.material, seed, progress=self.progress)
        evaluation = self._evaluation(begun, learned)
        curve = CurveFile(begun.work / "log.jsonl")
        training = Training(
            folder=self.out,
            base=self.base,
            new_head=told["new_head"],
            teacher=None if self.teacher is None else label_of(self.teacher),
            options={**asdict(self.recipe), "drop_leaks": self.drop_leaks},
            data=data,
            steps=told["steps"],
            best_step=told["best_step"],
            curve=curve.points(),
            seconds=curve.seconds(),
            machine=told["machine"],
            fidelity=exported.report,
            int8_is_default=exported.is_default,
            evaluation=evaluation,
            change=change(evaluation, str(self.out), None if told["new_head"] else self.base, seed),
            development_verdict=development_verdict(curve.points(), told["best_step"], data.development),
        )
        # Not beside the weights, which people hand on: it holds texts.
        write_json(begun.work / "training.json", training.as_json())
        write_card(training)
        return training

    def _options(self, base_folder: Path) -> dict[str, Any]:
        """All that the weights depend on."""
        if self.run_file is not None and not self.run_file.is_file():
            raise InvalidInputError(f"There is no file {self.run_file}. Give the TREC run file of your retriever.")
        return {
            "data": data_digest(self.folder),
            "base": _weights_digest(base_folder),
            "teacher": self._teacher_identity(),
            "split": self.splits[0],
            "test_split": self.splits[1],
            "run": None if self.run_file is None else hash_file(self.run_file),
            "drop_leaks": self.drop_leaks,
            **asdict(self.recipe),
        }

    def _teacher_identity(self) -> str | None:
        if isinstance(self.teacher, str):
            return f"{self.teacher} {_weights_digest(find_model(self.teacher))[:16]}"
        return None if self.teacher is None else label_of(self.teacher)

    def _stage(self, begun: Begun, bar: Progress) -> FirstStage:
        kept = kept_candidates(begun.work)
        if kept is not None:
            return FirstStage(*kept)
        stage = find_candidates(begun.division.all_judged, self.recipe.embedder, self.run_file, self.recipe.top_k, bar)
        keep_candidates(begun.work, stage.name, stage.candidates)
        return stage

    def _fitted(self, begun: Begun, material: Material, bar: Progress) -> dict[str, Any]:
        recipe, work = self.recipe, begun.work
        base = load_base(self.base, begun.base_folder, max_length=recipe.max_length, seed=recipe.seed)
        lists = drawn(material.queries, list_size=recipe.list_size, epochs=recipe.epochs, seed=recipe.seed)
        watch = self._watch(work, base, material, lists, bar)
        self._check_room(begun.base_folder)
        self._tell(bar, watch, material)
        soft = self._taught(work, material, lists, bar)
        fit(base, TrainingLists(material, lists, soft, recipe.teacher_weight), watch, recipe, watch.checkpoints)
        best = watch.checkpoints.best()
        if best is None:
            raise TrainingError(f"{work} has lost its best model. Begin anew with fresh=True (--fresh).")
        publish(best.folder, self.out)
        told = {
            "steps": watch.steps,
            "best_step": best.step,
            "new_head": base.new_head,
            "machine": watch.arithmetic.machine,
        }
        mark_trained(work, self.out, told)
        watch.checkpoints.clear()
        return told

    def _watch(self, work: Path, base: Base, material: Material, lists: list[TrainingList], bar: Progress) -> Watch:
        steps = math.ceil(len(lists) / self.recipe.batch_size)
        pairs = sum(len(one.passages) for one in lists)
        return Watch(
            base=base,
            arithmetic=chosen_arithmetic(),
            development=material.development,
            checkpoints=Checkpoints(work),
            curve=CurveFile(work / "log.jsonl"),
            steps=steps,
            evaluated=evaluated_steps(steps, pairs, material.development),
            minutes=self.minutes,
            bar=bar,
            told=self.progress,
        )

    def _taught(self, work: Path, material: Material, lists: list[TrainingList], bar: Progress) -> Taught | None:
        if self.teacher is None:
            return None
        options = {"max_length": self.recipe.max_length, "threads": self.threads}
        loading = {} if isinstance(self.teacher, Reranker) else options
        with load_systems([self.teacher], **loading) as (teacher,):
            return taught(teacher, material.collection, lists, work, bar)

    def _evaluation(self, begun: Begun, learned: Learned) -> Evaluation:
        models: list[str | Path | Reranker] = [str(self.out)]
        if not learned.told["new_head"]:
            models.insert(0, self.base)
        if self.evaluate_teacher and self.teacher is not None and self.teacher not in models:
            models.append(self.teacher)
        return evaluate(
            begun.division.part(begun.division.test),
            models,
            run_file=learned.stage,
            fetch_k=self.recipe.top_k,
            max_queries=self.test_queries,
            seed=self.recipe.seed,
            work_folder=begun.work,
            progress=self.progress,
            threads=self.threads,
        )

    def _check_room(self, base_folder: Path) -> None:
        there = sum(file.stat().st_size for file in self.out.rglob("*") if file.is_file())
        needed = _COPIES * count_fp32_bytes(base_folder) - there
        free = free_bytes(self.out)
        if needed > free:
            raise TrainingError(
                f"The training takes {needed / 1e9:.2f} GB in {self.out}, for two checkpoints and the best model, and "
                f"{free / 1e9:.2f} GB are free. Make room, or name another folder with out."
            )

    def _tell(self, bar: Progress, watch: Watch, material: Material) -> None:
        if not self.progress:
            return
        data, recipe = material.data, self.recipe
        of_data = (
            f"{data.collection}: {data.judged:,} judged queries to learn from and {data.unjudged:,} that nobody "
            f"judged, {data.development:,} to choose the best step by, {data.test:,} to evaluate."
        )
        left_out = (
            f"Left out: {data.without_relevant:,} whose relevant passages are blank or not in the corpus, "
            f"{data.without_negative:,} without another candidate, {data.leaking:,} that leak."
        )
        plan = (
            f"{watch.steps:,} steps of {recipe.batch_size} lists of {recipe.list_size}, {watch.arithmetic.machine}; "
            f"checkpoints every {self.minutes:g} minutes in {self.out / 'work'}."
        )
        lines = [of_data, left_out, plan]
        if watch.base.new_head:
            lines.append(
                f"{self.base} has no ranking head and gets a new one, of random weights: it has to learn its order "
                f"from these lists alone."
            )
        bar.console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def _weights_digest(folder: Path) -> str:
    digests = [str(entry[-1]) for entry in fingerprint_weights(folder).values()]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
