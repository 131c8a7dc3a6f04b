"""Paragraph collections as lists: each query's top 50 of the untrained base, with the base's own scores as teacher."""

from __future__ import annotations

import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lists import Lists, RankingList
from model import MultilingualCrossEncoder, find_segments, pool_states, unit
from rerank_plugins.retrieval import read_collection
from texts import PASSAGE_TOKENS, QUERY_TOKENS, Template, Texts

POOL = 50
XQUAD = ("en", "zh", "de", "es", "ar", "ru", "tr", "vi", "ro")
COLLECTIONS = ("train/nq-qed", "train/medquad", "squad-dev-en", "train/drcd-dev", "train/cmrc2018-trial")
MOST_QUERIES = 4000  # of a collection
OTHER_LANGUAGES = 2  # for each query of an xquad set, passages in so many other languages
SCALE = 20.0
SEED = 5
_BATCH_TOKENS = 12_000


class ParagraphQuery(NamedTuple):
    """A query, where its passages are, and which of them answer it."""

    set: str
    language: str
    text: int
    corpus: str
    relevant: list[int]
    group: str


class Encoded(NamedTuple):
    """Texts as the base encodes them alone: unit means, and unit states of the tokens without prefix and ``</s>``."""

    place: dict[int, int]
    means: Tensor
    states: Tensor
    starts: list[int]

    def of(self, number: int) -> Tensor:
        place = self.place[number]
        return self.states[self.starts[place] : self.starts[place + 1]]


def read_paragraph_queries(data: Path, texts: Texts) -> tuple[list[ParagraphQuery], dict[str, list[int]]]:
    """All queries, and the passages of each corpus: the judged ones only, as some corpora hold test articles too."""
    queries: list[ParagraphQuery] = []
    corpora: dict[str, list[int]] = {}
    for folder in (*COLLECTIONS, *(f"xquad-{language}" for language in XQUAD)):
        collection = read_collection(data / folder, "train")
        chance = random.Random(SEED)
        asked = sorted(collection.qrels)
        asked = chance.sample(asked, min(MOST_QUERIES, len(asked)))
        judged = sorted({passage for query in asked for passage in collection.qrels[query]})
        place = {passage: texts.number(collection.passages[passage]) for passage in judged}
        name = "xquad" if folder.startswith("xquad-") else Path(folder).name
        corpora[folder] = list(place.values())
        for query in asked:
            relevant = [place[passage] for passage, grade in collection.qrels[query].items() if grade > 0]
            title = collection.passages[next(iter(collection.qrels[query]))].partition(". ")[0]
            number = texts.number(collection.queries[query])
            queries.append(ParagraphQuery(name, folder, number, folder, relevant, title))
    return queries + _across_languages(data, texts), corpora


def _across_languages(data: Path, texts: Texts) -> list[ParagraphQuery]:
    """Questions of one xquad set with the passages of others: their ids are the same in all of them."""
    collections = {language: read_collection(data / f"xquad-{language}", "train") for language in XQUAD}
    chance = random.Random(SEED)
    queries: list[ParagraphQuery] = []
    for asked, collection in collections.items():
        for query, grades in sorted(collection.qrels.items()):
            for other in chance.sample([language for language in XQUAD if language != asked], OTHER_LANGUAGES):
                passages = collections[other].passages
                relevant = [texts.number(passages[passage]) for passage in grades]
                title = passages[next(iter(grades))].partition(". ")[0]
                number = texts.number(collection.queries[query])
                language = f"{asked}>{other}"
                queries.append(ParagraphQuery("xquad-across", language, number, f"xquad-{other}", relevant, title))
    return queries


@torch.inference_mode()
def encode(model: MultilingualCrossEncoder, rows: dict[int, list[int]], prefix: int, name: str) -> Encoded:
    """``rows`` are the token ids of each text, with prefix and special tokens."""
    numbers = sorted(rows, key=lambda number: len(rows[number]))
    starts = np.cumsum([0, *(len(rows[number]) - prefix - 1 for number in numbers)]).tolist()
    states = torch.empty((starts[-1], 384), dtype=torch.bfloat16)
    means = torch.empty((len(numbers), 384))
    first = 0
    with tqdm(total=len(numbers), desc=f"base, {name}", mininterval=20) as bar:
        while first < len(numbers):
            count = max(1, _BATCH_TOKENS // len(rows[numbers[min(first + 64, len(numbers) - 1)]]))
            part = numbers[first : first + count]
            padded = torch.nn.utils.rnn.pad_sequence([torch.tensor(rows[n]) for n in part], batch_first=True)
            lengths = torch.tensor([len(rows[n]) for n in part])
            mask = (torch.arange(padded.shape[1])[None, :] < lengths[:, None]).long()
            found = find_segments(mask, torch.zeros_like(mask))
            last = model.states(padded, found, torch.bfloat16)
            means[first : first + len(part)] = unit(pool_states(last, found.query))
            for row, place in enumerate(range(first, first + len(part))):
                states[starts[place] : starts[place + 1]] = unit(last[row, prefix : lengths[row] - 1]).bfloat16()
            first += len(part)
            bar.update(len(part))
    return Encoded({number: place for place, number in enumerate(numbers)}, means, states, starts)


@torch.inference_mode()
def add_pools(
    lists: Lists,
    model: MultilingualCrossEncoder,
    texts: Texts,
    template: Template,
    queries: list[ParagraphQuery],
    corpora: dict[str, list[int]],
) -> None:
    """A list for every query: what is relevant, then the best `POOL` of the others by the base's cosine."""
    asked = {query.text: template.single(texts.ids(query.text, QUERY_TOKENS), query=True) for query in queries}
    answered = {
        n: template.single(texts.ids(n, PASSAGE_TOKENS), query=False) for part in corpora.values() for n in part
    }
    first = encode(model, asked, len(template.query), "queries")
    second = encode(model, answered, len(template.passage), "passages")
    vectors = {name: second.means[[second.place[n] for n in part]] for name, part in corpora.items()}
    for query in tqdm(queries, desc="pools", mininterval=20):
        corpus = corpora[query.corpus]
        cosines = vectors[query.corpus] @ first.means[first.place[query.text]]
        order = cosines.argsort(descending=True).tolist()
        negatives = [place for place in order if corpus[place] not in query.relevant][:POOL]
        places = [corpus.index(number) for number in query.relevant] + negatives
        tokens = first.of(query.text)
        maxsim = [float((tokens @ second.of(corpus[place]).T).amax(1).float().mean()) for place in places]
        teacher = SCALE * (cosines[places].numpy() + np.array(maxsim, dtype=np.float32))
        numbers = [corpus[place] for place in negatives]
        lists.add(RankingList(query.set, query.language, query.text, query.relevant, numbers, teacher), query.group)
