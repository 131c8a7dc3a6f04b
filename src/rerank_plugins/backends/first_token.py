"""Makes the last layer compute its first token only, which is all that the ranking head reads."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch.nn import functional

_log = logging.getLogger("rerank_plugins")


def limit_to_first_token(module: Any, example: dict[str, Any]) -> None:
    """Replace the last layer of a BERT-like classifier, in place, if the logits of ``example`` stay the same.

    The first token still attends to all others; the layer's output for those is not computed, which is most of its
    work. Measured on 2 cores with AMX: 1.15 to 1.2 times faster with 6 layers; with 24 it is a 24th of them.
    Other architectures, and models whose head reads more than the first token, are left alone.
    """
    try:
        layers = module.base_model.encoder.layer
        last = layers[-1]
        before = module(**example).logits
        layers[-1] = _FirstTokenLayer(last)
    except (AttributeError, TypeError, IndexError):
        return  # another architecture
    try:
        after = module(**example).logits
        # The order of summation differs, so that fp32 logits differ by rounding.
        same = after.shape == before.shape and torch.allclose(after, before, rtol=1e-4, atol=1e-4)
    except Exception as exc:  # noqa: BLE001 - an architecture that cannot do it keeps its own layer
        _log.debug("The last layer is computed for all tokens: %s", exc)
        same = False
    if not same:
        layers[-1] = last


class _FirstTokenLayer(torch.nn.Module):
    """A layer of BERT, RoBERTa or XLM-RoBERTa with one query, that of the first token."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        # The name becomes a part of the operations' names in IR, by which an int8 export knows them.
        self.first_token = layer

    def forward(self, hidden: Any, attention_mask: Any = None, *_: Any, **__: Any) -> Any:
        """Hidden states [batch, length, width] in, [batch, 1, width] out."""
        attention = self.first_token.attention.self
        first = hidden[:, :1]

        def split_heads(states: Any) -> Any:
            rows, length, _ = states.shape
            return states.view(rows, length, attention.num_attention_heads, -1).transpose(1, 2)

        mask = None if attention_mask is None else attention_mask[..., :1, :]
        context = functional.scaled_dot_product_attention(
            split_heads(attention.query(first)),
            split_heads(attention.key(hidden)),
            split_heads(attention.value(hidden)),
            attn_mask=mask,
        )
        context = context.transpose(1, 2).reshape(first.shape)
        return self.first_token.feed_forward_chunk(self.first_token.attention.output(context, first))
