"""The reference engine, and the one for accelerators: the model as transformers has it."""

from __future__ import annotations

import inspect
import re
import threading
from pathlib import Path
from typing import Any, Literal, NamedTuple

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.backends.auto import CPU_PADDING, Logits, Tokens, one_logit_a_row
from rerank_plugins.errors import InvalidInputError, MissingExtraError, ModelLoadError, OutOfMemoryError, ScoringError
from rerank_plugins.hub import folder as model_folder

try:
    import torch
    from transformers import AutoModelForSequenceClassification
except ImportError as exc:
    raise MissingExtraError("torch", "The torch engine", str(exc.name)) from exc

# Measured on an H200 beside other work, v2-m3's shape in fp16, texts new in every call: 49 ms a batch and 2.7 to 4.1 us
# a slot. So a batch costs as much as 12,000 slots of padding; with texts met before a whole call of seven batches took
# 106 ms, so most of that is the new shape. Both numbers follow from this; what they give was not measured. In fp32,
# where a slot costs 16 us, padding does not pay.
HALF_PRECISION_PADDING = 0.5
HALF_PRECISION_MULTIPLE = 64

# With rows of any length a process grew from 487 MB after 200 calls of 1 to 60 documents to 595 MB after 1,000 (4
# layers of 128): what is freed in many sizes is in pieces. With this multiple it grew from 447 to 471 MB.
CPU_MULTIPLE = 16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def padding(precision: Precision, device: str) -> tuple[float, int]:
    """``max_padding`` and ``length_multiple`` of `Engine`."""
    if device.startswith("cuda") and precision != "fp32":
        return HALF_PRECISION_PADDING, HALF_PRECISION_MULTIPLE
    return CPU_PADDING, CPU_MULTIPLE if device == "cpu" else 1


class TorchEngine:
    """A sequence classifier of transformers, called with our own batches."""

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
        # With any number of rows a process grew by 8 % from the 200th to the 700th call of 1 to 60 documents (4 layers
        # of 128): what is freed in many sizes is in pieces.
        self.few_shapes = device == "cpu"
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
    model, weights = load_classifier(folder, DTYPES[precision])
    weights.check(folder)
    return model.to(device)


# A weight in a numbered layer or in the embeddings computes something; heads of other tasks and poolers need not.
_COMPUTES = re.compile(r"(^|\.)(layers?|h|blocks?)\.\d+\.|(^|\.)embeddings\.")
# Not learned: older files hold them, newer models make them again.
_NOT_LEARNED = re.compile(r"(^|\.)(position_ids|token_type_ids|inv_freq|masked_bias|attn\.bias|attention\.bias)$")


class Weights(NamedTuple):
    """How the weights in a folder fit the model that its config names."""

    architecture: str
    missing: list[str]
    """What the model has and the folder has not, so that transformers made it up."""
    foreign: list[str]
    """What the folder has of layers and embeddings and the model does not use."""
    body: str
    """What the names of all weights but the head's begin with."""

    @property
    def made_up_head(self) -> list[str]:
        """The missing ones of the ranking head, a pooler's included."""
        return [name for name in self.missing if not name.startswith(self.body) or ".pooler." in name]

    def check(self, folder: Path, *, new_head: bool = False) -> None:
        """Raise `ModelLoadError` unless they fit; with ``new_head`` the ranking head may be missing."""
        head = self.made_up_head
        missing = [name for name in self.missing if name not in head]
        if missing or self.foreign:
            raise ModelLoadError(
                f"The weights in {folder} are not those of a {self.architecture}, which its config.json names: "
                f"{_listed(missing)} missing, {_listed(self.foreign)} not used by it. Random or wrong numbers would "
                f"rank. If the download is incomplete, download the model again; if the model needs code of its own, "
                f"use its ONNX or OpenVINO file: code from model folders is never run."
            )
        if head and not new_head:
            raise ModelLoadError(
                f"The weights in {folder} have no ranking head ({', '.join(head)} missing): random numbers would rank. "
                f"Expected a trained cross-encoder; this looks like a plain encoder or an embedder."
            )


def load_classifier(folder: Path, dtype: Any) -> tuple[Any, Weights]:
    """The model in ``folder`` on the CPU, in evaluation mode, and how its weights fit."""
    architectures = model_folder.read_config(folder).get("architectures") or [""]
    # As sentence-transformers does: transformers itself would give two labels to a model that names none.
    labels = {} if "SequenceClassification" in str(architectures[0]) else {"num_labels": 1}
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            str(folder), dtype=dtype, local_files_only=True, use_safetensors=True, output_loading_info=True, **labels
        )
    except Exception as exc:
        # Damaged weights surface as SafetensorError, OSError, RuntimeError, ValueError or KeyError, by the damage.
        raise ModelLoadError(
            f"{folder} cannot be loaded ({type(exc).__name__}: {exc}). "
            f"If a file is damaged, delete it and download the model again."
        ) from exc
    model.config.use_cache = False  # decoders would keep keys and values for a next token
    foreign = [name for name in info["unexpected_keys"] if _COMPUTES.search(name) and not _NOT_LEARNED.search(name)]
    body = f"{model.base_model_prefix}."
    weights = Weights(type(model).__name__, sorted(info["missing_keys"]), sorted(foreign), body)
    return model.eval(), weights


def _listed(names: list[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{len(names)} weights ({', '.join(names[:most])}{more})" if names else "none"
