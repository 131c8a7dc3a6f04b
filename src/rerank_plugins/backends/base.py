"""`Engine`: a cross-encoder's forward pass, from token ids to raw logits. Nothing here knows text."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rerank_plugins._internal.loading_options import Precision
from rerank_plugins.errors import ModelLoadError

CPU_PADDING = 0.1
"""`Engine.max_padding` where a batch costs in proportion to its padded tokens."""

Tokens = NDArray[np.int64]
Logits = NDArray[np.float32]


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
        """Padded tokens (rows x longest row) of the batches that this engine runs fastest."""

    @property
    def pad_to_multiple_of(self) -> int:
        """Rows are padded to a multiple of this many tokens; 1 for no such padding."""

    @property
    def few_shapes(self) -> bool:
        """Whether a new shape costs this engine time and memory, so that batches have 1, 2, 3, 4, 6, 8, ... rows."""

    @property
    def max_padding(self) -> float:
        """Largest share of a batch's padded tokens that may be padding. It is higher where a batch has fixed costs."""

    @property
    def shared_token_budget(self) -> int:
        """Padded tokens up to which a batch is filled with rows of other callers; 0 for never.

        A row's logit depends on the shape of its batch by rounding. In fp32 that is far below 1e-4; where activations
        are rounded to 8 bits it is not, so there batches are not shared.
        """

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """Score a batch: three int64 arrays [batch, length], padded at the end, give float32 [batch].

        `OutOfMemoryError` if a smaller batch might fit.
        """


def flatten_logits(output: NDArray[np.float32], rows: int, label: int | None = None) -> Logits:
    """``output`` as [rows]; `ModelLoadError` if it is not one logit a row.

    With ``label`` it is [rows, labels], and the result is the label's log-odds against the others.
    """
    if label is not None:
        if output.ndim != 2 or len(output) != rows or not label < output.shape[1] > 1:
            raise ModelLoadError(
                f"The model's output has shape {output.shape}, expected several logits for each of {rows} pairs, "
                f"because label={label} is given. If the model has one label, correct id2label in its config.json and "
                f"leave label out."
            )
        others = np.delete(output, label, axis=1)
        largest = others.max(axis=1, keepdims=True)
        log_odds: Logits = output[:, label] - largest[:, 0] - np.log(np.exp(others - largest).sum(axis=1))
        return log_odds
    if output.shape not in ((rows,), (rows, 1)):
        raise ModelLoadError(
            f"The model's output has shape {output.shape}, expected one logit for each of {rows} pairs. "
            f"Use a cross-encoder with one label."
        )
    return output.reshape(rows)
