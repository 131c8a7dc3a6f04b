"""What a model's scores depend on beside the pair: for scores that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_plugins.backends.auto import Engine
from rerank_plugins.hub import folder as model_folder

# How pairs are cut and composed; another number where that changes, or kept scores would be of other rows.
_ENCODING = 2


def identity(folder: Path, engine: Engine) -> str:
    """Names the contents of the files that ``engine`` was loaded from, and how it computes.

    Reads all weights once a process: some seconds for gigabytes.
    """
    files = [*model_folder.sources(folder).values(), folder / "tokenizer.json", folder / "config.json"]
    arithmetic: list[Any] = [engine.name, engine.precision]
    if engine.name == "openvino":
        from rerank_plugins.backends.int8 import int8_is_exact
        from rerank_plugins.backends.openvino import int8_file, readable_graph, rest_in_bf16

        graph = int8_file(folder) if engine.precision == "int8" else readable_graph(folder)
        if graph is not None and not _is_conversion(graph):
            files += [graph, *model_folder.parts(graph)]
        if engine.precision == "int8":
            # Scores that were kept before attention was no longer fused are of other numbers.
            arithmetic += [rest_in_bf16(folder) and "attention not fused", int8_is_exact()]
    digests = [model_folder.digest(file) for file in files if file.is_file()]
    return json.dumps([_ENCODING, digests, arithmetic])


def _is_conversion(graph: Path) -> bool:
    """Whether we made it of the weights that are named already."""
    own = graph.name == model_folder.OPENVINO_FILE.name
    return own and graph.with_name(model_folder.CONVERTED_FROM_FILE.name).is_file()
