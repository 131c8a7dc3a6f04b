"""What the smaller vocabulary changes, and how the static embedder retrieves beside embed-static-en."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean

from tokenizers import Tokenizer

from lists import read_gzip
from rerank_plugins.evaluation.metrics import compute_metrics
from rerank_plugins.evaluation.queries import JudgedQuery, sample_queries
from rerank_plugins.retrieval import Collection, load_embedder
from rerank_plugins.retrieval.first_stage import retrieve

BUNDLED = "embed-static-en"
EMBEDDED = ("example-chinese", "cmrc2018-dev", "drcd-test", "example-english", "nq-qed", "cisi", "cacm", "med")
EMBEDDED_QUERIES, TOP_K = 300, 50
# Collections by language; for Korean, French and Portuguese there are training lists only.
READ = ("cmrc2018-dev", "drcd-test", "xquad-en", "jaquad-dev", "squad-it")
READ += tuple(f"xquad-{language}" for language in ("de", "es", "ru", "ar", "tr", "vi", "ro"))
READ_LISTS = {"tydiqa-sent, Korean": "ko", "afriqa-sent, French": "fr", "faquad-sent, Portuguese": "pt"}
SEED = 5


def measure_lost_tokens(
    data: Path, load: dict[str, Collection], full: Tokenizer, pruned: Tokenizer
) -> dict[str, float]:
    """The share of each collection's tokens that the smaller vocabulary does not have."""
    kept = set(pruned.get_vocab())
    shares = {name: _share(_texts(collection), full, kept) for name, collection in load.items()}
    for label, language in READ_LISTS.items():
        path = data / "train" / label.partition(",")[0] / "pairs.jsonl.gz"
        records = [record for record in read_gzip(path) if record["lang"] == language]
        shares[label] = _share((text for r in records for text in (r["query"], *r["positives"])), full, kept)
    return shares


def _texts(collection: Collection) -> Iterator[str]:
    yield from collection.passages.values()
    yield from collection.queries.values()


def _share(texts: Iterable[str], full: Tokenizer, kept: set[str]) -> float:
    tokens = [token for e in full.encode_batch(list(texts), add_special_tokens=False) for token in e.tokens]
    return fmean(token not in kept for token in tokens)


def measure_embedder(collection: Collection, names: Iterable[str]) -> list[object]:
    """Queries; then recall@50 and nDCG@10, each of every embedder in ``names``."""
    part = sample_queries(collection, EMBEDDED_QUERIES, SEED)
    by_name = [_retrieval(part, name) for name in names]
    return [len(part.qrels), *(found["R@50"] for found in by_name), *(found["nDCG@10"] for found in by_name)]


def _retrieval(collection: Collection, embedder: str) -> dict[str, float]:
    found = retrieve(collection, load_embedder(embedder), name=embedder, fetch_k=TOP_K).candidates
    queries = [
        JudgedQuery(query, collection.queries[query], [p for p, _ in row], [], collection.qrels[query], "")
        for query, row in found.items()
    ]
    values = compute_metrics(queries, [range(len(query.candidates)) for query in queries], ["R@50", "nDCG@10"])
    return {name: fmean(per_query.values()) for name, per_query in values.items()}


def load_pruned(folder: Path) -> Tokenizer:
    """The bundled tokenizer, without its template."""
    described = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return Tokenizer.from_str(json.dumps(described | {"post_processor": None}))
