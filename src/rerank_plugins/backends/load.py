"""Engines that are loaded, by what they are: the model's files, engine, precision, device and threads.

Whoever loads the same again gets the same weights in memory. Nothing is held here: an engine that nobody uses any more
is freed.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from rerank_plugins.hub.cache_dirs import conversion_place

if TYPE_CHECKING:
    from rerank_plugins.backends.auto import Engine, EngineChoice

_DESCRIPTIONS = ("config.json", "model.safetensors.index.json", "fidelity.json", "converted_from.json")
_WEIGHTS = (".safetensors", ".xml", ".bin", ".onnx", ".onnx_data", ".data")

_engines: WeakValueDictionary[Hashable, Engine] = WeakValueDictionary()
_access = threading.Lock()


def _after_fork() -> None:
    global _access  # noqa: PLW0603 - a lock that nobody holds
    _access = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def find_engine(folder: Path, choice: EngineChoice, threads: int | None) -> Engine | None:
    """An engine that is loaded from the files that ``folder`` has now; None if there is none."""
    key = _key(folder, choice, threads)
    with _access:
        return _engines.get(key)


def share_engine(engine: Engine, folder: Path, choice: EngineChoice, threads: int | None) -> Engine:
    """Let others find ``engine``; gives the one to use, which another thread may have loaded meanwhile."""
    # After loading: a conversion has added files by then.
    key = _key(folder, choice, threads)
    with _access:
        return _engines.setdefault(key, engine)


def _key(folder: Path, choice: EngineChoice, threads: int | None) -> Hashable:
    computed: Hashable = None
    if choice.engine == "openvino":
        from rerank_plugins.backends.int8 import int8_is_exact
        from rerank_plugins.backends.openvino import cpu_has_bf16

        computed = (int8_is_exact(), cpu_has_bf16())
    places = dict.fromkeys((folder.resolve(), conversion_place(folder).resolve()))
    state = tuple(_state(place / part) for place in places for part in ("", "openvino", "onnx"))
    return (*places, state, choice.engine, choice.precision, choice.device, threads, computed)


def _state(folder: Path) -> Hashable:
    """Names, sizes and times of the model's files in ``folder``, in order; nothing where it is not there."""
    if not folder.is_dir():
        return ()
    # Not what people keep beside them: calibrations, score caches, notes.
    files = (path for path in sorted(folder.iterdir()) if path.name in _DESCRIPTIONS or path.suffix in _WEIGHTS)
    stats = ((path.name, path.stat()) for path in files if path.is_file())
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
