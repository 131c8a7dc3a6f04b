"""The torch engine: the reference, and the engine for accelerators. It runs the model as transformers has it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Literal

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.backends.base import CPU_PADDING, Logits, Tokens, flatten_logits
from rerank_plugins.errors import MissingExtraError, OutOfMemoryError, ScoringError

try:
    import torch

    from rerank_plugins.backends.torch_model import load_torch_model, takes_token_types
except ImportError as exc:  # one of them is missing or broken
    raise MissingExtraError("torch", "The torch engine", str(exc.name)) from exc


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
    """A model of transformers with its ranking head, called with our own batches."""

    name: Literal["torch"] = "torch"

    def __init__(
        self, folder: Path, precision: Precision, device: str, threads: int | None = None, label: int | None = None
    ) -> None:
        """Load the model; ``precision`` is fp32, bf16 or fp16, ``device`` any torch device.

        ``label`` as in `flatten_logits`.
        """
        if threads is not None and device == "cpu":
            torch.set_num_threads(threads)
        self.precision = precision
        self.device = device
        self._label = label
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
        return flatten_logits(output, len(input_ids), self._label)


def ran_out_of_memory(exc: Exception, device: str) -> bool:
    """Whether ``exc`` means that memory ran out, so that a smaller batch might fit."""
    # On Apple's GPUs that is a plain RuntimeError.
    return isinstance(exc, torch.OutOfMemoryError) or (
        device.startswith("mps") and str(exc).startswith("MPS backend out of memory")
    )
