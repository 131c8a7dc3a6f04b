"""What a training goes on from, and the best model so far: whole, or passed over."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rerank_plugins.hub.weights import hash_file

_log = logging.getLogger("rerank_plugins")

_WHOLE = "whole.json"
_BEST = "best.json"


@dataclass(frozen=True, slots=True)
class Best:
    """The model that orders the development queries best so far."""

    step: int
    development: float
    folder: Path


class Checkpoints:
    """Those in one folder, under the names that transformers gives: ``checkpoint-STEP``.

    One is whole when it has a list of its files with their digests, which is written last; so what a kill, a full disk
    or a fault of the disk left of one is known for what it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def newest(self) -> Path | None:
        """The newest that is whole, None without any. Those that are not are removed, with a word in the log."""
        for path in self._newest_first():
            if _is_whole(path):
                return path
            _log.warning("%s is not whole, as after a kill while it was written; it is passed over.", path)
            shutil.rmtree(path, ignore_errors=True)
        return None

    def make_room(self) -> None:
        """Remove all but the newest, so that there are two at most while the next is written."""
        for path in self._newest_first()[1:]:
            shutil.rmtree(path, ignore_errors=True)

    def mark_whole(self, step: int) -> None:
        """Say that all of a checkpoint is there."""
        path = self.folder / f"checkpoint-{step}"
        write_json(path / _WHOLE, {file.name: hash_file(file) for file in _files(path)})

    def keep_best(self, step: int, development: float, save: Callable[[Path], None]) -> None:
        """Keep the model that ``save`` writes, instead of the best before it."""
        before = self.best()
        folder = self.folder / f"best-{step}"
        if before is not None and before.folder == folder:
            folder = self.folder / f"best-{step}-again"  # the one before stays whole until this one is
        shutil.rmtree(folder, ignore_errors=True)
        save(folder)
        write_json(self.folder / _BEST, {"step": step, "development": development, "folder": folder.name})
        for path in self.folder.glob("best-*"):
            if path != folder:
                shutil.rmtree(path, ignore_errors=True)

    def best(self) -> Best | None:
        """The best model so far, if any was kept."""
        try:
            found = json.loads((self.folder / _BEST).read_text(encoding="utf-8"))
            return Best(found["step"], found["development"], self.folder / found["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def clear(self) -> None:
        """Remove all of them."""
        for path in [*self.folder.glob("checkpoint-*"), *self.folder.glob("best-*")]:
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / _BEST).unlink(missing_ok=True)

    def _newest_first(self) -> list[Path]:
        found = [path for path in self.folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
        return sorted(found, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was written after."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def write_json(path: Path, value: Any) -> None:
    """Replace the file in one step."""
    scratch = path.with_name(f"{path.name}.part")
    scratch.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    scratch.replace(path)


def _files(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.iterdir()) if file.is_file() and file.name != _WHOLE]


def _is_whole(folder: Path) -> bool:
    try:
        listed = json.loads((folder / _WHOLE).read_text(encoding="utf-8"))
        return bool(listed) and all(hash_file(folder / name) == digest for name, digest in listed.items())
    except (OSError, ValueError, AttributeError):
        return False
