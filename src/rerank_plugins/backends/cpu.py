"""How many processors this process may use: its affinity, and the quota of its container."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath


def affinity() -> int:
    """Processors that the system may run this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cpus(proc: Path = Path("/proc/self")) -> int:
    """`affinity`, lowered to what the quotas of Linux' control groups (v1 and v2) allow; at least 1.

    A quota of 1.5 processors counts as 2: threads beyond it are stopped for a part of every period.
    """
    return max(1, min([affinity(), *(math.ceil(quota) for quota in _quotas(proc))]))


def _quotas(proc: Path) -> Iterator[float]:
    """The quotas of the process's control groups and of all groups above them, in processors."""
    try:
        groups = [line.split(":", 2) for line in (proc / "cgroup").read_text().splitlines()]
        mounts = [line.split(" - ", 1) for line in (proc / "mountinfo").read_text().splitlines()]
    except OSError:
        return  # no Linux, or no /proc
    for mount in mounts:
        root, place = mount[0].split()[3:5]
        kind, _, options = mount[1].split()[:3]
        for _, controllers, group in groups:
            if kind == "cgroup2" and not controllers:
                yield from _up(Path(place), root, group, _second_version)
            elif kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(","):
                yield from _up(Path(place), root, group, _first_version)


def _up(place: Path, root: str, group: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    """From the group's folder up to the one where the groups are mounted: the narrowest of them counts."""
    inside = PurePosixPath(group)
    # In a container the mount shows a part of the tree only, from ``root`` on.
    folder = place / inside.relative_to(root) if inside.is_relative_to(root) else place
    while folder.is_relative_to(place):
        try:
            quota = read(folder)
        except (OSError, ValueError):
            quota = None  # the group at the root has no such file
        if quota is not None and quota > 0:
            yield quota
        folder = folder.parent


def _second_version(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else int(quota) / int(period)


def _first_version(folder: Path) -> float | None:
    quota = int((folder / "cpu.cfs_quota_us").read_text())
    return None if quota < 0 else quota / int((folder / "cpu.cfs_period_us").read_text())
