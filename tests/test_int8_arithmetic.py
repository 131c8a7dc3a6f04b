from __future__ import annotations

import platform
from pathlib import Path

import pytest

from rerank_plugins.engines.int8_arithmetic import int8_is_exact

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.is_file(), reason="the flags of an x86 processor are Linux'"
)
def test_int8_is_exact_where_the_processor_has_instructions_for_it() -> None:
    """What the arithmetic shows agrees with what Linux says of the processor."""
    flags = next(line for line in CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags")).split()
    assert int8_is_exact() == bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags))
