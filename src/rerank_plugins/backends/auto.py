"""Engines: token ids in, raw logits out. Nothing here knows text."""

from __future__ import annotations

import logging
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from rerank_plugins._internal.extras import torch_installed
from rerank_plugins.errors import InvalidInputError, MissingExtraError, ModelLoadError, RerankError
from rerank_plugins.hub import folder as model_folder

if TYPE_CHECKING:
    from rerank_plugins.backends.openvino import OpenVINOEngine
    from rerank_plugins.backends.torch import TorchEngine

EngineName = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

CPU_PADDING = 0.1
"""`Engine.max_padding` where a batch costs nothing but its slots."""

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]

_log = logging.getLogger("rerank_plugins")


class Engine(Protocol):
    """A cross-encoder's forward pass. Safe to call from many threads."""

    @property
    def name(self) -> Literal["torch", "openvino"]: ...  # noqa: D102 - the word says it

    @property
    def precision(self) -> Precision: ...  # noqa: D102 - the word says it

    @property
    def device(self) -> str: ...  # noqa: D102 - the word says it

    @property
    def token_budget(self) -> int:
        """Slots (rows x longest row) of a batch that this engine runs best at."""
        ...

    @property
    def length_multiple(self) -> int:
        """Rows are padded to a multiple of so many tokens, which this engine computes fastest; 1 for none."""
        ...

    @property
    def few_shapes(self) -> bool:
        """Whether a new shape costs this engine time and memory, so that batches have 1, 2, 3, 4, 6, 8, ... rows."""
        ...

    @property
    def max_padding(self) -> float:
        """Largest share of a batch's slots that may be padding: the more, the more a batch costs beside its slots."""
        ...

    @property
    def shared_slots(self) -> int:
        """Slots up to which a batch is filled with rows of other callers; 0 where that would move their logits.

        A row's logit depends on the shape of its batch by rounding. In fp32 that is far below 1e-4; where activations
        are rounded to 8 bits it is not.
        """
        ...

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """Three int64 arrays [batch, length], padded at the end; returns float32 [batch].

        Raises:
            OutOfMemoryError: Fewer rows at a time might fit.
        """
        ...


class EngineChoice(NamedTuple):
    """What `choose_engine` decided, and the reason in words."""

    engine: Literal["torch", "openvino"]
    precision: Precision
    device: str
    why: str


def check_names(engine: str, precision: str) -> None:
    """Raise `InvalidInputError` for an engine or a precision that does not exist."""
    for label, got, known in (("engine", engine, get_args(EngineName)), ("precision", precision, get_args(Precision))):
        if got not in known:
            raise InvalidInputError(f"{label} must be one of {', '.join(known)}; got {got!r}.")


def choose_engine(
    folder: Path | None, *, engine: EngineName = "auto", precision: Precision = "auto", device: str | None = None
) -> EngineChoice:
    """Settle every ``auto`` on this machine, for the model in ``folder`` or, with None, for one with all files."""
    check_names(engine, precision)
    if device is not None:
        device = str(device).lower()
        device = "cpu" if device.startswith("cpu:") else device
    if engine == "auto":
        engine, device, why = _auto_engine(folder, device, precision)
    else:
        why = f"engine={engine!r} was asked for"
    if engine == "torch":
        if folder is not None:
            model_folder.check_custom_code(folder)
        return _torch_choice(precision, device, why)
    return _openvino_choice(folder, precision, device, why)


