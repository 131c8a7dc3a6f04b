"""Make both multilingual bundled models from scratch: embedder, training, export, measurement, cards.

A step whose result is there is skipped, and training goes on from its checkpoint, so the same command finishes a run
that was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
WORK = HERE.parent / "work-multilingual"
MODELS = HERE.parents[1] / "models"
STEPS, DECAY = 1300, 325


def step(name: str, result: Path, *arguments: object) -> None:
    """Run one script unless its result exists; note the minutes it took, and on what."""
    if result.exists():
        print(f"{name}: {result.name} is there", flush=True)
        return
    print(f"{name} …", flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, str(HERE / f"{name}.py"), *map(str, arguments)], check=True)  # noqa: S603
    note = {"step": name, "minutes": round((time.monotonic() - began) / 60, 1), "hardware": hardware()}
    with (WORK / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(note) + "\n")


def hardware() -> str:
    """Cores and processor, as Linux names them."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {named[0] if named else platform.processor()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the collections and training lists")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of XLM-R's tokenizer.json")
    args = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    inputs = ("--data", args.data.resolve(), "--tokenizer", args.tokenizer.resolve())
    embedder, reranker = WORK / "embed-static-zh-en", WORK / "rerank-mini-multilingual"
    weights, full = WORK / "train" / "model.safetensors", WORK / "rerank-mini-multilingual-fp32"
    step("make_embedder", embedder / "config.json", *inputs, "--out", embedder)
    schedule = ("--steps", STEPS, "--decay", DECAY)
    step("train", weights, *inputs, "--work", WORK / "lists", "--out", WORK / "train", *schedule)
    int8 = reranker / "openvino" / "openvino_model_qint8_quantized.bin"
    step("export", int8, *inputs, "--weights", weights, "--full", full, "--out", reranker)
    compared = ("--full", full, "--int8", reranker, "--beside", MODELS / "rerank-mini-en", "--embedder", embedder)
    results = ("--out", WORK / "results", "--lists", WORK / "candidates")
    step("measure", WORK / "results" / "fidelity.json", *inputs, *compared, *results)
    for made in (embedder, reranker):
        shutil.copytree(made, MODELS / made.name, dirs_exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "write_cards.py"), "--work", str(WORK)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
