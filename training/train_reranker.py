"""Fine-tune the upper layers and the head of the late-interaction cross-encoder on judged queries.

Lists of one relevant passage and ``CANDIDATES - 1`` hard negatives, drawn anew for every step from the
top of two first stages; listwise cross-entropy. Afterwards the share of the untrained encoder's cosine in
the score, and the line from scores to log-odds, are chosen on the held-out queries. Writes a checkpoint
every few minutes and continues from it; the log has a line a checkpoint with nDCG@10 on held-out training
queries.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from beir import Collection, read_collection
from candidates import top_candidates
from encoders import minilm_encoder, minilm_folder, static_encoder
from late_interaction import SEPARATE, LateInteractionCrossEncoder, from_minilm
from states import States, encoded, encoder_cosine, join, load_tokenizer, passage_ids, query_ids

CANDIDATES = 8
QUERIES_A_STEP = 8
LAYER_RATE, HEAD_RATE = 6e-5, 1e-2
ENCODER_WEIGHTS = (0.0, 10.0, 20.0, 40.0, 60.0, 80.0)
WARMUP = 0.05
DEVELOPMENT_QUERIES = 200
SEED = 7


Row = tuple[str, str, float, bool]
"""Query, passage, score, relevant."""


@dataclass(frozen=True)
class Material:
    """What training reads: frozen states by id, and for each query its positives and hard pool."""

    queries: dict[str, States]
    passages: dict[str, States]
    relevant: dict[str, set[str]]
    pools: dict[str, dict[str, list[str]]]
    training: list[str]
    development: list[str]


def merged(data: Path) -> Collection:
    """nq-qed train and squad-dev-en's training articles as one collection, ids prefixed by set."""
    passages: dict[str, str] = {}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, int]] = {}
    for name in ("train/nq-qed", "squad-dev-en"):
        part = read_collection(data / name, "train")
        # squad-dev-en's corpus holds the test articles too: only judged passages are used.
        used = {passage for judged in part.qrels.values() for passage in judged}
        passages |= {f"{name}:{p}": part.passages[p] for p in part.passages if p in used}
        queries |= {f"{name}:{q}": text for q, text in part.queries.items()}
        qrels |= {f"{name}:{q}": {f"{name}:{p}": s for p, s in judged.items()} for q, judged in part.qrels.items()}
    return Collection("train", passages, queries, qrels)


def prepare(data: Path, embedder: Path, model: LateInteractionCrossEncoder) -> Material:
    collection = merged(data)
    pools = {
        "dense": top_candidates(minilm_encoder(), collection.queries, collection.passages, 50),
        "static": top_candidates(static_encoder(embedder), collection.queries, collection.passages, 50),
    }
    tokenizer = load_tokenizer(minilm_folder())
    queries = encoded(model, query_ids(tokenizer, collection.queries.values()))
    passages = encoded(model, passage_ids(tokenizer, collection.passages.values()))
    order = sorted(collection.queries)
    random.Random(SEED).shuffle(order)
    return Material(
        queries=dict(zip(collection.queries, queries, strict=True)),
        passages=dict(zip(collection.passages, passages, strict=True)),
        relevant={q: {p for p, s in judged.items() if s > 0} for q, judged in collection.qrels.items()},
        pools=pools,
        training=order[DEVELOPMENT_QUERIES:],
        development=order[:DEVELOPMENT_QUERIES],
    )


def draw(material: Material, query: str, chance: random.Random) -> list[str]:
    """One relevant passage, then hard negatives: five dense, two static (fewer where they meet)."""
    relevant = material.relevant[query]
    chosen = [chance.choice(sorted(relevant))]
    for pool, depth, count in (("dense", 30, 5), ("static", 50, 2)):
        hard = [p for p in material.pools[pool][query][:depth] if p not in relevant and p not in chosen]
        chosen += chance.sample(hard, min(count, len(hard)))
    return chosen[:CANDIDATES]


