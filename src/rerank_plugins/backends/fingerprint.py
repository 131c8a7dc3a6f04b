"""`fingerprint_model`: what scores depend on beside the pair, so that cached scores are those of the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_plugins.backends import cpu
from rerank_plugins.backends.base import Engine
from rerank_plugins.hub.folder import OPENVINO_FILE, list_companion_files
from rerank_plugins.hub.weights import CONVERTED_FROM_FILE, hash_file, list_source_weights

# Increase it when pairs are encoded otherwise: cached scores would be of other rows.
_ENCODING_VERSION = 2


def fingerprint_model(folder: Path, engine: Engine) -> str:
    """A string that changes with the contents of the files that ``engine`` was loaded from, and with its arithmetic.

    Reads all weights once a process, which takes some seconds for gigabytes.
    """
    files = [*list_source_weights(folder).values(), folder / "tokenizer.json", folder / "config.json"]
    arithmetic: list[Any] = [engine.name, engine.precision]
    if engine.name == "openvino":
        from rerank_plugins.backends.openvino import find_graph, find_int8_graph, rest_in_bf16

        graph = find_int8_graph(folder) if engine.precision == "int8" else find_graph(folder)
        if graph is not None and not _is_own_conversion(graph):
            files += [graph, *list_companion_files(graph)]
        if engine.precision == "int8":
            # Scores from before attention was no longer fused are other numbers.
            arithmetic += [rest_in_bf16(folder) and "attention not fused", cpu.int8_is_exact()]
    hashes = [hash_file(file) for file in files if file.is_file()]
    return json.dumps([_ENCODING_VERSION, hashes, arithmetic])


def _is_own_conversion(graph: Path) -> bool:
    """Whether this package made the graph from weights that are among the files already."""
    return graph.name == OPENVINO_FILE.name and graph.with_name(CONVERTED_FROM_FILE.name).is_file()
