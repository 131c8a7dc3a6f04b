"""The files of exports: one process at a time, complete or not there at all."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rerank_plugins._internal.files import acquire_lock, free_bytes, make_scratch_folder, write_atomically
from rerank_plugins.errors import ExportError, InvalidInputError
from rerank_plugins.hub.cache_dirs import lock_path
from rerank_plugins.hub.folder import OPENVINO_FILE, TORCH_FILES
from rerank_plugins.hub.known_rerankers import TEMPLATE_FILE, find_known_reranker, read_model_name
from rerank_plugins.hub.modules import list_module_files
from rerank_plugins.hub.pair_text import list_template_files

_log = logging.getLogger("rerank_plugins")
_SCRATCH = ".exporting-"
_IDENTITY = ("config.json", "tokenizer.json")


def lock_target(target: Path) -> AbstractContextManager[object]:
    """Lock ``target`` against other exports, of this process and others; wait for one that is running."""
    path = lock_path(target / "export")
    try:
        return acquire_lock(path, lambda: _log.warning("Another process is exporting to %s; waiting for it.", target))
    except OSError as exc:
        raise ExportError(
            f"{path} cannot be locked ({exc}). Set RERANK_PLUGINS_CACHE to a folder that can be written to."
        ) from exc


@contextmanager
def scratch_folder(target: Path, needed: int) -> Iterator[Path]:
    """A temporary folder inside ``target`` for ``needed`` bytes; those of killed exports are deleted too."""
    parent = target / OPENVINO_FILE.parent
    try:
        scratch = make_scratch_folder(parent, _SCRATCH)
    except OSError as exc:
        raise _unwritable(target, exc) from exc
    with scratch as folder:
        check_free_space(parent, needed)
        yield Path(folder)


def check_free_space(folder: Path, needed: int) -> None:
    """Raise `ExportError` if the disk of ``folder`` has fewer free bytes than ``needed``."""
    free = free_bytes(folder)
    if needed > free:
        raise ExportError(
            f"The export takes {needed / 1e9:.2f} GB in {folder}, and {free / 1e9:.2f} GB are free. "
            f"Free space, or name another output_folder."
        )


def copy_config(source: Path, target: Path) -> None:
    """Copy the configuration, the tokenizer, the chat template and the settings of modules of a model folder.

    A known reranker whose template is not in its files is named in one of them, because ``target`` has another name.

    Raises:
        InvalidInputError: ``target`` holds another model.
        ExportError: ``target`` cannot be written to.
    """
    files = [file for file in sorted(source.glob("*.json")) if file.name != TORCH_FILES[1].name]
    files += list_template_files(source)
    files += [file for file in list_module_files(source) if file.suffix == ".json" and file.parent != source]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            copy = target / file.relative_to(source)
            if file.name in _IDENTITY and copy.is_file() and copy.read_bytes() != file.read_bytes():
                raise InvalidInputError(
                    f"{target} holds another model: its {file.name} is not that of {source}. "
                    f"Name another output_folder."
                )
        for file in files:
            copy = target / file.relative_to(source)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(file, copy)
        if find_known_reranker(source) is not None and find_known_reranker(target) is None:
            write_atomically(target / TEMPLATE_FILE, json.dumps({"template_of": read_model_name(source)}) + "\n")
    except OSError as exc:
        raise _unwritable(target, exc) from exc


def publish(xml: Path, target: Path) -> None:
    """Move an IR into place, its .bin first: without its .xml nothing is read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    xml.with_suffix(".bin").replace(target.with_suffix(".bin"))
    xml.replace(target)


def _unwritable(target: Path, cause: OSError) -> ExportError:
    return ExportError(f"{target} cannot be written to ({cause}). Name another output_folder.")
