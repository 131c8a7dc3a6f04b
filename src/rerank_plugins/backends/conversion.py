"""A Hugging Face folder becomes OpenVINO IR, once."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import openvino
from filelock import FileLock, Timeout
from openvino.frontend import FrontEndManager

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.cache_dirs import clear_scratch, conversion_place, lock_path

_log = logging.getLogger("rerank_plugins")
_SCRATCH = ".converting-"


def converted(folder: Path) -> Any:
    """Convert the safetensors in ``folder`` and keep the result where `conversion_place` says; returns its path.

    One process converts, others that want the same wait for it and read what it made. The result is
    written under another name and moved into place, weights first, so that a killed conversion leaves
    nothing that would be read. Where it cannot be kept, the model is returned instead and a warning
    is logged.
    """
    place = conversion_place(folder)
    target = place / model_folder.OPENVINO_FILE
    with _alone(place):
        if target.is_file() and not model_folder.conversion_is_stale(folder, place):
            return target  # another process made it while this one waited
        start = time.monotonic()
        model = convert(folder)
        try:
            _keep(model, target, model_folder.fingerprint(folder))
            _log.warning("Converted in %.0f seconds; the next load reads %s.", time.monotonic() - start, target)
        except (OSError, RuntimeError) as exc:  # openvino reports a full disk as RuntimeError
            _log.warning("The conversion cannot be kept in %s (%s); it will be done again next time.", place, exc)
            return model
    return target


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    path = lock_path(place)
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        _log.warning("Another process is converting the same model; waiting for it.")
        lock.acquire()
    except OSError as exc:
        _log.warning("%s cannot be locked (%s); if several processes convert, each does the work.", path, exc)
    try:
        yield
    finally:
        lock.release()


def _keep(model: Any, target: Path, made_from: dict[str, list[int | str]]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    _check_space(model, target.parent)
    clear_scratch(target.parent, _SCRATCH)
    scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=target.parent))
    try:
        openvino.save_model(model, scratch / target.name, compress_to_fp16=False)
        note = scratch / model_folder.CONVERTED_FROM_FILE.name
        note.write_text(json.dumps(made_from), encoding="utf-8")
        target.unlink(missing_ok=True)  # a stale one must not meet the new weights
        note.replace(target.with_name(note.name))
        (scratch / target.name).with_suffix(".bin").replace(target.with_suffix(".bin"))
        (scratch / target.name).replace(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _check_space(model: Any, folder: Path) -> None:
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    needed = sum(constant.get_byte_size() for constant in constants)
    _log.warning("3 of 3: writing %.2f GB.", needed / 1e9)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OSError(f"it takes {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free")


def convert(folder: Path) -> Any:
    """The sequence classifier in ``folder`` as an fp32 OpenVINO model with dynamic batch and length."""
    try:
        import torch

        from rerank_plugins.backends.first_token import only_first_token
        from rerank_plugins.backends.torch import load_torch_model, takes_token_types
    except ImportError as exc:
        raise MissingExtraError(
            "torch", f"{folder.name} has torch weights only; converting them for the CPU", str(exc.name)
        ) from exc
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e9
    _log.warning("Converting %s for the CPU, once. 1 of 3: reading %.2f GB of weights.", folder, size)
    module = load_torch_model(folder, "fp32", "cpu")
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if takes_token_types(module) else [])]
    pad = model_folder.pad_token_id(folder)
    example = {name: torch.ones((2, 8), dtype=torch.int64) for name in names}
    # Ids away from the padding id, and one padded place, so that tracing sees an ordinary batch.
    # All different, where the vocabulary allows: equal ones would hide where a layer looks.
    known = int(getattr(module.config, "vocab_size", 0)) or pad + 22
    others = (torch.arange(16) + 4) % max(1, known - 1) + 1  # steps from the padding id that lead to another one
    example["input_ids"] = ((pad + others) % known).reshape(2, 8)
    example["input_ids"][1, -1] = pad
    example["attention_mask"][1, -1] = 0
    with torch.inference_mode():
        only_first_token(module, example)
    _log.warning("2 of 3: tracing the model.")
    return traced(module, example)


def traced(module: Any, example: dict[str, Any]) -> Any:
    """A torch module as an OpenVINO model whose inputs are named as ``example``'s tensors."""
    import torch
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    # The frontend itself, not openvino.convert_model: that one reports every call over the network
    # unless the user has opted out.
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing warns about branches that do not depend on the input
        # A name of its own: the frontend reads from the decoder until convert() has returned.
        decoder = TorchScriptPythonDecoder(module, example_input=example)
        return frontend.convert(frontend.load(decoder))
