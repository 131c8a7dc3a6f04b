"""Write the model cards and the README's table from what measure.py and the training log hold."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from statistics import mean
from typing import Any

import measure
from recipe import describe_times, format_table, write_card
from rerank_plugins.evaluation.significance import interval

ROOT = Path(__file__).parents[1]
CARDS = Path(__file__).parent / "cards"
STATIC, DENSE = "embed-static-en", "all-MiniLM-L6-v2"

Results = dict[str, dict[str, Any]]


def read_results(folder: Path, label: str) -> Results:
    """The JSON files of measure.py with this label, by collection, in the order they are measured in."""
    files = {name: folder / f"{name}-{label}.json" for name in (*measure.COLLECTIONS, measure.EXAMPLE)}
    return {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items() if file.exists()}


def stage_table(results: Results) -> str:
    """nDCG@10 and MRR@10 of one first stage's top 50, before and after reranking."""
    heads = (
        *("collection", "queries", "recall@50", "nDCG@10", "nDCG@10 reranked"),
        *("gain", "95 %", "p", "MRR@10", "MRR@10 reranked"),
    )
    rows: list[tuple[object, ...]] = []
    for name, result in results.items():
        before, after = result["before"], result["after"][0]
        gain, low, high = result["gain"]
        change = (f"{gain:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{result['p']:.4f}")
        ndcg = (before["nDCG@10"], after["nDCG@10"], *change)
        rows.append((name, result["queries"], result["recall"], *ndcg, before["RR@10"], after["RR@10"]))
    return format_table(heads, rows)


def fidelity(report: dict[str, Any], results: Results) -> str:
    """What int8 costs against fp32: as its export found, and on the queries that were scored in both."""
    ndcg, tau, overlap = report["ndcg_at_10"], report["kendall_tau"], report["top_5_overlap"]
    told = (
        f"int8 beside fp32 on {report['queries']} training queries with 20 passages of embed-static-en's top each: "
        f"Kendall's tau {tau['mean']:.3f} in the mean and {tau['min']:.3f} at worst, {overlap['mean']:.3f} of the "
        f"first five in common, nDCG@10 {ndcg['before']:.3f} in fp32 and {ndcg['after']:.3f} in int8."
    )
    if not results:
        return told
    heads = ("collection", "queries", "nDCG@10, int8", "nDCG@10, fp32", "MRR@10, int8", "MRR@10, fp32")
    rows: list[tuple[object, ...]] = []
    for name, result in results.items():
        int8, full = result["after"]
        rows.append((name, result["queries"], int8["nDCG@10"], full["nDCG@10"], int8["RR@10"], full["RR@10"]))
    differences = [results[name]["int8_less_fp32"] for name in measure.COLLECTIONS]
    of_all = interval([value for part in differences for value in part], measure.SEED)
    mean_told = (
        f"int8 less fp32 in nDCG@10, without the example: {mean(map(mean, differences)):+.4f} in the mean of the "
        f"collections, {of_all.low:+.4f} to {of_all.high:+.4f} by bootstrap over the queries."
    )
    first = f"{measure.TOP_K_OF_FIDELITY} candidates of embed-static-en ({measure.TOP_K} of this project's example)"
    return f"{told}\n\nAnd on samples of test queries, over {first}:\n\n{format_table(heads, rows)}\n\n{mean_told}"


def full_table(full: Results) -> str:
    """nDCG@10 of all-MiniLM-L6-v2's top 50, by its own order, by the signals, and reranked."""
    heads = ("collection", "queries", "nDCG@10", "signals alone", "reranked", "gain", "95 %", "p")
    rows: list[tuple[object, ...]] = []
    for name, found in full.items():
        gain, low, high = found["gain"]
        change = (f"{gain:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{found['p']:.4f}")
        rows.append((name, found["queries"], found["before"], found["signals"], found["reranked"], *change))
    return format_table(heads, rows)


def overview(full: Results, static: Results) -> str:
    """The README's table: nDCG@10 only."""
    heads = ("nDCG@10", DENSE, "+ rerank-mini-en", STATIC, "+ rerank-mini-en")
    rows: list[tuple[object, ...]] = []
    for name, found in full.items():
        sample = static.get(name)
        cells = (sample["before"]["nDCG@10"], sample["after"][0]["nDCG@10"]) if sample else ("", "")
        rows.append((name, found["before"], found["reranked"], *cells))
    return format_table(heads, rows)


def learning_curve(log: list[dict[str, Any]]) -> str:
    sets = list(log[0]["development_ndcg@10"])
    return format_table(
        ("step", *sets), [(line["step"], *(float(line["development_ndcg@10"][name]) for name in sets)) for line in log]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="the work folder of make_models.py")
    args = parser.parse_args()
    static = read_results(args.work / "results", "static")
    measured = json.loads((args.work / "in_full.json").read_text(encoding="utf-8"))
    full = {name: measured[name] for name in measure.COLLECTIONS}
    lines = (args.work / "train" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    log = [json.loads(line) for line in lines]
    report = json.loads((args.work / "rerank-mini-en-fp32" / "fidelity.json").read_text(encoding="utf-8"))
    filled = {
        "static_table": stage_table(static),
        "full_table": full_table(full),
        "fidelity": fidelity(report, read_results(args.work / "results", "fidelity")),
        "curve": learning_curve(log),
        "example": "{before:.3f} to {reranked:.3f}".format(**measured[measure.EXAMPLE]),
        "steps": f"{log[-1]['of']:,}",
        "hardware": describe_times(args.work / "times.jsonl"),
        "recall": format_table(
            ("collection", "queries", "recall@50", "nDCG@10", "MRR@10"),
            [
                (name, r["queries"], r["recall"], r["before"]["nDCG@10"], r["before"]["RR@10"])
                for name, r in static.items()
            ],
        ),
    }
    for name in ("rerank-mini-en", STATIC):
        write_card(CARDS / f"{name}.md", ROOT / "models" / name / "README.md", filled)
    for name in ("README.md", "README.zh-CN.md"):
        path = ROOT / name
        text = path.read_text(encoding="utf-8")
        block = f"<!-- results: training/write_cards.py -->\n{overview(full, static)}\n<!-- /results -->"
        parts = re.split(r"<!-- results: .*?<!-- /results -->", text, flags=re.DOTALL)
        if len(parts) != 2:
            raise SystemExit(f"{name}: expected one results block, found {len(parts) - 1}")
        path.write_text(block.join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
