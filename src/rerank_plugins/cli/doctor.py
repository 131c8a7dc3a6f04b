"""`rerank-plugins doctor`: versions, engines, and what this machine will use and why."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import httpx
from huggingface_hub import constants
from rich.console import Console
from rich.text import Text

from rerank_plugins._internal.extras import torch_installed
from rerank_plugins.backends.auto import EngineChoice, choose_engine
from rerank_plugins.backends.cpu import count_affinity_cpus, count_usable_cpus, processor_name
from rerank_plugins.cli.models import list_models
from rerank_plugins.errors import RerankError
from rerank_plugins.hub.cache_dirs import cache_root, conversion_folder
from rerank_plugins.hub.folder import OPENVINO_FILE, list_formats
from rerank_plugins.hub.head import check_reranker
from rerank_plugins.hub.weights import conversion_is_stale

_PACKAGES = {
    "openvino": "base",
    "tokenizers": "base",
    "huggingface-hub": "base",
    "torch": "torch",
    "sentence-transformers": "torch",
    "langchain-core": "langchain",
    "llama-index-core": "llama-index",
    "nncf": "export",
    "faiss-cpu": "faiss",
    "bm25s": "faiss",
    "model2vec": "faiss",
}


def doctor() -> None:
    """Show what is installed, which engine is used for which model, and whether the hub answers."""
    console = Console(soft_wrap=True, highlight=False)

    def heading(text: str) -> None:
        console.print(Text(text, style="bold"))

    heading("Versions")
    console.print(f"  rerank-plugins {_version('rerank-plugins')}, Python {platform.python_version()}")
    for package, extra in _PACKAGES.items():
        version = _version(package)
        remedy = "" if version else f"not installed; pip install 'rerank-plugins[{extra}]'"
        console.print(f"  {package} {version or remedy}", markup=False)
    heading("Machine")
    console.print(f"  {_processor()}, {_processors()}")
    auto = choose_engine(None)
    console.print(
        f"  a model with all its files runs on {auto.engine}, {auto.precision} on {auto.device}, because {auto.why}"
    )
    console.print(f"  {_cache()}", markup=False)
    heading("Models, and the engine each would run on")
    for name, where, folder in list_models():
        try:
            check_reranker(folder)
            choice = choose_engine(folder)
        except RerankError as error:
            console.print(f"  {name} ({where}): {error}", markup=False)
        else:
            plan = f"{choice.engine}, {choice.precision} on {choice.device}, because {choice.why}"
            console.print(f"  {name} ({where}): {plan}{_conversion(folder, choice)}", markup=False)
    heading("Hugging Face hub")
    console.print(f"  {describe_hub()}", markup=False)


def _cache() -> str:
    try:
        return f"files converted from models of the hub are cached in {cache_root()}; RERANK_PLUGINS_CACHE moves it"
    except RerankError as error:
        return str(error)


def _conversion(folder: Path, choice: EngineChoice) -> str:
    if choice.engine != "openvino" or list_formats(folder) != ["torch"]:
        return ""
    place = conversion_folder(folder)
    if (place / OPENVINO_FILE).is_file() and not conversion_is_stale(folder, place):
        return f"; converted in {place}"
    return "; will be converted at its first use" + (
        "" if torch_installed() else ", for which the extra torch is missing"
    )


def describe_hub() -> str:
    """Whether the hub is disabled, reachable, or unreachable and why. Waits three seconds at most."""
    if constants.HF_HUB_OFFLINE:
        return "not used: HF_HUB_OFFLINE is set"
    try:
        response = httpx.head(constants.ENDPOINT, timeout=3, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as exc:
        return f"{constants.ENDPOINT} cannot be reached ({type(exc).__name__}); models must be on this machine"
    if response.is_server_error:
        return f"{constants.ENDPOINT} answers with status {response.status_code}"
    return f"{constants.ENDPOINT} answers"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processors() -> str:
    """The number of processors that this process may use."""
    given, usable = count_affinity_cpus(), count_usable_cpus()
    quota = f", of which the container's quota leaves {usable}" if usable < given else ""
    return f"{given} processors for this process{quota}"


def _processor() -> str:
    from rerank_plugins.backends.cpu import has_bf16, has_bf16_instructions, int8_is_exact

    wrong = " that OpenVINO multiplies wrongly" if has_bf16_instructions() and not has_bf16() else ""
    return (
        f"{processor_name()}, {'with' if has_bf16_instructions() else 'without'} bf16{wrong}, "
        f"{'with int8' if int8_is_exact() else 'without int8 that is exact'}"
    )
