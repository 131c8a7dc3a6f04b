"""What OpenVINO made of a large model's graph, kept, so that the next load is ready sooner."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from rerank_plugins.backends.cpu import affinity
from rerank_plugins.hub.cache_dirs import cache_root, clear_scratch

_log = logging.getLogger("rerank_plugins")

LARGE = 200_000_000
"""Bytes of weights from which on it pays. bge-reranker-v2-m3's shape in int8 compiles in 1.5 to 1.9 s, and in 0.2 to
0.4 s from the 2 MB that are kept; for the model in the box, 26 MB, they are 49 MB and save nothing (2 cores, AVX2)."""

UNUSED_DAYS = 30
"""After so long what was kept is removed."""

_SCRATCH = ".compiling-"
_VERDICT = "verdict.json"
"""Holds the first load's logits; from the second on, whether what was kept gives the same."""


def compile_kept(core: openvino.Core, graph: Path, config: dict[str, Any]) -> Any:
    """The IR file ``graph`` compiled for the CPU, by what an earlier load kept; the first one keeps it.

    It lies in the folder ``compiled`` of our cache, under a name that depends on the file, on ``config`` and on the
    machine. The weights stay where they are, mapped into memory. The second load computes two rows, as the first one
    did, and compares: a wrong graph would rank in silence.

    Returns:
        The compiled model; None where nothing is kept: the model is small or no IR, OpenVINO is too old to keep graphs
        without their weights, the cache cannot be used, or what was kept gave other logits once.
    """
    weights = graph.with_suffix(".bin")
    if graph.suffix != ".xml" or not weights.is_file() or weights.stat().st_size < LARGE:
        return None
    try:
        place = _place(core, graph, config)
        return _read(core, graph, config, place) if place.exists() else _keep(core, graph, config, place)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as exc:
        _log.debug("Nothing is kept of %s: %s", graph, exc)
        return None


def _compiled(core: openvino.Core, graph: Path, config: dict[str, Any], place: Path) -> Any:
    cached = {**config, "CACHE_DIR": str(place), "CACHE_MODE": "OPTIMIZE_SIZE"}
    return core.compile_model(graph.absolute(), "CPU", cached)


def _keep(core: openvino.Core, graph: Path, config: dict[str, Any], place: Path) -> Any:
    """Compile, and move what is kept into place when it is whole."""
    place.parent.mkdir(parents=True, exist_ok=True)
    clear_scratch(place.parent, _SCRATCH)
    _sweep(place.parent)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=place.parent))
    try:
        compiled = _compiled(core, graph, config, scratch)
        (scratch / _VERDICT).write_text(json.dumps(_logits(compiled).tolist()), encoding="utf-8")
        for path in scratch.iterdir():
            path.chmod(0o644)  # temporary folders and OpenVINO's files are their owner's only
        scratch.chmod(0o755)
        with contextlib.suppress(OSError):  # another process was sooner, or a system that moves no open files
            scratch.replace(place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return compiled


def _read(core: openvino.Core, graph: Path, config: dict[str, Any], place: Path) -> Any:
    """Compile by what is kept in ``place``; None where that gives, or once gave, other logits than the first load."""
    verdict = place / _VERDICT
    # Where a file in it cannot be read OpenVINO would end the process.
    if not os.access(place, os.R_OK | os.X_OK) or not all(os.access(path, os.R_OK) for path in place.iterdir()):
        return None
    expected = json.loads(verdict.read_text(encoding="utf-8"))
    if expected is False:
        return None
    compiled = _compiled(core, graph, config, place)
    same = expected is True or np.allclose(_logits(compiled), expected, atol=1e-2, rtol=0)
    if not same:
        _log.warning("What OpenVINO kept of %s in %s gives other logits; it is not used.", graph, place)
    with contextlib.suppress(OSError):  # somebody else's cache: it will be compared again
        verdict.write_text(json.dumps(bool(same)), encoding="utf-8")
    return compiled if same else None


def _sweep(root: Path) -> None:
    since = time.time() - UNUSED_DAYS * 24 * 3600
    for verdict in root.glob(f"*/{_VERDICT}"):  # written by every load
        with contextlib.suppress(OSError):
            if verdict.stat().st_mtime < since:
                shutil.rmtree(verdict.parent, ignore_errors=True)


def _place(core: openvino.Core, graph: Path, config: dict[str, Any]) -> Path:
    # OpenVINO's own names leave out some settings, the processor and changes of the weights' file.
    files = [graph.stat(), graph.with_suffix(".bin").stat()]
    state = [[file.st_size, file.st_mtime_ns] for file in files]
    machine = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    named = [str(graph.absolute()), state, openvino.__version__, config, machine, affinity()]
    return cache_root() / "compiled" / hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def _logits(compiled: Any) -> Any:
    ids = np.arange(2 * 48, dtype=np.int64).reshape(2, 48)
    given = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    names = {name for port in compiled.inputs for name in port.get_names()}
    return np.array(compiled({name: array for name, array in given.items() if name in names})[0])
