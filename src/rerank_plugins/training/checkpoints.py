"""The checkpoints that a training resumes from, and its best model so far."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rerank_plugins.hub.weights import hash_file
from rerank_plugins.training.workspace import write_json

_log = logging.getLogger("rerank_plugins")

DIGESTS_FILE = "digests.json"
_BEST_FILE = "best.json"


@dataclass(frozen=True, slots=True)
class BestModel:
    """The model with the best development nDCG@10 so far."""

    step: int
    development: float
    folder: Path


class Checkpoints:
    """The checkpoints in a folder, under the names that transformers gives: ``checkpoint-STEP``.

    The digests of a checkpoint's files are written last. A checkpoint without them, or with other files, was not
    written completely or is damaged, and is not resumed from. transformers' own ``save_total_limit`` does not fit: it
    deletes the checkpoint before when the digests of the new one are not written yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_latest(self) -> Path | None:
        """The latest complete checkpoint; those that are not complete are deleted, with a warning in the log."""
        for path in self._latest_first():
            if _is_complete(path):
                return path
            _log.warning("%s is incomplete or damaged, as after a kill while it was written; it is skipped.", path)
            shutil.rmtree(path, ignore_errors=True)
        return None

    def delete_old(self) -> None:
        """Delete all but the latest, so that there are at most two while the next is written."""
        for path in self._latest_first()[1:]:
            shutil.rmtree(path, ignore_errors=True)

    def write_digests(self, step: int) -> None:
        """Mark a checkpoint as complete."""
        path = self.folder / f"checkpoint-{step}"
        files = [file for file in sorted(path.iterdir()) if file.is_file()]
        write_json(path / DIGESTS_FILE, {file.name: hash_file(file) for file in files})

    def save_best(self, step: int, development: float, save: Callable[[Path], None]) -> None:
        """Let ``save`` write the model that replaces the best one so far."""
        before = self.best
        folder = self.folder / f"best-{step}"
        if before is not None and before.folder == folder:
            folder = self.folder / f"best-{step}-again"  # the one before stays complete until this one is
        shutil.rmtree(folder, ignore_errors=True)
        save(folder)
        write_json(self.folder / _BEST_FILE, {"step": step, "development": development, "folder": folder.name})
        for path in self.folder.glob("best-*"):
            if path != folder:
                shutil.rmtree(path, ignore_errors=True)

    @property
    def best(self) -> BestModel | None:
        """The best model so far, if any was saved."""
        try:
            best = json.loads((self.folder / _BEST_FILE).read_text(encoding="utf-8"))
            return BestModel(best["step"], best["development"], self.folder / best["folder"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def delete_all(self) -> None:
        """Delete the checkpoints and the best model."""
        for path in [*self.folder.glob("checkpoint-*"), *self.folder.glob("best-*")]:
            shutil.rmtree(path, ignore_errors=True)
        (self.folder / _BEST_FILE).unlink(missing_ok=True)

    def _latest_first(self) -> list[Path]:
        paths = [path for path in self.folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdigit()]
        return sorted(paths, key=step_of, reverse=True)


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint was written after."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def _is_complete(folder: Path) -> bool:
    try:
        digests = json.loads((folder / DIGESTS_FILE).read_text(encoding="utf-8"))
        return bool(digests) and all(hash_file(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError):
        return False