def load_engine(
    folder: Path,
    *,
    engine: EngineName = "auto",
    precision: Precision = "auto",
    device: str | None = None,
    threads: int | None = None,
) -> Engine:
    """Load the model in ``folder``, or take it where it is loaded already, from the same files in the same way.

    Raises:
        InvalidInputError: An unknown name, or a precision that the engine or device cannot compute.
        MissingExtraError: The torch engine, or a conversion, without the ``torch`` extra.
        ModelLoadError: The folder's files cannot be used.
    """
    from rerank_plugins.backends.load import find_engine, share_engine

    choice = choose_engine(folder, engine=engine, precision=precision, device=device)
    loaded = find_engine(folder, choice, threads)
    if loaded is not None:
        if choice.engine == "torch" and choice.device == "cpu" and threads is not None:
            import torch

            torch.set_num_threads(threads)  # another engine may have set it meanwhile
        return loaded
    _log.info("%s: %s, %s on %s (%s)", folder, choice.engine, choice.precision, choice.device, choice.why)
    model_folder.check_cross_encoder(folder)
    pad = model_folder.pad_token_id(folder)
    # Two short rows now, one of them padded: a model that cannot compute them, or gives something else than one logit
    # for each, is found out here, not at work.
    ids = np.full((2, 4), 0 if pad else 1, dtype=np.int64)
    mask = np.ones_like(ids)
    ids[1, -1], mask[1, -1] = pad, 0
    try:
        engine_made = _make(folder, choice, threads)
        engine_made.logits(ids, mask, np.zeros_like(ids))
        if _reads_padding(engine_made, folder, pad):
            engine_made.length_multiple, engine_made.max_padding = 1, 0.0
    except (RerankError, MemoryError):
        raise
    except Exception as exc:
        raise _unloadable(folder, pad, exc) from exc
    return share_engine(engine_made, folder, choice, threads)


def _unloadable(folder: Path, pad: int, exc: Exception) -> ModelLoadError:
    """What an architecture does not like surfaces as TypeError, ValueError, RuntimeError and others."""
    hint = "Use another model, or report this one."
    if model_folder.read_config(folder).get("pad_token_id") is None:
        hint = f"Its config.json gives no pad_token_id, which some model types need: set it to {pad}."
    return ModelLoadError(
        f"{folder} cannot be loaded ({type(exc).__name__}: {' '.join(str(exc).split())[:400]}). {hint}"
    )


