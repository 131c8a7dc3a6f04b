"""Measure the bundled models as they are shipped: over the static embedder, and int8 beside fp32.

By `rerank_plugins.evaluation`, on seeded samples. One JSON file a collection, and every score is kept as it
comes, so that a run that was stopped resumes where it was.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import fmean

from rerank_plugins import load_reranker
from rerank_plugins.evaluation import Evaluation, evaluate
from rerank_plugins.evaluation.results import Ranking
from rerank_plugins.retrieval import example_collection

COLLECTIONS = (
    *("nq-qed", "squad-dev-en", "medquad-test", "cisi", "cacm", "med"),
    *("musique-small", "hotpotqa-small"),
)
# Test queries of each, a seeded sample; and how many are scored in fp32 as well, of each and of this project's own.
QUERIES, FIDELITY, OF_EXAMPLE = 20, 25, 132
TOP_K, TOP_K_OF_FIDELITY = 50, 20  # with fewer candidates, more of what int8 swaps is in the first ten
EXAMPLE = "example"
SEED = 5


def means(ranking: Ranking) -> dict[str, float]:
    return {name: interval.mean for name, interval in ranking.means.items()}


def short(evaluation: Evaluation) -> dict[str, object]:
    """What the cards tell of one evaluation."""
    by_int8 = evaluation.rerankers[0]
    return {
        "queries": evaluation.queries,
        "recall": evaluation.recall,  # of the first stage, in the candidates asked for
        "before": means(evaluation.before),
        "after": [means(one.ranking) for one in evaluation.rerankers],
        "gain": [by_int8.difference.mean, by_int8.difference.low, by_int8.difference.high],
        "p": by_int8.p_value,
        "better": by_int8.better,
        "worse": by_int8.worse,
        "seconds": fmean(by_int8.seconds.values()),
        "machine": evaluation.machine,
        "int8_less_fp32": differences(evaluation),
    }


def differences(evaluation: Evaluation) -> list[float]:
    """nDCG@10 by int8 less that by fp32, a query each; empty where fp32 was not asked."""
    if len(evaluation.rerankers) == 1:
        return []
    by_int8, by_fp32 = (one.ranking.per_query["nDCG@10"] for one in evaluation.rerankers)
    return [by_int8[query] - by_fp32[query] for query in by_int8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, required=True)
    parser.add_argument("--full", type=Path, required=True, help="the fp32 folder of export_reranker.py")
    parser.add_argument("--int8", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder of the JSON files and the scores")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    int8, full = load_reranker(args.int8), load_reranker(args.full, precision="fp32")
    jobs = [(f"{name}-static", name, [int8], QUERIES, TOP_K) for name in COLLECTIONS]
    jobs += [(f"{name}-fidelity", name, [int8, full], FIDELITY, TOP_K_OF_FIDELITY) for name in COLLECTIONS]
    jobs.append((f"{EXAMPLE}-fidelity", EXAMPLE, [int8, full], OF_EXAMPLE, TOP_K))
    for label, name, models, most, top_k in jobs:
        target = args.out / f"{label}.json"
        if target.exists():
            continue
        kept = args.out / "scores" / label
        evaluation = evaluate(
            example_collection("english") if name == EXAMPLE else args.data / name,
            models,
            embedder=str(args.embedder),
            split="test",
            top_k=top_k,
            queries=most,
            seed=SEED,
            work_folder=kept,
            progress=True,
        )
        target.write_text(json.dumps(short(evaluation), indent=2) + "\n", encoding="utf-8")
        print(label, json.dumps(short(evaluation)), flush=True)


if __name__ == "__main__":
    main()
