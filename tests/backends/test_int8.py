from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import load_reranker
from rerank_plugins.backends.cpu import int8_is_exact

PAIRS = [("what do plants eat", "Plants make sugar of light."), ("what do plants eat", "Bread is baked.")] * 4

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.is_file(), reason="the flags of an x86 processor are Linux'"
)
def test_int8_is_exact_where_the_processor_has_instructions_for_it() -> None:
    """What the arithmetic shows agrees with what Linux says of the processor."""
    flags = next(line for line in CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags")).split()
    assert int8_is_exact() == bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags))


def computed_in_int8(scorer: Any) -> bool:
    """Whether a matrix product runs in int8, by what OpenVINO says of the compiled model."""
    operations = scorer.engine._request.get_compiled_model().get_runtime_model().get_ops()
    kinds = [{name: str(value.value) for name, value in op.get_rt_info().items()} for op in operations]
    return any(kind["layerType"] == "FullyConnected" and kind["primitiveType"].endswith("i8") for kind in kinds)


@pytest.mark.slow
def test_the_model_in_the_box_scores_the_same_without_int8_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where int8 is not exact nothing is multiplied in it, and logits stay within rounding of those where it is."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: False)
    without = load_reranker("rerank-mini-en").scorer
    assert not computed_in_int8(without)
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: True)
    with_int8 = load_reranker("rerank-mini-en").scorer
    assert computed_in_int8(with_int8)
    if int8_is_exact():
        assert with_int8.score(PAIRS) == pytest.approx(without.score(PAIRS), abs=0.2)
