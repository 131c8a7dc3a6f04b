"""ONNX graphs with external weights: which files these are, and how OpenVINO reads them through symbolic links."""

from __future__ import annotations

import functools
import logging
import mmap
import os
import shutil
from collections.abc import Container, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from rerank_plugins._internal.files import make_scratch_folder
from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.cache_dirs import cache_root

_log = logging.getLogger("rerank_plugins")

_MAX_NAME_BYTES = 255  # of file systems; a damaged file may say anything

# The messages of onnx.proto that can contain tensors: field numbers, and the message that each holds. Protobuf never
# gives a number another meaning.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
# Of a tensor, and of each entry of its external data.
_EXTERNAL_DATA, _DATA_LOCATION, _EXTERNAL = 13, 14, b"\1"
_KEY, _VALUE, _LOCATION = 1, 2, b"location"

_NUMBER, _BYTES = 0, 2
_FIXED_SIZES = {1: 8, 5: 4}  # of fields of the other wire types


def list_external_files(graph: Path) -> list[Path]:
    """The files beside the ONNX file ``graph`` that hold its weights, present or not.

    Empty if the weights are inside ``graph``, or if it is no ONNX file: loading it says so.
    """
    state = graph.stat()
    return [graph.parent / name for name in _read_locations(graph, state.st_size, state.st_mtime_ns)]


@functools.lru_cache(maxsize=64)
def _read_locations(graph: Path, _size: int, _time: int) -> tuple[str, ...]:
    try:
        with graph.open("rb") as file:
            model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return tuple(filter(_can_be_beside, dict.fromkeys(_find_locations(model, "model"))))
    except (OSError, ValueError, IndexError, KeyError, RecursionError):
        return ()


def _can_be_beside(name: str) -> bool:
    """Whether a file of this name can lie in the graph's folder. OpenVINO refuses names that lead out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    short = all(len(part.encode()) <= _MAX_NAME_BYTES for part in path.parts)
    return bool(path.parts) and short and "\0" not in name and ".." not in path.parts and not path.is_absolute()


def _find_locations(message: memoryview, kind: str) -> Iterator[str]:
    """The names of the files that hold the tensors of an ONNX message."""
    for number, content in _read_fields(message, _INSIDE[kind]):
        if _INSIDE[kind][number] != "tensor":
            yield from _find_locations(content, _INSIDE[kind][number])
            continue
        tensor = list(_read_fields(content, (_EXTERNAL_DATA, _DATA_LOCATION)))
        if any(field == _DATA_LOCATION and value == _EXTERNAL for field, value in tensor):
            entries = [dict(_read_fields(value, (_KEY, _VALUE))) for field, value in tensor if field == _EXTERNAL_DATA]
            yield from (
                str(entry.get(_VALUE, b""), "utf-8") for entry in entries if bytes(entry.get(_KEY, b"")) == _LOCATION
            )


def _read_fields(message: memoryview, wanted: Container[int]) -> Iterator[tuple[int, memoryview]]:
    """Number and content of each field of a protobuf message whose number is ``wanted``."""
    position = 0
    while position < len(message):
        tag, start = _read_varint(message, position)
        if tag & 7 == _NUMBER:
            _, position = _read_varint(message, start)
        elif tag & 7 == _BYTES:
            length, start = _read_varint(message, start)
            position = start + length
        else:
            position = start + _FIXED_SIZES[tag & 7]
        if position > len(message):
            raise ValueError("This is no protobuf message.")
        if tag >> 3 in wanted:
            yield tag >> 3, message[start:position]


def _read_varint(message: memoryview, start: int) -> tuple[int, int]:
    """The number that begins at ``start``, and the position after it."""
    value = shift = 0
    while shift < 70:
        byte = message[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start
    raise ValueError("This is no protobuf message.")


@contextmanager
def link_external_files(graph: Path) -> Iterator[Path]:
    """A path of ``graph`` where its external weights lie beside it as files, valid inside the ``with`` block.

    OpenVINO reads no weights from outside the graph's folder, and in the Hugging Face cache files are symbolic links
    into another folder. There the path is in our cache, of hard links, or of copies if the cache is on another disk;
    `ModelLoadError` if these cannot be made.
    """
    files = [graph, *list_external_files(graph)]
    folder = graph.parent.resolve()
    if len(files) == 1 or all(file.resolve() == folder / file.relative_to(graph.parent) for file in files):
        yield graph
        return
    root = cache_root() / "linked"
    with ExitStack() as stack:
        try:
            scratch = Path(stack.enter_context(make_scratch_folder(root, "onnx-")))
            for file in files:
                _link_or_copy(file, scratch / file.relative_to(graph.parent))
        except OSError as exc:
            raise ModelLoadError(
                f"The weights of {graph} are links, which OpenVINO does not follow, and {root} cannot take them while "
                f"they are read ({exc}). Set RERANK_PLUGINS_CACHE to a folder with free space that can be written to, "
                f"or put the model's files into a folder of their own: hf download ... --local-dir models/NAME"
            ) from exc
        yield scratch / graph.name


def _link_or_copy(file: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), target)
    except OSError:  # another disk, another user's file, a file system without hard links
        size = file.stat().st_size
        if size >= 100_000_000:
            _log.warning(
                "Copying %s (%.1f GB) to read it, in every load: our cache is on another disk, or the file is another "
                "user's. Set RERANK_PLUGINS_CACHE to a folder beside it, or make IR: rerank-plugins export --precision "
                "fp32.",
                file,
                size / 1e9,
            )
        shutil.copyfile(file, target)
