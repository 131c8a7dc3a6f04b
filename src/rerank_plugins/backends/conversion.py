"""Converts the safetensors of a Hugging Face folder to OpenVINO IR, once."""

from __future__ import annotations

import json
import logging
import time
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import openvino
from openvino.frontend import FrontEndManager

from rerank_plugins._internal.extras import torch_installed
from rerank_plugins._internal.files import acquire_lock, free_bytes, make_scratch_folder
from rerank_plugins.errors import MissingExtraError
from rerank_plugins.hub.cache_dirs import conversion_folder, lock_path
from rerank_plugins.hub.config import find_pad_token_id
from rerank_plugins.hub.folder import OPENVINO_FILE
from rerank_plugins.hub.weights import CONVERTED_FROM_FILE, conversion_is_stale, fingerprint_weights

_log = logging.getLogger("rerank_plugins")


def convert_once(folder: Path) -> Any:
    """Convert the safetensors in ``folder``, save the IR where `conversion_folder` says, and return its path.

    One process converts; others that want the same wait for it and read its result. Files are written under another
    name and moved into place, weights first, so that a killed conversion leaves nothing that would be read. If the IR
    cannot be saved, the model is returned instead and a warning is logged.
    """
    place = conversion_folder(folder)
    target = place / OPENVINO_FILE
    with _lock(place):
        if target.is_file() and not conversion_is_stale(folder, place):
            return target  # another process converted it while this one waited
        start = time.monotonic()
        model = convert(folder)
        try:
            _save(model, target, fingerprint_weights(folder))
        except (OSError, RuntimeError) as exc:  # openvino reports a full disk as RuntimeError
            _log.warning("The conversion cannot be kept in %s (%s); it will be done again next time.", place, exc)
            return model
        _log.warning("Converted in %.0f seconds; the next load reads %s.", time.monotonic() - start, target)
    return target


def _lock(place: Path) -> AbstractContextManager[Any]:
    path = lock_path(place)
    try:
        return acquire_lock(path, lambda: _log.warning("Another process is converting the same model; waiting for it."))
    except OSError as exc:
        _log.warning("%s cannot be locked (%s); if several processes convert, each does the work.", path, exc)
        return nullcontext()


def _save(model: Any, target: Path, made_from: dict[str, list[int | str]]) -> None:
    with make_scratch_folder(target.parent, ".converting-") as name:
        _check_space(model, target.parent)
        scratch = Path(name) / target.name
        openvino.save_model(model, scratch, compress_to_fp16=False)
        note = scratch.with_name(CONVERTED_FROM_FILE.name)
        note.write_text(json.dumps(made_from), encoding="utf-8")
        target.unlink(missing_ok=True)  # a stale graph must not meet the new weights
        note.replace(target.with_name(note.name))
        scratch.with_suffix(".bin").replace(target.with_suffix(".bin"))
        scratch.replace(target)


def _check_space(model: Any, folder: Path) -> None:
    needed = sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")
    _log.warning("3 of 3: writing %.2f GB.", needed / 1e9)
    free = free_bytes(folder)
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free")


def convert(folder: Path) -> Any:
    """The sequence classifier in ``folder`` as an fp32 OpenVINO model with dynamic batch and length."""
    if not torch_installed():
        purpose = f"{folder.name} has torch weights only; converting them for the CPU"
        raise MissingExtraError("torch", purpose, "sentence-transformers")
    import torch

    from rerank_plugins.backends.first_token import limit_to_first_token
    from rerank_plugins.backends.torch_model import load_torch_model, takes_token_types

    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9
    _log.warning("Converting %s for the CPU, once. 1 of 3: reading %.2f GB of weights.", folder, size)
    module = load_torch_model(folder, "fp32", "cpu")
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_token_types(module) else [])]
    pad = find_pad_token_id(folder)
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in names}
    # An ordinary batch for tracing: one padded token, and elsewhere ids that are not the padding id. They all differ
    # if the vocabulary is large enough: equal ones would hide which position a layer reads.
    size_of_vocabulary = int(getattr(module.config, "vocab_size", 0)) or pad + 22
    steps = (torch.arange(16) + 4) % max(1, size_of_vocabulary - 1) + 1  # from the padding id, never back to it
    example["input_ids"] = ((pad + steps) % size_of_vocabulary).reshape(2, 8)
    example["input_ids"][1, -1] = pad
    example["attention_mask"][1, -1] = 0
    with torch.inference_mode():
        limit_to_first_token(module, example)
    _log.warning("2 of 3: tracing the model.")
    return trace_model(module, example)


def trace_model(module: Any, example: dict[str, Any]) -> Any:
    """A torch module as an OpenVINO model whose inputs are named as ``example``'s tensors."""
    import torch
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The frontend itself instead of openvino.convert_model, which reports every call over the network unless the user
    # has opted out.
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about branches that do not depend on the input
        # In a variable, because the frontend reads from the decoder until convert() has returned.
        decoder = TorchScriptPythonDecoder(module, example_input=example)
        model = frontend.convert(frontend.load(decoder))
    keep_masked_rows_finite(model)
    return model


def keep_masked_rows_finite(model: Any) -> None:
    """Let tokens that may attend to nothing attend to everything, in place.

    Such tokens are padding further from the text than a sliding window reaches. torch gives zeros for them, OpenVINO
    NaN, which the next layer spreads to all tokens: zero times NaN is NaN. No other token reads theirs.
    """
    import numpy as np
    from openvino import opset13 as ops

    changed: dict[Any, Any] = {}
    for op in model.get_ordered_ops():
        if op.get_type_name() != "ScaledDotProductAttention" or op.get_input_size() < 4:
            continue
        mask = op.input_value(3)
        if mask.get_element_type() != openvino.Type.boolean:
            continue  # numbers are added to the scores, and are finite
        key = (mask.get_node().get_friendly_name(), mask.get_index())
        if key not in changed:
            reads_something = ops.reduce_logical_or(mask, np.array([-1]), keep_dims=True)
            changed[key] = ops.logical_or(mask, ops.logical_not(reads_something)).output(0)
        op.input(3).replace_source_output(changed[key])
