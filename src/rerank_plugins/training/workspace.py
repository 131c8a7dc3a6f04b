"""The output folder of a training: one process at a time, and the same options until it is started anew."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rerank_plugins._internal.files import acquire_lock, write_atomically
from rerank_plugins.errors import InvalidInputError, TrainingError
from rerank_plugins.hub.cache_dirs import lock_path
from rerank_plugins.hub.weights import hash_file
from rerank_plugins.retrieval.first_stage import FirstStage

_OPTIONS_FILE, _OUTCOME_FILE, _CANDIDATES_FILE = "options.json", "outcome.json", "candidates.jsonl"


@dataclass(frozen=True, slots=True)
class TrainingOutcome:
    """What is known after the last step."""

    steps: int
    best_step: int
    new_head: bool
    machine: str


def digest_collection(folder: Path) -> str:
    """A digest of every file of a collection."""
    files = [folder / "corpus.jsonl", folder / "queries.jsonl", *sorted((folder / "qrels").glob("*.tsv"))]
    digests = [[file.name, hash_file(file)] for file in files if file.is_file()]
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


@contextmanager
def open_work_folder(output: Path, data: Path, options: Mapping[str, Any], *, fresh: bool) -> Iterator[Path]:
    """``output/work`` for a training with ``options``, locked against other processes.

    Args:
        output: The model's folder. It must be new, or hold an earlier training.
        data: The collection, which is not written to.
        options: Everything that the weights depend on, as JSON reads it back.
        fresh: Delete what an earlier training left.

    Raises:
        InvalidInputError: ``output`` holds something else, a training with other options, or one that is running.
        TrainingError: It cannot be written to.
    """
    if data.resolve() in (output.resolve(), *output.resolve().parents):
        raise InvalidInputError(f"{output} lies in {data}, which is only read. Name another output_folder.")
    work = output / "work"
    path = lock_path(output / "train")

    def refuse() -> None:
        raise InvalidInputError(f"Another training is running in {output}. Wait for it, or name another output_folder.")

    try:
        lock = acquire_lock(path, refuse)
    except OSError as exc:
        raise TrainingError(
            f"{path} cannot be locked ({exc}). Set RERANK_PLUGINS_CACHE to a folder that can be written to."
        ) from exc
    with lock:
        _check_output(output, work)
        try:
            if fresh:
                shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            _check_options(work / _OPTIONS_FILE, options)
        except OSError as exc:
            raise TrainingError(f"{output} cannot be written to ({exc}). Name another output_folder.") from exc
        yield work


def _check_output(output: Path, work: Path) -> None:
    if output.exists() and not output.is_dir():
        raise InvalidInputError(f"{output} is a file. Name a folder with output_folder.")
    if not output.is_dir() or (work / _OPTIONS_FILE).is_file():
        return
    others = sorted(path.name for path in output.iterdir() if path != work)
    if others:
        raise InvalidInputError(
            f"{output} holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}, and no training of ours. "
            f"Name a new output_folder."
        )


def _check_options(path: Path, options: Mapping[str, Any]) -> None:
    if not path.is_file():
        write_json(path, options)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise InvalidInputError(
            f"{path} cannot be read ({exc}). Start anew with fresh=True (--fresh), or name another output_folder."
        ) from exc
    different = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if different:
        changes = ", ".join(
            f"{name} {_shorten(before.get(name))} (now {_shorten(options.get(name))})" for name in different
        )
        raise InvalidInputError(
            f"{path.parent} is of a training that was started with {changes}. Give the same options to resume it; "
            f"start anew with fresh=True (--fresh), which deletes it; or name another output_folder."
        )


def _shorten(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def write_outcome(work: Path, output: Path, outcome: TrainingOutcome) -> None:
    """Write the outcome, with the digest of the weights in ``output``."""
    write_json(work / _OUTCOME_FILE, {"outcome": asdict(outcome), "weights": _digest_weights(output)})


def read_outcome(work: Path, output: Path) -> TrainingOutcome | None:
    """The outcome; None if the training has not ended.

    Raises:
        InvalidInputError: The weights in ``output`` are not those of the training.
    """
    try:
        content = json.loads((work / _OUTCOME_FILE).read_text(encoding="utf-8"))
        outcome = TrainingOutcome(**content["outcome"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if content.get("weights") != _digest_weights(output):
        raise InvalidInputError(
            f"The weights in {output} are not those that the training wrote. Start anew with fresh=True (--fresh), "
            f"or name another output_folder."
        )
    return outcome


def _digest_weights(output: Path) -> dict[str, str]:
    return {file.name: hash_file(file) for file in sorted(output.glob("*.safetensors"))}


def write_candidates(work: Path, stage: FirstStage) -> None:
    """Write the candidates of the first stage, for a training that resumes."""
    write_atomically(
        work / _CANDIDATES_FILE, "".join(json.dumps(row) + "\n" for row in [stage.name, *stage.candidates.items()])
    )


def read_candidates(work: Path) -> FirstStage | None:
    """The candidates that `write_candidates` wrote; None if there are none."""
    try:
        name, *rows = map(json.loads, (work / _CANDIDATES_FILE).read_text(encoding="utf-8").splitlines())
        return FirstStage(name, {query: [(passage, score) for passage, score in found] for query, found in rows})
    except (OSError, ValueError, TypeError):
        return None


def write_json(path: Path, value: Any) -> None:
    """Replace the file in one step."""
    write_atomically(path, json.dumps(value, indent=1) + "\n")


def publish(best: Path, output: Path) -> None:
    """Copy the model in ``best`` to ``output``, its weights last.

    Raises:
        TrainingError: It cannot be written.
    """
    files = sorted(best.iterdir(), key=lambda file: file.suffix == ".safetensors")
    try:
        for file in files:
            part = output / f"{file.name}.part"
            shutil.copyfile(file, part)
            part.replace(output / file.name)
    except OSError as exc:
        raise TrainingError(
            f"The model cannot be written to {output} ({exc}). It is saved in {best}: free space, and run the same "
            f"command again."
        ) from exc
