"""Resident memory over many calls of realistic lengths.

1 to 60 documents a call, small calls as many as large ones, of 1 to 300 words, and a new query every time. Every engine
and precision runs in a process of its own, on one processor. Prints a table; ``--plot FILE`` draws it. In int8 it is
the bundled model, else a stand-in of all-MiniLM-L6-v2's shape with random weights; or any ``--model FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from stand_ins import write_model

from rerank_plugins import load_reranker
from rerank_plugins.retrieval import example_corpus, read_corpus

CASES = ("openvino int8", "openvino bf16", "openvino fp32", "torch fp32")
SHOWN = (1, 50, 200, 500, 1000, 1500, 2000)


def resident_megabytes() -> float:
    """What of this process is in memory. Linux only."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measure(case: str, model: str, calls: int) -> list[float]:
    """Megabytes after loading and after every call."""
    engine, precision = case.split()
    reranker = load_reranker(model, engine=engine, precision=precision, device="cpu", threads=1)  # type: ignore[arg-type]
    words = " ".join(passage.text for passage in read_corpus(example_corpus())).split()
    draw = random.Random(0)  # noqa: S311 - no cryptography

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, most)))

    seen = [resident_megabytes()]
    for _ in range(calls):
        count = round(math.exp(draw.uniform(0, math.log(60))))
        reranker.rerank(text(20), [text(300) for _ in range(count)])
        seen.append(resident_megabytes())
    return seen


def draw_plot(found: dict[str, list[float]], path: Path) -> None:
    """One line a case."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
    for case, seen in found.items():
        axes.plot(seen, label=case)
    axes.set(xlabel="calls", ylabel="MB resident", ylim=(0, None))
    axes.legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure every case, two at a time, and show what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--model", help="a folder, for all cases, instead of the bundled model and a stand-in")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", choices=CASES, help="measure this case only, and print JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.model, args.calls)))
        return
    found: dict[str, list[float]] = {}
    shown = [call for call in SHOWN if call < args.calls] + [args.calls]
    print(f"{'':>14} {'loaded':>7} " + " ".join(f"{call:>6}" for call in shown) + "   growth after 200")
    with tempfile.TemporaryDirectory() as folder:
        if not args.model:
            write_model("mini", Path(folder), Path())
            load_reranker(folder, engine="openvino", precision="fp32")  # converts it, once
        running = []
        for case in args.cases:
            model = args.model or ("rerank-mini-en" if case.endswith("int8") else folder)
            command = [sys.executable, __file__, "--one", case, "--model", model, "--calls", str(args.calls)]
            running.append((case, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))  # noqa: S603 - our own script
            if len(running) == 2 or case == args.cases[-1]:
                for name, process in running:
                    seen = found[name] = json.loads(process.communicate()[0])
                    growth = f"{seen[-1] / seen[200] - 1:.1%}" if len(seen) > 201 else ""
                    row = " ".join(f"{seen[call]:>6.0f}" for call in shown)
                    print(f"{name:>14} {seen[0]:>7.0f} {row}   {growth}", flush=True)
                running = []
    if args.plot:
        draw_plot(found, args.plot)


if __name__ == "__main__":
    main()
