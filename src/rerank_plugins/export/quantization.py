"""Post-training quantization of a cross-encoder's graph, by nncf."""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import openvino

from rerank_plugins.backends.openvino import read_graph
from rerank_plugins.errors import MissingExtraError
from rerank_plugins.scorers.base import Pair
from rerank_plugins.tokenization.pair_encoder import PairEncoder

# Measured on the fp32 of rerank-mini-en, 300 pairs of real questions: Kendall's tau within a query .876 at 0.5,
# .941 at 0.75, .943 at 0.85, .934 at 0.95 (training/export_reranker.py).
SMOOTHQUANT_ALPHA = 0.85

# The head, and what the last layer computes for its first token alone, are one row a pair: nothing to gain, every error
# is the score's, and 128 pairs show 128 such rows. Measured on a BERT of two layers with random weights, against fp32:
# logits off by .063 with the first token's rows in int8, by .023 without, by .029 with the whole last layer in int8.
# Embeddings are looked up, not multiplied; OpenVINO would unpack int8 ones to fp32 while loading. Measured on a
# stand-in with 6 of v2-m3's layers: in int8 4.0 s to load and 1.54 GB of the process's own memory, in fp16 1.3 s and
# 0.51 GB.
_UNQUANTIZED = [
    ".*classifier.*",
    ".*pooler.*",
    ".*head.*",
    r".*\.first_token\.(attention\.self\.query|attention\.output|intermediate|output).*",
]
_LOOKED_UP = ["Gather"]

RECIPE = "ptq-transformer, symmetric activations, SmoothQuant 0.85; head, last first token, embeddings not in int8"
"""Changes when what `quantize` does changes; a report names it."""


def nncf_module() -> Any:
    """Import nncf, without the module through which it reports its calls over the network."""
    if "nncf" in sys.modules:
        return sys.modules["nncf"]
    before = sys.modules.get("openvino_telemetry")  # there, if OpenVINO was imported before rerank_plugins
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        with _some_home(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            import nncf
    except ImportError as exc:
        raise MissingExtraError("export", "An int8 export", str(exc.name)) from exc
    finally:
        sys.modules["openvino_telemetry"] = before  # type: ignore[assignment]
    return nncf


@contextmanager
def _some_home() -> Iterator[None]:
    """``HOME`` is set where this user has no home folder: nncf names a cache there when it is imported."""
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.devnull
        try:
            yield
        finally:
            del os.environ["HOME"]
    else:
        yield


def quantize(graph: Path, encoder: PairEncoder, pairs: list[Pair], scratch: Path, *, progress: bool) -> Any:
    """The graph in ``graph`` (IR or ONNX) with int8 weights and activations.

    Args:
        graph: What to quantize.
        encoder: Of the model.
        pairs: Query and passage, as they will come at work: the ranges of activations are taken from them.
        scratch: A folder for a copy in fp16, which the result reads from as long as it lives.
        progress: Show nncf's bars, on standard error.
    """
    nncf = nncf_module()
    # OpenVINO halves weights when it saves them, but not beside quantized ones: so it has to be done before.
    half = scratch / "half.xml"
    openvino.save_model(read_graph(graph), half, compress_to_fp16=True)
    model = openvino.Core().read_model(half)
    names = {name for port in model.inputs for name in port.get_names()}
    rows = list(_rows(encoder, pairs, takes_types="token_type_ids" in names))
    with _quiet(progress=progress):
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(patterns=_UNQUANTIZED, types=_LOOKED_UP, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHQUANT_ALPHA)
            ),
        )


def _rows(encoder: PairEncoder, pairs: list[Pair], *, takes_types: bool) -> Iterator[dict[str, Any]]:
    # One pair a batch, without padding: the ranges should be those of real tokens.
    for row in encoder.encode(pairs):
        ids = np.array([row.input_ids], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if takes_types:
            feed["token_type_ids"] = np.array([row.token_type_ids], dtype=np.int64)
        yield feed


@contextmanager
def _quiet(*, progress: bool) -> Iterator[None]:
    """Nncf writes bars to standard output, where a command's result belongs."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(_BarsAside(sys.stderr if progress else None)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _BarsAside(io.TextIOBase):
    """Standard output for the threads there are; what this one and those it starts write goes to ``bars``, if any."""

    def __init__(self, bars: TextIO | None) -> None:
        super().__init__()
        self._out, self._bars = sys.stdout, bars
        self._others = {*threading.enumerate()} - {threading.current_thread()}

    def write(self, text: str) -> int:
        stream = self._out if threading.current_thread() in self._others else self._bars
        return len(text) if stream is None else stream.write(text)

    def flush(self) -> None:
        for stream in (self._out, self._bars):
            if stream is not None:
                stream.flush()

    def isatty(self) -> bool:
        return self._bars is not None and self._bars.isatty()
