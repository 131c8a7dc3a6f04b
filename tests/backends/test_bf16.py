from __future__ import annotations

import numpy as np
import pytest

from rerank_plugins.backends.cpu import bf16_is_right, has_bf16_instructions, is_close_to


@pytest.mark.skipif(
    has_bf16_instructions(), reason="whether it is right here is this processor's and OpenVINO's matter"
)
def test_fp32_is_found_right() -> None:
    """Where there is no bf16 OpenVINO computes in fp32, which lies near numpy's."""
    assert bf16_is_right()


def rounded_to_bf16(matrix: np.ndarray) -> np.ndarray:
    """The upper half of every float, which is a bfloat16."""
    return (matrix.view(np.uint32) & 0xFFFF0000).view(np.float32)


def test_rounding_is_near() -> None:
    """A product of matrices that were cut to bf16 passes."""
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((64, 384)).astype(np.float32) for _ in range(2))
    exact = left @ right.T
    assert is_close_to(rounded_to_bf16(rounded_to_bf16(left) @ rounded_to_bf16(right).T), exact)


@pytest.mark.parametrize("wrong", [5.5, 0.0, -1.0, float("nan"), float("inf")])
def test_a_product_of_another_size_is_far(wrong: float) -> None:
    """Several times too large, as a Zen 5 was reported to give it, or none at all."""
    exact = np.random.default_rng(0).standard_normal((7, 384)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        assert not is_close_to(exact * np.float32(wrong), exact)
