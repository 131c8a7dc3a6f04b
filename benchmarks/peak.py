"""What this machine multiplies at most, and what a model has to multiply."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

from rerank_plugins.backends.cpu import int8_is_exact

# Large enough to be limited by arithmetic, small enough to stay in a processor's cache.
_ROWS, _INNER, _COLUMNS, _CHAIN = 1024, 1024, 1024, 8


def operations_a_second(precision: str) -> float:
    """Multiplications and additions a second of matrix products by OpenVINO in fp32, bf16 or int8, at best."""
    draw = np.random.default_rng(0)
    start = ops.parameter([_ROWS, _INNER], np.float32)
    node: Any = start
    for _ in range(_CHAIN):
        weights: Any = ops.constant(draw.standard_normal((_INNER, _COLUMNS)).astype(np.float32) / 32)
        if precision == "int8":
            node = ops.fake_quantize(node, *map(np.float32, (-4, 4, -4, 4)), 256)
            weights = ops.fake_quantize(weights, *map(np.float32, (-0.13, 0.13, -0.13, 0.13)), 255)
        node = ops.matmul(node, weights, transpose_a=False, transpose_b=False)
    model = openvino.Model([node], [start], "peak")
    hint = "bf16" if precision == "bf16" else "f32"
    config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": hint, "PERFORMANCE_HINT": "LATENCY"}
    if precision == "int8" and not int8_is_exact():
        config["LP_TRANSFORMS_MODE"] = False  # as the engine computes it here
    request = openvino.Core().compile_model(model, "CPU", config).create_infer_request()
    feed = [draw.standard_normal((_ROWS, _INNER)).astype(np.float32)]
    seconds = []
    for _ in range(30):
        began = time.perf_counter()
        request.infer(feed)
        seconds.append(time.perf_counter() - began)
    return 2 * _ROWS * _INNER * _COLUMNS * _CHAIN / min(seconds)


def operations(folder: Path, padded_tokens: float, squares: float) -> float:
    """Multiplications and additions of the matrix products over ``padded_tokens`` tokens, padding included.

    ``squares`` is the sum of rows x width x width: attention compares every place with every other.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    width, layers, inner = config["hidden_size"], config["num_hidden_layers"], config["intermediate_size"]
    if "num_key_value_heads" in config:  # a decoder: keys and values are shared among heads, and the layer is gated
        size = config.get("head_dim") or width // config["num_attention_heads"]
        queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
        per_token = 2 * (2 * width * queries + 2 * width * keys + 3 * width * inner)
        return float(layers * (padded_tokens * per_token + squares * 4 * queries))
    per_token = 2 * (4 * width * width + 2 * width * inner)
    return float(layers * (padded_tokens * per_token + squares * 4 * width))
