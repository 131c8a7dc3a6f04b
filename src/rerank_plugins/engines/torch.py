"""The reference engine, and the one for accelerators: sentence-transformers' CrossEncoder."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from typing import Any, Literal

from rerank_plugins.engines import CPU_PADDING, Logits, Precision, Tokens, model_folder, one_logit_a_row
from rerank_plugins.errors import InvalidInputError, MissingExtraError, ModelLoadError, OutOfMemoryError, ScoringError

try:
    import torch
    from safetensors import safe_open
    from sentence_transformers import CrossEncoder
except ImportError as exc:
    raise MissingExtraError("torch", "The torch engine", str(exc.name)) from exc

# Measured on an H200 beside other work, v2-m3's shape in fp16, texts new in every call: 49 ms a batch and 2.7 to 4.1 us
# a slot. So a batch costs as much as 12,000 slots of padding; with texts met before a whole call of seven batches took
# 106 ms, so most of that is the new shape. Both numbers follow from this; what they give was not measured. In fp32,
# where a slot costs 16 us, padding does not pay.
HALF_PRECISION_PADDING = 0.5
HALF_PRECISION_MULTIPLE = 64

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def padding(precision: Precision, device: str) -> tuple[float, int]:
    """``max_padding`` and ``length_multiple`` of `Engine`."""
    if device.startswith("cuda") and precision != "fp32":
        return HALF_PRECISION_PADDING, HALF_PRECISION_MULTIPLE
    return CPU_PADDING, 1


class TorchEngine:
    """The model that `CrossEncoder` loads, called with our own batches."""

    name: Literal["torch"] = "torch"

    def __init__(self, folder: Path, precision: Precision, device: str, threads: int | None = None) -> None:
        """``precision``: fp32, bf16 or fp16; ``device``: any torch device; ``threads`` as in `load_reranker`."""
        if threads is not None and device == "cpu":
            torch.set_num_threads(threads)
        self.precision = precision
        self.device = device
        # Accelerators want wide batches; a CPU wants its cache.
        self.token_budget = 2048 if device == "cpu" else 32_768
        self.max_padding, self.length_multiple = padding(precision, device)
        # Not measured on an accelerator: a quarter leaves the one whose batch it is little to wait for.
        self.shared_slots = self.token_budget // 4
        self.model = load_torch_model(folder, precision, device)
        self._takes_token_types = takes_token_types(self.model)
        self._lock = threading.Lock()

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None and self._takes_token_types:
            feed["token_type_ids"] = token_type_ids
        try:
            with self._lock, torch.inference_mode():
                tensors = {name: torch.from_numpy(array).to(self.device) for name, array in feed.items()}
                output = self.model(**tensors).logits.float().cpu().numpy()
        except (IndexError, RuntimeError) as exc:
            if ran_out_of_memory(exc, self.device):
                raise OutOfMemoryError(
                    f"{input_ids.shape[0]} pairs of {input_ids.shape[1]} tokens do not fit into the memory of "
                    f"{self.device} ({exc}). Use a smaller precision or max_length, or free memory on the device."
                ) from exc
            raise ScoringError(
                f"torch cannot compute {input_ids.shape[0]} rows of {input_ids.shape[1]} tokens ({exc}). "
                f"If the model reads shorter inputs, lower max_length."
            ) from exc
        return one_logit_a_row(output, len(input_ids))


def ran_out_of_memory(exc: Exception, device: str) -> bool:
    """Whether fewer rows at a time might work."""
    # On Apple's GPUs it is a plain RuntimeError.
    return isinstance(exc, torch.OutOfMemoryError) or (
        device.startswith("mps") and str(exc).startswith("MPS backend out of memory")
    )


def takes_token_types(model: Any) -> bool:
    """Whether the model has an input for segment ids and more than one segment to tell apart."""
    accepted = "token_type_ids" in inspect.signature(model.forward).parameters
    return accepted and getattr(model.config, "type_vocab_size", 0) > 1


def load_torch_model(folder: Path, precision: Precision, device: str) -> Any:
    """The transformers model in ``folder``, in evaluation mode, from local files only."""
    if not model_folder.has_torch_weights(folder):
        raise ModelLoadError(
            f"The torch engine needs {model_folder.TORCH_FILES[0]}, which {folder} has not. "
            f"Use engine='openvino' or 'auto'."
        )
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as exc:  # AssertionError: built without that device
        raise InvalidInputError(
            f"torch cannot use device={device!r} here ({exc}). Use device='cpu', or None for the best there is."
        ) from exc
    try:
        encoder = CrossEncoder(
            str(folder), device=device, local_files_only=True, model_kwargs={"dtype": DTYPES[precision]}
        )
    except Exception as exc:
        # Damaged weights surface as SafetensorError, OSError, RuntimeError, ValueError or KeyError, by the damage.
        raise ModelLoadError(
            f"{folder} cannot be loaded ({type(exc).__name__}: {exc}). "
            f"If a file is damaged, delete it and download the model again."
        ) from exc
    model = encoder.model.eval()
    _check_head(model, folder)
    return model


def made_up_head(model: Any, folder: Path) -> list[str]:
    """The weights of the ranking head that ``folder`` has not, so that transformers had to make them up."""
    held: set[str] = set()
    for name in model_folder.TORCH_FILES:
        if name.suffix == ".json" and (folder / name).is_file():
            held |= set(model_folder.weight_map(folder / name))
        elif (folder / name).is_file():
            with safe_open(str(folder / name), framework="pt") as file:
                held |= set(file.keys())
    body = f"{model.base_model_prefix}."
    return [name for name, _ in model.named_parameters() if not name.startswith(body) and name not in held]


def _check_head(model: Any, folder: Path) -> None:
    made_up = made_up_head(model, folder)
    if made_up:
        raise ModelLoadError(
            f"The weights in {folder} have no ranking head ({', '.join(made_up)} missing): random numbers would rank. "
            f"Expected a trained cross-encoder; this looks like a plain encoder or an embedder."
        )
