"""Where a training is computed, and in what."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from rerank_plugins.backends.auto import find_accelerator
from rerank_plugins.backends.cpu import count_usable_cpus, describe_processor, has_bf16_instructions


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Where it is computed, and in what; weights are in fp32 everywhere."""

    device: str
    autocast: str | None
    """``"bf16"`` or ``"fp16"``; None for fp32."""

    @property
    def machine(self) -> str:
        """What computes, in words."""
        name = torch.cuda.get_device_name() if self.device == "cuda" else describe_processor(torch.get_num_threads())
        return f"{name}, {self.autocast or 'fp32'}"

    @property
    def dtype(self) -> torch.dtype | None:
        """Of ``autocast``."""
        return {"bf16": torch.bfloat16, "fp16": torch.float16, None: None}[self.autocast]


def use_threads(threads: int | None) -> None:
    """Let torch compute on ``threads`` processors; None: no more than a container's quota."""
    torch.set_num_threads(min(torch.get_num_threads(), count_usable_cpus()) if threads is None else threads)


def chosen_arithmetic() -> Arithmetic:
    """The fastest that this machine has."""
    device = find_accelerator() or "cpu"
    if device == "cuda":
        return Arithmetic(device, "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16")
    return Arithmetic(device, "bf16" if device == "cpu" and has_bf16_instructions() else None)
