"""The compiled-model cache: OpenVINO's compiled form of a large model is kept, so that the next load is quicker."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino

from rerank_plugins._internal.files import make_scratch_folder
from rerank_plugins.backends.cpu import count_affinity_cpus
from rerank_plugins.hub.cache_dirs import cache_root

_log = logging.getLogger("rerank_plugins")

MIN_WEIGHT_BYTES = 200_000_000
"""Size of the weights from which on the cache is used.

bge-reranker-v2-m3's shape in int8 compiles in 1.5 to 1.9 s, and in 0.2 to 0.4 s from its cache entry of 2 MB. For the
bundled reranker, 26 MB, an entry would be 49 MB and save nothing (2 cores, AVX2).
"""

MAX_UNUSED_DAYS = 30
"""Entries that were not used for longer are removed."""

# In each entry: the logits of the load that made it; from the second load on, whether the entry gives the same logits.
_VERDICT = "verdict.json"


def compile_cached(core: openvino.Core, graph: Path, config: dict[str, Any]) -> Any:
    """Compile the IR file ``graph`` for the CPU from its cache entry, or create that entry.

    Entries lie in the folder ``compiled`` of our cache, under a name that depends on the file, on ``config`` and on the
    machine. They hold no weights: these are mapped from the IR. The second load scores two rows as the first one did
    and compares, because a wrong entry would rank wrongly in silence.

    None if the cache does not apply: the model is small or no IR, OpenVINO is too old for entries without weights, the
    cache cannot be used, or the entry once gave other logits.
    """
    weights = graph.with_suffix(".bin")
    if graph.suffix != ".xml" or not weights.is_file() or weights.stat().st_size < MIN_WEIGHT_BYTES:
        return None
    try:
        entry = _entry_path(core, graph, config)
        return (_read_entry if entry.exists() else _create_entry)(core, graph, config, entry)
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as exc:
        _log.debug("The compiled-model cache is not used for %s: %s", graph, exc)
        return None


def _compile(core: openvino.Core, graph: Path, config: dict[str, Any], entry: Path) -> Any:
    config = {**config, "CACHE_DIR": str(entry), "CACHE_MODE": "OPTIMIZE_SIZE"}
    return core.compile_model(graph.absolute(), "CPU", config)


def _create_entry(core: openvino.Core, graph: Path, config: dict[str, Any], entry: Path) -> Any:
    """Compile, and move the new entry into place when it is complete."""
    with make_scratch_folder(entry.parent, ".compiling-") as name:
        _remove_unused(entry.parent)
        scratch = Path(name)
        compiled = _compile(core, graph, config, scratch)
        (scratch / _VERDICT).write_text(json.dumps(_score_two_rows(compiled).tolist()), encoding="utf-8")
        for path in (scratch, *scratch.iterdir()):  # which only their owner may read
            path.chmod(0o755 if path == scratch else 0o644)
        with contextlib.suppress(OSError):  # another process was quicker, or the system does not move open files
            scratch.replace(entry)
    return compiled


def _read_entry(core: openvino.Core, graph: Path, config: dict[str, Any], entry: Path) -> Any:
    """Compile from ``entry``; None if it gives, or once gave, other logits than the load that made it."""
    verdict = entry / _VERDICT
    # OpenVINO would end the process if it could not read a file of the entry.
    if not os.access(entry, os.R_OK | os.X_OK) or not all(os.access(path, os.R_OK) for path in entry.iterdir()):
        return None
    expected = json.loads(verdict.read_text(encoding="utf-8"))
    if expected is False:
        return None
    compiled = _compile(core, graph, config, entry)
    same = expected is True or np.allclose(_score_two_rows(compiled), expected, atol=1e-2, rtol=0)
    if not same:
        _log.warning("The compiled model of %s in %s gives other logits; it is not used.", graph, entry)
    with contextlib.suppress(OSError):  # another user's cache: it will be compared again
        verdict.write_text(json.dumps(bool(same)), encoding="utf-8")
    return compiled if same else None


def _remove_unused(root: Path) -> None:
    oldest = time.time() - MAX_UNUSED_DAYS * 24 * 3600
    for verdict in root.glob(f"*/{_VERDICT}"):  # every load writes it
        with contextlib.suppress(OSError):
            if verdict.stat().st_mtime < oldest:
                shutil.rmtree(verdict.parent, ignore_errors=True)


def _entry_path(core: openvino.Core, graph: Path, config: dict[str, Any]) -> Path:
    # OpenVINO's own names do not depend on some settings, on the processor and on changes of the weights' file.
    files = [graph.stat(), graph.with_suffix(".bin").stat()]
    state = [[file.st_size, file.st_mtime_ns] for file in files]
    machine = [core.get_property("CPU", name) for name in ("FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES")]
    key = [str(graph.absolute()), state, openvino.__version__, config, machine, count_affinity_cpus()]
    return cache_root() / "compiled" / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def _score_two_rows(compiled: Any) -> Any:
    ids = np.arange(2 * 48, dtype=np.int64).reshape(2, 48)
    inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    names = {name for port in compiled.inputs for name in port.get_names()}
    return np.array(compiled({name: array for name, array in inputs.items() if name in names})[0])
