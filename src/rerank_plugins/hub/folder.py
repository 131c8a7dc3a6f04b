"""What a model folder holds, by the ecosystem's file names."""

from __future__ import annotations

import functools
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import tokenizer_pad_id
from rerank_plugins.hub.onnx_files import external_files

OPENVINO_FILE = Path("openvino") / "openvino_model.xml"
OPENVINO_INT8_FILE = Path("openvino") / "openvino_model_qint8_quantized.xml"
CONVERTED_FROM_FILE = Path("openvino") / "converted_from.json"
ONNX_FILE = Path("onnx") / "model.onnx"
TORCH_FILES = (Path("model.safetensors"), Path("model.safetensors.index.json"))

CUSTOM_CODE = (
    "config.json takes {classes} from custom code (auto_map), which is never run here, so the torch weights cannot be "
    "used. onnx/model.onnx or openvino/openvino_model.xml can, on the CPU with engine='auto'. Where there is neither, "
    "and you trust the code, make one: optimum-cli export onnx --model MODEL --task text-classification "
    "--trust-remote-code FOLDER. If transformers has the model's class itself, take auto_map out of config.json, in a "
    "folder of your own."
)
"""Why a model cannot be used, and what to do."""
CODELESS_WEIGHTS = f"weights that need no custom code ({OPENVINO_FILE.as_posix()} or {ONNX_FILE.as_posix()})"

# Model types whose position ids start behind the padding id, so that many positions are never used.
_OFFSET_POSITIONS = (
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
)


def has_torch_weights(folder: Path) -> bool:
    """Whether there are safetensors, whole or sharded, of a model that needs no custom code."""
    return any((folder / name).is_file() for name in TORCH_FILES) and not custom_code(folder)


def custom_code(folder: Path) -> list[str]:
    """The classes that ``config.json`` takes from code beside the weights (``auto_map``); empty without any.

    Code from model folders is never run. Where transformers knows the model type it would take its own class instead,
    and that may be another model: JinaBERT calls itself ``bert``. So such torch weights are not used at all.
    """
    try:
        classes = read_config(folder).get("auto_map")
    except ModelLoadError:
        return []
    # Those of tokenizers and processors do not matter here: tokenizer.json is read without them.
    kinds = ("AutoConfig", "AutoModel")
    return [name for name in classes if name.startswith(kinds)] if isinstance(classes, dict) else []


def check_custom_code(folder: Path) -> None:
    """Raise `ModelLoadError` if the torch weights in ``folder`` need custom code."""
    classes = custom_code(folder)
    if classes:
        raise ModelLoadError(f"{folder}: {CUSTOM_CODE.format(classes=', '.join(classes))}")


def find_file(folder: Path, name: Path) -> Path | None:
    """The weights file ``name`` of ``folder``, in its subfolder or in the root, where optimum puts it.

    None where it is missing, or a file that belongs to it is.
    """
    return next((path for path in _places(folder, name) if is_whole(path)), None)


def is_whole(path: Path) -> bool:
    """Whether a weights file is there with all that belongs to it."""
    return path.is_file() and not _absent_parts(path)


def only_int8(folder: Path, *, convertible: bool) -> bool:
    """Whether the int8 file is all that OpenVINO can use; torch weights count if they can be converted."""
    others = any(find_file(folder, name) for name in (OPENVINO_FILE, ONNX_FILE))
    others = others or (convertible and has_torch_weights(folder))
    return not others and find_file(folder, OPENVINO_INT8_FILE) is not None


def needs_conversion(folder: Path) -> bool:
    """Whether there are torch weights and nothing that OpenVINO reads."""
    readable = (OPENVINO_FILE, OPENVINO_INT8_FILE, ONNX_FILE)
    return has_torch_weights(folder) and not any(find_file(folder, name) for name in readable)


