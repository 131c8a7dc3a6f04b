"""A model's name becomes a folder on this machine."""

from __future__ import annotations

import functools
import glob
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from huggingface_hub import constants, model_info, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from rerank_plugins._internal.extras import torch_installed
from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError, MissingExtraError, ModelLoadError, ModelNotFoundError, RerankError
from rerank_plugins.hub import folder as model_folder

_BOX = ("embed-static-en", "rerank-mini-en")
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def box_folders() -> list[Path]:
    """The models in the box: beside this package in a wheel, in ``models/`` of a source checkout."""
    package = Path(__file__).parents[1]
    places = [package / "models"]
    if (package.parents[1] / "pyproject.toml").is_file():
        places.append(package.parents[1] / "models")
    # By name: in a checkout models/ is also where people put what they download.
    return [place / name for name in _BOX for place in places if (place / name / "config.json").is_file()]


def find_model(
    name: str | Path,
    *,
    revision: str | None = None,
    cache_folder: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a cross-encoder.

    Looked at in this order: ``name`` as a folder; the models in the box; ``models/<name>`` and
    ``models/<last part of name>`` under the working directory; the local Hugging Face cache; the hub,
    which downloads. With ``local_files_only`` or ``HF_HUB_OFFLINE=1`` no network call is made. With a
    ``revision`` only the last two are asked: a plain folder does not say which revision it is.

    Raises:
        ModelNotFoundError: No place has it. The message lists the places and the command to get it.
        ModelLoadError: A folder of that name exists and lacks files.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise InvalidInputError(f"model must be a folder or a model's name, got {name!r}.")
    cache_folder = None if cache_folder is None else expand(cache_folder)
    looked: list[str] = []
    local = _local_folder(str(name), looked) if revision is None else None
    if local is not None:
        return _complete(local.expanduser())
    repo_id = str(name)
    if not _REPO_ID.fullmatch(repo_id):
        raise ModelNotFoundError(_advice(repo_id, looked, "it is no model name of the hub either (OWNER/NAME)"))
    where = f"the Hugging Face cache ({cache_folder or constants.HF_HUB_CACHE})"
    try:
        cached = Path(snapshot_download(repo_id, revision=revision, cache_dir=cache_folder, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, RuntimeError):  # the last without a home folder
        looked.append(f"{where}: not there")
    else:
        missing = model_folder.missing_files(cached)
        if not missing:
            return cached
        looked.append(f"{where}: incomplete, {' and '.join(missing)} missing")
    if local_files_only or constants.HF_HUB_OFFLINE:
        reason = "local_files_only=True" if local_files_only else "HF_HUB_OFFLINE is set"
        raise ModelNotFoundError(_advice(repo_id, looked, f"the hub was not asked ({reason})"))
    if cache_folder is None and constants.HF_HUB_CACHE.startswith("~"):
        reason = (
            "it was not asked, because this user has no home folder to download to: set HF_HOME, or give cache_folder"
        )
        raise ModelNotFoundError(_advice(repo_id, looked, reason))
    return _complete(_download(repo_id, revision, cache_folder, looked))


def _local_folder(name: str, looked: list[str]) -> Path | None:
    box = [folder for folder in box_folders() if model_folder.is_cross_encoder(folder)]
    for folder in (Path(name), *(f for f in box_folders() if f.name == name)):
        if is_folder(folder):
            return folder
    looked.append(f"the folder {name}: not there")
    looked.append(f"the models in the box: {', '.join(sorted({f.name for f in box})) or 'none'}")
    for candidate in dict.fromkeys((Path("models") / name, Path("models") / Path(name).name)):
        if is_folder(candidate):
            return candidate
        looked.append(f"{candidate} under the working directory: not there")
    return None


def is_folder(path: Path) -> bool:
    """Whether there is such a folder, as far as this user can see; ``~`` may begin it."""
    try:
        return path.expanduser().is_dir()
    except (OSError, RuntimeError):  # a name too long for the file system, a home of nobody
        return False


def _complete(folder: Path) -> Path:
    missing = model_folder.missing_files(folder)
    if missing:
        if model_folder.CODELESS_WEIGHTS in missing:
            model_folder.check_custom_code(folder)
        found = [*folder.glob("*"), *folder.glob("onnx/*"), *folder.glob("openvino/*")]
        raise ModelLoadError(
            f"{folder} is no complete cross-encoder: {' and '.join(missing)} missing. Expected config.json, "
            f"tokenizer.json and weights. Download it again, or give the folder that holds these files."
            f"{_other_graphs([file.relative_to(folder).as_posix() for file in found])}"
        )
    return folder


def _download(repo_id: str, revision: str | None, cache_folder: str | Path | None, looked: list[str]) -> Path:
    fetch = functools.partial(snapshot_download, repo_id, revision=revision, cache_dir=cache_folder)
    try:
        # One plain request: the client's other ways to list files try for half a minute without a network.
        files = [file.rfilename for file in model_info(repo_id, revision=revision, timeout=10).siblings or ()]
        wanted = _wanted(repo_id, files, custom_code=_custom_code(fetch))
        folder = Path(fetch(allow_patterns=wanted))
        # Only the weights themselves say what belongs to them: shards, and what an ONNX graph keeps outside.
        parts = [glob.escape(name) for name in model_folder.missing_files(folder) if name in files]
        return Path(fetch(allow_patterns=parts)) if parts else folder
    except RevisionNotFoundError as exc:
        reason = f"the hub has no revision {revision!r} of it"
        cause: Exception = exc
    except GatedRepoError as exc:
        reason = "the hub asks you to accept the model's terms first, then `hf auth login`"
        cause = exc
    except RepositoryNotFoundError as exc:
        reason = "the hub has no such model, or it is private and needs `hf auth login`"
        cause = exc
    except RerankError:
        raise
    except Exception as exc:  # noqa: BLE001 - the client's transport has changed its errors with its versions
        reason = f"the hub cannot be reached from here, or refuses the name ({type(exc).__name__})"
        if isinstance(exc, OSError) and exc.errno is not None:
            place = cache_folder or constants.HF_HUB_CACHE
            reason = f"what it sends cannot be kept in {place} ({exc}): set HF_HOME to a folder with room for it"
        cause = exc
    raise ModelNotFoundError(_advice(repo_id, looked, reason)) from cause


def _custom_code(fetch: Callable[..., str]) -> list[str]:
    """`model_folder.custom_code` of a repository, of which only config.json is fetched for it."""
    try:
        return model_folder.custom_code(Path(fetch(allow_patterns=["config.json"])))
    except Exception:  # noqa: BLE001 - what fails here fails again when all is fetched, and is said then
        return []


def _wanted(repo_id: str, files: list[str], *, custom_code: Sequence[str] = ()) -> list[str]:
    """What to download of a repository: its best files for this machine, never pickles or code."""
    shards = [name for name in files if "/" not in name and name.startswith("model") and name.endswith(".safetensors")]
    openvino = [
        name
        for graph in (model_folder.OPENVINO_FILE, model_folder.OPENVINO_INT8_FILE)
        for name in _with_weights(graph, files)
    ]
    onnx = _with_weights(model_folder.ONNX_FILE, files)
    if custom_code and not openvino and not onnx:
        reason = model_folder.CUSTOM_CODE.format(classes=", ".join(custom_code))
        raise ModelLoadError(f"{repo_id} on the hub: {reason}{_other_graphs(files)}")
    if shards and not openvino and not onnx and not torch_installed():
        # Said before gigabytes are fetched, not after.
        raise MissingExtraError("torch", f"{repo_id} has torch weights only; running it", "sentence-transformers")
    weights = [*openvino, *(shards if torch_installed() and not custom_code else [])] or onnx
    if not weights:
        raise ModelLoadError(
            f"{repo_id} on the hub has no weights this package reads: expected model.safetensors, "
            f"openvino/openvino_model.xml or onnx/model.onnx. Pickled weights are never loaded.{_other_graphs(files)}"
        )
    return ["*.json", "*.jinja", *map(glob.escape, weights)]


def _with_weights(graph: Path, files: list[str]) -> list[str]:
    """A graph of a repository, in its subfolder or else in the root, and what by its name belongs to it."""
    place = next((place for place in (graph.as_posix(), graph.name) if place in files), None)
    if place is None:
        return []
    weights = [name for name in files if name.startswith((f"{place}_", f"{place}."))]
    return [place, *([place.removesuffix(".xml") + ".bin"] if graph.suffix == ".xml" else weights)]


def _other_graphs(files: Iterable[str]) -> str:
    """A sentence on graphs of other names, where there are any."""
    taken = {model_folder.ONNX_FILE.name, model_folder.OPENVINO_FILE.name, model_folder.OPENVINO_INT8_FILE.name}
    graphs = [name for name in sorted(files) if re.search(r"\.onnx$|(^|/)openvino_model[^/]*\.xml$", name)]
    found = [name for name in graphs if Path(name).name not in taken]
    if not found:
        return ""
    return (
        f" There is {', '.join(found)}: under such names are graphs that were quantized, or made for one kind of "
        f"processor, and none is taken unasked. To use one, copy it to {model_folder.ONNX_FILE.as_posix()}, or with "
        f"its .bin to {model_folder.OPENVINO_FILE.as_posix()}, in a folder of your own."
    )


def _advice(name: str, looked: list[str], hub: str) -> str:
    places = "".join(f"\n  - {place}" for place in (*looked, f"the hub: {hub}"))
    last = name.rstrip("/").rsplit("/", maxsplit=1)[-1] or "NAME"
    known = name if _REPO_ID.fullmatch(name) and "/" in name else "OWNER/NAME"
    return (
        f"The model {name!r} was not found. Looked at:{places}\n"
        f"To get it, on a machine with a network: hf download {known} --local-dir models/{last}\n"
        f"and run from the directory that holds models/, or give the folder's path.\n"
        f"Without a download there is 'rerank-mini-en' (English), which comes with this package."
    )
