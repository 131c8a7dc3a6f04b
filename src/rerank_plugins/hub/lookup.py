"""From a model's name to its folder on this machine."""

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
from rerank_plugins.hub.config import explain_custom_code, is_decoder, list_custom_classes, read_config
from rerank_plugins.hub.folder import (
    ONNX_FILE,
    ONNX_QUANTIZED_FILE,
    OPENVINO_FILE,
    OPENVINO_INT8_FILE,
    list_missing_files,
)
from rerank_plugins.hub.head import check_description, is_reranker, is_without_answer
from rerank_plugins.hub.known_rerankers import TEMPLATE_FILE
from rerank_plugins.hub.modules import read_modules

_BUNDLED = ("embed-static-en", "rerank-mini-en")
_REPO_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def list_bundled_models() -> list[Path]:
    """The folders of the bundled models: beside this package in a wheel, in ``models/`` of a source checkout."""
    package = Path(__file__).parents[1]
    places = [package / "models"]
    if (package.parents[1] / "pyproject.toml").is_file():
        places.append(package.parents[1] / "models")
    # By name, because in a checkout people put their downloads into models/ too.
    return [place / name for name in _BUNDLED for place in places if (place / name / "config.json").is_file()]


def find_model(
    name: str | Path,
    *,
    revision: str | None = None,
    cache_folder: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The folder of a cross-encoder.

    These places are searched in order: ``name`` as a folder; the bundled models; ``models/<name>`` and
    ``models/<last part of name>`` under the working directory; the local Hugging Face cache; the hub, which downloads.
    With ``local_files_only`` or ``HF_HUB_OFFLINE=1`` no network call is made. With a ``revision`` only the last two
    are searched: a plain folder does not say which revision it is.

    Raises:
        ModelNotFoundError: No place has it. The message lists the places and the command to get it.
        ModelLoadError: A folder of that name exists and lacks files.
    """
    if not isinstance(name, str | Path) or not str(name).strip():
        raise InvalidInputError(f"model must be a folder or a model's name, got {name!r}.")
    cache_folder = None if cache_folder is None else expand(cache_folder)
    repo_id = str(name)
    searched: list[str] = []
    if revision is None:
        folder, searched = _find_locally(repo_id)
        if folder is not None:
            return _check_complete(folder.expanduser())
    if not _REPO_ID.fullmatch(repo_id):
        servers = ", nor of a server, such as tei:http://host:8080" if ":" in repo_id else ""
        wrong = f"it is no model name of the hub (OWNER/NAME){servers}"
        raise ModelNotFoundError(_describe_search(repo_id, searched, wrong))
    folder, state = _find_in_hf_cache(repo_id, revision, cache_folder)
    if folder is not None:
        return folder
    searched.append(state)
    reason = _why_offline(cache_folder, local_files_only=local_files_only)
    if reason is not None:
        raise ModelNotFoundError(_describe_search(repo_id, searched, reason))
    return _check_complete(_download(repo_id, revision, cache_folder, searched))


def _find_locally(name: str) -> tuple[Path | None, list[str]]:
    """The model's folder outside of the Hugging Face cache, or the places that do not have it, in words."""
    bundled = list_bundled_models()
    candidates = dict.fromkeys((Path("models") / name, Path("models") / Path(name).name))
    for folder in (Path(name), *(model for model in bundled if model.name == name), *candidates):
        if is_folder(folder):
            return folder, []
    rerankers = sorted({model.name for model in bundled if is_reranker(model)})
    return None, [
        f"the folder {name}: not there",
        f"the bundled models: {', '.join(rerankers) or 'none'}",
        *(f"{candidate} under the working directory: not there" for candidate in candidates),
    ]


def is_folder(path: Path) -> bool:
    """Whether the folder exists, as far as this user can see; ``path`` may begin with ``~``."""
    try:
        return path.expanduser().is_dir()
    except (OSError, RuntimeError):  # a name too long for the file system, an unknown user's home
        return False


def _find_in_hf_cache(repo_id: str, revision: str | None, cache_folder: Path | None) -> tuple[Path | None, str]:
    """The complete snapshot in the Hugging Face cache, or what is wrong with it, in words."""
    place = f"the Hugging Face cache ({cache_folder or constants.HF_HUB_CACHE})"
    try:
        folder = Path(snapshot_download(repo_id, revision=revision, cache_dir=cache_folder, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, RuntimeError):  # the last without a home folder
        return None, f"{place}: not there"
    missing = list_missing_files(folder)
    if not missing and is_without_answer(folder):
        # transformers fetches weights and template, and not the file that names the tokens of the answer.
        missing = ["modules.json"]
    return (None, f"{place}: incomplete, {' and '.join(missing)} missing") if missing else (folder, "")


def _why_offline(cache_folder: Path | None, *, local_files_only: bool) -> str | None:
    """Why the hub is not asked; None if it is."""
    if local_files_only or constants.HF_HUB_OFFLINE:
        return f"the hub was not asked ({'local_files_only=True' if local_files_only else 'HF_HUB_OFFLINE is set'})"
    if cache_folder is None and constants.HF_HUB_CACHE.startswith("~"):
        return "it was not asked: this user has no home folder to download to: set HF_HOME, or give cache_folder"
    return None


def _check_complete(folder: Path) -> Path:
    missing = list_missing_files(folder)
    if missing:
        if (folder / "config.json").is_file():
            check_description(folder, str(folder))
        custom = list_custom_classes(folder)
        if custom and any(name.startswith("weights ") for name in missing):
            raise ModelLoadError(f"{folder}: {explain_custom_code(custom)}")
        files = [*folder.glob("*"), *folder.glob("onnx/*"), *folder.glob("openvino/*")]
        raise ModelLoadError(
            f"{folder} is no complete cross-encoder: {' and '.join(missing)} missing. Expected config.json, "
            f"tokenizer.json and weights. Download it again, or give the folder that holds these files."
            f"{_describe_other_graphs([file.relative_to(folder).as_posix() for file in files])}"
        )
    return folder


def _download(repo_id: str, revision: str | None, cache_folder: Path | None, searched: list[str]) -> Path:
    fetch = functools.partial(snapshot_download, repo_id, revision=revision, cache_dir=cache_folder)
    try:
        # One plain request: the client's other ways to list files try for half a minute without a network.
        files = [file.rfilename for file in model_info(repo_id, revision=revision, timeout=10).siblings or ()]
        described = _fetch_description(fetch, files)
        custom, subfolders = [], []
        if described is not None:
            # What cannot be run is refused before gigabytes are downloaded, not after.
            check_description(described, f"{repo_id} on the hub")
            custom = list_custom_classes(described)
            subfolders = [module.path for module in read_modules(described) if module.path]
        selected = _select_files(repo_id, files, custom_classes=custom, subfolders=subfolders)
        folder = Path(fetch(allow_patterns=selected))
        # Only the weights themselves name their shards and their external files.
        parts = [glob.escape(name) for name in list_missing_files(folder) if name in files]
        return Path(fetch(allow_patterns=parts)) if parts else folder
    except RerankError:
        raise
    except Exception as exc:
        reason = _explain_hub_error(exc, revision, cache_folder or constants.HF_HUB_CACHE)
        raise ModelNotFoundError(_describe_search(repo_id, searched, reason)) from exc


def _fetch_description(fetch: Callable[..., str], files: list[str]) -> Path | None:
    """The folder of config.json and, of a decoder or a chain of modules, of all that says how pairs are written.

    None if it cannot be fetched: what fails here fails again, and is reported, with the other files.
    """
    try:
        folder = Path(fetch(allow_patterns=["config.json"]))
        if "modules.json" in files or is_decoder(read_config(folder)):
            named = ["config_sentence_transformers.json", "modules.json", "special_tokens_map.json", TEMPLATE_FILE]
            folder = Path(fetch(allow_patterns=["*config.json", "*.jinja", *named]))
    except Exception:  # noqa: BLE001 - the client's errors have changed with its versions
        return None
    return folder


def _explain_hub_error(exc: Exception, revision: str | None, cache: str | Path) -> str:
    if isinstance(exc, RevisionNotFoundError):
        return f"the hub has no revision {revision!r} of it"
    if isinstance(exc, GatedRepoError):
        return "the hub asks you to accept the model's terms first, then `hf auth login`"
    if isinstance(exc, RepositoryNotFoundError):
        return "the hub has no such model, or it is private and needs `hf auth login`"
    if isinstance(exc, OSError) and exc.errno is not None:
        return f"the download cannot be written to {cache} ({exc}): set HF_HOME to a folder with free space"
    # The client's transport has changed its errors with its versions.
    return f"the hub cannot be reached from here, or refuses the name ({type(exc).__name__})"


def _select_files(
    repo_id: str, files: list[str], *, custom_classes: Sequence[str] = (), subfolders: Sequence[str] = ()
) -> list[str]:
    """What to download of a repository: its best files for this machine, never pickles or code."""
    shards = [name for name in files if "/" not in name and name.startswith("model") and name.endswith(".safetensors")]
    graphs = [place for graph in (OPENVINO_FILE, OPENVINO_INT8_FILE) for place in _find_place(graph, files)]
    openvino = [*graphs, *(graph.removesuffix("xml") + "bin" for graph in graphs)]
    onnx = _find_place(ONNX_FILE, files)
    if not onnx and not openvino and (custom_classes or not shards):
        onnx = _find_place(ONNX_QUANTIZED_FILE, files)  # there is nothing else to run
    if custom_classes and not openvino and not onnx:
        reason = explain_custom_code(list(custom_classes))
        raise ModelLoadError(f"{repo_id} on the hub: {reason}{_describe_other_graphs(files)}")
    if shards and not openvino and not onnx and not torch_installed():
        # Raised before gigabytes are downloaded, not after.
        raise MissingExtraError("torch", f"{repo_id} has torch weights only; running it", "sentence-transformers")
    weights = [*openvino, *(shards if torch_installed() and not custom_classes else [])] or onnx
    if not weights:
        raise ModelLoadError(
            f"{repo_id} on the hub has no weights this package reads: expected model.safetensors, "
            f"openvino/openvino_model.xml or onnx/model.onnx. Pickled weights are never loaded."
            f"{_describe_other_graphs(files)}"
        )
    modules = [f"{path}/model.safetensors" for path in subfolders] if shards else []
    return ["*.json", "*.jinja", *map(glob.escape, [*weights, *modules])]


def _find_place(graph: Path, files: list[str]) -> list[str]:
    """The graph's name in a repository, in its subfolder or else in the root; empty if it is in neither."""
    return [place for place in (graph.as_posix(), graph.name) if place in files][:1]


def _describe_other_graphs(files: Iterable[str]) -> str:
    """A sentence about graphs under other names; empty without any."""
    known = {ONNX_FILE.name, OPENVINO_FILE.name, OPENVINO_INT8_FILE.name}
    graphs = [name for name in sorted(files) if re.search(r"\.onnx$|(^|/)openvino_model[^/]*\.xml$", name)]
    others = [name for name in graphs if Path(name).name not in known]
    if not others:
        return ""
    return (
        f" There is {', '.join(others)}: under such names are graphs that were quantized, or made for one kind of "
        f"processor, and none is taken unasked. To use one, copy it to {ONNX_FILE.as_posix()}, or with "
        f"its .bin to {OPENVINO_FILE.as_posix()}, in a folder of your own."
    )


def _describe_search(name: str, searched: list[str], hub: str) -> str:
    places = "".join(f"\n  - {place}" for place in (*searched, f"the hub: {hub}"))
    last = name.rstrip("/").rsplit("/", maxsplit=1)[-1] or "NAME"
    repo_id = name if _REPO_ID.fullmatch(name) and "/" in name else "OWNER/NAME"
    return (
        f"The model {name!r} was not found. Looked at:{places}\n"
        f"To get it, on a machine with a network: hf download {repo_id} --local-dir models/{last}\n"
        f"and run from the directory that holds models/, or give the folder's path.\n"
        f"Without a download there is 'rerank-mini-en' (English), which comes with this package."
    )