def score(model: LateInteractionCrossEncoder, material: Material, pairs: list[tuple[str, str]]) -> Tensor:
    states, mask, segments = join(
        [material.queries[q].lower for q, _ in pairs], [material.passages[p].lower for _, p in pairs]
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        return model.upper(states, mask, segments).float()


@torch.inference_mode()
def development_scores(model: LateInteractionCrossEncoder, material: Material) -> list[Row]:
    """(query, passage, score, relevant) over the dense top 30 of the held-out queries."""
    model.eval()
    pairs = [(q, p) for q in material.development for p in material.pools["dense"][q][:30]]
    pairs.sort(key=lambda pair: len(material.passages[pair[1]].lower))
    rows = []
    for start in range(0, len(pairs), 64):
        batch = pairs[start : start + 64]
        scores = score(model, material, batch).tolist()
        rows += [(q, p, s, p in material.relevant[q]) for (q, p), s in zip(batch, scores, strict=True)]
    model.train()
    return rows


def mean_ndcg(rows: list[Row]) -> float:
    """nDCG@10 with one relevant passage a query, which is what both training sets have."""
    by_query: dict[str, list[tuple[float, bool]]] = {}
    for query, _, value, relevant in rows:
        by_query.setdefault(query, []).append((value, relevant))
    total = 0.0
    for ranked in by_query.values():
        ranked.sort(key=lambda item: -item[0])
        places = [place for place, (_, relevant) in enumerate(ranked[:10]) if relevant]
        total += 1.0 / math.log2(places[0] + 2) if places else 0.0
    return total / len(by_query)


def mixed(rows: list[Row], material: Material, weight: float) -> list[Row]:
    """The rows with ``weight`` times the untrained encoder's cosine added to every score."""
    return [
        (q, p, value + weight * float(encoder_cosine(material.queries[q].final, material.passages[p].final)), relevant)
        for q, p, value, relevant in rows
    ]


def best_encoder_weight(out: Path, rows: list[Row], material: Material) -> float:
    """The weight with the best nDCG@10 on the held-out queries; every one tried goes to ``mix.json``."""
    tried = {weight: round(mean_ndcg(mixed(rows, material, weight)), 4) for weight in ENCODER_WEIGHTS}
    (out / "mix.json").write_text(json.dumps(tried, indent=2) + "\n", encoding="utf-8")
    print(f"encoder weight: {tried}", flush=True)
    return max(tried, key=lambda weight: tried[weight])


def fit_log_odds(rows: list[Row]) -> tuple[float, float]:
    """Slope and offset by logistic regression, both classes weighing the same."""
    values = torch.tensor([value for _, _, value, _ in rows])
    labels = torch.tensor([float(relevant) for *_, relevant in rows])
    weights = torch.where(labels > 0, 0.5 / labels.sum(), 0.5 / (1 - labels).sum())
    middle, spread = values.mean(), values.std()
    line = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([line], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = line[0] * (values - middle) / spread + line[1]
        value = (weights * functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")).sum()
        value.backward()
        return value

    optimizer.step(loss)
    fitted = line.detach()
    slope = float(fitted[0] / spread)
    return slope, float(fitted[1]) - slope * float(middle)


def train(material: Material, model: LateInteractionCrossEncoder, out: Path, epochs: float) -> None:
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    upper = [p for layer in list(model.layers)[SEPARATE:] for p in layer.parameters()]
    head = list(model.head.parameters())
    for parameter in (*upper, *head):
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(
        [{"params": upper, "lr": LAYER_RATE}, {"params": head, "lr": HEAD_RATE}], weight_decay=0.01
    )
    steps = int(epochs * len(material.training) / QUERIES_A_STEP)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / steps))
    checkpoint = out / "checkpoint.pt"
    first = 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"], strict=False)  # the rest of the model never changes
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["step"]
    else:
        record(out, 0, steps, mean_ndcg(development_scores(model, material)), math.nan)
    saved_at, losses = time.monotonic(), []
    for step in range(first, steps):
        losses.append(one_step(material, model, optimizer, step))
        schedule.step()
        if time.monotonic() - saved_at > 360 or step + 1 == steps:
            record(out, step + 1, steps, mean_ndcg(development_scores(model, material)), sum(losses) / len(losses))
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "schedule": schedule.state_dict(), "step": step + 1}, out / "checkpoint.tmp")
            (out / "checkpoint.tmp").replace(checkpoint)
            saved_at, losses = time.monotonic(), []


def rate(done: float) -> float:
    """Linear warm-up, then linear to zero."""
    return done / WARMUP if done < WARMUP else (1 - done) / (1 - WARMUP)


def one_step(
    material: Material, model: LateInteractionCrossEncoder, optimizer: torch.optim.Optimizer, step: int
) -> float:
    # Seeded by the step, so that a run continued from a checkpoint draws what it would have drawn.
    chance = random.Random(f"{SEED}/{step}")
    epoch, place = divmod(step * QUERIES_A_STEP, len(material.training))
    order = list(material.training)
    random.Random(f"{SEED}/epoch/{epoch}").shuffle(order)
    lists = [[(q, p) for p in draw(material, q, chance)] for q in order[place : place + QUERIES_A_STEP]]
    scores = score(model, material, [pair for pairs in lists for pair in pairs])
    per_list = torch.split(scores, [len(pairs) for pairs in lists])
    first = torch.zeros(1, dtype=torch.long)
    loss = torch.stack([functional.cross_entropy(row[None], first) for row in per_list])
    optimizer.zero_grad(set_to_none=True)
    loss.mean().backward()
    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    return float(loss.detach().mean())


def record(out: Path, step: int, steps: int, quality: float, loss: float) -> None:
    line = {"step": step, "of": steps, "development_ndcg@10": round(quality, 4), "loss": round(loss, 4)}
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "time": time.strftime("%H:%M:%S")}) + "\n")
    print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--embedder", type=Path, required=True, help="the folder of embed-static-en")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=float, default=1.5)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    model = from_minilm(minilm_folder())
    material = prepare(args.data, args.embedder, model.eval())
    began = time.monotonic()
    train(material, model.train(), args.out, args.epochs)
    rows = development_scores(model, material)
    weight = best_encoder_weight(args.out, rows, material)
    slope, offset = fit_log_odds(mixed(rows, material, weight))
    for name, value in (("encoder_weight", weight), ("slope", slope), ("offset", offset)):
        getattr(model, name).fill_(value)
    save_file(model.state_dict(), args.out / "model.safetensors")
    print(f"slope {slope:.4f}, offset {offset:.4f}, {time.monotonic() - began:.0f} s in this sitting")


if __name__ == "__main__":
    main()
