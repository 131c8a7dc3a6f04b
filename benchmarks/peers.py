"""One query, 50 passages of mixed length: this library beside every peer, on the same weights, in one run.

Each peer runs in a process of its own with its own defaults. Rounds are interleaved, every round in another order and
with passages of its own, the same for all; medians are compared. Read the ratios: machines differ, and are busy.
Weights are random: right for speed, silent about quality. A peer that cannot run here is listed with its error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import subprocess
import sys
import time
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import openvino
from peak import operations, operations_a_second
from peer_calls import PEERS, beside_bare
from peers_report import draw, print_tables
from stand_ins import SHAPES, passages, write_model, write_onnx

# Where the weights are smaller, all workers stay; larger ones would not fit into memory side by side.
_STAY_BELOW = 200e6


class Worker:
    """A peer in a process of its own: JSON lines in and out."""

    def __init__(self, job: str, folder: Path, device: str = "cpu") -> None:
        command = [sys.executable, __file__, "--worker", job, "--folder", str(folder), "--device", device]
        # No word to a hub: everything is here.
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        self._process = subprocess.Popen(  # noqa: S603 - arguments of our own
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, request: Any) -> Any:
        """The answer, or ``{"error": ...}``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        return json.loads(line) if line else {"error": f"its process ended with {self._process.wait()}"}

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()


def work(job: str, folder: Path, device: str) -> None:
    """A worker's life: load once, then answer every line."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    call = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with redirect_stdout(sys.stderr):  # peers print
                if job == "prepare":
                    answer: Any = prepare(folder)
                elif job.startswith("bare "):
                    answer = beside_bare(folder, job.removeprefix("bare "), request)
                else:
                    if call is None:
                        call = PEERS[device][job](folder, device)
                        call(passages(0))  # the first call compiles and allocates
                    start = time.perf_counter()
                    order = call(request)
                    answer = {"seconds": time.perf_counter() - start, "order": order}
        except BaseException as error:  # noqa: BLE001 - whatever it is, the table shows it
            answer = {"error": f"{type(error).__name__}: {(str(error).strip() or '?').splitlines()[0]}"[:200]}
        out.write(json.dumps(answer) + "\n")
        out.flush()


def prepare(folder: Path) -> dict[str, str]:
    """Convert and quantize for us, and for ONNX Runtime; what fails is shown with its peer."""
    from rerank_plugins.export import export_model

    export_model(folder, "int8", max_queries=4, accept=True)
    # The peers that run ONNX know no language models.
    decoder = (folder / "modules.json").is_file()
    if not decoder and not (folder / "onnx-peers" / "model_int8.onnx").is_file():
        write_onnx(folder)
    return {}


def measure(folder: Path, rounds: int, names: list[str], device: str) -> dict[str, Any]:
    """Seconds and agreement of every peer, by name."""
    results: dict[str, Any] = {name: {"seconds": [], "orders": []} for name in names}
    stay = device != "cpu" or sum(file.stat().st_size for file in folder.glob("*.safetensors")) < _STAY_BELOW
    workers: dict[str, Worker] = {}
    for number in range(1, rounds + 1):
        texts = passages(number)
        for name in random.Random(number).sample(names, len(names)):  # noqa: S311 - an order
            if "error" in results[name]:
                continue
            worker = workers.pop(name, None) or Worker(name, folder, device)
            answer = worker.ask(texts)
            if stay and "error" not in answer:
                workers[name] = worker
            else:
                worker.close()
            if "error" in answer:
                results[name]["error"] = answer["error"]
            else:
                results[name]["seconds"].append(answer["seconds"])
                results[name]["orders"].append(answer["order"])
            print(f"round {number}: {name}: {answer.get('seconds', answer.get('error'))}", file=sys.stderr, flush=True)
    for worker in workers.values():
        worker.close()
    return results


def compare_with_bare(folder: Path, precisions: list[str]) -> dict[str, Any]:
    """Ours beside OpenVINO alone, and its share of the machine's peak, by precision."""
    found = {}
    for precision in precisions:
        worker = Worker(f"bare {precision}", folder)
        answer = worker.ask(passages(1))
        worker.close()
        if "error" not in answer:
            done = operations(folder, answer["padded_tokens"], answer["squares"])
            answer["operations_a_second"] = done / min(answer["bare"])
            answer["peak"] = operations_a_second(precision)
        found[precision] = answer
    return found


def machine(device: str) -> dict[str, Any]:
    """What the numbers belong to."""
    packages = ("openvino", "torch", "sentence-transformers", "FlagEmbedding", "rerankers", "fastembed", "onnxruntime")
    versions = {}
    for package in (*packages, "langchain-classic", "llama-index-core"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    if device == "cpu":
        name = openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
    else:
        import torch

        name = torch.cuda.get_device_name()
    return {"processor": name, "cores": len(os.sched_getaffinity(0)), "versions": versions}


def measure_shape(shape: str, args: argparse.Namespace) -> dict[str, Any]:
    """Write and prepare the model if it is not there, then measure every peer; on CPUs OpenVINO alone, too."""
    first, *others = PEERS[args.device]
    names = [first, *(name for name in others if not args.only or any(part in name for part in args.only))]
    folder = args.work / shape
    if not (folder / "config.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_model(shape, folder, args.standins)
    if args.device != "cpu":
        return {"peers": measure(folder, args.rounds, names, args.device), "bare": {}}
    worker = Worker("prepare", folder)
    print(f"{shape}: {worker.ask({})}", file=sys.stderr, flush=True)
    worker.close()
    peers = measure(folder, args.rounds, names, args.device)
    return {"peers": peers, "bare": compare_with_bare(folder, ["fp32", "bf16", "int8"])}


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, action="append", help="one or more; mini without it")
    parser.add_argument("--device", choices=PEERS, default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", help="a peer whose name holds this; the first is always measured")
    parser.add_argument("--standins", type=Path, default=Path("../shared/models"), help="folder of make_standin.py")
    parser.add_argument("--work", type=Path, default=Path("build/peers"), help="where models are written and kept")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(args.worker, args.folder, args.device)
        return
    results: dict[str, Any] = {"machine": machine(args.device), "shapes": {}}
    for shape in args.shape or ["mini"]:
        results["shapes"][shape] = measure_shape(shape, args)
        if args.json:
            args.json.write_text(json.dumps(results), encoding="utf-8")
    print_tables(results)
    if args.plot:
        draw(results, args.plot)


if __name__ == "__main__":
    main()
