"""Make both bundled models from scratch: embedder, training, export, measurement, cards.

Every step is skipped where its result is there already, and training continues from its checkpoint,
so the same command finishes a run that was stopped.
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
WORK = HERE / "work"
MODELS = HERE.parent / "models"
STEPS, SOFT = 600, 0.5


def step(name: str, result: Path, *arguments: object) -> None:
    """Run one script unless its result exists; note the seconds it took, and on what."""
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
    parser.add_argument("--data", type=Path, required=True, help="the folder of the BEIR collections")
    parser.add_argument("--fresh", action="store_true", help="delete the work folder first")
    args = parser.parse_args()
    if args.fresh:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(exist_ok=True)
    # Everything is made in the work folder: models/ is tracked and holds an earlier result from the start.
    embedder, reranker = WORK / "embed-static-en", WORK / "rerank-mini-en"
    weights, full, results = WORK / "train" / "model.safetensors", WORK / "rerank-mini-en-fp32", WORK / "results"
    data = ("--data", args.data.resolve())
    step("make_embedder", embedder / "model.safetensors", "--out", embedder)
    recipe = ("--steps", STEPS, "--soft", SOFT)
    step("train_reranker", weights, *data, "--states", WORK / "frozen", "--out", WORK / "train", *recipe)
    int8 = reranker / "openvino" / "openvino_model_qint8_quantized.bin"
    data = (*data, "--embedder", embedder)
    step("export_reranker", int8, *data, "--weights", weights, "--full", full, "--out", reranker)
    in_full = ("--weights", weights, "--states", WORK / "test-states", "--out", WORK / "in_full.json")
    step("measure_in_full", WORK / "in_full.json", "--data", args.data.resolve(), *in_full)
    # measure.py keeps a file a collection and passes over those it has.
    step("measure", results / "example-fidelity.json", *data, "--full", full, "--int8", reranker, "--out", results)
    for made in (embedder, reranker):
        shutil.copytree(made, MODELS / made.name, dirs_exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "write_cards.py"), "--work", str(WORK)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
