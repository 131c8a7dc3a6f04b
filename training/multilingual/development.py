"""What is looked at during training: held-out lists of each set, and the plain questions that may be chosen on."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Protocol

from tokenizers import Tokenizer

from lists import LabelledPair, Lists, RankingList
from texts import Texts

LISTS_A_SET, POOLS_A_SET, LABELLED = 40, 20, 300
TEXTS_A_LIST, TEXTS_A_POOL = 8, 20
PLAIN = Path(__file__).parents[2] / "examples/data/plain/questions.jsonl"
SEED = 3


class Evaluator(Protocol):
    """`train.Scorer`, as far as it is needed here."""

    def evaluate(self, pairs: Sequence[tuple[int, int]]) -> list[float]: ...

    def over(self, texts: Texts) -> Evaluator: ...


class Development:
    """A fixed sample of the held-out lists. Each number is the share of lists with a right text first."""

    def __init__(self, lists: Lists, tokenizer: Tokenizer) -> None:
        chance = random.Random(SEED)
        self._lists: dict[str, list[RankingList]] = {}
        for name, part in sorted(lists.held_out.items()):
            pool = part[0].teacher is not None
            chosen = chance.sample(part, min(POOLS_A_SET if pool else LISTS_A_SET, len(part)))
            self._lists[name] = [_shorten(entry, TEXTS_A_POOL if pool else TEXTS_A_LIST) for entry in chosen]
        self._labelled = chance.sample(lists.labelled_held_out, min(LABELLED, len(lists.labelled_held_out)))
        self._plain = Texts()
        self._questions: dict[str, list[RankingList]] = {}
        for line in PLAIN.read_text(encoding="utf-8").splitlines():
            question = json.loads(line)
            if question["split"] == "choose":
                entry = _plain_list(question, self._plain)
                self._questions.setdefault(f"plain {entry.language}", []).append(entry)
        self._plain.tokenize(tokenizer)

    def measure(self, evaluator: Evaluator) -> dict[str, float]:
        """Every set's share, their mean, and the AUC of the labelled near-copies."""
        shares = share_first(evaluator, self._lists)
        mean = {"mean": round(fmean(shares.values()), 4)}
        near_copies = {"paws-x-labelled auc": round(auc(evaluator, self._labelled), 4)}
        return mean | share_first(evaluator.over(self._plain), self._questions) | shares | near_copies


def _shorten(entry: RankingList, most: int) -> RankingList:
    """One text that answers, and the first of the others."""
    return RankingList(entry.set, entry.language, entry.query, entry.positives[:1], entry.negatives[: most - 1])


def _plain_list(question: dict, texts: Texts) -> RankingList:
    numbers = texts.numbers(question["candidates"])
    right = numbers.pop(question["answer"])
    return RankingList("plain", question["language"], texts.number(question["question"]), [right], numbers)


def share_first(evaluator: Evaluator, lists: dict[str, list[RankingList]]) -> dict[str, float]:
    """The share of lists whose first text answers; a tie is lost."""
    entries = [entry for part in lists.values() for entry in part]
    scores = iter(evaluator.evaluate([(e.query, text) for e in entries for text in (*e.positives, *e.negatives)]))
    shares: dict[str, float] = {}
    for name, part in lists.items():
        won = 0
        for entry in part:
            right, *others = [next(scores) for _ in (*entry.positives, *entry.negatives)]
            won += all(right > other for other in others)
        shares[name] = round(won / len(part), 4)
    return shares


def auc(evaluator: Evaluator, pairs: Sequence[LabelledPair]) -> float:
    """How often a pair of equal sense scores above one of another sense."""
    scores = evaluator.evaluate([(pair.query, pair.passage) for pair in pairs])
    same = [score for score, pair in zip(scores, pairs, strict=True) if pair.label]
    other = [score for score, pair in zip(scores, pairs, strict=True) if not pair.label]
    return fmean((high > low) + 0.5 * (high == low) for high in same for low in other)
