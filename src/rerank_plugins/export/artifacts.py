"""Exports on disk: one process at a time, complete or not there at all."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rerank_plugins._internal.files import acquire_lock, free_bytes, make_scratch_folder
from rerank_plugins.errors import ExportError, InvalidInputError
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.cache_dirs import lock_path
from rerank_plugins.hub.weights import CONVERTED_FROM_FILE

_log = logging.getLogger("rerank_plugins")
_SCRATCH = ".exporting-"
_IDENTITY = ("config.json", "tokenizer.json")


@contextmanager
def alone(target: Path) -> Iterator[None]:
    """Hold ``target`` against other exports; wait for one that is under way, in this process or another."""
    path = lock_path(target / "export")
    try:
        lock = acquire_lock(path, lambda: _log.warning("Another process is exporting to %s; waiting for it.", target))
    except OSError as exc:
        raise ExportError(
            f"{path} cannot be locked ({exc}). Set RERANK_PLUGINS_CACHE to a folder that can be written to."
        ) from exc
    with lock:
        yield


@contextmanager
def scratch_folder(target: Path, needed: int) -> Iterator[Path]:
    """A folder inside ``target`` for ``needed`` bytes, gone afterwards; what killed exports left there goes too."""
    place = target / model_folder.OPENVINO_FILE.parent
    try:
        scratch = make_scratch_folder(place, _SCRATCH)
    except OSError as exc:
        raise _unwritable(target, exc) from exc
    with scratch as name:
        check_room(place, needed)
        yield Path(name)


def check_room(folder: Path, needed: int) -> None:
    """Raise `ExportError` if ``folder``, or what is there of the way to it, has fewer bytes free than ``needed``."""
    free = free_bytes(folder)
    if needed > free:
        raise ExportError(
            f"The export takes {needed / 1e9:.2f} GB in {folder}, and {free / 1e9:.2f} GB are free. "
            f"Make room, or name another folder with out."
        )


def copy_description(source: Path, target: Path) -> None:
    """Copy what a model folder holds beside its weights: configuration and tokenizer.

    Raises:
        InvalidInputError: ``target`` holds another model.
        ExportError: ``target`` cannot be written to.
    """
    files = [file for file in sorted(source.glob("*.json")) if file.name != model_folder.TORCH_FILES[1].name]
    try:
        target.mkdir(parents=True, exist_ok=True)
        for file in files:
            copy = target / file.name
            if file.name in _IDENTITY and copy.is_file() and copy.read_bytes() != file.read_bytes():
                raise InvalidInputError(
                    f"{target} holds another model: its {file.name} is not that of {source}. "
                    f"Name another folder with out."
                )
        for file in files:
            shutil.copyfile(file, target / file.name)
    except OSError as exc:
        raise _unwritable(target, exc) from exc


def note_source(target: Path, made_from: dict[str, list[int | str]]) -> None:
    """Say what the IR in ``target`` was made from, so that it is made again, or passed over, when that changes."""
    (target / CONVERTED_FROM_FILE).write_text(json.dumps(made_from), encoding="utf-8")


def publish(made: Path, target: Path) -> None:
    """Move an IR into place, its .bin first: without its .xml nothing is read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    made.with_suffix(".bin").replace(target.with_suffix(".bin"))
    made.replace(target)


def _unwritable(target: Path, cause: OSError) -> ExportError:
    return ExportError(f"{target} cannot be written to ({cause}). Name another folder with out.")
