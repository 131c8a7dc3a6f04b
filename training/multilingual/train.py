"""Train the upper layers and the head of rerank-mini-multilingual on lists of hard negatives.

The learning rates rise in the first steps, stay, and fall to zero over the last ``--decay`` steps. A checkpoint every
few minutes, from which the same command goes on; the state at the beginning of the fall is kept as ``stable.pt``, so
that a later run with more ``--steps`` goes on from there. ``log.jsonl`` has a line an evaluation.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import fmean

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from development import Development
from lists import Draw, Drawer
from model import CLOSED, SEPARATE, MultilingualCrossEncoder
from prepare import load_base, load_tokenizer, prepare
from texts import Template, Texts

LAYER_RATE, HEAD_RATE, WEIGHT_RATE = 2e-4, 5e-4, 2e-2  # the last for the few scalars
WARMUP_STEPS = 100
OPENING_STEPS = (330, 630)  # between these the upper layers begin to read across
SOFT = 0.3  # of the loss of a list that has a teacher
POINTWISE = 0.2  # weight of the pointwise loss beside the listwise one
SEED = 7
CHECKPOINT_SECONDS, EVALUATION_STEPS = 300, 300


@dataclass(frozen=True)
class Hardware:
    """What is computed where, and how much at a time. The defaults are for two cores."""

    device: str = "cpu"
    threads: int = 2
    """Parts of a step that are computed at the same time, each on one core."""
    lists: int = 16
    """Lists a step."""
    tokens: int = 1_200
    """Padded tokens a batch: so few fit the cache and have little padding; 5,000 took 1.4 times as long here."""


class Scorer:
    """Scores of pairs of text numbers, computed in bf16, rows of like length together."""

    def __init__(self, model: MultilingualCrossEncoder, texts: Texts, template: Template, hardware: Hardware) -> None:
        self.model = model.to(hardware.device)
        self._texts, self._template, self.hardware = texts, template, hardware

    def over(self, texts: Texts) -> Scorer:
        """The same for pairs of other texts."""
        return Scorer(self.model, texts, self._template, self.hardware)

    def lengths(self, pairs: Sequence[tuple[int, int]]) -> list[int]:
        """Tokens of the rows."""
        return [self._template.length(self._texts, query, passage) for query, passage in pairs]

    def batches(self, pairs: Sequence[tuple[int, int]], most_tokens: int) -> list[list[int]]:
        """Places in ``pairs``, the longest rows first."""
        lengths = self.lengths(pairs)
        order = sorted(range(len(pairs)), key=lengths.__getitem__, reverse=True)
        parts: list[list[int]] = []
        for place in order:
            if not parts or lengths[parts[-1][0]] * (len(parts[-1]) + 1) > most_tokens:
                parts.append([])
            parts[-1].append(place)
        return parts

    def __call__(self, pairs: Sequence[tuple[int, int]]) -> Tensor:
        rows = (part.to(self.hardware.device) for part in self._template.pairs(self._texts, pairs))
        return self.model.score(*rows, torch.bfloat16).cpu()

    def evaluate(self, pairs: Sequence[tuple[int, int]]) -> list[float]:
        scores = [0.0] * len(pairs)
        parts = self.batches(pairs, 2 * self.hardware.tokens)
        with ThreadPoolExecutor(self.hardware.threads) as threads:
            for part, computed in zip(parts, threads.map(lambda part: self._compute(pairs, part), parts), strict=True):
                for place, score in zip(part, computed, strict=True):
                    scores[place] = score
        return scores

    @torch.inference_mode()
    def _compute(self, pairs: Sequence[tuple[int, int]], part: list[int]) -> list[float]:
        return self([pairs[place] for place in part]).tolist()


def sum_losses(draws: Sequence[Draw], scores: Tensor, middle: Tensor) -> Tensor:
    """The sum over lists; ``scores`` are those of all their pairs, in order."""
    losses: list[Tensor] = []
    for draw, row in zip(draws, torch.split(scores, [len(draw.pairs) for draw in draws]), strict=True):
        labels = torch.tensor(draw.labels)
        each = functional.binary_cross_entropy_with_logits(row - middle, labels, reduction="none")
        if not draw.is_list:
            losses.append(each.mean())
            continue
        log_shares = row.log_softmax(0)
        listwise = -log_shares[0]
        if draw.teacher is not None:
            softly = -(torch.from_numpy(draw.teacher).softmax(0) * log_shares).sum()
            listwise = (1 - SOFT) * listwise + SOFT * softly
        losses.append(listwise + POINTWISE * (each[0] + each[1:].mean()) / 2)
    return torch.stack(losses).sum()


def gradients(
    scorer: Scorer, draws: Sequence[Draw], middle: Tensor, trained: list[Tensor]
) -> tuple[float, list[Tensor]]:
    """The summed loss of ``draws`` and its gradients."""
    pairs = [pair for draw in draws for pair in draw.pairs]
    parts = scorer.batches(pairs, scorer.hardware.tokens)
    computed = [scorer([pairs[place] for place in part]) for part in parts]
    order = torch.tensor([place for part in parts for place in part]).argsort()
    loss = sum_losses(draws, torch.cat(computed)[order], middle)
    return loss.item(), list(torch.autograd.grad(loss, trained, materialize_grads=True, allow_unused=True))


def split_step(scorer: Scorer, draws: Sequence[Draw]) -> list[list[Draw]]:
    """The draws for each thread, with about as many tokens."""
    shares: list[list[Draw]] = [[] for _ in range(scorer.hardware.threads)]
    tokens = [0] * len(shares)
    for draw in sorted(draws, key=lambda draw: sum(scorer.lengths(draw.pairs)), reverse=True):
        least = tokens.index(min(tokens))
        shares[least].append(draw)
        tokens[least] += sum(scorer.lengths(draw.pairs))
    return [share for share in shares if share]


def parameter_groups(model: MultilingualCrossEncoder, middle: Tensor) -> list[dict]:
    model.requires_grad_(requires_grad=False)
    layers = list(model.layers[SEPARATE:].parameters())
    scalars = [model.head.scales, middle]
    head = [*model.head.importance.parameters(), *model.head.reading.parameters(), *model.head.evidence.parameters()]
    groups = [
        {"params": [p for p in layers if p.ndim > 1], "lr": LAYER_RATE, "weight_decay": 0.01},
        {"params": [p for p in layers if p.ndim == 1], "lr": LAYER_RATE, "weight_decay": 0.0},
        {"params": head, "lr": HEAD_RATE, "weight_decay": 0.01},
        {"params": scalars, "lr": WEIGHT_RATE, "weight_decay": 0.0},
    ]
    for group in groups:
        for parameter in group["params"]:
            parameter.requires_grad_()
    return groups


def rate(step: int, steps: int, decay: int) -> float:
    """The share of the learning rates at ``step``."""
    return min(1.0, (step + 1) / WARMUP_STEPS, max(0.0, (steps - step) / max(1, decay)))


def attention_across(step: int) -> float:
    """What is added to the attention scores of the other segment at ``step``."""
    first, last = OPENING_STEPS
    return CLOSED * (1.0 - min(1.0, max(0.0, (step - first) / (last - first))))


class Run:
    """A training that can be stopped at any time and goes on."""

    def __init__(self, scorer: Scorer, drawer: Drawer, out: Path, steps: int, decay: int) -> None:
        self._scorer, self._drawer, self._out = scorer, drawer, out
        self._steps, self._decay = steps, decay
        self._middle = torch.nn.Parameter(torch.tensor(35.0))
        groups = parameter_groups(scorer.model, self._middle)
        self._trained = [parameter for group in groups for parameter in group["params"]]
        self._optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98), fused=True)
        self._rates = [group["lr"] for group in groups]
        self.step, self.seconds, self._losses = 0, 0.0, [0.0]
        self._threads = ThreadPoolExecutor(scorer.hardware.threads)
        self._load()
        scorer.model.across.fill_(attention_across(self.step))

    def _load(self) -> None:
        for name in ("checkpoint.pt", "stable.pt"):
            path = self._out / name
            if not path.exists():
                continue
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if saved["decay"] and saved["steps"] != self._steps:
                continue  # its rates had begun to fall towards another end
            with torch.no_grad():
                for parameter, value in zip(self._trained, saved["trained"], strict=True):
                    parameter.copy_(value)
            self._optimizer.load_state_dict(saved["optimizer"])
            self.step, self.seconds = saved["step"], saved["seconds"]
            return

    def save(self, name: str) -> None:
        falling = self.step > self._steps - self._decay
        state = {"step": self.step, "seconds": self.seconds, "steps": self._steps, "decay": falling}
        state |= {"trained": [p.detach() for p in self._trained], "optimizer": self._optimizer.state_dict()}
        torch.save(state, self._out / "writing.pt")
        (self._out / "writing.pt").replace(self._out / name)

    def advance(self) -> None:
        """One step."""
        began = time.monotonic()
        for group, highest in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = highest * rate(self.step, self._steps, self._decay)
        self._scorer.model.across.fill_(attention_across(self.step))
        shares = split_step(self._scorer, self._drawer.step(self.step, self._scorer.hardware.lists))
        # A thread for each core: one operation on both waits for the slower one every time.
        results = self._threads.map(lambda part: gradients(self._scorer, part, self._middle, self._trained), shares)
        losses, found = zip(*results, strict=True)
        for parameter, *parts in zip(self._trained, *found, strict=True):
            parameter.grad = sum(parts) / self._scorer.hardware.lists
        self._losses.append(sum(losses) / self._scorer.hardware.lists)
        torch.nn.utils.clip_grad_norm_(self._trained, 1.0)
        self._optimizer.step()
        self.step += 1
        self.seconds += time.monotonic() - began

    def report(self) -> None:
        mean = fmean(self._losses[-25:])
        print(f"step {self.step} of {self._steps}, {self.seconds / 60:.1f} min, loss {mean:.3f}", flush=True)

    def record(self, development: Development) -> None:
        model = self._scorer.model
        line = {
            "step": self.step,
            "decay": self._decay,
            "minutes": round(self.seconds / 60, 1),
            "loss": round(fmean(self._losses), 4),
        }
        line |= {"middle": round(self._middle.item(), 2), "scales": [round(v, 2) for v in model.head.scales.tolist()]}
        line |= {"across": round(model.across.item(), 2)}
        line |= development.measure(self._scorer)
        self._losses = []
        print(json.dumps(line, ensure_ascii=False), flush=True)
        with (self._out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of XLM-R's tokenizer.json")
    parser.add_argument("--work", type=Path, required=True, help="folder for what is computed once")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--decay", type=int, required=True, help="steps at the end over which the rates fall to zero")
    for field in fields(Hardware):
        parser.add_argument(f"--{field.name}", type=type(field.default), default=field.default)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # Rows this short train faster by plain products on CPUs: 3.0 s a step instead of 3.8.
    torch.backends.cuda.enable_flash_sdp(enabled=args.device != "cpu")
    tokenizer = load_tokenizer(args.tokenizer)
    texts, template, lists = prepare(args.data, tokenizer, args.work)
    hardware = Hardware(**{field.name: getattr(args, field.name) for field in fields(Hardware)})
    scorer = Scorer(load_base(), texts, template, hardware)
    development = Development(lists, tokenizer)
    run = Run(scorer, Drawer(lists, SEED), args.out, args.steps, args.decay)
    if not run.step:
        run.record(development)
    saved_at = time.monotonic()
    while run.step < args.steps:
        if run.step == args.steps - args.decay:
            run.save("stable.pt")
        run.advance()
        if run.step % 25 == 0:
            run.report()
        if run.step % EVALUATION_STEPS == 0 or run.step == args.steps:
            run.record(development)
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or run.step == args.steps:
            run.save("checkpoint.pt")
            saved_at = time.monotonic()
    save_file(scorer.model.cpu().state_dict(), args.out / "model.safetensors")


if __name__ == "__main__":
    main()
