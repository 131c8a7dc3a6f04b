"""The scoring graph of rerank-mini-en: one joint pass, pooled into a cosine and a MaxSim.

Input is ``[CLS] query [SEP] [CLS] passage [SEP]`` with segment ids (the pair template of the
model's ``tokenizer.json``). The first ``SEPARATE`` layers let a token attend inside its own segment
only, the rest across both; positions restart at the passage. So the graph starts as the bi-encoder
it was made from, whose score is already good, and training only has to improve on it. Without the
second ``[CLS]`` the start is worse: nDCG@10 of the cosine .77 (on 176 tokens) against
.88 (the bi-encoder, on 256; 150 queries of nq-qed).

Beside the trained upper layers stand the untrained ones, applied to each segment alone: the cosine the
bi-encoder itself gives is part of the score, so that what it knows is not lost in training.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, HEADS, LAYERS = 384, 12, 6
SEPARATE = 4  # layers that do not look across; frozen in training


class Layer(nn.Module):
    """A post-norm BERT layer; ``allowed`` is a boolean mask [batch, 1, length, length]."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.key = nn.Linear(HIDDEN, HIDDEN)
        self.value = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, HIDDEN)
        self.attention_norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.up = nn.Linear(HIDDEN, 4 * HIDDEN)
        self.down = nn.Linear(4 * HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)

    def forward(self, states: Tensor, allowed: Tensor) -> Tensor:
        batch, length, _ = states.shape

        def heads(projected: Tensor) -> Tensor:
            return projected.view(batch, length, HEADS, HIDDEN // HEADS).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            heads(self.query(states)), heads(self.key(states)), heads(self.value(states)), attn_mask=allowed
        )
        mixed = mixed.transpose(1, 2).reshape(batch, length, HIDDEN)
        states = self.attention_norm(states + self.output(mixed))
        return self.norm(states + self.down(functional.gelu(self.up(states))))


class Head(nn.Module):
    """Token states to one number: cosine of the segments' means, MaxSim, and a term on ``[CLS]``."""

    def __init__(self) -> None:
        super().__init__()
        self.cosine_weight = nn.Parameter(torch.tensor(10.0))
        self.maxsim_weight = nn.Parameter(torch.tensor(10.0))
        self.cls = nn.Linear(HIDDEN, 1)
        nn.init.zeros_(self.cls.weight)
        nn.init.zeros_(self.cls.bias)

    def forward(self, states: Tensor, in_query: Tensor, in_passage: Tensor) -> Tensor:
        """States [batch, length, hidden], two float masks [batch, length]; returns [batch]."""
        states = states.float()
        units = _unit(states)
        cosine = cosine_of_means(states, in_query, in_passage)
        similarity = units @ units.transpose(1, 2) - 4.0 * (1.0 - in_passage[:, None, :])
        best = similarity.max(dim=-1).values
        maxsim = (best * in_query).sum(-1) / in_query.sum(-1)
        return self.cosine_weight * cosine + self.maxsim_weight * maxsim + self.cls(states[:, 0]).squeeze(-1)


def cosine_of_means(states: Tensor, in_query: Tensor, in_passage: Tensor) -> Tensor:
    """Cosine of the mean query token and the mean passage token, [batch]."""
    states = states.float()
    return (_unit(_mean(states, in_query)) * _unit(_mean(states, in_passage))).sum(-1)


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def _mean(states: Tensor, mask: Tensor) -> Tensor:
    return (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True).clamp_min(1.0)


class LateInteractionCrossEncoder(nn.Module):
    """(input_ids, attention_mask, token_type_ids), each int64 [batch, length] -> logits [batch, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(30_522, HIDDEN)
        self.positions = nn.Embedding(512, HIDDEN)
        self.segment = nn.Parameter(torch.zeros(HIDDEN))
        self.embedding_norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.head = Head()
        # The untrained upper layers, kept: what the encoder itself says of the pair.
        self.encoder_layers = nn.ModuleList(Layer() for _ in range(LAYERS - SEPARATE))
        # Set after training: the encoder's share, then from ranking score to log-odds of relevance.
        self.register_buffer("encoder_weight", torch.tensor(0.0))
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))

    def embed(self, input_ids: Tensor, positions: Tensor) -> Tensor:
        return self.embedding_norm(self.words(input_ids) + self.positions(positions) + self.segment)

    def lower(self, states: Tensor, allowed: Tensor) -> Tensor:
        for layer in list(self.layers)[:SEPARATE]:
            states = layer(states, allowed)
        return states

    def upper(self, states: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        """States of the last separate layer to the joint score [batch]: what training moves."""
        allowed = attention_mask.bool()[:, None, None, :].expand(-1, 1, states.shape[1], -1)
        for layer in list(self.layers)[SEPARATE:]:
            states = layer(states, allowed)
        return self.head(states, *segments(attention_mask, token_type_ids))

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        index = torch.cumsum(torch.ones_like(input_ids), dim=1) - 1
        query_length = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
        states = self.embed(input_ids, index - token_type_ids * query_length)
        same = token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]
        # Padding (segment 0) would be blind to everything but the query; it is masked as a key.
        allowed = same & attention_mask.bool()[:, None, None, :]
        states = self.lower(states, allowed)
        joint = self.upper(states, attention_mask, token_type_ids)
        for layer in self.encoder_layers:
            states = layer(states, allowed)
        apart = cosine_of_means(states, *segments(attention_mask, token_type_ids))
        return (self.slope * (joint + self.encoder_weight * apart) + self.offset)[:, None]


def segments(attention_mask: Tensor, token_type_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Float masks [batch, length] of the query's and the passage's tokens, their special tokens included."""
    mask, segment = attention_mask.float(), token_type_ids.float()
    return mask * (1.0 - segment), mask * segment


def from_minilm(folder: Path) -> LateInteractionCrossEncoder:
    """The model with all-MiniLM-L6-v2's weights (a sentence-transformers or BERT folder)."""
    source = {name.removeprefix("bert."): value for name, value in load_file(folder / "model.safetensors").items()}
    model = LateInteractionCrossEncoder()
    target = {
        "words.weight": source["embeddings.word_embeddings.weight"],
        "positions.weight": source["embeddings.position_embeddings.weight"],
        "segment": source["embeddings.token_type_embeddings.weight"][0],
        "embedding_norm.weight": source["embeddings.LayerNorm.weight"],
        "embedding_norm.bias": source["embeddings.LayerNorm.bias"],
    }
    parts = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm": "output.LayerNorm",
    }
    for number in range(LAYERS):
        for ours, theirs in parts.items():
            for kind in ("weight", "bias"):
                target[f"layers.{number}.{ours}.{kind}"] = source[f"encoder.layer.{number}.{theirs}.{kind}"]
    for number in range(SEPARATE, LAYERS):
        prefix = f"layers.{number}."
        kept = {name.removeprefix(prefix): value for name, value in target.items() if name.startswith(prefix)}
        target |= {f"encoder_layers.{number - SEPARATE}.{name}": value.clone() for name, value in kept.items()}
    missing, unexpected = model.load_state_dict(target, strict=False)
    if unexpected or any(not name.startswith(("head.", "encoder_weight", "slope", "offset")) for name in missing):
        raise ValueError(f"weights of {folder} do not fit: missing {missing}, unexpected {unexpected}")
    return model
