"""Write the cards of the multilingual models from what measure.py and the training log hold."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import measure
from recipe import describe_times, format_table, write_card

ROOT = Path(__file__).parents[2]
CARDS = Path(__file__).parent / "cards"
RERANKER, EMBEDDER, ENGLISH = "rerank-mini-multilingual", "embed-static-zh-en", "rerank-mini-en"
CURVE = ("plain en", "plain zh", *measure.SENTENCES, "nq-qed", "xquad-across", "mean", "paws-x-labelled auc")


def read(folder: Path, name: str) -> dict[str, Any]:
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


def collections(results: Path, names: tuple[str, ...], beside: dict[str, str]) -> str:
    heads = ("collection", "queries", "nDCG@10", "reranked", "gain", "95 %", "p", *([ENGLISH] if beside else []))
    rows: list[tuple[object, ...]] = []
    for name in names:
        found = read(results, name)
        gain, low, high = found["gain"]
        change = (f"{gain:+.3f}", f"{low:+.3f} to {high:+.3f}", f"{found['p']:.4f}")
        other = (beside.get(name, ""),) if beside else ()
        rows.append((name, found["queries"], found["before"], found["after"], *change, *other))
    return format_table(heads, rows)


def rerank_mini_en() -> dict[str, str]:
    """nDCG@10 of rerank-mini-en over the same first stage, from its card."""
    card = (ROOT / "models" / ENGLISH / "README.md").read_text(encoding="utf-8")
    block = card.split("Over **all-MiniLM-L6-v2** itself")[1].split("Over **embed-static-en**")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines() if line[:1] == "|"]
    place = cells[0].index("reranked")
    return {row[0]: row[place] for row in cells[2:]}


def shares(results: Path, labels: dict[str, str], who: tuple[str, ...]) -> str:
    """``labels`` has a row's name by the first part of its files' names."""
    rows: list[tuple[object, ...]] = []
    for name, label in labels.items():
        found = [read(results, f"{name}-{one}") for one in who]
        low, high = found[0]["interval"]
        rows.append(
            (label, found[0]["lists"], found[0]["share"], f"{low:.2f} to {high:.2f}", *(f["share"] for f in found[1:]))
        )
    names = {"base": "multilingual-e5-small's cosine", "model": RERANKER}
    return format_table(("set", "lists", RERANKER, "95 %", *(names.get(one, one) for one in who[1:])), rows)


def near_copies(found: dict[str, Any]) -> str:
    languages = ", ".join(f"{language} {value:.2f}" for language, value in found["by_language"].items())
    return f"AUC {found['auc']:.3f} over {found['pairs']:,} pairs (chance .5); {languages}."


def traps(found: dict[str, Any]) -> str:
    solved = ", ".join(name for name, right in found["traps"].items() if right)
    return f"{found['solved']} of {len(found['traps'])} ({solved})."


def fidelity(found: dict[str, Any]) -> str:
    low, high = found["interval"]
    means = ", ".join(f"{name} {value:+.4f}" for name, value in found["by_collection"].items())
    return f"{found['mean']:+.4f} in the mean of the collections, {low:+.4f} to {high:+.4f} over queries ({means})."


def megabytes(folder: Path) -> str:
    return f"{sum(file.stat().st_size for file in folder.rglob('*') if file.suffix != '.md') / 1e6:.0f}"


def vocabulary_size(folder: Path) -> str:
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    return f"{len(tokenizer['model']['vocab']):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="the work folder of make_models.py")
    args = parser.parse_args()
    results = args.work / "results"
    log = [json.loads(line) for line in (args.work / "train" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    curve = [(line["step"], *(float(line[name]) for name in CURVE)) for line in log]
    plain = {
        f"plain-{language}-{split}": f"{language}, {split}"
        for language in ("en", "zh")
        for split in ("choose", "report")
    }
    vocabulary, embedder = read(results, "vocabulary"), read(results, "embedder")
    filled = {
        "size": megabytes(ROOT / "models" / RERANKER),
        "tokens": vocabulary_size(ROOT / "models" / RERANKER),
        "vocabulary": format_table(
            ("collection", "changed"), [(name, f"{100 * share:.2f} %") for name, share in vocabulary.items()]
        ),
        "steps": f"{log[-1]['step']:,}",
        "decay": str(log[-1]["decay"]),
        "hardware": describe_times(args.work / "times.jsonl"),
        "curve": format_table(("step", *CURVE), curve),
        "english": collections(results, measure.ENGLISH, rerank_mini_en()),
        "others": collections(results, measure.OTHERS, {}),
        "plain": shares(results, plain, ("model", ENGLISH, "base")),
        "sentences": shares(results, {name: name for name in measure.SENTENCES}, ("model", "base")),
        "near_copies": near_copies(read(results, "near-copies")),
        "traps": traps(read(results, "traps")),
        "fidelity": fidelity(read(results, "fidelity")),
        "embedder_tokens": vocabulary_size(ROOT / "models" / EMBEDDER),
        "embedder_size": megabytes(ROOT / "models" / EMBEDDER),
        "embedder": format_table(
            ("collection", "queries", "recall@50", "embed-static-en's", "nDCG@10", "embed-static-en's"),
            [(name, *values) for name, values in embedder.items()],
        ),
    }
    for name in (RERANKER, EMBEDDER):
        write_card(CARDS / f"{name}.md", ROOT / "models" / name / "README.md", filled)


if __name__ == "__main__":
    main()
