"""`load_engine` loads a model once a process; `fingerprint_model` names everything that its scores depend on."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from rerank_plugins._internal.fork import make_lock
from rerank_plugins._internal.loading_options import EngineName, Precision
from rerank_plugins.backends import cpu
from rerank_plugins.backends.auto import EngineChoice, choose_engine
from rerank_plugins.backends.base import Engine
from rerank_plugins.errors import ModelLoadError, RerankError
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.config import find_pad_token_id, read_config
from rerank_plugins.hub.folder import OPENVINO_FILE, list_companion_files
from rerank_plugins.hub.known_rerankers import TEMPLATE_FILE
from rerank_plugins.hub.modules import list_module_files
from rerank_plugins.hub.weights import CONVERTED_FROM_FILE, hash_file, list_source_weights

# Increase it when pairs are encoded otherwise: cached scores would be of other rows.
_ENCODING_VERSION = 2


_log = logging.getLogger("rerank_plugins")

# The files whose change means another model. Not what people keep beside them: calibrations, score caches, notes.
_DESCRIPTIONS = ("config.json", "model.safetensors.index.json", "fidelity.json", "converted_from.json", TEMPLATE_FILE)
_WEIGHTS = (".safetensors", ".xml", ".bin", ".onnx", ".onnx_data", ".data")

# Engines in memory. The references are weak, so that an engine that nobody uses any more is freed.
_engines: WeakValueDictionary[Hashable, Engine] = WeakValueDictionary()
_engines_lock = make_lock()


def load_engine(
    folder: Path,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
    label: int | None = None,
) -> Engine:
    """Load the model in ``folder``, or return the engine that was loaded from the same files in the same way."""
    choice = choose_engine(folder, engine=engine, precision=precision, device=device)
    with _engines_lock:
        loaded = _engines.get(_key(folder, choice, threads, label))
    if loaded is not None:
        if choice.engine == "torch" and choice.device == "cpu" and threads is not None:
            import torch

            torch.set_num_threads(threads)  # another engine may have changed it meanwhile
        return loaded
    _log.info("%s: %s, %s on %s (%s)", folder, choice.engine, choice.precision, choice.device, choice.why)
    pad = find_pad_token_id(folder)
    try:
        new = _create_engine(folder, choice, threads, label)
        if _reads_padding(new, folder, pad):
            new.pad_to_multiple_of, new.max_padding = 1, 0.0
    except (RerankError, MemoryError):
        raise
    except Exception as exc:
        # What an architecture does not like surfaces as TypeError, ValueError, RuntimeError and others.
        remedy = "Use another model, or report this one."
        if read_config(folder).get("pad_token_id") is None:
            remedy = f"Its config.json gives no pad_token_id, which some model types need: set it to {pad}."
        reason = f"{type(exc).__name__}: {' '.join(str(exc).split())[:400]}"
        raise ModelLoadError(f"{folder} cannot be loaded ({reason}). {remedy}") from exc
    # The key is computed again: a conversion has added files. Another thread may have loaded the model meanwhile.
    with _engines_lock:
        return _engines.setdefault(_key(folder, choice, threads, label), new)


def _create_engine(folder: Path, choice: EngineChoice, threads: int | None, label: int | None) -> Any:
    if choice.engine == "torch":
        from rerank_plugins.backends.torch import TorchEngine

        return TorchEngine(folder, choice.precision, choice.device, threads, label)
    from rerank_plugins.backends.openvino import OpenVINOEngine

    return OpenVINOEngine(folder, choice.precision, threads, label)


def _reads_padding(engine: Engine, folder: Path, pad: int) -> bool:
    """Whether padding changes a row's logit in spite of the attention mask.

    It does in ConvBERT, whose convolutions take no mask, in FNet and in Nystromformer. Their rows must not be padded.
    A model that cannot score two rows raises here, before it is used.
    """
    length = 8
    shape = (2, 4 * length)
    ids, mask, types = np.full(shape, pad, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    ids[:, :length], mask[:, :length] = 0 if pad else 1, 1
    # The second half is a passage, if the model tells segments apart.
    types[:, length // 2 : length] = int(read_config(folder).get("type_vocab_size") or 0) > 1
    alone = engine.logits(ids[:, :length], mask[:, :length], types[:, :length])
    padded = engine.logits(ids, mask, types)
    # Below fp32, rounding depends on the shape: logits of bf16 moved by .02 in a stand-in, these architectures' by
    # whole units.
    return bool(np.abs(alone - padded).max() > (1e-3 if engine.precision == "fp32" else 0.2))


def _key(folder: Path, choice: EngineChoice, threads: int | None, label: int | None) -> Hashable:
    """All that an engine depends on: names, sizes and times of the model's files, and the arithmetic."""
    arithmetic = (cpu.int8_is_exact(), cpu.has_bf16()) if choice.engine == "openvino" else None
    places = dict.fromkeys((folder.resolve(), conversion_folder(folder).resolve()))
    files = [path for place in places for part in ("", "openvino", "onnx") for path in sorted((place / part).glob("*"))]
    files = [path for path in files if path.name in _DESCRIPTIONS or path.suffix in _WEIGHTS]
    files += list_module_files(folder)
    states = tuple((path, path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file())
    return (*places, states, choice.engine, choice.precision, choice.device, threads, label, arithmetic)


def fingerprint_model(folder: Path, engine: Engine) -> str:
    """A string that changes with the contents of the files that ``engine`` was loaded from, and with its arithmetic.

    Reads all weights once a process, which takes some seconds for gigabytes.
    """
    files = [*list_source_weights(folder).values(), folder / "tokenizer.json", folder / "config.json"]
    arithmetic: list[Any] = [engine.name, engine.precision]
    if engine.name == "openvino":
        from rerank_plugins.backends.openvino import find_graph, find_int8_graph, rest_in_bf16

        graph = find_int8_graph(folder) if engine.precision == "int8" else find_graph(folder)
        if graph is not None and not _is_own_conversion(graph):
            files += [graph, *list_companion_files(graph)]
        if engine.precision == "int8":
            # Scores from before attention was no longer fused are other numbers.
            arithmetic += [rest_in_bf16(folder) and "attention not fused", cpu.int8_is_exact()]
    hashes = [hash_file(file) for file in files if file.is_file()]
    return json.dumps([_ENCODING_VERSION, hashes, arithmetic])


def _is_own_conversion(graph: Path) -> bool:
    """Whether this package made the graph from weights that are among the files already."""
    return graph.name == OPENVINO_FILE.name and graph.with_name(CONVERTED_FROM_FILE.name).is_file()