def _reads_padding(engine: Engine, folder: Path, pad: int) -> bool:
    """Whether a row's logit is another one where it is padded, though the attention mask says so.

    So it is in ConvBERT, whose convolutions take no mask, FNet and Nystromformer; their rows must not be padded.
    """
    length = 8
    shape = (1, 4 * length)
    ids, mask, types = np.full(shape, pad, dtype=np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    ids[:, :length], mask[:, :length] = 0 if pad else 1, 1
    # Half of it is a passage, where the model tells segments apart.
    types[:, length // 2 : length] = int(model_folder.read_config(folder).get("type_vocab_size") or 0) > 1
    alone = engine.logits(ids[:, :length], mask[:, :length], types[:, :length])
    padded = engine.logits(ids, mask, types)
    # Below fp32 rounding follows the shape: logits of bf16 moved by .02 in a stand-in, these architectures' by units.
    return bool(np.abs(alone - padded).max() > (1e-3 if engine.precision == "fp32" else 0.2))


def _make(folder: Path, choice: EngineChoice, threads: int | None) -> OpenVINOEngine | TorchEngine:
    if choice.engine == "torch":
        from rerank_plugins.backends.torch import TorchEngine

        return TorchEngine(folder, choice.precision, choice.device, threads)
    from rerank_plugins.backends.openvino import OpenVINOEngine

    return OpenVINOEngine(folder, choice.precision, threads)


def one_logit_a_row(output: NDArray[np.float32], rows: int) -> Logits:
    """``output`` as [rows]; `ModelLoadError` if it is not one logit a row."""
    if output.shape not in ((rows,), (rows, 1)):
        raise ModelLoadError(
            f"The model's output has shape {output.shape}, expected one logit for each of {rows} pairs. "
            f"Use a cross-encoder with one label."
        )
    return output.reshape(rows)


def accelerator() -> str | None:
    """``"cuda"`` or ``"mps"`` if torch is installed and sees one, else None."""
    if not torch_installed() or not _may_have_accelerator():
        return None
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else None


def _may_have_accelerator() -> bool:
    """False where it is certain without importing torch, which takes seconds: on Linux, without a device's node."""
    if platform.system() != "Linux":
        return True
    # NVIDIA's driver, the same on Jetson and in WSL, and AMD's, which torch calls cuda too.
    return any(any(Path("/dev").glob(name)) for name in ("nvidia*", "nvhost*", "dxg", "kfd"))


def _auto_engine(
    folder: Path | None, device: str | None, precision: Precision
) -> tuple[Literal["torch", "openvino"], str | None, str]:
    if folder is not None and not model_folder.has_torch_weights(folder):
        if device not in (None, "cpu"):
            model_folder.check_custom_code(folder)
        if model_folder.custom_code(folder):
            return "openvino", device, "the model's torch weights need custom code, which is never run"
        return "openvino", device, "the model has OpenVINO or ONNX files only"
    if device not in (None, "cpu"):
        return "torch", device, f"device={device!r} was asked for"
    if device is None and precision != "int8":
        found = accelerator()
        if found is not None:
            return "torch", found, f"torch sees {found}"
    return "openvino", device, "the CPU is what there is" if device is None else "device='cpu' was asked for"


def _torch_choice(precision: Precision, device: str | None, why: str) -> EngineChoice:
    if not torch_installed():
        raise MissingExtraError("torch", "The torch engine", "sentence-transformers")
    if precision == "int8":
        raise InvalidInputError(
            "engine='torch' computes fp32, bf16 or fp16; got precision='int8'. Use engine='openvino' for int8, on CPUs."
        )
    device = device or accelerator() or "cpu"
    if precision == "auto":
        precision = "fp32" if device == "cpu" else "fp16"
    return EngineChoice("torch", precision, device, why)


def _openvino_choice(folder: Path | None, precision: Precision, device: str | None, why: str) -> EngineChoice:
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
    from rerank_plugins.backends.openvino import cpu_has_bf16, why_no_bf16

    if precision == "auto":
        precision, reason = _auto_precision(folder)
        return EngineChoice("openvino", precision, "cpu", f"{why}; {reason}")
    if precision == "bf16" and not cpu_has_bf16():
        raise InvalidInputError(
            f"precision='bf16' cannot be computed here: {why_no_bf16()}. "
            f"Use precision='fp32', or 'auto' to let the machine decide."
        )
    return EngineChoice("openvino", precision, "cpu", why)


def _auto_precision(folder: Path | None) -> tuple[Precision, str]:
    """For the CPU, and why: the fastest that is known to keep the model's order."""
    from rerank_plugins.backends.int8 import int8_is_exact
    from rerank_plugins.hub.fidelity_report import is_default, report_of, shortfall

    int8 = None if folder is None else report_of(folder, "int8")
    if folder is not None and model_folder.only_int8(folder, convertible=torch_installed()):
        if int8 and not is_default(int8[1]):
            raise ModelLoadError(
                f"{folder} has an int8 file only, and that fell below its floor of fidelity: {shortfall(int8[1])}. "
                f"Use precision='int8' to use it all the same, or export it again with --accept or --calibration."
            )
        arithmetic = "" if int8_is_exact() else ", computed in fp32, because this processor clips int8 products"
        return "int8", f"its int8 file is all that runs here{arithmetic}"
    if int8 and is_default(int8[1]) and int8_is_exact():
        return "int8", f"its int8 file {'passed' if int8[1].get('passed') else 'was accepted in'} its fidelity report"
    precision, why = _auto_float(folder)
    if int8 and is_default(int8[1]):
        why = f"this processor clips int8 products, so that its int8 file gains nothing, and {why}"
    return precision, why


def _auto_float(folder: Path | None) -> tuple[Precision, str]:
    """bf16 where the processor has it, else fp32; reports of the model, if there are any, can forbid either."""
    from rerank_plugins.backends.openvino import cpu_has_bf16, why_no_bf16
    from rerank_plugins.hub.fidelity_report import is_default, report_of, shortfall

    bf16, fp32 = (None if folder is None else report_of(folder, precision) for precision in ("bf16", "fp32"))
    if not cpu_has_bf16():
        why = why_no_bf16()
    elif bf16 and not is_default(bf16[1]):
        why = f"bf16 fell below its floor of fidelity: {shortfall(bf16[1])}"
    else:
        return "bf16", "this processor computes bf16"
    if fp32 and not is_default(fp32[1]):
        raise ModelLoadError(
            f"{folder} as OpenVINO computes it in fp32 fell below its floor of fidelity: {shortfall(fp32[1])}. "
            f"Use engine='torch', or precision='fp32' to use it all the same."
        )
    return "fp32", why
