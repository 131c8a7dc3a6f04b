"""The scoring graph of rerank-mini-multilingual: multilingual-e5-small, whose upper layers read both texts together.

Input is ``<s> query: QUERY </s> <s> passage: PASSAGE </s>`` with segment ids (the pair template of the model's
``tokenizer.json``); positions restart at the passage. In the lower layers, which stay as they are, a token attends to
its own segment only, as in the bi-encoder. In the upper layers it attends to both. Training begins with the segments
apart there too, where cosine and MaxSim order well before any training, and opens them to each other step by step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

HIDDEN, HEADS, LAYERS, FFN = 384, 12, 12, 1536
HEAD = HIDDEN // HEADS
SEPARATE = 4  # layers that stay as they are, and read one segment at a time
EPSILON = 1e-12
CLOSED = -5.0  # added to the attention scores of the other segment at the start: e**-5 of its attention
HIDDEN_MARK = -1e4  # added to what must not be read
QUERY_PREFIX, PASSAGE_PREFIX = 4, 3  # tokens before the text: <s>, "que", "ry", ":" and <s>, "passage", ":"


class Layer(nn.Module):
    """A post-norm BERT layer; query, key and value are one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(HIDDEN, 3 * HIDDEN)
        self.output = nn.Linear(HIDDEN, HIDDEN)
        self.attention_norm = nn.LayerNorm(HIDDEN, eps=EPSILON)
        self.up = nn.Linear(HIDDEN, FFN)
        self.down = nn.Linear(FFN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=EPSILON)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """``states`` [batch, length, hidden], in any floating type, which the weights are cast to.

        ``mask`` is added to the attention scores; it broadcasts to [batch, heads, length, length].
        """
        batch, length, _ = states.shape
        qkv = linear(self.qkv, states).view(batch, length, 3, HEADS, HEAD).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], attn_mask=mask)
        mixed = mixed.transpose(1, 2).reshape(batch, length, HIDDEN)
        states = norm(self.attention_norm, states + linear(self.output, mixed))
        return norm(self.norm, states + linear(self.down, functional.gelu(linear(self.up, states))))


def linear(layer: nn.Linear, states: Tensor) -> Tensor:
    if layer.weight.dtype == states.dtype:
        return layer(states)  # traced, a conversion would stand between the weights and their quantization
    return functional.linear(states, layer.weight.to(states.dtype), layer.bias.to(states.dtype))


def norm(layer: nn.LayerNorm, states: Tensor) -> Tensor:
    return functional.layer_norm(states, (HIDDEN,), layer.weight, layer.bias, EPSILON)


class Segments(NamedTuple):
    """Where query and passage are, each [batch, length] in 0.0 and 1.0; ``text`` leaves prefix and ``</s>`` out."""

    query: Tensor
    passage: Tensor
    query_text: Tensor
    passage_text: Tensor
    places: Tensor


def find_segments(attention_mask: Tensor, token_type_ids: Tensor) -> Segments:
    """``places`` are the positions in the segment, int64, from 0; those of the padding mean nothing."""
    index = torch.cumsum(torch.ones_like(attention_mask), dim=1) - 1
    query_length = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
    length = attention_mask.sum(1, keepdim=True)
    places = index - token_type_ids * query_length
    query = index < query_length
    passage = (index >= query_length) & (index < length)
    query_text = (places >= QUERY_PREFIX) & (index < query_length - 1)
    passage_text = passage & (places >= PASSAGE_PREFIX) & (index < length - 1)
    return Segments(query.float(), passage.float(), query_text.float(), passage_text.float(), places)


