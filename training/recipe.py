"""What the recipes of all bundled models share: steps that are run once, and cards that are filled in."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path


def run_step(script: Path, result: Path, work: Path, *arguments: object) -> None:
    """Run one script unless its result exists; note the minutes it took, and on what, in ``work``/times.jsonl."""
    if result.exists():
        print(f"{script.stem}: {result.name} is there", flush=True)
        return
    print(f"{script.stem} …", flush=True)
    began = time.monotonic()
    subprocess.run([sys.executable, str(script), *map(str, arguments)], check=True)  # noqa: S603
    note = {"step": script.stem, "minutes": round((time.monotonic() - began) / 60, 1), "hardware": describe_hardware()}
    with (work / "times.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(note) + "\n")


def describe_hardware() -> str:
    """Cores and processor, as Linux names them."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    named = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return f"{len(os.sched_getaffinity(0))} cores of {named[0] if named else platform.processor()}"


def format_table(heads: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    """A table in Markdown, floats with three digits."""
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [
        f"| {' | '.join(f'{cell:.3f}' if isinstance(cell, float) else str(cell) for cell in row)} |" for row in rows
    ]
    return "\n".join(lines)


def describe_times(file: Path) -> str:
    """Minutes of each step and the machine, in one sentence; a step that was stopped and went on is summed."""
    minutes: dict[str, float] = {}
    machines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        note = json.loads(line)
        minutes[note["step"]] = minutes.get(note["step"], 0.0) + note["minutes"]
        machines.append(note["hardware"])
    steps = ", ".join(f"{name} {total:.0f} min" for name, total in minutes.items())
    return f"{' and '.join(dict.fromkeys(machines))}, no accelerator, other work on the machine: {steps}."


def write_card(template: Path, card: Path, values: dict[str, str]) -> None:
    """Write ``template`` with ``values`` in its places (``<!-- name -->``); SystemExit for one that nothing fills."""
    text = template.read_text(encoding="utf-8")
    for name, value in values.items():
        text = text.replace(f"<!-- {name} -->", value)
    if "<!--" in text:
        raise SystemExit(f"{template.name} has a place that nothing fills: {text[text.index('<!--') :][:40]}")
    card.write_text(text, encoding="utf-8")