def missing_files(folder: Path) -> list[str]:
    """What a cross-encoder folder needs and this one lacks, in words; empty if it is complete."""
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    code = custom_code(folder)
    kinds = (*(() if code else TORCH_FILES), OPENVINO_FILE, OPENVINO_INT8_FILE, ONNX_FILE)
    weights = [path for name in kinds for path in _places(folder, name) if path.is_file()]
    if not weights:
        anything = f"weights ({TORCH_FILES[0]}, {OPENVINO_FILE.as_posix()} or {ONNX_FILE.as_posix()})"
        missing.append(CODELESS_WEIGHTS if code else anything)
    # One whole set of weights is enough; half a set beside it does no harm.
    elif not any(is_whole(path) for path in weights):
        absent = dict.fromkeys(part for path in weights for part in _absent_parts(path))
        missing += [part.relative_to(folder).as_posix() for part in absent]
    return missing


def _places(folder: Path, name: Path) -> list[Path]:
    return list(dict.fromkeys((folder / name, folder / name.name)))


def _absent_parts(path: Path) -> list[Path]:
    return [part for part in parts(path) if not part.is_file()]


def parts(path: Path) -> list[Path]:
    """The files that belong to a weights file, there or not: an IR's .bin, an index's shards, an ONNX's weights."""
    if path.suffix == ".xml":
        return [path.with_suffix(".bin")]
    if path.suffix == ".json":
        try:
            return [path.parent / shard for shard in weight_map(path).values()]
        except ModelLoadError:
            return [path.parent / f"readable {path.name}"]
    return external_files(path) if path.suffix == ".onnx" else []


def weight_map(index: Path) -> dict[str, str]:
    """Tensor names and the shard that holds each, of a ``model.safetensors.index.json``."""
    try:
        mapping = json.loads(index.read_text(encoding="utf-8-sig"))["weight_map"]
        return {str(name): str(shard) for name, shard in mapping.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ModelLoadError(f"{index} cannot be read ({type(exc).__name__}). Download the model again.") from exc


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as a dict; `ModelLoadError` if it is missing or not a JSON object."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ModelLoadError(
            f"{folder} has no config.json. Expected a Hugging Face model folder; download the model again."
        ) from None
    except (OSError, ValueError) as exc:
        raise ModelLoadError(f"{path} cannot be read ({exc}). Download the model again.") from exc
    if not isinstance(config, dict):
        raise ModelLoadError(f"{path} holds {type(config).__name__}, expected a JSON object. Download the model again.")
    return config


def is_cross_encoder(folder: Path) -> bool:
    """Whether ``config.json`` names a sequence classifier or a cross-encoder, or no architecture at all."""
    architectures = read_config(folder).get("architectures")
    if not isinstance(architectures, list) or not architectures:
        return read_config(folder).get("model_type") != "model2vec"
    return any(kind in str(name) for name in architectures for kind in ("SequenceClassification", "CrossEncoder"))


def check_cross_encoder(folder: Path) -> None:
    """Raise `ModelLoadError` unless the config is that of a cross-encoder with one label."""
    config = read_config(folder)
    advice = "Use a cross-encoder trained for ranking, such as BAAI/bge-reranker-v2-m3."
    if not is_cross_encoder(folder):
        raise ModelLoadError(
            f"{folder} is a {config.get('architectures') or config.get('model_type')}, expected a sequence classifier. "
            f"An embedder or a plain encoder has no ranking head. {advice}"
        )
    try:
        labels = len(config.get("id2label") or {}) or int(config.get("num_labels", 1))
    except (TypeError, ValueError) as exc:
        raise ModelLoadError(
            f"{folder / 'config.json'} has unreadable labels ({exc}). Download the model again."
        ) from exc
    if labels != 1:
        raise ModelLoadError(f"{folder} gives {labels} labels a pair, expected 1: a reranker gives one score. {advice}")


def longest_input(folder: Path) -> int | None:
    """Most tokens the model reads, special tokens included; None if the config does not say."""
    config = read_config(folder)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") not in _OFFSET_POSITIONS:
        return positions
    given = config.get("pad_token_id")
    # Behind transformers' padding id, not the tokenizer's; MPNet's own is 1 whatever the configuration says.
    first = 2 if given is None or config["model_type"] == "mpnet" else pad_token_id(folder) + 1
    if first >= positions:
        raise ModelLoadError(
            f"{folder / 'config.json'} has pad_token_id={given} and max_position_embeddings={positions}: the positions "
            f"of a {config['model_type']} begin behind the padding id, so none is left. Download the model again."
        )
    return positions - first


