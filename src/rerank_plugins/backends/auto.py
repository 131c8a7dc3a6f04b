"""Every ``"auto"`` is settled here: which engine, precision and device a model runs with, and why."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Literal, NamedTuple

from rerank_plugins._internal.extras import torch_installed
from rerank_plugins._internal.loading_options import EngineName, LoadingOptions, Precision
from rerank_plugins._internal.options import options_of
from rerank_plugins.backends import cpu
from rerank_plugins.errors import InvalidInputError, MissingExtraError, ModelLoadError
from rerank_plugins.hub.config import check_custom_code, list_custom_classes
from rerank_plugins.hub.fidelity_report import describe_shortfall, find_report, is_accepted
from rerank_plugins.hub.folder import has_torch_weights, list_formats


class EngineChoice(NamedTuple):
    """What `choose_engine` decided, and the reason in words."""

    engine: Literal["torch", "openvino"]
    precision: Precision
    device: str
    why: str


def choose_engine(
    folder: Path | None, *, engine: EngineName = "auto", precision: Precision = "auto", device: str | None = None
) -> EngineChoice:
    """Settle every ``"auto"`` on this machine, for the model in ``folder``, or with None for one that has all files."""
    for name, value in (("engine", engine), ("precision", precision)):
        options_of(LoadingOptions)[name].check(value)
    if device is not None:
        device = str(device).lower()
        device = "cpu" if device.startswith("cpu:") else device
    if engine == "auto":
        engine, device, why = _choose_engine_name(folder, device, precision)
    else:
        why = f"engine={engine!r} was asked for"
    if engine == "torch":
        if folder is not None:
            check_custom_code(folder)
        return _choose_torch(precision, device, why)
    return _choose_openvino(folder, precision, device, why)


def find_accelerator() -> str | None:
    """``"cuda"`` or ``"mps"`` if torch is installed and sees one, else None."""
    if not torch_installed() or not _may_have_accelerator():
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def _may_have_accelerator() -> bool:
    """False if there is certainly none. On Linux device files tell, without importing torch, which takes seconds."""
    if platform.system() != "Linux":
        return True
    # NVIDIA's driver (nvhost on Jetson, dxg in WSL), and AMD's, which torch calls cuda too.
    return any(any(Path("/dev").glob(name)) for name in ("nvidia*", "nvhost*", "dxg", "kfd"))


def _choose_engine_name(
    folder: Path | None, device: str | None, precision: Precision
) -> tuple[Literal["torch", "openvino"], str | None, str]:
    if folder is not None and not has_torch_weights(folder):
        if device not in (None, "cpu"):
            check_custom_code(folder)
        if list_custom_classes(folder):
            return "openvino", device, "the model's torch weights need custom code, which is never run"
        return "openvino", device, "the model has OpenVINO or ONNX files only"
    if device not in (None, "cpu"):
        return "torch", device, f"device={device!r} was asked for"
    if device is None and precision != "int8":
        accelerator = find_accelerator()
        if accelerator is not None:
            return "torch", accelerator, f"torch sees {accelerator}"
    return "openvino", device, "the CPU is what there is" if device is None else "device='cpu' was asked for"


def _choose_torch(precision: Precision, device: str | None, why: str) -> EngineChoice:
    if not torch_installed():
        raise MissingExtraError("torch", "The torch engine", "sentence-transformers")
    if precision == "int8":
        raise InvalidInputError(
            "engine='torch' computes fp32, bf16 or fp16; got precision='int8'. Use engine='openvino' for int8, on CPUs."
        )
    device = device or find_accelerator() or "cpu"
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "fp16"
    return EngineChoice("torch", precision, device, why)


def _choose_openvino(folder: Path | None, precision: Precision, device: str | None, why: str) -> EngineChoice:
    if device not in (None, "cpu"):
        raise InvalidInputError(
            f"engine='openvino' runs on the CPU; got device={device!r}. "
            f"Use engine='torch' with a model that has model.safetensors, or leave device out."
        )
    if precision == "fp16":
        raise InvalidInputError(
            "On a CPU the OpenVINO engine computes fp32, bf16 or int8; got precision='fp16'. "
            "Use precision='bf16' (same size, wider range), or engine='torch' on an accelerator for fp16."
        )
    if precision == "auto":
        precision, reason = _choose_precision(folder)
        why = f"{why}; {reason}"
    elif precision == "bf16" and not cpu.has_bf16():
        raise InvalidInputError(
            f"precision='bf16' cannot be computed here: {cpu.explain_no_bf16()}. "
            f"Use precision='fp32', or 'auto' to let the machine decide."
        )
    return EngineChoice("openvino", precision, "cpu", why)


def _choose_precision(folder: Path | None) -> tuple[Precision, str]:
    """The fastest precision on this CPU that is known to keep the model's order, and why."""
    report = _read_report(folder, "int8")
    accepted = is_accepted(report)
    formats = list_formats(folder) if folder else []
    if formats == ["int8"] or (formats == ["torch", "int8"] and not torch_installed()):
        if report and not accepted:
            raise ModelLoadError(
                f"{folder} has an int8 file only, and that fell below its floor of fidelity: "
                f"{describe_shortfall(report)}. Use precision='int8' to use it all the same, or export it again with "
                f"--accept or --calibration."
            )
        arithmetic = "" if cpu.int8_is_exact() else ", computed in fp32, because this processor clips int8 products"
        return "int8", f"its int8 file is all that runs here{arithmetic}"
    if accepted and cpu.int8_is_exact():
        return "int8", f"its int8 file {'passed' if report.get('passed') else 'was accepted in'} its fidelity report"
    precision, why = _choose_float_precision(folder)
    if accepted:
        why = f"this processor clips int8 products, so that its int8 file gains nothing, and {why}"
    return precision, why


def _choose_float_precision(folder: Path | None) -> tuple[Precision, str]:
    """bf16 if the processor has it, else fp32. A fidelity report of the model can rule out either."""
    bf16, fp32 = _read_report(folder, "bf16"), _read_report(folder, "fp32")
    if not cpu.has_bf16():
        why = cpu.explain_no_bf16()
    elif bf16 and not is_accepted(bf16):
        why = f"bf16 fell below its floor of fidelity: {describe_shortfall(bf16)}"
    else:
        return "bf16", "this processor computes bf16"
    if fp32 and not is_accepted(fp32):
        raise ModelLoadError(
            f"{folder} as OpenVINO computes it in fp32 fell below its floor of fidelity: {describe_shortfall(fp32)}. "
            f"Use engine='torch', or precision='fp32' to use it all the same."
        )
    return "fp32", why


def _read_report(folder: Path | None, precision: Precision) -> dict[str, object]:
    export = find_report(folder, precision) if folder else None
    return export[1] if export else {}
