"""Many test queries of the collections, in fp32, from frozen states: minutes instead of hours, and closer intervals.

Passages are cut as in training, to 224 tokens, and candidates are the bi-encoder's top 50 over them; so these numbers
are of the weights, and those of measure.py, of samples, are of the model as it is shipped.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import load_file
from torch import Tensor

from late_interaction import LateInteractionCrossEncoder
from matching import unit
from measure import COLLECTIONS, EXAMPLE, SEED
from minilm import minilm_folder
from rerank_plugins.evaluation.queries import sample_queries
from rerank_plugins.evaluation.significance import interval, p_value
from rerank_plugins.retrieval import Collection, example_collection, read_collection
from token_states import load_tokenizer, states_of
from train_reranker import ndcg, scores, signals
from training_sets import TrainingDataset, with_candidates

MOST = 600  # queries a collection, but of WHOLE
WHOLE = ("nq-qed",)  # all there are, as a small gain shows in many queries only
WAYS = ("before", "signals", "reranked")


def build_dataset(collection: Collection, model: LateInteractionCrossEncoder, work: Path) -> TrainingDataset:
    """The test queries as if they were held out."""
    tokenizer = load_tokenizer(minilm_folder())
    part = sample_queries(collection, None if collection.name in WHOLE else MOST, SEED)
    judged = {query: collection.queries[query] for query in part.qrels}
    part = Collection(collection.name, collection.passages, judged, part.qrels)
    queries = states_of(model, tokenizer, judged.values(), work / "queries", queries=True)
    passages = states_of(model, tokenizer, collection.passages.values(), work / "passages", queries=False)
    asked = [query for query in with_candidates(part, queries, passages, 0, 0) if query.relevant]
    return TrainingDataset(queries, passages, unit(model.words.weight.detach() - model.words_mean), [], asked)


@torch.inference_mode()
def compute_ndcg(model: LateInteractionCrossEncoder, dataset: TrainingDataset) -> dict[str, list[float]]:
    """nDCG@10 of every query: as the bi-encoder has it, by the matching signals alone, and reranked."""
    rows: dict[str, list[Tensor]] = {way: [] for way in WAYS}
    for query in dataset.development:
        pairs = [(query.query, passage) for passage in query.pool]
        rows["before"].append(torch.zeros(len(pairs)))  # equal scores keep the order there is
        rows["signals"].append(signals(model, dataset, pairs) @ model.head.signal_weights)
        rows["reranked"].append(scores(model, dataset, pairs))
    return {way: ndcg(dataset.development, of_way) for way, of_way in rows.items()}


def summary(folder: Path, states: Path, model: LateInteractionCrossEncoder) -> dict[str, object]:
    found = compute_ndcg(model, build_dataset(read_collection(folder, "test"), model, states))
    differences = [after - before for before, after in zip(found["before"], found["reranked"], strict=True)]
    change = interval(differences, SEED)
    means = {way: fmean(values) for way, values in found.items()}
    told = {"queries": len(differences), **means, "p": p_value(differences, SEED)}
    return {**told, "gain": [change.mean, change.low, change.high]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="model.safetensors of train_reranker.py")
    parser.add_argument("--states", type=Path, required=True, help="where frozen states are written")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file")
    args = parser.parse_args()
    model = LateInteractionCrossEncoder()
    model.load_state_dict(load_file(args.weights))
    unfinished = args.out.with_suffix(".part")
    told = json.loads(unfinished.read_text(encoding="utf-8")) if unfinished.exists() else {}
    folders = {EXAMPLE: example_collection("english"), **{name: args.data / name for name in COLLECTIONS}}
    for name in sorted(folders.keys() - told.keys(), key=lambda name: (folders[name] / "corpus.jsonl").stat().st_size):
        told[name] = summary(folders[name], args.states / name, model.eval())
        print(name, json.dumps(told[name]), flush=True)
        unfinished.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(args.out)


if __name__ == "__main__":
    main()
