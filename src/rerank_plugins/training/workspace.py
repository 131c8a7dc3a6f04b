"""The folder of a training: one process at a time, and one set of options until it is begun anew."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rerank_plugins._internal.files import acquire_lock
from rerank_plugins.errors import InvalidInputError, TrainingError
from rerank_plugins.hub.cache_dirs import lock_path
from rerank_plugins.hub.weights import hash_file
from rerank_plugins.training.checkpoints import write_json

_OPTIONS = "options.json"
_TRAINED = "trained.json"
_CANDIDATES = "candidates.jsonl"


def data_digest(folder: Path) -> str:
    """Changes with every file of a collection."""
    files = [folder / "corpus.jsonl", folder / "queries.jsonl", *sorted((folder / "qrels").glob("*.tsv"))]
    told = [[file.name, hash_file(file)] for file in files if file.is_file()]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()


@contextmanager
def work_folder(out: Path, data: Path, options: Mapping[str, Any], *, fresh: bool) -> Iterator[Path]:
    """``out/work``, held against other processes, for a training with ``options``.

    Args:
        out: Where the model will be. Nothing but a training of ours may be in it.
        data: The collection, which is not written to.
        options: All that the weights depend on; JSON gives it back as it is.
        fresh: Remove what an earlier training left to go on from.

    Raises:
        InvalidInputError: ``out`` holds something else, or a training with other options; or another is at work in it.
        TrainingError: It cannot be written to.
    """
    if data.resolve() in (out.resolve(), *out.resolve().parents):
        raise InvalidInputError(f"{out} lies in {data}, which is only read. Name a folder elsewhere with out.")
    work = out / "work"
    path = lock_path(out / "train")

    def refuse() -> None:
        raise InvalidInputError(f"Another training is at work in {out}. Wait for it, or name another folder with out.")

    try:
        lock = acquire_lock(path, refuse)
    except OSError as exc:
        raise TrainingError(
            f"{path} cannot be locked ({exc}). Set RERANK_PLUGINS_CACHE to a folder that can be written to."
        ) from exc
    with lock:
        _check_place(out, work)
        try:
            if fresh:
                shutil.rmtree(work, ignore_errors=True)
            work.mkdir(parents=True, exist_ok=True)
            _check_options(work / _OPTIONS, options)
        except OSError as exc:
            raise TrainingError(f"{out} cannot be written to ({exc}). Name another folder with out.") from exc
        yield work


def _check_place(out: Path, work: Path) -> None:
    if out.exists() and not out.is_dir():
        raise InvalidInputError(f"{out} is a file. Name a folder with out.")
    if not out.is_dir() or (work / _OPTIONS).is_file():
        return
    others = sorted(path.name for path in out.iterdir() if path != work)
    if others:
        raise InvalidInputError(
            f"{out} holds {', '.join(others[:3])}{' and more' if len(others) > 3 else ''}, and no training of ours. "
            f"Name a new folder with out."
        )


def _check_options(path: Path, options: Mapping[str, Any]) -> None:
    if not path.is_file():
        write_json(path, options)
        return
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise InvalidInputError(
            f"{path} cannot be read ({exc}). Begin anew with fresh=True (--fresh), or name another folder with out."
        ) from exc
    differ = [name for name in {**before, **options} if before.get(name) != options.get(name)]
    if differ:
        told = ", ".join(f"{name} {_short(before.get(name))} (now {_short(options.get(name))})" for name in differ)
        raise InvalidInputError(
            f"{path.parent} is of a training that was begun with {told}. Give the same to go on with it; begin anew "
            f"with fresh=True (--fresh), which removes what it has; or name another folder with out."
        )


def _short(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text


def mark_trained(work: Path, out: Path, told: Mapping[str, Any]) -> None:
    """Say that the weights in ``out`` are those that the training kept."""
    write_json(work / _TRAINED, {**told, "weights": _weights(out)})


def trained(work: Path, out: Path) -> dict[str, Any] | None:
    """What `mark_trained` was told; None if the training has not ended.

    Raises:
        InvalidInputError: ``out`` has other weights than were left there.
    """
    try:
        told: dict[str, Any] = json.loads((work / _TRAINED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if told.get("weights") != _weights(out):
        raise InvalidInputError(
            f"The weights in {out} are not those that the training left there. Begin anew with fresh=True (--fresh), "
            f"or name another folder with out."
        )
    return told


def _weights(out: Path) -> dict[str, str]:
    return {file.name: hash_file(file) for file in sorted(out.glob("*.safetensors"))}


def keep_candidates(work: Path, name: str, candidates: Mapping[str, list[tuple[str, float]]]) -> None:
    """Write down what the first stage found, for a training that goes on."""
    path = work / _CANDIDATES
    scratch = path.with_name(f"{path.name}.part")
    with scratch.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in [name, *candidates.items()])
    scratch.replace(path)


def kept_candidates(work: Path) -> tuple[str, dict[str, list[tuple[str, float]]]] | None:
    """What `keep_candidates` wrote, None if nothing."""
    try:
        name, *rows = map(json.loads, (work / _CANDIDATES).read_text(encoding="utf-8").splitlines())
        return name, {query: [(passage, score) for passage, score in found] for query, found in rows}
    except (OSError, ValueError, TypeError):
        return None
