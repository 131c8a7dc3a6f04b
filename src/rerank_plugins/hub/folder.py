"""Which weights a model folder holds, by the ecosystem's file names."""

from __future__ import annotations

from pathlib import Path

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import list_custom_classes, read_json
from rerank_plugins.hub.modules import list_module_files
from rerank_plugins.hub.onnx_files import list_external_files

OPENVINO_FILE = Path("openvino") / "openvino_model.xml"
OPENVINO_INT8_FILE = Path("openvino") / "openvino_model_qint8_quantized.xml"
ONNX_FILE = Path("onnx") / "model.onnx"
ONNX_QUANTIZED_FILE = Path("onnx") / "model_quantized.onnx"
TORCH_FILES = (Path("model.safetensors"), Path("model.safetensors.index.json"))


def has_torch_weights(folder: Path) -> bool:
    """Whether there are safetensors, whole or sharded, of a model that needs no custom code."""
    return any((folder / name).is_file() for name in TORCH_FILES) and not list_custom_classes(folder)


def find_file(folder: Path, name: Path) -> Path | None:
    """The weights file ``name`` of ``folder``, in its subfolder or in the root, where optimum puts it.

    None if it, or a file that belongs to it, is missing.
    """
    return next((path for path in _list_places(folder, name) if is_complete(path)), None)


def find_onnx(folder: Path) -> Path | None:
    """The ONNX file of ``folder``; a quantized one only where there is nothing else to run."""
    graph = find_file(folder, ONNX_FILE)
    others = has_torch_weights(folder) or any(find_file(folder, file) for file in (OPENVINO_FILE, OPENVINO_INT8_FILE))
    return graph if graph is not None or others else find_file(folder, ONNX_QUANTIZED_FILE)


def is_complete(path: Path) -> bool:
    """Whether a weights file exists with all files that belong to it."""
    return path.is_file() and not _list_absent_companions(path)


def list_formats(folder: Path) -> list[str]:
    """Which of the weights ``torch``, ``openvino``, ``int8`` and ``onnx`` there are, in this order."""
    graphs = {
        "torch": has_torch_weights(folder),
        "openvino": find_file(folder, OPENVINO_FILE),
        "int8": find_file(folder, OPENVINO_INT8_FILE),
        "onnx": find_onnx(folder),
    }
    return [name for name, found in graphs.items() if found]


def list_missing_files(folder: Path) -> list[str]:
    """What a cross-encoder folder needs and this one lacks, in words; empty if it is complete."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    custom = list_custom_classes(folder)
    names = (*(() if custom else TORCH_FILES), OPENVINO_FILE, OPENVINO_INT8_FILE, ONNX_FILE, ONNX_QUANTIZED_FILE)
    weights = [path for name in names for path in _list_places(folder, name) if path.is_file()]
    if not weights:
        graphs = f"{OPENVINO_FILE.as_posix()} or {ONNX_FILE.as_posix()}"
        missing.append(
            f"weights that need no custom code ({graphs})" if custom else f"weights ({TORCH_FILES[0]}, {graphs})"
        )
    # One complete set of weights is enough; half a set beside it does no harm.
    elif not any(is_complete(path) for path in weights):
        absent = dict.fromkeys(part for path in weights for part in _list_absent_companions(path))
        missing += [part.relative_to(folder).as_posix() for part in absent]
    return missing + _list_missing_modules(folder)


def _list_missing_modules(folder: Path) -> list[str]:
    """The missing files of modules: their settings and, where torch weights are all there is, their weights."""
    files = [file for file in list_module_files(folder) if not file.is_file()]
    torch_only = list_formats(folder) == ["torch"]
    return [file.relative_to(folder).as_posix() for file in files if torch_only or file.suffix == ".json"]


def list_companion_files(path: Path) -> list[Path]:
    """An IR's ``.bin``, the shards of a safetensors index, or an ONNX graph's external weights, present or not."""
    if path.suffix == ".xml":
        return [path.with_suffix(".bin")]
    if path.suffix == ".json":
        try:
            shards = (read_json(path) or {})["weight_map"].values()
            return [path.parent / str(shard) for shard in shards]
        except (ModelLoadError, KeyError, TypeError, AttributeError):
            return [path.parent / f"readable {path.name}"]
    return list_external_files(path) if path.suffix == ".onnx" else []


def _list_places(folder: Path, name: Path) -> list[Path]:
    return list(dict.fromkeys((folder / name, folder / name.name)))


def _list_absent_companions(path: Path) -> list[Path]:
    return [part for part in list_companion_files(path) if not part.is_file()]
