"""What OpenVINO made of a large model's graph, kept, so that the next load is ready sooner."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from rerank_plugins.engines.conversion_place import cache_root, clear_scratch
from rerank_plugins.engines.cpus import affinity

_log = logging.getLogger("rerank_plugins.runtime")

LARGE = 200_000_000
"""Bytes of weights from which on it pays. bge-reranker-v2-m3's shape in int8 compiles in 1.5 to 1.9 s, and in 0.2 to
0.4 s from the 2 MB that are kept; for the model in the box, 26 MB, they are 49 MB and save nothing (2 cores, AVX2)."""

_SCRATCH = ".compiling-"
_SOURCE = "made-from.json"


def compile_kept(core: openvino.Core, graph: Path, config: dict[str, Any]) -> Any:
    """The IR file ``graph`` compiled for the CPU, by what an earlier load kept; the first one keeps it.

    It lies in the folder ``compiled`` of our cache, under a name that depends on the file, on ``config`` and on the
    machine. The weights stay where they are, mapped into memory. What belongs to a file that is gone is removed.

    Returns:
        The compiled model; None where nothing is kept: the model is small or no IR, OpenVINO is too old to keep graphs
        without their weights, the cache cannot be written to, or what was kept gives other logits.
    """
    weights = graph.with_suffix(".bin")
    if graph.suffix != ".xml" or not weights.is_file() or weights.stat().st_size < LARGE:
        return None
    try:
        place = _place(core, graph, config)
        return _compiled(core, graph, config, place) if place.is_dir() else _fill(core, graph, config, place)
    except (OSError, RuntimeError) as exc:
        _log.debug("Nothing is kept of %s: %s", graph, exc)
        return None


def _compiled(core: openvino.Core, graph: Path, config: dict[str, Any], place: Path) -> Any:
    # A file in it that is damaged is made again by OpenVINO itself.
    return core.compile_model(graph, "CPU", {**config, "CACHE_DIR": str(place), "CACHE_MODE": "OPTIMIZE_SIZE"})


def _fill(core: openvino.Core, graph: Path, config: dict[str, Any], place: Path) -> Any:
    """Compile and keep; moved into place when it is whole and gives the same logits."""
    place.parent.mkdir(parents=True, exist_ok=True)
    clear_scratch(place.parent, _SCRATCH)
    _sweep(place.parent)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=place.parent))
    try:
        expected = _logits(_compiled(core, graph, config, scratch))
        compiled = _compiled(core, graph, config, scratch)
        if not np.allclose(_logits(compiled), expected, atol=1e-3, rtol=0):
            raise RuntimeError("read again, it gives other logits")
        (scratch / _SOURCE).write_text(json.dumps([str(graph.resolve()), _state(graph)]), encoding="utf-8")
        with contextlib.suppress(OSError):  # another process was sooner, or a system that moves no open files
            scratch.replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return compiled


def _sweep(root: Path) -> None:
    """Remove what was kept of graphs that have changed or are gone."""
    for source in root.glob(f"*/{_SOURCE}"):
        with contextlib.suppress(OSError, ValueError):
            graph, state = json.loads(source.read_text(encoding="utf-8"))
            if not Path(graph).is_file() or _state(Path(graph)) != state:
                shutil.rmtree(source.parent, ignore_errors=True)


def _place(core: openvino.Core, graph: Path, config: dict[str, Any]) -> Path:
    # OpenVINO's own names leave out some settings, the processor and changes of the weights' file.
    machine = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    named = [str(graph.resolve()), _state(graph), openvino.__version__, config, machine, affinity()]
    return cache_root() / "compiled" / hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def _state(graph: Path) -> list[list[int]]:
    files = [graph.stat(), graph.with_suffix(".bin").stat()]
    return [[file.st_size, file.st_mtime_ns, file.st_ino] for file in files]


def _logits(compiled: Any) -> Any:
    ids = np.arange(2 * 48, dtype=np.int64).reshape(2, 48)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    names = {name for port in compiled.inputs for name in port.get_names()}
    return np.array(compiled({name: array for name, array in given.items() if name in names})[0])
