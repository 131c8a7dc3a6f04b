"""Write the model cards and the README's table from what measure.py and the training log hold."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

ROOT = Path(__file__).parents[1]
CARDS = Path(__file__).parent / "cards"
STATIC, DENSE = "embed-static-en", "all-MiniLM-L6-v2"
ORDER = ("nq-qed", "squad-dev-en", "medquad-test", "cisi", "cacm", "med")

Results = dict[str, dict[str, Any]]


def read_results(folder: Path) -> Results:
    """The JSON files of measure.py, by collection; every one of them must be there."""
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ORDER}


def table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [
        f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in row)} |" for row in rows
    ]
    return "\n".join(lines)


def stage_table(results: Results, stage: str) -> str:
    """nDCG@10 and MRR@10 of one first stage's top 50, before and after reranking."""
    heads = ("collection", "queries", "recall@50", "nDCG@10", "reranked", "gain", "MRR@10", "reranked")
    rows: list[tuple[object, ...]] = []
    for name, result in results.items():
        before, after = result[stage]["before"], result[stage]["after"]
        gain = f"{after['nDCG@10'] - before['nDCG@10']:+.3f}"
        ndcg = (before["nDCG@10"], after["nDCG@10"], gain)
        rows.append((name, result["queries"], result[stage]["recall@50"], *ndcg, before["MRR@10"], after["MRR@10"]))
    return table(heads, rows)


def fidelity(results: Results) -> str:
    """What int8 costs against fp32, on the queries that were scored in both."""
    heads = ("collection", "queries", "nDCG@10, int8", "nDCG@10, fp32", "MRR@10, int8", "MRR@10, fp32")
    parts = {name: result["fidelity"] for name, result in results.items()}
    measures = [(measure, kind) for measure in ("nDCG@10", "MRR@10") for kind in ("int8", "fp32")]
    rows: list[tuple[object, ...]] = [
        (name, part["queries"], *(part[kind][measure] for measure, kind in measures)) for name, part in parts.items()
    ]
    difference = mean(part["int8"]["nDCG@10"] - part["fp32"]["nDCG@10"] for part in parts.values())
    return f"{table(heads, rows)}\n\nMean difference in nDCG@10, int8 - fp32: {difference:+.4f}."


def overview(results: Results) -> str:
    """The README's table: nDCG@10 only."""
    heads = ("nDCG@10", STATIC, "+ rerank-mini-en", DENSE, "+ rerank-mini-en")
    rows: list[tuple[object, ...]] = [
        (name, *(r[stage][when]["nDCG@10"] for stage in (STATIC, DENSE) for when in ("before", "after")))
        for name, r in results.items()
    ]
    return table(heads, rows)


def learning_curve(log: Path) -> str:
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    return table(
        ("step", "development nDCG@10"), [(line["step"], float(line["development_ndcg@10"])) for line in lines]
    )


def mix(file: Path) -> str:
    tried = json.loads(file.read_text(encoding="utf-8"))
    return ", ".join(f"{float(weight):.0f}: {quality:.4f}" for weight, quality in tried.items())


def times(file: Path) -> str:
    """Minutes of each step and the machine, in one sentence; a step run in several sittings is summed."""
    minutes: dict[str, float] = {}
    machines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        note = json.loads(line)
        minutes[note["step"]] = minutes.get(note["step"], 0.0) + note["minutes"]
        machines.append(note["hardware"])
    steps = ", ".join(f"{name} {total:.0f} min" for name, total in minutes.items())
    return f"{' and '.join(dict.fromkeys(machines))}, no accelerator, other work on the machine: {steps}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="the work folder of make_models.py")
    args = parser.parse_args()
    results = read_results(args.work / "results")
    filled = {
        "static_table": stage_table(results, STATIC),
        "dense_table": stage_table(results, DENSE),
        "fidelity": fidelity(results),
        "curve": learning_curve(args.work / "train" / "log.jsonl"),
        "mix": mix(args.work / "train" / "mix.json"),
        "hardware": times(args.work / "times.jsonl"),
        "recall": table(
            ("collection", "recall@50", "nDCG@10", "MRR@10"),
            [
                (name, r[STATIC]["recall@50"], r[STATIC]["before"]["nDCG@10"], r[STATIC]["before"]["MRR@10"])
                for name, r in results.items()
            ],
        ),
    }
    for name in ("rerank-mini-en", STATIC):
        card = (CARDS / f"{name}.md").read_text(encoding="utf-8")
        for key, value in filled.items():
            card = card.replace(f"<!-- {key} -->", value)
        if "<!--" in card:
            raise SystemExit(f"{name}.md has a place that nothing fills: {card[card.index('<!--') :][:40]}")
        (ROOT / "models" / name / "README.md").write_text(card, encoding="utf-8")
    for name in ("README.md", "README.zh-CN.md"):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        block = f"<!-- results: training/write_cards.py -->\n{overview(results)}\n<!-- /results -->"
        parts = re.split(r"<!-- results: .*?<!-- /results -->", text, flags=re.DOTALL)
        if len(parts) != 2:
            raise SystemExit(f"{name}: expected one results block, found {len(parts) - 1}")
        path.write_text(block.join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
