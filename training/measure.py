"""Measure the models in the box: first stages before and after reranking, and int8 against fp32.

One JSON file a collection, so that a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from pathlib import Path

import ir_measures
from ir_measures import RR, nDCG
from tqdm import tqdm

from beir import Collection, read_collection
from candidates import top_candidates
from encoders import minilm_encoder, static_encoder
from rerank_plugins import Reranker, load_reranker

# Queries of each collection, a seeded sample where it has more: what two cores do in a quarter of an hour.
COLLECTIONS = {"nq-qed": 160, "squad-dev-en": 60, "medquad-test": 40, "cisi": 30, "cacm": 30, "med": 30}
# Of these, how many are scored in fp32 as well, which takes several times as long.
FIDELITY_QUERIES = 10
DEPTH = 50
SEED = 5

Run = dict[str, dict[str, float]]


def sampled(collection: Collection, most: int | None) -> Collection:
    names = sorted(collection.queries)
    if most is not None and len(names) > most:
        names = sorted(random.Random(SEED).sample(names, most))
    queries = {name: collection.queries[name] for name in names}
    return Collection(collection.name, collection.passages, queries, {name: collection.qrels[name] for name in names})


def measured(collection: Collection, run: Run) -> dict[str, float]:
    qrels = [ir_measures.Qrel(q, p, s) for q, judged in collection.qrels.items() for p, s in judged.items()]
    scored = [ir_measures.ScoredDoc(q, p, s) for q, passages in run.items() for p, s in passages.items()]
    values = ir_measures.calc_aggregate([nDCG @ 10, RR @ 10], qrels, scored)
    return {"nDCG@10": round(values[nDCG @ 10], 4), "MRR@10": round(values[RR @ 10], 4)}


def recall(collection: Collection, candidates: dict[str, list[str]]) -> float:
    shares = []
    for query, judged in collection.qrels.items():
        relevant = {passage for passage, score in judged.items() if score > 0}
        if relevant:
            shares.append(len(relevant & set(candidates[query])) / len(relevant))
    return round(sum(shares) / len(shares), 4)


def scores(reranker: Reranker, collection: Collection, union: dict[str, list[str]], label: str) -> Run:
    run: Run = {}
    for query, passages in tqdm(union.items(), desc=label, mininterval=10):
        texts = [collection.passages[passage] for passage in passages]
        ranked = reranker.rerank(collection.queries[query], texts)
        run[query] = {passages[result.index]: result.score for result in ranked}
    return run


def report(collection: Collection, embedder: Path, int8: Reranker, full: Reranker) -> dict[str, object]:
    stages = {
        name: top_candidates(encode, collection.queries, collection.passages, DEPTH)
        for name, encode in (("embed-static-en", static_encoder(embedder)), ("all-MiniLM-L6-v2", minilm_encoder()))
    }
    union = {q: list(dict.fromkeys(p for stage in stages.values() for p in stage[q])) for q in collection.queries}
    rows: dict[str, object] = {"queries": len(collection.queries), "passages": len(collection.passages)}
    began = time.perf_counter()
    run = scores(int8, collection, union, f"{collection.name} int8")
    pairs = sum(len(passages) for passages in union.values())
    print(f"{collection.name}: {pairs / (time.perf_counter() - began):.0f} pairs/s", flush=True)
    for name, candidates in stages.items():
        before = {q: {p: -float(place) for place, p in enumerate(found)} for q, found in candidates.items()}
        after = {q: {p: run[q][p] for p in found} for q, found in candidates.items()}
        rows[name] = {
            "recall@50": recall(collection, candidates),
            "before": measured(collection, before),
            "after": measured(collection, after),
        }
    rows["fidelity"] = fidelity(collection, stages["embed-static-en"], run, full)
    return rows


def fidelity(collection: Collection, candidates: dict[str, list[str]], run: Run, full: Reranker) -> dict[str, object]:
    """The same few queries over the static embedder's top 50, in int8 and in fp32."""
    part = sampled(collection, FIDELITY_QUERIES)
    few = {q: candidates[q] for q in part.queries}
    exact = scores(full, part, few, f"{collection.name} fp32")
    int8 = {q: {p: run[q][p] for p in found} for q, found in few.items()}
    return {"queries": len(few), "int8": measured(part, int8), "fp32": measured(part, exact)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--full", type=Path, required=True, help="the fp32 folder of export_reranker.py")
    parser.add_argument("--int8", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files")
    parser.add_argument("--most", type=int, help="queries a collection at most, for a quick look")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    int8, full = load_reranker(args.int8), load_reranker(args.full, precision="fp32")
    for name, most in COLLECTIONS.items():
        target = args.out / f"{name}.json"
        if target.exists():
            continue
        limits = [limit for limit in (most, args.most) if limit is not None]
        collection = sampled(read_collection(args.data / name, "test"), min(limits, default=None))
        result = report(collection, args.embedder, int8, full)
        target.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
