"""What the CPU offers: its name, how many processors we may use, and whether bf16 and int8 are computed rightly."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray


@functools.cache
def _find_malloc_trim() -> Any:
    import ctypes

    try:
        return ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):  # another C library, or no Linux
        return None


def release_freed_memory() -> None:
    """Return to the system what was freed and is kept by glibc, which has a heap of its own for every thread.

    Measured on 2 threads, int8, 1 to 60 documents a call: without it a process grew from 634 MB after 200 calls to 693
    after 500; a call of this function took 2 to 5 ms.
    """
    trim = _find_malloc_trim()
    if trim is not None:
        trim(0)


def count_affinity_cpus() -> int:
    """Processors that the system may run this process on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def count_usable_cpus(proc: Path = Path("/proc/self")) -> int:
    """`count_affinity_cpus`, lowered to the quotas of Linux' control groups (v1 and v2); at least 1.

    A quota of 1.5 processors counts as 2: threads beyond it are stopped for a part of every period.
    """
    return max(1, min([count_affinity_cpus(), *(math.ceil(quota) for quota in _read_quotas(proc))]))


def _read_quotas(proc: Path) -> Iterator[float]:
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
            v1 = kind == "cgroup" and "cpu" in controllers.split(",") and "cpu" in options.split(",")
            if v1 or (kind == "cgroup2" and not controllers):
                yield from _read_quotas_upwards(Path(place), root, group)


def _read_quotas_upwards(place: Path, root: str, group: str) -> Iterator[float]:
    """The quotas from the group's folder up to the mount point: the lowest of them counts."""
    v1, v2 = ["cpu.cfs_quota_us", "cpu.cfs_period_us"], ["cpu.max"]
    inside = PurePosixPath(group)
    # In a container the mount shows only the part of the tree below ``root``.
    folder = place / inside.relative_to(root) if inside.is_relative_to(root) else place
    while folder.is_relative_to(place):
        # The group at the root has no such file; without a quota it says "max" (v2) or -1 (v1).
        with contextlib.suppress(OSError, ValueError):
            files = v2 if (folder / v2[0]).is_file() else v1
            quota, period = (int(number) for file in files for number in (folder / file).read_text().split())
            if quota > 0:
                yield quota / period
        folder = folder.parent


def processor_name() -> str:
    """The processor's name as OpenVINO reports it."""
    import openvino

    return str(openvino.Core().get_property("CPU", "FULL_DEVICE_NAME"))


def describe_processor(threads: int) -> str:
    """The processor's name, and the number of threads that compute."""
    return f"{processor_name()}, {threads} {'thread' if threads == 1 else 'threads'}"


def has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively, and OpenVINO rightly on it."""
    return has_bf16_instructions() and bf16_is_right()


def explain_no_bf16() -> str:
    """Why `has_bf16` is false, in words."""
    if has_bf16_instructions():
        return "OpenVINO multiplies bf16 wrongly on this processor"
    return "this processor has no bf16 (AVX512_BF16 or AMX)"


@functools.cache
def has_bf16_instructions() -> bool:
    """Whether the processor has instructions for bfloat16 (AVX512_BF16 or AMX)."""
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@functools.cache
def bf16_is_right() -> bool:
    """Whether OpenVINO's bf16 products of random matrices are close to those in fp32.

    OpenVINO's issue 38256 reports a Zen 5 on which they are not, in 2026.4: it has AVX512_BF16, and one product comes
    out at several times its size. The arithmetic is tried instead of keeping a list of processors; this takes 0.1 s,
    once. On a processor without bf16 it compares fp32 with itself.
    """
    from openvino import opset13 as ops

    random = np.random.default_rng(0)
    weights = random.standard_normal((1024, 256)).astype(np.float32) / np.float32(1024**0.5)
    rows = ops.parameter([-1, 1024], np.float32)
    # By constants, as a model's layers multiply, and by one another, as its attention does.
    by_weights: Any = ops.matmul(rows, ops.constant(weights), transpose_a=False, transpose_b=False)
    by_rows = ops.matmul(by_weights, by_weights, transpose_a=False, transpose_b=True)
    try:
        compiled = _compile_on_one_thread([by_weights, by_rows], rows, "bf16")
        for count in (1, 7, 64):  # a vector, less than a tile of AMX, whole tiles
            batch = random.standard_normal((count, 1024)).astype(np.float32)
            first, second = compiled([batch]).values()
            exact = batch @ weights
            if not (is_close_to(first, exact) and is_close_to(second, exact @ exact.T)):
                return False
    except RuntimeError:
        return False  # if a product cannot be compiled, no model can
    return True


def is_close_to(product: NDArray[np.float32], exact: NDArray[np.float32]) -> bool:
    """Whether two matrices differ by less than 5 % of the second's Frobenius norm; false for NaN."""
    # Rounding to bf16 moves a product of 1,024 terms by half a percent, a wrong kernel by about its own size.
    return bool(np.linalg.norm(product - exact) < 0.05 * np.linalg.norm(exact))


@functools.cache
def int8_is_exact() -> bool:
    """Whether an int8 product of ones is their number on this processor.

    It is with AVX512-VNNI, AVX-VNNI or AMX. x86 processors without them add products in pairs, in 16 bits, which
    clips them: on a Zen 3 this sum of 64 comes out as 0.5, and logits of rerank-mini-en are off by up to 0.3. The
    arithmetic is tried instead of keeping a list of processors; this takes 20 ms, once.
    """
    from openvino import opset13 as ops

    def quantize(node: Any) -> Any:
        return ops.fake_quantize(node, *(np.float32(bound) for bound in (-1, 1, -1, 1)), 255)

    # A row of ones times a column of ones. A processor that adds two products in 16 bits clips each such sum.
    row, column = ops.parameter([1, 64], np.float32), ops.constant(np.ones((64, 1), dtype=np.float32))
    product = ops.matmul(quantize(row), quantize(column), transpose_a=False, transpose_b=False)
    (total,) = _compile_on_one_thread([product], row, "f32")([np.ones((1, 64), dtype=np.float32)]).values()
    return bool(abs(total.item() - 64) < 0.64)


def _compile_on_one_thread(outputs: list[Any], parameter: Any, precision: str) -> Any:
    import openvino

    config = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
    return openvino.Core().compile_model(openvino.Model(outputs, [parameter], "products"), "CPU", config)
