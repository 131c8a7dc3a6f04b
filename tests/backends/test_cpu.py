"""Processors: count_affinity_cpus, quotas of control groups, and how many threads an engine takes."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rerank_plugins import InvalidInputError, load_reranker
from rerank_plugins.backends import cpu


def machine(folder: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """A /proc/self of somebody's own, whose control groups are mounted under ``folder``."""
    proc = folder / "proc"
    proc.mkdir()
    (proc / "cgroup").write_text(cgroup, encoding="utf-8")
    (proc / "mountinfo").write_text(mountinfo.replace("ROOT", str(folder)), encoding="utf-8")
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return proc


V1 = "30 25 0:26 / ROOT/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
V2 = "30 25 0:26 / ROOT/unified rw,relatime - cgroup2 cgroup2 rw\n"
OTHER = "22 25 0:21 / ROOT/proc rw - proc proc rw\n"


def v1(quota: int, period: int = 100_000, group: str = "") -> dict[str, str]:
    return {f"cpu{group}/cpu.cfs_quota_us": f"{quota}\n", f"cpu{group}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "expected"),
    [
        pytest.param("4:cpu,cpuacct:/\n", OTHER + V1, v1(200_000), 2, id="v1"),
        pytest.param("4:cpu,cpuacct:/\n", V1, v1(-1), 8, id="v1 without a quota"),
        pytest.param("4:cpu:/a/b\n", V1, v1(-1, group="/a/b") | v1(300_000, group="/a"), 3, id="v1, the group above"),
        pytest.param("0::/a\n", V2, {"unified/a/cpu.max": "150000 100000\n"}, 2, id="v2, one and a half"),
        pytest.param("0::/a\n", V2, {"unified/a/cpu.max": "max 100000\n"}, 8, id="v2 without a quota"),
        pytest.param("0::/\n", V2, {"unified/cpu.max": "10000 100000\n"}, 1, id="a tenth counts as one"),
        pytest.param("0::/\n", V2, {"unified/cpu.max": "1600000 100000\n"}, 8, id="more than there are"),
        pytest.param("0::/pod/box\n", V2.replace("0:26 / ", "0:26 /pod "), {"unified/box/cpu.max": "100000 100000"}, 1,
                     id="a part of the tree is mounted"),
        pytest.param("0::/elsewhere\n", V2.replace("0:26 / ", "0:26 /pod "), {"unified/cpu.max": "400000 100000"}, 4,
                     id="a group outside of what is mounted"),
        pytest.param("0::/\n", V2, {"unified/cpu.max": "nonsense"}, 8, id="a file that cannot be read"),
        pytest.param("4:memory:/\n0::/\n", V1 + V2, v1(100_000) | {"unified/cpu.max": "600000 100000"}, 6,
                     id="both versions, v2 rules"),
    ],
)  # fmt: skip
def test_a_quota_lowers_the_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, mounts: str, files: dict[str, str], expected: int
) -> None:
    """On a machine of eight, as many as the narrowest quota allows, rounded up, at least one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert cpu.count_usable_cpus(machine(tmp_path, cgroup, mounts, files)) == expected


def test_without_proc_the_affinity_counts(tmp_path: Path) -> None:
    """On a system without /proc there is no quota to read."""
    assert cpu.count_usable_cpus(tmp_path / "nothing") == cpu.count_affinity_cpus()


def test_threads_can_be_said(fresh_ir: Path) -> None:
    """threads=1 computes on one; without it, on what there is."""
    scorer: Any = load_reranker(fresh_ir, threads=1).scorer
    assert scorer.engine.threads == 1
    whole: Any = load_reranker(fresh_ir).scorer
    assert 1 <= whole.engine.threads <= cpu.count_usable_cpus()


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5, "2"])
def test_wrong_threads_are_refused(wrong: Any) -> None:
    """What is no number of threads is an error before anything is looked for."""
    with pytest.raises(InvalidInputError, match="threads must be a whole number of at least 1"):
        load_reranker("no/such-model", threads=wrong)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that sets affinities")
def test_an_engine_keeps_to_the_affinity() -> None:
    """A process that may run on one processor computes on one."""
    one = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, {{{one}}}); from rerank_plugins import load_reranker; "
        "print(load_reranker('rerank-mini-en').scorer.engine.threads)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1"


@pytest.mark.skipif(cpu.has_bf16_instructions(), reason="whether it is right depends on processor and OpenVINO")
def test_fp32_is_found_right() -> None:
    """Where there is no bf16 OpenVINO computes in fp32, which lies near numpy's."""
    assert cpu.bf16_is_right()


def rounded_to_bf16(matrix: np.ndarray) -> np.ndarray:
    """The upper half of every float, which is a bfloat16."""
    return (matrix.view(np.uint32) & 0xFFFF0000).view(np.float32)


def test_rounding_is_near() -> None:
    """A product of matrices that were cut to bf16 passes."""
    draw = np.random.default_rng(0)
    left, right = (draw.standard_normal((64, 384)).astype(np.float32) for _ in range(2))
    exact = left @ right.T
    assert cpu.is_close_to(rounded_to_bf16(rounded_to_bf16(left) @ rounded_to_bf16(right).T), exact)


@pytest.mark.parametrize("wrong", [5.5, 0.0, -1.0, float("nan"), float("inf")])
def test_a_product_of_another_size_is_far(wrong: float) -> None:
    """Several times too large, as a Zen 5 was reported to give it, or none at all."""
    exact = np.random.default_rng(0).standard_normal((7, 384)).astype(np.float32)
    with np.errstate(invalid="ignore"):
        assert not cpu.is_close_to(exact * np.float32(wrong), exact)


PAIRS = [("what do plants eat", "Plants make sugar of light."), ("what do plants eat", "Bread is baked.")] * 4

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.is_file(), reason="the flags of an x86 processor are Linux'"
)
def test_int8_is_exact_where_the_processor_has_instructions_for_it() -> None:
    """What the arithmetic shows agrees with what Linux says of the processor."""
    flags = next(line for line in CPUINFO.read_text(encoding="utf-8").splitlines() if line.startswith("flags")).split()
    assert cpu.int8_is_exact() == bool({"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags))


def computed_in_int8(scorer: Any) -> bool:
    """Whether a matrix product runs in int8, by what OpenVINO says of the compiled model."""
    operations = scorer.engine._request.get_compiled_model().get_runtime_model().get_ops()
    kinds = [{name: str(value.value) for name, value in op.get_rt_info().items()} for op in operations]
    return any(kind["layerType"] == "FullyConnected" and kind["primitiveType"].endswith("i8") for kind in kinds)


@pytest.mark.slow
def test_the_bundled_reranker_scores_the_same_without_int8_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where int8 is not exact nothing is multiplied in it, and logits stay within rounding of those where it is."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: False)
    without = load_reranker("rerank-mini-en").scorer
    assert not computed_in_int8(without)
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: True)
    with_int8 = load_reranker("rerank-mini-en").scorer
    assert computed_in_int8(with_int8)
    if cpu.int8_is_exact():
        assert with_int8.score(PAIRS) == pytest.approx(without.score(PAIRS), abs=0.2)
