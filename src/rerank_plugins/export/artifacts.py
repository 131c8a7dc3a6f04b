"""The files of exports: one process at a time, complete or not there at all."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from rerank_plugins.errors import ExportError, InvalidInputError
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.cache_dirs import clear_scratch, lock_path

__all__ = ["check_free_space", "copy_config", "free_bytes", "lock_target", "publish", "scratch_folder"]

_log = logging.getLogger("rerank_plugins")
_SCRATCH = ".exporting-"
_IDENTITY = ("config.json", "tokenizer.json")


@contextmanager
def lock_target(target: Path) -> Iterator[None]:
    """Lock ``target`` against other exports, of this process and others; wait for one that is running."""
    path = lock_path(target / "export")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("Another process is exporting to %s; waiting for it.", target)
            lock.acquire()
    except OSError as exc:
        raise ExportError(
            f"{path} cannot be locked ({exc}). Set RERANK_PLUGINS_CACHE to a folder that can be written to."
        ) from exc
    try:
        yield
    finally:
        lock.release()


@contextmanager
def scratch_folder(target: Path, needed: int) -> Iterator[Path]:
    """A temporary folder inside ``target`` for ``needed`` bytes; those of killed exports are deleted too."""
    parent = target / model_folder.OPENVINO_FILE.parent
    try:
        parent.mkdir(parents=True, exist_ok=True)
        clear_scratch(parent, _SCRATCH)
        check_free_space(parent, needed)
        scratch = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=parent))
    except OSError as exc:
        raise _unwritable(target, exc) from exc
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def check_free_space(folder: Path, needed: int) -> None:
    """Raise `ExportError` if the disk of ``folder`` has fewer free bytes than ``needed``."""
    free = free_bytes(folder)
    if needed > free:
        raise ExportError(
            f"The export takes {needed / 1e9:.2f} GB in {folder}, and {free / 1e9:.2f} GB are free. "
            f"Free space, or name another output_folder."
        )


def free_bytes(folder: Path) -> int:
    """The free bytes of the disk of ``folder``, which need not exist yet."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    return shutil.disk_usage(existing).free


def copy_config(source: Path, target: Path) -> None:
    """Copy the configuration and the tokenizer of a model folder.

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
                    f"Name another output_folder."
                )
        for file in files:
            shutil.copyfile(file, target / file.name)
    except OSError as exc:
        raise _unwritable(target, exc) from exc


def publish(xml: Path, target: Path) -> None:
    """Move an IR into place, its .bin first: without its .xml nothing is read."""
    target.parent.mkdir(parents=True, exist_ok=True)
    xml.with_suffix(".bin").replace(target.with_suffix(".bin"))
    xml.replace(target)


def _unwritable(target: Path, cause: OSError) -> ExportError:
    return ExportError(f"{target} cannot be written to ({cause}). Name another output_folder.")
