"""Collections that a small model learns in a second, and short trainings on them."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beir_folders import write_folder, write_run
from rerank_plugins import Pair
from rerank_plugins.training import TrainingConfig
from rerank_plugins.training.run import TrainingRun
from rerank_plugins.training.workspace import TrainingOutcome

KINDS = {"a": "the cat sat on the mat", "b": "bread is baked from flour", "c": "sunlight water and air"}

RECIPE: dict[str, Any] = {"epochs": 2, "learning_rate": 5e-3, "fetch_k": 10, "list_size": 3, "max_length": 64}


@dataclass
class CollectionBuilder:
    """A collection before it is written, which a test can change."""

    passages: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    train: dict[str, dict[str, int]] = field(default_factory=dict)
    test: dict[str, dict[str, int]] = field(default_factory=dict)
    candidates: dict[str, list[str]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """``folder``, with qrels/train.tsv and qrels/test.tsv where there are such qrels, and a run beside it."""
        write_folder(folder, self.passages, self.queries, None)
        for name, qrels in (("train", self.train), ("test", self.test)):
            if qrels:
                write_qrels(folder, name, qrels)
        write_run(folder.with_suffix(".run"), self.candidates)
        return folder


def write_qrels(folder: Path, split: str, qrels: dict[str, dict[str, int]]) -> None:
    (folder / "qrels").mkdir(exist_ok=True)
    rows = [f"{query}\t{passage}\t{grade}" for query, grades in qrels.items() for passage, grade in grades.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]), encoding="utf-8")


def make_collection(trained: int = 80, tested: int = 12, unjudged: int = 0) -> CollectionBuilder:
    """Each query has three candidates, in random order, of which the one about bread is relevant.

    Relevant passages differ by their words alone, which a model of two layers learns in some dozens of steps.
    """
    rng = random.Random(0)
    collection = CollectionBuilder()
    for number in range(trained + tested + unjudged):
        query = f"q{number}"
        collection.queries[query] = f"what is baked {number}"
        for kind, words in KINDS.items():
            collection.passages[f"p{number}{kind}"] = f"{words} {number}"
        collection.candidates[query] = [f"p{number}{kind}" for kind in rng.sample(list(KINDS), len(KINDS))]
        if number < trained + tested:
            part = collection.train if number < trained else collection.test
            part[query] = {f"p{number}b": 1}
    return collection


class KeywordTeacher:
    """A scorer that gives 5 to passages with a word and -5 to others, and remembers the pairs."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.pairs: list[Pair] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """A score for each pair."""
        self.pairs += pairs
        return [5.0 if self.word in passage else -5.0 for _, passage in pairs]


def make_config(data: Path, base: Path, output: Path, **changes: Any) -> TrainingConfig:
    """A short training on a collection of `make_collection`; checkpoints are written at its end only."""
    options: dict[str, Any] = {"run_file": data.with_suffix(".run"), "threads": 1, **RECIPE, **changes}
    return TrainingConfig(data, base, output_folder=output, **{"minutes_between_checkpoints": 60, **options})


def train(data: Path, base: Path, output: Path, **changes: Any) -> TrainingOutcome:
    """Train up to the last step: what follows takes seconds, and is the same for all trainings."""
    with TrainingRun.open(make_config(data, base, output, **changes)) as run:
        return run.train()[2]


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()
