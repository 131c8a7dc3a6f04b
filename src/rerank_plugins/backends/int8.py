"""Whether this processor multiplies int8 without losing digits."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as ops

# A row of ones times a column of ones. A processor that adds two products in 16 bits clips each such sum.
_ONES = 64


@functools.cache
def int8_is_exact() -> bool:
    """Whether OpenVINO's int8 product of ones is their number here.

    It is with AVX512-VNNI, AVX-VNNI or AMX. x86 processors without them add products in pairs, in 16 bits, which
    clips them: on a Zen 3 this sum of 64 comes out as 0.5, and logits of rerank-mini-en are off by up to 0.3. Asked of
    the arithmetic, not of a list of processors; takes 20 ms, once.
    """
    row = ops.parameter([1, _ONES], np.float32)
    column = ops.constant(np.ones((_ONES, 1), dtype=np.float32))
    product = ops.matmul(_in_int8(row), _in_int8(column), transpose_a=False, transpose_b=False)
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = openvino.Core().compile_model(openvino.Model([product], [row], "ones"), "CPU", config)
    (found,) = compiled([np.ones((1, _ONES), dtype=np.float32)]).values()
    return bool(abs(found.item() - _ONES) < 0.01 * _ONES)


def _in_int8(node: Any) -> Any:
    return ops.fake_quantize(node, *(np.float32(bound) for bound in (-1, 1, -1, 1)), 255)
