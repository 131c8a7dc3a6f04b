"""`rerank-plugins models`: lists the models that can be loaded without a download."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import scan_cache_dir
from huggingface_hub.errors import CacheNotFound
from rich.console import Console
from rich.table import Table

from rerank_plugins.backends.auto import choose_engine
from rerank_plugins.errors import ModelLoadError, RerankError
from rerank_plugins.hub.folder import list_formats, list_missing_files
from rerank_plugins.hub.head import (
    check_reranker,
    describe_architecture,
    describe_family,
    is_of_other_kind,
    is_reranker,
)
from rerank_plugins.hub.lookup import is_folder, list_bundled_models
from rerank_plugins.loading import DEFAULT_MODEL


def list_models() -> list[tuple[str, str, Path]]:
    """(name, where, folder) of every complete reranker on this machine that has a name.

    Listwise and other kinds that are not run here are among them, whether complete or not.
    """
    models = [(folder.name, "bundled", folder) for folder in list_bundled_models() if _is_reranker(folder)]
    local = Path("models")
    if is_folder(local):
        models += [
            (folder.relative_to(local).as_posix(), "models/", folder)
            for folder in sorted([*local.glob("*"), *local.glob("*/*")])
            if _is_reranker(folder)
        ]
    # In a source checkout the bundled models are also under models/: the first place wins.
    models += _list_cached()
    places = {folder.resolve(): (name, where, folder) for name, where, folder in reversed(models)}
    return list(reversed(places.values()))


def _list_cached() -> list[tuple[str, str, Path]]:
    try:
        cache = scan_cache_dir()
    except (CacheNotFound, OSError, RuntimeError, ValueError):
        return []  # no cache, no access to it, or a user without a home folder
    return [
        (repo.repo_id, "Hugging Face cache", revision.snapshot_path)
        for repo in sorted(cache.repos, key=lambda repo: repo.repo_id)
        if repo.repo_type == "model"
        for revision in repo.revisions
        if _is_reranker(revision.snapshot_path)
    ]


def _is_reranker(folder: Path) -> bool:
    try:
        return (not list_missing_files(folder) and is_reranker(folder)) or is_of_other_kind(folder)
    except ModelLoadError:
        return False  # damaged: loading it by name says what is wrong


def describe(folder: Path) -> tuple[str, str, str | None]:
    """What a model is, what it would run on, and why it would not run; nothing is loaded."""
    family = "?"
    try:
        family = describe_architecture(folder)
        family = describe_family(folder)
        check_reranker(folder)
        choice = choose_engine(folder)
    except RerankError as error:
        return family, "no", str(error)
    return family, f"{choice.engine}, {choice.precision}", None


def models() -> None:
    """List the rerankers on this machine, what each runs on or why it does not, and how to get the default one."""
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "where", "files", "family", "runs"):
        table.add_column(heading, overflow="fold")
    rows = list_models()
    problems = []
    for name, where, folder in rows:
        family, runs, problem = describe(folder)
        table.add_row(name, where, ", ".join(list_formats(folder)), family, runs)
        problems += [f"\n{name} does not run: {problem}"] if problem else []
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(problem, markup=False, highlight=False, soft_wrap=True)
    last = DEFAULT_MODEL.rsplit("/", maxsplit=1)[-1]
    if not any(name.rsplit("/", maxsplit=1)[-1] == last for name, _, _ in rows):
        console.print(f"\nThe default, {DEFAULT_MODEL}, is not here yet (2.3 GB). To get it:")
        console.print(f"  hf download {DEFAULT_MODEL} --local-dir models/{last}", soft_wrap=True)
