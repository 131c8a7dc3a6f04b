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
_IGNORED_LAYERS = [
    ".*classifier.*",
    ".*pooler.*",
    ".*head.*",
    r".*\.first_token\.(attention\.self\.query|attention\.output|intermediate|output).*",
]
_IGNORED_TYPES = ["Gather"]


RECIPE = "ptq-transformer, symmetric activations, SmoothQuant 0.85; head, last first token, embeddings not in int8"
"""A description of `quantize` in the report; an export of another recipe is made again."""

WEIGHTS_ONLY = "weights symmetric, one scale a row; embeddings not in int8"
"""A description of `compress_weights`."""


def import_nncf() -> Any:
    """Import nncf without its telemetry, which would send requests over the network."""
    if "nncf" in sys.modules:
        return sys.modules["nncf"]
    before = sys.modules.get("openvino_telemetry")  # there, if OpenVINO was imported before rerank_plugins
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    try:
        with _home_folder(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own dependencies
            import nncf
    finally:
        sys.modules["openvino_telemetry"] = before  # type: ignore[assignment]
    return nncf


@contextmanager
def _home_folder() -> Iterator[None]:
    """Set ``HOME`` where the user has no home folder: nncf needs one when it is imported."""
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
    """The model in ``graph`` (IR or ONNX) with int8 weights and activations.

    Args:
        graph: The file of the fp32 model.
        encoder: The model's encoder.
        pairs: Typical queries and passages, which the ranges of activations are taken from.
        scratch: A folder for a copy in fp16, which the result is read from as long as it exists.
        progress: Show nncf's progress bars, on standard error.
    """
    nncf = import_nncf()
    # OpenVINO compresses weights to fp16 when it saves them, but not beside quantized ones, so this comes first.
    half = scratch / "half.xml"
    openvino.save_model(read_graph(graph), half, compress_to_fp16=True)
    model = openvino.Core().read_model(half)
    names = {name for port in model.inputs for name in port.get_names()}
    rows = list(_inputs(encoder, pairs, has_token_types="token_type_ids" in names))
    with _redirect_output(progress=progress):
        return nncf.quantize(
            model,
            nncf.Dataset(rows),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(rows),
            ignored_scope=nncf.IgnoredScope(patterns=_IGNORED_LAYERS, types=_IGNORED_TYPES, validate=False),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=SMOOTHQUANT_ALPHA)
            ),
        )


def compress_weights(graph: Path, scratch: Path, *, progress: bool) -> Any:
    """The model in ``graph`` with int8 weights; activations are rounded, if at all, when they are computed.

    For models with activations that no fixed range fits, as decoders have them. OpenVINO takes the range of every few
    numbers anew where the processor multiplies int8 exactly. ``scratch`` and ``progress`` as in `quantize`.
    """
    nncf = import_nncf()
    half = scratch / "half_weights.xml"
    openvino.save_model(read_graph(graph), half, compress_to_fp16=True)
    with _redirect_output(progress=progress):
        return nncf.compress_weights(
            openvino.Core().read_model(half),
            mode=nncf.CompressWeightsMode.INT8_SYM,
            ignored_scope=nncf.IgnoredScope(types=_IGNORED_TYPES, validate=False),
        )


def _inputs(encoder: PairEncoder, pairs: list[Pair], *, has_token_types: bool) -> Iterator[dict[str, Any]]:
    # One pair per batch, without padding: the ranges should be those of real tokens.
    for row in encoder.encode(pairs):
        ids = np.array([row.input_ids], dtype=np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        if has_token_types:
            feed["token_type_ids"] = np.array([row.token_type_ids], dtype=np.int64)
        yield feed


@contextmanager
def _redirect_output(*, progress: bool) -> Iterator[None]:
    """Send nncf's progress bars to standard error or nowhere: standard output is for the result of a command."""
    logger = logging.getLogger("nncf")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(_ThreadRedirect(sys.stderr if progress else None)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


class _ThreadRedirect(io.TextIOBase):
    """Standard output for other threads; the output of this thread and those it starts goes to ``bars``, if any."""

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
