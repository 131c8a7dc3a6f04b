"""The lists to learn from: a query, texts that answer it, and texts that do not but look as if."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from texts import Texts

# How often a set is drawn: by the root of its size, times this. Noisy or narrow sets less; paragraphs too, which take
# three times as long as sentences and teach less reading.
SHARES = {
    "jcommonsenseqa": 0.3,
    "howtocook": 0.3,
    "intents": 0.3,
    "fool-me-twice": 0.5,
    "paws-x": 0.5,
    "boolq": 0.3,
    "jaquad-sent": 0.7,
    "afriqa-sent": 0.6,
    "selqa": 1.5,
    "faq-docs": 1.3,
    "mlqa-par": 0.6,
    "tydiqa-par": 0.4,
    "nq-qed": 0.7,
    "medquad": 0.6,
    "squad-dev-en": 0.6,
    "drcd-dev": 0.5,
    "cmrc2018-trial": 0.6,
    "xquad": 0.5,
    "xquad-across": 0.5,
}
# Articles of squad-dev-en and the xquad sets: 20 to learn from, too few to leave the choice to a hash.
HELD_OUT_ARTICLES = {"nikola tesla", "immune system"}
SENTENCE_LIST, POOL_LIST, LABELLED_LIST = 6, 5, 10  # texts a list
FEWEST = 4  # a shorter list is filled with answers to other queries of its set
HARDEST, FROM_HARDEST = 15, 3  # of a pool: so many negatives from the top 15, the others from the rest


@dataclass(frozen=True)
class RankingList:
    """Numbers of texts (`Texts`); ``teacher`` has a score for each of ``positives`` and then ``negatives``."""

    set: str
    language: str
    query: int
    positives: list[int]
    negatives: list[int]
    teacher: np.ndarray | None = None


@dataclass(frozen=True)
class LabelledPair:
    """Two texts that share their words, and whether they mean the same."""

    language: str
    query: int
    passage: int
    label: int


@dataclass
class Lists:
    """Training and held-out lists by set, and the labelled pairs."""

    training: dict[str, list[RankingList]] = field(default_factory=dict)
    held_out: dict[str, list[RankingList]] = field(default_factory=dict)
    labelled: list[LabelledPair] = field(default_factory=list)
    labelled_held_out: list[LabelledPair] = field(default_factory=list)

    def add(self, entry: RankingList, group: str) -> None:
        part = self.held_out if is_held_out(group) else self.training
        part.setdefault(entry.set, []).append(entry)

    def weights(self) -> dict[str, float]:
        sizes = {name: len(part) for name, part in self.training.items()} | {"paws-x-labelled": len(self.labelled)}
        return {name: size**0.5 * SHARES.get(name, 1.0) for name, size in sizes.items()}


def is_held_out(group: str) -> bool:
    """One group in twenty, the same in every set that knows it by this name."""
    name = group.replace("_", " ").strip().lower()
    return name in HELD_OUT_ARTICLES or hashlib.sha256(name.encode()).digest()[0] < 13


def read_pair_sets(data: Path, texts: Texts) -> Lists:
    """Every ``pairs.jsonl.gz`` below ``data``/train, and the labelled pairs of paws-x."""
    lists = Lists()
    for path in sorted(data.glob("train/*/pairs.jsonl.gz")):
        for record in read_gzip(path):
            query, positives, negatives = record["query"], record["positives"], record["negatives"]
            numbers = texts.number(query), texts.numbers(positives), texts.numbers(negatives)
            lists.add(RankingList(path.parent.name, record["lang"], *numbers), record["group"])
    for record in read_gzip(data / "train/paws-x/labelled.jsonl.gz"):
        pair = LabelledPair(record["lang"], texts.number(record["a"]), texts.number(record["b"]), record["label"])
        (lists.labelled_held_out if is_held_out(record["group"]) else lists.labelled).append(pair)
    return lists


def read_gzip(path: Path) -> Iterator[dict]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


@dataclass(frozen=True)
class Draw:
    """One list as it is trained on: labels of 1.0 and 0.0, a teacher's scores if it has one."""

    pairs: list[tuple[int, int]]
    labels: list[float]
    teacher: np.ndarray | None
    is_list: bool = True


class Drawer:
    """Draws of a step, seeded by its number: a run that goes on draws what it would have drawn."""

    def __init__(self, lists: Lists, seed: int) -> None:
        self._lists, self._seed = lists, seed
        self._shares = lists.weights()
        self._fillers: dict[tuple[str, str], list[int]] = {}
        for name, part in lists.training.items():
            for entry in part:
                self._fillers.setdefault((name, entry.language), []).append(entry.positives[0])

    def step(self, step: int, count: int) -> list[Draw]:
        chance = random.Random(f"{self._seed}/{step}")
        names = chance.choices(list(self._shares), list(self._shares.values()), k=count)
        return [self._draw(name, chance) for name in names]

    def _draw(self, name: str, chance: random.Random) -> Draw:
        if name == "paws-x-labelled":
            chosen = chance.sample(self._lists.labelled, LABELLED_LIST)
            pairs = [(pair.query, pair.passage) for pair in chosen]
            return Draw(pairs, [float(pair.label) for pair in chosen], None, is_list=False)
        entry = chance.choice(self._lists.training[name])
        if entry.teacher is not None:
            return self._draw_pool(entry, chance)
        size = SENTENCE_LIST - 1
        negatives = entry.negatives if len(entry.negatives) <= size else chance.sample(entry.negatives, size)
        chosen = [chance.choice(entry.positives), *negatives]
        others = self._fillers[name, entry.language]
        while len(chosen) < FEWEST:
            other = chance.choice(others)
            if other in entry.positives and len(others) > FEWEST:
                continue
            chosen.append(other)
        return Draw([(entry.query, text) for text in chosen], [1.0] + [0.0] * (len(chosen) - 1), None)

    def _draw_pool(self, entry: RankingList, chance: random.Random) -> Draw:
        first = chance.randrange(len(entry.positives))
        start = len(entry.positives)
        places = range(start, start + len(entry.negatives))
        chosen = chance.sample(places[:HARDEST], min(FROM_HARDEST, len(places[:HARDEST])))
        rest = places[HARDEST:] if len(places) > HARDEST else places
        chosen += chance.sample(rest, min(POOL_LIST - 1 - len(chosen), len(rest)))
        candidates = [*entry.positives, *entry.negatives]
        order = [first, *chosen]
        pairs = [(entry.query, candidates[place]) for place in order]
        return Draw(pairs, [1.0] + [0.0] * len(chosen), entry.teacher[order])
