"""Make both multilingual bundled models from scratch: embedder, training, export, measurement, cards.

A step whose result is there is skipped, and training goes on from its checkpoint, so the same command finishes a run
that was stopped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from recipe import run_step

HERE = Path(__file__).parent
WORK = HERE.parent / "work-multilingual"
MODELS = HERE.parents[1] / "models"
STEPS, DECAY = 6000, 1000  # planned; the README says how far it came


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of the collections and training lists")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of XLM-R's tokenizer.json")
    args = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    inputs = ("--data", args.data.resolve(), "--tokenizer", args.tokenizer.resolve())
    embedder, reranker = WORK / "embed-static-zh-en", WORK / "rerank-mini-multilingual"
    weights, full = WORK / "train" / "model.safetensors", WORK / "rerank-mini-multilingual-fp32"
    run_step(HERE / "make_embedder.py", embedder / "config.json", WORK, *inputs, "--out", embedder)
    schedule = ("--steps", STEPS, "--decay", DECAY)
    run_step(HERE / "train.py", weights, WORK, *inputs, "--work", WORK / "lists", "--out", WORK / "train", *schedule)
    int8 = reranker / "openvino" / "openvino_model_qint8_quantized.bin"
    run_step(HERE / "export.py", int8, WORK, *inputs, "--weights", weights, "--full", full, "--out", reranker)
    compared = ("--full", full, "--int8", reranker, "--beside", MODELS / "rerank-mini-en", "--embedder", embedder)
    results = ("--out", WORK / "results", "--lists", WORK / "candidates")
    run_step(HERE / "measure.py", WORK / "results" / "fidelity.json", WORK, *inputs, *compared, *results)
    for made in (embedder, reranker):
        shutil.copytree(made, MODELS / made.name, dirs_exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "write_cards.py"), "--work", str(WORK)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
