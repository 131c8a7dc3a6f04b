"""Fingerprints of a model's weights: whether a conversion or an export still belongs to the folder's weights."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import list_custom_classes, read_json
from rerank_plugins.hub.folder import ONNX_FILE, OPENVINO_FILE, find_file, find_onnx, has_torch_weights
from rerank_plugins.hub.known_rerankers import TEMPLATE_FILE
from rerank_plugins.hub.modules import list_module_files
from rerank_plugins.hub.onnx_files import list_external_files

CONVERTED_FROM_FILE = Path("openvino") / "converted_from.json"


def list_source_weights(folder: Path) -> dict[str, Path]:
    """The weights that conversions and exports start from, by name: safetensors, else ONNX, else IR.

    With safetensors, also the files of the modules that sentence-transformers puts behind a transformer, and the one
    that says which known reranker it is: by these the tokens of an answer are chosen.
    """
    onnx, openvino = find_onnx(folder), find_file(folder, OPENVINO_FILE)
    torch = [] if list_custom_classes(folder) else sorted(folder.glob("*.safetensors"))
    kinds = (
        # The modules behind a transformer are a part of what is converted.
        [*torch, *list_module_files(folder), folder / TEMPLATE_FILE] if torch else [],
        [onnx, *list_external_files(onnx)] if onnx else [],
        [openvino.with_suffix(".bin")] if openvino else [],
    )
    existing = ([file for file in files if file.is_file()] for files in kinds)
    return {file.relative_to(folder).as_posix(): file for file in next(filter(None, existing), [])}


def fingerprint_weights(folder: Path) -> dict[str, list[int | str]]:
    """Size, time and SHA-256 of every file in `list_source_weights`."""
    return {
        name: [file.stat().st_size, file.stat().st_mtime_ns, hash_file(file)]
        for name, file in list_source_weights(folder).items()
    }


def count_fp32_bytes(folder: Path) -> int:
    """Size in fp32 of the safetensors in ``folder``, by their headers; `ModelLoadError` if one is damaged."""
    total = 0
    for file in folder.glob("*.safetensors"):
        try:
            with file.open("rb") as stream:
                header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
            total += sum(4 * math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
        except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError) as exc:
            raise ModelLoadError(f"{file} cannot be read ({type(exc).__name__}). Download the model again.") from exc
    return total


def conversion_is_stale(folder: Path, place: Path) -> bool:
    """Whether our own conversion in ``place`` was made from other weights than ``folder`` has now.

    False for files that this package did not make.
    """
    try:
        made_from = read_json(place / CONVERTED_FROM_FILE)
    except ModelLoadError:
        return has_torch_weights(folder) or (folder / ONNX_FILE).is_file()
    if made_from is None:
        return False
    # Earlier releases converted torch weights that need custom code without that code.
    wrong = list_custom_classes(folder) and any(name.endswith(".safetensors") for name in made_from)
    return bool(wrong) or _gives_nan(folder, place) or weights_changed(folder, made_from)


def _gives_nan(folder: Path, place: Path) -> bool:
    """Whether the conversion is one of ModernBERT by 0.2.0 or earlier: NaN where padding is longer than its window."""
    try:
        windowed = "local_attention" in (read_json(folder / "config.json") or {})
        return windowed and b"ReduceLogicalOr" not in (place / OPENVINO_FILE).read_bytes()
    except (ModelLoadError, OSError):
        return False


def weights_changed(folder: Path, made_from: Any) -> bool:
    """Whether ``folder`` has other weights than those of ``made_from``, an earlier `fingerprint_weights`.

    False if it has no weights of that kind any more: then nothing is known of them.
    """
    files = list_source_weights(folder)
    if not files:
        return False
    try:
        if {Path(name).suffix for name in files}.isdisjoint(Path(name).suffix for name in made_from):
            return False
        return files.keys() != made_from.keys() or any(_changed(file, *made_from[name]) for name, file in files.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return True


def _changed(file: Path, size: int, time: int, sha256: str) -> bool:
    state = file.stat()
    # A copy has another time and the same content, so only then are gigabytes read to find out.
    return state.st_size != size or (state.st_mtime_ns != time and hash_file(file) != sha256)


def hash_file(file: Path) -> str:
    """SHA-256 of a file; computed once a process while its size and time stay the same."""
    state = file.stat()
    return _hash_file(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _hash_file(file: Path, _size: int, _time: int) -> str:
    # Cached because loading asks several times, and gigabytes take seconds.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