def pad_token_id(folder: Path) -> int:
    """The id that fills up short rows: ``config.json``'s, else the tokenizer's, else the model type's own.

    Raises:
        ModelLoadError: The vocabulary has no such id.
    """
    config = read_config(folder)
    given, size = config.get("pad_token_id"), config.get("vocab_size")
    found: Any = tokenizer_pad_id(folder) if given is None else given
    if found is None:
        found = 1 if config.get("model_type") in _OFFSET_POSITIONS else 0
    known = size if isinstance(size, int) else math.inf
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < known:
        whose = "pad_token_id in its config.json" if given is not None else "its tokenizer's padding token"
        raise ModelLoadError(
            f"{folder} cannot be used: {whose} is {found!r}, expected a whole number from 0 and below vocab_size "
            f"({size!r}). Download the model again, or set pad_token_id to the id of the tokenizer's padding token."
        )
    return found


def sources(folder: Path) -> dict[str, Path]:
    """The weights that conversions and exports are made from: safetensors, else ONNX, else IR; empty without any."""
    onnx, openvino = find_file(folder, ONNX_FILE), find_file(folder, OPENVINO_FILE)
    kinds = (
        [] if custom_code(folder) else sorted(folder.glob("*.safetensors")),
        [onnx, *external_files(onnx)] if onnx else [],
        [openvino.with_suffix(".bin")] if openvino else [],
    )
    found = ([file for file in files if file.is_file()] for files in kinds)
    return {file.relative_to(folder).as_posix(): file for file in next(filter(None, found), [])}


def fingerprint(folder: Path) -> dict[str, list[int | str]]:
    """Size, time and SHA-256 of every file that a conversion or an export is made from."""
    return {
        name: [file.stat().st_size, file.stat().st_mtime_ns, digest(file)] for name, file in sources(folder).items()
    }


def fp32_bytes(folder: Path) -> int:
    """What the safetensors in ``folder`` take in fp32, by their headers; `ModelLoadError` if one is damaged."""
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
    """Whether our own conversion in ``place`` is of other weights than ``folder`` has now.

    False for files that we did not make.
    """
    note = place / CONVERTED_FROM_FILE
    if not note.is_file():
        return False
    try:
        made_from = json.loads(note.read_text(encoding="utf-8"))
        # Torch weights that need custom code were once converted without it.
        astray = custom_code(folder) and any(str(name).endswith(".safetensors") for name in made_from)
        return bool(astray) or weights_changed(folder, made_from)
    except (OSError, ValueError, TypeError):
        return has_torch_weights(folder) or (folder / ONNX_FILE).is_file()


def weights_changed(folder: Path, made_from: Any) -> bool:
    """Whether ``folder`` has other weights than those of a `fingerprint` taken before.

    False where it has none of that kind any more: then nothing is known of them.
    """
    files = sources(folder)
    if not files:
        return False
    try:
        if {Path(name).suffix for name in files}.isdisjoint(Path(name).suffix for name in made_from):
            return False
        return files.keys() != made_from.keys() or any(_changed(file, *made_from[name]) for name, file in files.items())
    except (OSError, ValueError, TypeError, AttributeError):
        return True


def _changed(file: Path, size: int, time: int, content: str) -> bool:
    state = file.stat()
    # A copy has another time and the same content: only then are gigabytes read to find out.
    return state.st_size != size or (state.st_mtime_ns != time and digest(file) != content)


def digest(file: Path) -> str:
    """SHA-256 of the contents; read once a process while size and time stay."""
    state = file.stat()
    return _digest_of(file, state.st_size, state.st_mtime_ns)


@functools.lru_cache(maxsize=64)
def _digest_of(file: Path, _size: int, _time: int) -> str:
    # Loading asks several times, and gigabytes take seconds.
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
