"""Make both bundled models from scratch: embedder, training, export, measurement, cards.

Every step is skipped where its result is there already, and training continues from its checkpoint,
so the same command finishes a run that was stopped.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from recipe import run_step

HERE = Path(__file__).parent
WORK = HERE / "work"
MODELS = HERE.parent / "models"
STEPS, SOFT = 600, 0.5


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
    run_step(HERE / "make_embedder.py", embedder / "model.safetensors", WORK, "--out", embedder)
    recipe = ("--steps", STEPS, "--soft", SOFT)
    run_step(
        HERE / "train_reranker.py", weights, WORK, *data, "--states", WORK / "frozen", "--out", WORK / "train", *recipe
    )
    int8 = reranker / "openvino" / "openvino_model_qint8_quantized.bin"
    data = (*data, "--embedder", embedder)
    run_step(HERE / "export_reranker.py", int8, WORK, *data, "--weights", weights, "--full", full, "--out", reranker)
    in_full = ("--weights", weights, "--states", WORK / "test-states", "--out", WORK / "in_full.json")
    run_step(HERE / "measure_in_full.py", WORK / "in_full.json", WORK, "--data", args.data.resolve(), *in_full)
    # measure.py keeps a file a collection and passes over those it has.
    run_step(
        HERE / "measure.py",
        results / "example-fidelity.json",
        WORK,
        *data,
        "--full",
        full,
        "--int8",
        reranker,
        "--out",
        results,
    )
    for made in (embedder, reranker):
        shutil.copytree(made, MODELS / made.name, dirs_exist_ok=True)
    subprocess.run([sys.executable, str(HERE / "write_cards.py"), "--work", str(WORK)], check=True)  # noqa: S603


if __name__ == "__main__":
    main()
