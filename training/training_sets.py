"""The judged queries that rerank-mini-en learns from: three sets as one dataset, with a part of each held out."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from late_interaction import LateInteractionCrossEncoder
from matching import Tokens, unit
from minilm import minilm_folder
from rerank_plugins.retrieval import Collection, read_collection
from token_states import PairBatch, TokenStates, load_tokenizer, matched_tokens, pair_batch, states_of

SETS = ("train/nq-qed", "squad-dev-en", "train/medquad")
POOL = 50  # of the bi-encoder's own ranking: what the model will be given
DEVELOPMENT_QUERIES = 150  # a set
SEED = 7


@dataclass(frozen=True)
class Query:
    """Positions in the dataset: of the query, of its candidates, best first, and of what is relevant, with grades."""

    set: str
    query: int
    pool: list[int]
    relevant: dict[int, int]


@dataclass(frozen=True)
class TrainingDataset:
    """Frozen states of all texts, and the queries to learn from and to look at."""

    queries: TokenStates
    passages: TokenStates
    words: Tensor
    training: list[Query]
    development: list[Query]

    def batch(self, pairs: list[tuple[int, int]]) -> PairBatch:
        return pair_batch(self.queries, self.passages, pairs, self.words)

    def tokens(self, pairs: list[tuple[int, int]]) -> tuple[Tokens, Tokens]:
        return matched_tokens(self.queries, self.passages, pairs, self.words)


def training_collection(data: Path, name: str) -> Collection:
    """One set; only judged passages are used, as squad-dev-en's corpus holds the test articles too."""
    found = read_collection(data / name, "train")
    judged = {passage for grades in found.qrels.values() for passage in grades}
    passages = {passage: text for passage, text in found.passages.items() if passage in judged}
    queries = {query: text for query, text in found.queries.items() if query in found.qrels}
    return Collection(name, passages, queries, found.qrels)


def prepare(data: Path, work: Path, model: LateInteractionCrossEncoder) -> TrainingDataset:
    """Everything that training reads; states are computed once and kept in ``work``."""
    collections = [training_collection(data, name) for name in SETS]
    tokenizer = load_tokenizer(minilm_folder())
    queries = states_of(model, tokenizer, _texts(c.queries for c in collections), work / "queries", queries=True)
    passages = states_of(model, tokenizer, _texts(c.passages for c in collections), work / "passages", queries=False)
    model.head.matching.idf.copy_(inverse_document_frequencies(tokenizer, _texts(c.passages for c in collections)))
    training: list[Query] = []
    development: list[Query] = []
    first_query = first_passage = 0
    for collection in collections:
        ranked = with_candidates(collection, queries, passages, first_query, first_passage)
        asked = dict(zip(collection.queries, ranked, strict=True))
        held_out = _held_out(collection)
        training += [query for name, query in asked.items() if query.relevant and name not in held_out]
        sample = random.Random(SEED).sample(held_out, min(DEVELOPMENT_QUERIES, len(held_out)))
        development += [asked[name] for name in sample if asked[name].relevant]
        first_query += len(collection.queries)
        first_passage += len(collection.passages)
    words = unit(model.words.weight.detach() - model.words_mean)
    return TrainingDataset(queries, passages, words, training, development)


def _texts(parts: Iterable[dict[str, str]]) -> list[str]:
    return [text for part in parts for text in part.values()]


def inverse_document_frequencies(tokenizer: Tokenizer, texts: list[str]) -> Tensor:
    """BM25's, by token id, over ``texts``; 0 for the tokens that every text has."""
    counts = np.zeros(tokenizer.get_vocab_size())
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        counts[np.unique(encoding.ids)] += 1
    idf = np.log(1 + (len(texts) - counts + 0.5) / (counts + 0.5))
    for special in ("[PAD]", "[CLS]", "[SEP]"):
        idf[tokenizer.token_to_id(special)] = 0.0
    return torch.from_numpy(idf).float()


def with_candidates(
    collection: Collection, queries: TokenStates, passages: TokenStates, first_query: int, first_passage: int
) -> list[Query]:
    """Every query with its top `POOL`; the collection's texts begin at ``first_query`` and ``first_passage``."""
    position = {name: first_passage + number for number, name in enumerate(collection.passages)}
    asked = queries.means[first_query : first_query + len(collection.queries)]
    vectors = passages.means[first_passage : first_passage + len(collection.passages)]
    pools = [row for part in asked.split(512) for row in (part @ vectors.T).topk(POOL, dim=1).indices.tolist()]
    return [
        Query(
            collection.name,
            first_query + number,
            [first_passage + row for row in pools[number]],
            {position[p]: grade for p, grade in collection.qrels[name].items() if grade > 0 and p in position},
        )
        for number, name in enumerate(collection.queries)
    ]


def _held_out(collection: Collection) -> list[str]:
    """The queries of whole titles (an article, a disease): nothing about them is learned from."""
    by_title: dict[str, list[str]] = {}
    for query, grades in collection.qrels.items():
        title = next((collection.passages[p].partition(". ")[0] for p in grades if p in collection.passages), "")
        by_title.setdefault(title, []).append(query)
    chosen: list[str] = []
    for title in random.Random(SEED).sample(sorted(by_title), len(by_title)):
        if len(chosen) >= DEVELOPMENT_QUERIES:
            break
        chosen += by_title[title]
    return chosen