class Head(nn.Module):
    """Cosine and MaxSim of the two segments, and what a small network reads in their states, to one number."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((2,), 20.0))
        self.importance = nn.Linear(HIDDEN, 1)
        self.reading = nn.Linear(4 * HIDDEN, 256)
        self.evidence = nn.Linear(256, 1)
        for layer in (self.importance, self.evidence):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, states: Tensor, found: Segments) -> Tensor:
        """``states`` [batch, length, hidden]; returns [batch]."""
        query, passage = pool_states(states, found.query), pool_states(states, found.passage)
        cosine = (unit(query) * unit(passage)).sum(-1)
        units = unit(states)
        outside = 4.0 * (1.0 - found.passage_text)[:, None, :]
        best = (units @ units.transpose(1, 2) - outside).amax(-1)
        weights = self.importance(states).squeeze(-1) + HIDDEN_MARK * (1.0 - found.query_text)
        maxsim = (weights.softmax(-1) * best).sum(-1)
        first = states[:, 0]
        second = pool_states(states, found.passage * (found.places == 0).float())
        read = functional.gelu(self.reading(torch.cat([first, second, query, passage], dim=-1)))
        return cosine * self.scales[0] + maxsim * self.scales[1] + self.evidence(read).squeeze(-1)


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)


def pool_states(states: Tensor, mask: Tensor) -> Tensor:
    """The mean of the states where ``mask`` is 1.0, [batch, hidden]."""
    return (mask[:, None, :] @ states).squeeze(1) / mask.sum(1, keepdim=True).clamp_min(1.0)


class MultilingualCrossEncoder(nn.Module):
    """(input_ids, attention_mask, token_type_ids), each int64 [batch, length] -> logits [batch, 1]."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, HIDDEN)
        self.positions = nn.Embedding(512, HIDDEN)
        self.embedding_norm = nn.LayerNorm(HIDDEN, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        # Below 0 at the beginning of the training, and read in training only.
        self.register_buffer("across", torch.tensor(0.0), persistent=False)
        self.head = Head()
        # Set after training: from ranking score to log-odds of relevance.
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))

    def embed(self, input_ids: Tensor, found: Segments) -> Tensor:
        places = found.places * (found.query + found.passage).long()
        return self.embedding_norm(self.words(input_ids) + self.positions(places))

    def states(self, input_ids: Tensor, found: Segments, dtype: torch.dtype = torch.float32) -> Tensor:
        """The last layer's states, [batch, length, hidden]; the layers are computed in ``dtype``."""
        states = self.embed(input_ids, found).to(dtype)
        segment = 2.0 * found.query - 1.0
        other = (1.0 - segment[:, None, :, None] * segment[:, None, None, :]) / 2.0
        padding = (HIDDEN_MARK * (1.0 - found.query - found.passage))[:, None, None, :]
        apart = (padding + HIDDEN_MARK * other).to(dtype)
        together = (padding + self.across * other if self.training else padding).to(dtype)
        for number, layer in enumerate(self.layers):
            states = layer(states, apart if number < SEPARATE else together)
        return states.float()

    def score(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """The ranking score, before slope and offset, [batch]."""
        found = find_segments(attention_mask, token_type_ids)
        return self.head(self.states(input_ids, found, dtype), found)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        return (self.slope * self.score(input_ids, attention_mask, token_type_ids) + self.offset)[:, None]


def from_base(sizes: tuple[int, ...], weights: dict[str, np.ndarray]) -> MultilingualCrossEncoder:
    """The model with the base's weights (`base.read_weights`), its head at its start."""
    model = MultilingualCrossEncoder(sizes[4])

    def tensor(name: str, *shape: int) -> Tensor:
        return torch.from_numpy(weights[name]).reshape(*shape)

    target = {
        "words.weight": tensor("emb.word", -1, HIDDEN),
        "positions.weight": tensor("emb.pos", -1, HIDDEN) + tensor("emb.type", -1, HIDDEN)[0],
        "embedding_norm.weight": tensor("emb.ln.w", -1),
        "embedding_norm.bias": tensor("emb.ln.b", -1),
    }
    names = {"output": "ao", "attention_norm": "aln", "up": "fi", "down": "fo", "norm": "oln"}
    for number in range(LAYERS):
        for ours, theirs in names.items():
            norm = ours.endswith("norm")
            weight = tensor(f"l{number}.{theirs}.w", *((-1,) if norm else (FFN if ours == "up" else HIDDEN, -1)))
            target[f"layers.{number}.{ours}.weight"] = weight
            target[f"layers.{number}.{ours}.bias"] = tensor(f"l{number}.{theirs}.b", -1)
        for kind in ("w", "b"):
            shape = (HIDDEN, HIDDEN) if kind == "w" else (HIDDEN,)
            together = torch.cat([tensor(f"l{number}.{part}.{kind}", *shape) for part in "qkv"])
            target[f"layers.{number}.qkv.{'weight' if kind == 'w' else 'bias'}"] = together
    missing, unexpected = model.load_state_dict(target, strict=False)
    if unexpected or any(not name.startswith(("head.", "slope", "offset")) for name in missing):
        raise ValueError(f"The base's weights do not fit: missing {missing}, unexpected {unexpected}.")
    return model
