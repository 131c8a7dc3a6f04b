"""Collections that a stand-in can learn in a second, and short trainings on them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from beir_folders import write_folder, write_run
from rerank_plugins import Pair, Reranker
from rerank_plugins.training.config import Recipe
from rerank_plugins.training.run import Begun, Sitting

KINDS = {"a": "the cat sat on the mat", "b": "bread is baked from flour", "c": "sunlight water and air"}

RECIPE: dict[str, Any] = {"epochs": 2, "learning_rate": 5e-3, "top_k": 10, "list_size": 3, "max_length": 64}


@dataclass
class Made:
    """A collection before it is written; a test changes what it is about."""

    passages: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    train: dict[str, dict[str, int]] = field(default_factory=dict)
    test: dict[str, dict[str, int]] = field(default_factory=dict)
    candidates: dict[str, list[str]] = field(default_factory=dict)

    def write(self, folder: Path) -> Path:
        """``folder``, with qrels/train.tsv and qrels/test.tsv where there are such judgements, and a run beside it."""
        write_folder(folder, self.passages, self.queries, None)
        for name, judgements in (("train", self.train), ("test", self.test)):
            if judgements:
                write_qrels(folder, name, judgements)
        write_run(folder.with_suffix(".run"), self.candidates)
        return folder


def write_qrels(folder: Path, split: str, judgements: dict[str, dict[str, int]]) -> None:
    (folder / "qrels").mkdir(exist_ok=True)
    rows = [f"{query}\t{passage}\t{grade}" for query, of in judgements.items() for passage, grade in of.items()]
    (folder / "qrels" / f"{split}.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]), encoding="utf-8")


def made(trained: int = 80, tested: int = 12, unjudged: int = 0) -> Made:
    """Each query has three candidates, in random order, of which the one about bread is relevant.

    What is relevant can be told by its words alone, which a stand-in of two layers learns in some dozens of steps.
    """
    chance = random.Random(0)
    collection = Made()
    for number in range(trained + tested + unjudged):
        query = f"q{number}"
        collection.queries[query] = f"what is baked {number}"
        for kind, words in KINDS.items():
            collection.passages[f"p{number}{kind}"] = f"{words} {number}"
        collection.candidates[query] = [f"p{number}{kind}" for kind in chance.sample(list(KINDS), len(KINDS))]
        if number < trained + tested:
            part = collection.train if number < trained else collection.test
            part[query] = {f"p{number}b": 1}
    return collection


class Prefers:
    """A teacher that gives 5 to what holds a word and -5 to the rest; remembers what it was asked."""

    def __init__(self, word: str) -> None:
        self.word = word
        self.asked: list[Pair] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One number a pair."""
        self.asked += pairs
        return [5.0 if self.word in passage else -5.0 for _, passage in pairs]


@contextmanager
def sitting(
    data: Path,
    base: Path,
    out: Path,
    *,
    teacher: Reranker | None = None,
    minutes: float = 60,
    fresh: bool = False,
    **changes: Any,
) -> Iterator[tuple[Sitting, Begun]]:
    """A training that can be taken as far as its last step: what follows takes seconds, and is the same for all."""
    recipe: dict[str, Any] = {
        "batch_size": 8,
        "teacher_weight": 0.5,
        "development": 0.1,
        "seed": 0,
        **RECIPE,
        **changes,
    }
    one = Sitting(
        folder=data,
        base=str(base),
        out=out,
        teacher=teacher,
        splits=(None, None),
        run_file=data.with_suffix(".run"),
        recipe=Recipe(embedder="embed-static-en", **recipe),
        drop_leaks=False,
        test_queries=None,
        evaluate_teacher=False,
        minutes=minutes,
        threads=1,
        progress=False,
    )
    with one.begun(fresh=fresh) as begun:
        yield one, begun


def learn(data: Path, base: Path, out: Path, **options: Any) -> dict[str, Any]:
    """What is known after the last step."""
    with sitting(data, base, out, **options) as (one, begun):
        return one.learned(begun).told


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()
