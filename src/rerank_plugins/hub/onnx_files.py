"""ONNX graphs with external weights: which files these are, and how OpenVINO reads them through symbolic links."""

from __future__ import annotations

import functools
import logging
import mmap
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

from rerank_plugins._internal.files import make_scratch_folder
from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.cache_dirs import cache_root

__all__ = ["link_external_files", "list_external_files"]

_log = logging.getLogger("rerank_plugins")
_EXTERNAL = 1
_MAX_NAME_BYTES = 255  # of file systems; a damaged file may say anything
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


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
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14
_ENTRY_KEY, _ENTRY_VALUE = 1, 2


def list_external_files(graph: Path) -> list[Path]:
    """The files beside the ONNX file ``graph`` that hold its weights, present or not.

    Empty if the weights are inside ``graph``, or if it is no ONNX file: loading it says so.
    """
    state = graph.stat()
    return [graph.parent / name for name in _read_locations(graph, state.st_size, state.st_mtime_ns)]


@functools.lru_cache(maxsize=64)
def _read_locations(graph: Path, _size: int, _time: int) -> tuple[str, ...]:
    try:
        with graph.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            names = dict.fromkeys(_find_locations(data, 0, len(data), "model"))
    except (OSError, ValueError, IndexError, RecursionError):
        return ()
    return tuple(name for name in names if _can_be_beside(name))


def _can_be_beside(name: str) -> bool:
    """Whether a file of this name can lie in the graph's folder. OpenVINO refuses names that lead out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    short = all(len(part.encode()) <= _MAX_NAME_BYTES for part in path.parts)
    return bool(path.parts) and short and "\0" not in name and ".." not in path.parts and not path.is_absolute()


def _find_locations(data: mmap.mmap, start: int, end: int, message: str) -> Iterator[str]:
    if message == "tensor":
        yield from _read_location(data, start, end)
        return
    for field, wire, first, last in _read_fields(data, start, end):
        inner = _INSIDE[message].get(field)
        if inner is not None and wire == _BYTES:
            yield from _find_locations(data, first, last, inner)


def _read_location(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    names, external = [], False
    for field, wire, first, last in _read_fields(data, start, end):
        if field == _TENSOR_DATA_LOCATION and wire == _VARINT:
            external = first == _EXTERNAL
        elif field == _TENSOR_EXTERNAL_DATA and wire == _BYTES:
            entry = {
                key: data[begin:stop] for key, kind, begin, stop in _read_fields(data, first, last) if kind == _BYTES
            }
            if entry.get(_ENTRY_KEY) == b"location":
                names.append(entry.get(_ENTRY_VALUE, b"").decode())
    if external:
        yield from names


def _read_fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, start and end of each field of a protobuf message; a varint's value takes the last two."""
    while start < end:
        tag, start = _read_varint(data, start)
        wire = tag & 7
        if wire == _VARINT:
            value, start = _read_varint(data, start)
            yield tag >> 3, wire, value, value
            continue
        if wire == _BYTES:
            length, start = _read_varint(data, start)
        elif wire in {_FIXED_64, _FIXED_32}:
            length = 8 if wire == _FIXED_64 else 4
        else:
            raise ValueError("This is no protobuf message.")
        if start + length > end:
            raise ValueError("This is no protobuf message.")
        yield tag >> 3, wire, start, start + length
        start += length


def _read_varint(data: mmap.mmap, start: int) -> tuple[int, int]:
    """The number that begins at ``start``, and the position after it."""
    value = shift = 0
    while True:
        byte = data[start]
        value |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return value, start
        if shift > 63:
            raise ValueError("This is no protobuf message.")


@contextmanager
def link_external_files(graph: Path) -> Iterator[Path]:
    """A path of ``graph`` where its external weights lie beside it as files, valid inside the ``with`` block.

    OpenVINO reads no weights from outside the graph's folder, and in the Hugging Face cache files are symbolic links
    into another folder. There the path is in our cache, of hard links, or of copies if the cache is on another disk.

    Raises:
        ModelLoadError: The links or copies cannot be made.
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
                "Copying %s (%.1f GB) to read it, and so in every load: %s is on another disk, or the file is another "
                "user's. Set RERANK_PLUGINS_CACHE to a folder beside it, or make IR: rerank-plugins export --precision "
                "fp32.",
                file,
                size / 1e9,
                target.parent,
            )
        shutil.copyfile(file, target)
