"""Whether OpenVINO multiplies bfloat16 rightly on this processor."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops

# Rounding to bf16 moves a product of this size by half a percent; a wrong kernel, by about its own size.
FARTHEST = 0.05
_INNER, _OUTER = 1024, 256
_ROWS = (1, 7, 64)  # a vector, fewer than a tile of AMX, whole tiles


@functools.cache
def bf16_is_right() -> bool:
    """Whether products of random matrices, computed in bf16, lie near those computed in fp32.

    OpenVINO's issue 38256 reports a Zen 5 on which they do not, in 2026.4: it has AVX512_BF16, and one product comes
    out at several times its size. Asked of the arithmetic, not of a list of processors; takes 0.1 s, once. On a
    processor without bf16 it compares fp32 with itself.
    """
    draw = np.random.default_rng(0)
    weights = draw.standard_normal((_INNER, _OUTER)).astype(np.float32) / np.float32(_INNER**0.5)
    rows = ops.parameter([-1, _INNER], np.float32)
    # As a model's layers multiply, by constants, and as its attention does, by one another.
    by_weights: Any = ops.matmul(rows, ops.constant(weights), transpose_a=False, transpose_b=False)
    by_rows = ops.matmul(by_weights, by_weights, transpose_a=False, transpose_b=True)
    model = openvino.Model([by_weights, by_rows], [rows], "products")
    config = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": 1}
    try:
        compiled = openvino.Core().compile_model(model, "CPU", config)
        for count in _ROWS:
            given = draw.standard_normal((count, _INNER)).astype(np.float32)
            first, second = compiled([given]).values()
            exact = given @ weights
            if not (lies_near(first, exact) and lies_near(second, exact @ exact.T)):
                return False
    except RuntimeError:
        return False  # where a product cannot be made, no model can
    return True


def lies_near(found: NDArray[np.float32], exact: NDArray[np.float32]) -> bool:
    """Whether two matrices differ by less than `FARTHEST` of the second's Frobenius norm; never where one is NaN."""
    return bool(np.linalg.norm(found - exact) < FARTHEST * np.linalg.norm(exact))
