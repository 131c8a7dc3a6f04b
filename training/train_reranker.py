"""Train the query layers and the head of rerank-mini-en on judged queries, from a score that is good before.

The weights of the matching signals are fitted first (listwise, convex, a minute), and stay. Then lists of one relevant
passage and hard negatives of the bi-encoder's top 50, sampled anew for every step; listwise cross-entropy against the
labels, and, with ``--soft``, against the signals' own scores too. At the end the line from scores to log-odds of
relevance is fitted on the held-out queries. A checkpoint every few minutes, from which the same command resumes; the
log has a line a checkpoint, with nDCG@10 on held-out queries of each set.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from late_interaction import LateInteractionCrossEncoder, from_minilm
from matching import SIGNALS
from minilm import minilm_folder
from rerank_plugins.evaluation.metrics import compute_metrics
from rerank_plugins.evaluation.queries import JudgedQuery
from training_sets import POOL, SEED, SETS, Query, TrainingDataset, prepare

LIST_SIZE = 12
HARDEST, FROM_HARDEST = 20, 8  # so many negatives from the top 20, the others from the rest of the pool
QUERIES_A_STEP = 12
LAYER_RATE, HEAD_RATE, WEIGHT_RATE = 4e-5, 5e-4, 2e-3
WARMUP = 0.05
CHUNK = 32  # pairs of like length computed together
START_QUERIES = 150  # a set, for the weights of the signals
# Those three sets alone would give the words all the weight and the sense none: shrunk towards one weight for all.
RIDGE, EQUAL = 0.1, 0.7
MOST_OF_A_SET = 6000  # sets are sampled in proportion to their queries, but no more than this
CHECKPOINT_SECONDS = 300


def scores(model: LateInteractionCrossEncoder, dataset: TrainingDataset, pairs: list[tuple[int, int]]) -> Tensor:
    """Of each pair, in the order given; before slope and offset."""

    def compute(part: list[tuple[int, int]]) -> Tensor:
        batch = dataset.batch(part)
        read = model.reading(batch.lower, batch.query.mask, batch.passage.mask, batch.keys_values)
        return model.head(read, batch.query, batch.passage)

    return _by_chunks(dataset, pairs, compute)


def signals(model: LateInteractionCrossEncoder, dataset: TrainingDataset, pairs: list[tuple[int, int]]) -> Tensor:
    """[pairs, signals], standardized as the model has it at the time."""
    return _by_chunks(dataset, pairs, lambda part: model.head.matching(*dataset.tokens(part)).signals)


def _by_chunks(
    dataset: TrainingDataset, pairs: list[tuple[int, int]], compute: Callable[[list[tuple[int, int]]], Tensor]
) -> Tensor:
    order = sorted(range(len(pairs)), key=lambda number: int(dataset.passages.lengths[pairs[number][1]]))
    parts = [
        compute([pairs[number] for number in order[start : start + CHUNK]]) for start in range(0, len(order), CHUNK)
    ]
    place = torch.empty(len(order), dtype=torch.long)
    place[torch.tensor(order)] = torch.arange(len(order))
    return torch.cat(parts)[place]


def fit_signals(model: LateInteractionCrossEncoder, dataset: TrainingDataset) -> None:
    """Standardize the signals, and weigh them: listwise ridge regression on ``START_QUERIES`` of each set."""
    chance = random.Random(SEED)
    asked = [q for name in SETS for q in chance.sample(_of(dataset.training, name), START_QUERIES)]
    asked = [query for query in asked if query.relevant.keys() & set(query.pool)]
    with torch.no_grad():
        raw = signals(model, dataset, [(query.query, p) for query in asked for p in query.pool])
    matching = model.head.matching
    matching.middle.copy_(raw.mean(0))
    matching.spread.copy_(raw.std(0))
    lists = ((raw - matching.middle) / matching.spread).view(len(asked), POOL, len(SIGNALS))
    labels = torch.tensor([[float(p in query.relevant) for p in query.pool] for query in asked])
    labels /= labels.sum(1, keepdim=True)
    weights = torch.zeros(len(SIGNALS), requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = functional.cross_entropy(lists @ weights, labels) + RIDGE * (weights - EQUAL).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    model.head.signal_weights.data.copy_(weights.detach())


def _of(queries: list[Query], name: str) -> list[Query]:
    return [query for query in queries if query.set == name]


def draw(query: Query, chance: random.Random) -> list[int]:
    """One relevant passage, then hard negatives."""
    negatives = [passage for passage in query.pool if passage not in query.relevant]
    hardest, rest = negatives[:HARDEST], negatives[HARDEST:]
    chosen = chance.sample(hardest, min(FROM_HARDEST, len(hardest)))
    chosen += chance.sample(rest, min(LIST_SIZE - 1 - len(chosen), len(rest)))
    return [chance.choice(sorted(query.relevant)), *chosen]


def step_queries(dataset: TrainingDataset, step: int) -> tuple[list[Query], random.Random]:
    """Seeded by the step, so that a run continued from a checkpoint samples what it would have sampled."""
    chance = random.Random(f"{SEED}/{step}")
    by_set = [_of(dataset.training, name) for name in SETS]
    chosen = chance.choices(by_set, [min(len(part), MOST_OF_A_SET) for part in by_set], k=QUERIES_A_STEP)
    return [chance.choice(part) for part in chosen], chance


def step_loss(model: LateInteractionCrossEncoder, dataset: TrainingDataset, step: int, soft: float) -> Tensor:
    asked, chance = step_queries(dataset, step)
    lists = [[(query.query, passage) for passage in draw(query, chance)] for query in asked]
    pairs = [pair for one in lists for pair in one]
    sizes = [len(one) for one in lists]
    found = torch.split(scores(model, dataset, pairs), sizes)
    loss = torch.stack([-torch.log_softmax(row, 0)[0] for row in found]).mean()
    if not soft:
        return loss
    with torch.no_grad():
        targets = torch.split(signals(model, dataset, pairs) @ model.head.signal_weights, sizes)
    softly = [-(teacher.softmax(0) * row.log_softmax(0)).sum() for teacher, row in zip(targets, found, strict=True)]
    return (1 - soft) * loss + soft * torch.stack(softly).mean()


@torch.inference_mode()
def development(model: LateInteractionCrossEncoder, dataset: TrainingDataset) -> dict[str, float]:
    """nDCG@10 over the pool of the held-out queries, by set."""
    model.eval()
    found = scores(model, dataset, [(query.query, p) for query in dataset.development for p in query.pool])
    quality: dict[str, list[float]] = {name: [] for name in SETS}
    values = ndcg(dataset.development, found.view(-1, POOL))
    for query, value in zip(dataset.development, values, strict=True):
        quality[query.set].append(value)
    model.train()
    return {name: round(fmean(values), 4) for name, values in quality.items()}


def ndcg(queries: Sequence[Query], rows: Sequence[Tensor]) -> list[float]:
    """nDCG@10 of each query, as an evaluation measures it; ``rows`` are the scores of its pool."""
    asked = [
        JudgedQuery(str(number), "", list(map(str, query.pool)), [], _by_name(query.relevant), "")
        for number, query in enumerate(queries)
    ]
    orders = [row.argsort(descending=True, stable=True).tolist() for row in rows]
    return list(compute_metrics(asked, orders, ["nDCG@10"])["nDCG@10"].values())


def _by_name(grades: dict[int, int]) -> dict[str, int]:
    return {str(passage): grade for passage, grade in grades.items()}


def train(model: LateInteractionCrossEncoder, dataset: TrainingDataset, out: Path, steps: int, soft: float) -> None:
    model.requires_grad_(requires_grad=False)
    groups = parameter_groups(model)
    optimizer = torch.optim.AdamW(groups, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate(step / steps))
    checkpoint, first = out / "checkpoint.pt", 0
    if checkpoint.exists():
        saved = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(saved["model"], strict=False)  # the rest of the model never changes
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        first = saved["step"]
    else:
        record(out, 0, steps, development(model, dataset), math.nan)
    saved_at, losses = time.monotonic(), []
    for step in range(first, steps):
        loss = step_loss(model, dataset, step, soft)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(loss.detach()))
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step + 1 == steps:
            record(out, step + 1, steps, development(model, dataset), fmean(losses))
            state = {"model": trained_state(model), "optimizer": optimizer.state_dict()}
            torch.save({**state, "schedule": schedule.state_dict(), "step": step + 1}, out / "checkpoint.tmp")
            (out / "checkpoint.tmp").replace(checkpoint)
            saved_at, losses = time.monotonic(), []


def parameter_groups(model: LateInteractionCrossEncoder) -> list[dict[str, object]]:
    """What is trained, with its learning rate; `requires_grad` is set for it."""
    head = model.head
    weights = [head.read_weights]  # the signals' own stay as fitted: of these sets they would learn to trust words
    tokens = [p for part in (head.token, head.share, head.evidence) for p in part.parameters()]
    layers = list(model.query_layers.parameters())
    for parameter in (*weights, *tokens, *layers):
        parameter.requires_grad_(requires_grad=True)
    return [
        {"params": layers, "lr": LAYER_RATE},
        {"params": tokens, "lr": HEAD_RATE},
        {"params": weights, "lr": WEIGHT_RATE, "weight_decay": 0.0},
    ]


def trained_state(model: LateInteractionCrossEncoder) -> dict[str, Tensor]:
    return {name: value for name, value in model.state_dict().items() if name.startswith(("head.", "query_layers."))}


def rate(done: float) -> float:
    """Linear warm-up, then linear to zero."""
    return done / WARMUP if done < WARMUP else (1 - done) / (1 - WARMUP)


def record(out: Path, step: int, steps: int, quality: dict[str, float], loss: float) -> None:
    line = {"step": step, "of": steps, "development_ndcg@10": quality, "loss": round(loss, 4)}
    with (out / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({**line, "time": time.strftime("%H:%M:%S")}) + "\n")
    print(line, flush=True)


@torch.no_grad()
def fit_log_odds(model: LateInteractionCrossEncoder, dataset: TrainingDataset) -> None:
    """Slope and offset by logistic regression on the held-out queries, both classes weighing the same."""
    from sklearn.linear_model import LogisticRegression

    values = scores(model.eval(), dataset, [(q.query, p) for q in dataset.development for p in q.pool])
    labels = [p in query.relevant for query in dataset.development for p in query.pool]
    line = LogisticRegression(class_weight="balanced").fit(values[:, None].numpy(), labels)
    model.slope.fill_(float(line.coef_[0, 0]))
    model.offset.fill_(float(line.intercept_[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--states", type=Path, required=True, help="where frozen states are written")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2500)
    parser.add_argument("--soft", type=float, default=0.0, help="the share of the signals' own scores in the targets")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED)
    model = from_minilm(minilm_folder()).eval()
    dataset = prepare(args.data, args.states, model)
    fit_signals(model, dataset)
    began = time.monotonic()
    train(model.train(), dataset, args.out, args.steps, args.soft)
    fit_log_odds(model, dataset)
    save_file(model.state_dict(), args.out / "model.safetensors")
    print(f"{time.monotonic() - began:.0f} s in this sitting", flush=True)


if __name__ == "__main__":
    main()
