"""The torch engine: the reference, and the engine for accelerators. It runs the model as transformers has it."""

from __future__ import annotations

import inspect
import re
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.backends.base import CPU_PADDING, Logits, Tokens, flatten_logits
from rerank_plugins.errors import InvalidInputError, MissingExtraError, ModelLoadError, OutOfMemoryError, ScoringError
from rerank_plugins.hub.config import read_config
from rerank_plugins.hub.folder import TORCH_FILES, has_torch_weights

try:
    import torch
    from transformers import AutoModelForSequenceClassification
except ImportError as exc:  # one of them is missing or broken
    raise MissingExtraError("torch", "The torch engine", str(exc.name)) from exc

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def choose_padding(precision: Precision, device: str) -> tuple[float, int]:
    """``max_padding`` and ``pad_to_multiple_of`` of `Engine`."""
    # Measured on an H200 beside other work, v2-m3's shape in fp16, texts new in every call: 49 ms a batch and 2.7 to
    # 4.1 us a padded token. So a batch costs as much as 12,000 tokens of padding, most of it for its new shape: with
    # texts met before, a call of seven batches took 106 ms. The two numbers are derived from this; their effect was not
    # measured. In fp32, where a padded token costs 16 us, padding does not pay.
    if device.startswith("cuda") and precision != "fp32":
        return 0.5, 64
    # With rows of any length a process grew from 487 MB after 200 calls of 1 to 60 documents to 595 MB after 1,000 (4
    # layers of 128), because memory that is freed in many sizes is fragmented. With this multiple: from 447 to 471 MB.
    return CPU_PADDING, 16 if device == "cpu" else 1


class TorchEngine:
    """A sequence classifier of transformers, called with our own batches."""

    name: Literal["torch"] = "torch"

    def __init__(self, folder: Path, precision: Precision, device: str, threads: int | None = None) -> None:
        """Load the model; ``precision`` is fp32, bf16 or fp16, ``device`` any torch device."""
        if threads is not None and device == "cpu":
            torch.set_num_threads(threads)
        self.precision = precision
        self.device = device
        # An accelerator is fastest with wide batches, a CPU with a working set that fits into its cache.
        self.token_budget = 2048 if device == "cpu" else 32_768
        self.max_padding, self.pad_to_multiple_of = choose_padding(precision, device)
        # With any number of rows a process grew by 8 % from the 200th to the 700th call of 1 to 60 documents (4 layers
        # of 128), for the same reason.
        self.few_shapes = device == "cpu"
        # A quarter, so that the caller whose batch it is waits little longer. Not measured on an accelerator.
        self.shared_token_budget = self.token_budget // 4
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
        return flatten_logits(output, len(input_ids))


def ran_out_of_memory(exc: Exception, device: str) -> bool:
    """Whether ``exc`` means that memory ran out, so that a smaller batch might fit."""
    # On Apple's GPUs that is a plain RuntimeError.
    return isinstance(exc, torch.OutOfMemoryError) or (
        device.startswith("mps") and str(exc).startswith("MPS backend out of memory")
    )


def takes_token_types(model: Any) -> bool:
    """Whether the model has an input for token types, and more than one type."""
    accepted = "token_type_ids" in inspect.signature(model.forward).parameters
    return accepted and getattr(model.config, "type_vocab_size", 0) > 1


def load_torch_model(folder: Path, precision: Precision, device: str) -> Any:
    """The transformers model in ``folder``, in evaluation mode, from local files only."""
    if not has_torch_weights(folder):
        raise ModelLoadError(
            f"The torch engine needs {TORCH_FILES[0]}, which {folder} has not. Use engine='openvino' or 'auto'."
        )
    try:
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as exc:  # AssertionError: built without that device
        raise InvalidInputError(
            f"torch cannot use device={device!r} here ({exc}). Use device='cpu', or None for the best there is."
        ) from exc
    model, weights = load_classifier(folder, DTYPES[precision])
    weights.check(folder)
    return model.to(device)


# Weights of numbered layers and embeddings must all be used. Poolers and heads of other tasks may be unused.
_MUST_BE_USED = re.compile(r"(^|\.)(layers?|h|blocks?)\.\d+\.|(^|\.)embeddings\.")
# Buffers that older files hold and newer models compute themselves.
_NOT_LEARNED = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|attn\.bias|attention\.bias)$")


class WeightsReport(NamedTuple):
    """How the weights in a folder fit the model that its config names."""

    architecture: str
    missing: list[str]
    """Weights that the folder lacks, so that transformers initialized them at random, beside those of the head."""
    missing_head: list[str]
    """The missing weights of the ranking head, including its pooler's."""
    unused: list[str]
    """Weights of layers and embeddings in the folder that the model does not use."""

    def check(self, folder: Path, *, new_head: bool = False) -> None:
        """Raise `ModelLoadError` unless they fit; with ``new_head`` the ranking head may be missing."""
        if self.missing or self.unused:
            raise ModelLoadError(
                f"The weights in {folder} are not those of a {self.architecture}, which its config.json names: "
                f"{_format_names(self.missing)} missing, {_format_names(self.unused)} not used by it. Random or wrong "
                f"numbers would rank. If the download is incomplete, download the model again; if the model needs "
                f"code of its own, use its ONNX or OpenVINO file: code from model folders is never run."
            )
        if self.missing_head and not new_head:
            raise ModelLoadError(
                f"The weights in {folder} have no ranking head ({', '.join(self.missing_head)} missing): random "
                f"numbers would rank. Expected a trained cross-encoder; this looks like a plain encoder or an embedder."
            )


def load_classifier(folder: Path, dtype: Any) -> tuple[Any, WeightsReport]:
    """The model in ``folder`` on the CPU in evaluation mode, and how its weights fit."""
    architectures = read_config(folder).get("architectures") or [""]
    # As in sentence-transformers: transformers itself would give two labels to a model that names none.
    labels = {} if "SequenceClassification" in str(architectures[0]) else {"num_labels": 1}
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True, **labels
        )
    except Exception as exc:
        # Damaged weights surface as SafetensorError, OSError, RuntimeError, ValueError or KeyError.
        raise ModelLoadError(
            f"{folder} cannot be loaded ({type(exc).__name__}: {exc}). "
            f"If a file is damaged, delete it and download the model again."
        ) from exc
    model.config.use_cache = False  # decoders would keep keys and values for a next token
    unused = [name for name in info["unexpected_keys"] if _MUST_BE_USED.search(name) and not _NOT_LEARNED.search(name)]
    missing, body = sorted(info["missing_keys"]), f"{model.base_model_prefix}."
    head = [name for name in missing if not name.startswith(body) or ".pooler." in name]
    report = WeightsReport(type(model).__name__, [name for name in missing if name not in head], head, sorted(unused))
    return model.eval(), report


def _format_names(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} weights ({', '.join(names[:3])}{more})" if names else "none"
