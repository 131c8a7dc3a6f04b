"""Processors: count_affinity_cpus, quotas of control groups, and how many threads an engine takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import InvalidInputError, load_reranker
from rerank_plugins.backends import cpu as cpus


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
    assert cpus.count_usable_cpus(machine(tmp_path, cgroup, mounts, files)) == expected


def test_without_proc_the_affinity_counts(tmp_path: Path) -> None:
    """On a system without /proc there is no quota to read."""
    assert cpus.count_usable_cpus(tmp_path / "nothing") == cpus.count_affinity_cpus()


def test_threads_can_be_said(fresh_ir: Path) -> None:
    """threads=1 computes on one; without it, on what there is."""
    scorer: Any = load_reranker(fresh_ir, threads=1).scorer
    assert scorer.engine.threads == 1
    whole: Any = load_reranker(fresh_ir).scorer
    assert 1 <= whole.engine.threads <= cpus.count_usable_cpus()


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
