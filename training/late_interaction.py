"""The scoring graph of rerank-mini-en: matching signals of a bi-encoder, and query tokens that read the passage.

Input is ``[CLS] query [SEP] [CLS] passage [SEP]`` with segment ids (the pair template of the model's
``tokenizer.json``). all-MiniLM-L6-v2's six layers run over both segments apart, as in the bi-encoder, and are never
trained. From their states come six matching signals (`Matching`), which order well before any training. Two
trained layers then take the query's tokens from where the fourth layer left them, and let each attend to the query and
to the passage; the passage's keys and values are those that the frozen layers computed anyway, so that reading costs
nothing a passage token. What the query's tokens found is added to the signals.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from matching import ELSEWHERE, SIGNALS, Matching, Tokens, unit

HIDDEN, HEADS, LAYERS = 384, 12, 6
SEPARATE = 4  # where the trained query layers begin; they stand for the layers after it
VOCABULARY = 30_522


def heads(projected: Tensor) -> Tensor:
    """[batch, length, hidden] to [batch, heads, length, hidden of a head]."""
    batch, length, _ = projected.shape
    return projected.view(batch, length, HEADS, HIDDEN // HEADS).transpose(1, 2)


class Block(nn.Module):
    """The part of a post-norm BERT layer that needs no keys of its own: attention over given ones, then the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(HIDDEN, HIDDEN)
        self.output = nn.Linear(HIDDEN, HIDDEN)
        self.attention_norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.up = nn.Linear(HIDDEN, 4 * HIDDEN)
        self.down = nn.Linear(4 * HIDDEN, HIDDEN)
        self.norm = nn.LayerNorm(HIDDEN, eps=1e-12)

    def forward(self, states: Tensor, keys: Tensor, values: Tensor, allowed: Tensor) -> Tensor:
        """``allowed`` is a boolean mask that broadcasts to [batch, heads, length, keys]."""
        mixed = functional.scaled_dot_product_attention(heads(self.query(states)), keys, values, attn_mask=allowed)
        mixed = mixed.transpose(1, 2).reshape(states.shape)
        states = self.attention_norm(states + self.output(mixed))
        return self.norm(states + self.down(functional.gelu(self.up(states))))


class KeysValues(nn.Module):
    """The projections of one layer that are read: keys and values."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(HIDDEN, HIDDEN)
        self.value = nn.Linear(HIDDEN, HIDDEN)

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        return heads(self.key(states)), heads(self.value(states))


class Head(nn.Module):
    """Matching signals and the query's tokens that read the passage, to one number."""

    def __init__(self) -> None:
        super().__init__()
        self.matching = Matching(VOCABULARY)
        self.signal_weights = nn.Parameter(torch.zeros(len(SIGNALS)))
        self.read_weights = nn.Parameter(torch.zeros(3))
        self.token = nn.Linear(HIDDEN + 7 + len(SIGNALS), 128)
        self.share = nn.Linear(128, 1)
        self.evidence = nn.Linear(128, 1)
        nn.init.zeros_(self.evidence.weight)
        nn.init.zeros_(self.evidence.bias)

    def forward(self, read: Tensor, query: Tokens, passage: Tokens) -> Tensor:
        """``read`` [batch, query length, hidden] are the query's tokens that read the passage; returns [batch]."""
        matched = self.matching(query, passage)
        known = query.mask.float()
        outside = ELSEWHERE * (1.0 - passage.mask.float())[:, None, :]
        similarity = unit(read) @ passage.units.transpose(1, 2) - outside
        best = similarity.max(dim=-1).values
        cosine = (unit((read * known[:, :, None]).sum(1)) * passage.mean).sum(-1)
        uniform = (best * known).sum(1) / known.sum(1)
        reading = torch.stack([cosine, uniform, (best * matched.importance).sum(1)], dim=-1)
        gained = best - matched.tokens[:, :, 0]
        # With the signals: a word that is there says another thing where the sense is not.
        pair = matched.signals[:, None, :].expand(-1, best.shape[1], -1)
        described = torch.cat([read, matched.tokens, torch.stack([best, gained], dim=-1), pair], dim=-1)
        hidden = functional.gelu(self.token(described))
        share = self.share(hidden).squeeze(-1).masked_fill(~query.mask, -1e4).softmax(dim=1)
        evidence = (share * self.evidence(hidden).squeeze(-1)).sum(1)
        return matched.signals @ self.signal_weights + 10.0 * (reading @ self.read_weights) + evidence


class Encoded(NamedTuple):
    """What the frozen layers give: states after `SEPARATE` layers and after all, keys and values of those between."""

    lower: Tensor
    final: Tensor
    keys_values: list[tuple[Tensor, Tensor]]


class LateInteractionCrossEncoder(nn.Module):
    """(input_ids, attention_mask, token_type_ids), each int64 [batch, length] -> logits [batch, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, HIDDEN)
        self.positions = nn.Embedding(512, HIDDEN)
        self.segment = nn.Parameter(torch.zeros(HIDDEN))
        self.embedding_norm = nn.LayerNorm(HIDDEN, eps=1e-12)
        self.register_buffer("words_mean", torch.zeros(HIDDEN))
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.read = nn.ModuleList(KeysValues() for _ in range(LAYERS))
        # Trained; the keys and values that they read are the frozen layers' own.
        self.query_layers = nn.ModuleList(Block() for _ in range(LAYERS - SEPARATE))
        self.head = Head()
        # Set after training: from ranking score to log-odds of relevance.
        self.register_buffer("slope", torch.tensor(1.0))
        self.register_buffer("offset", torch.tensor(0.0))

    def encoded(self, input_ids: Tensor, positions: Tensor, allowed: Tensor) -> Encoded:
        states = self.embedding_norm(self.words(input_ids) + self.positions(positions) + self.segment)
        lower, between = states, []
        for number, (layer, read) in enumerate(zip(self.layers, self.read, strict=True)):
            if number == SEPARATE:
                lower = states
            keys, values = read(states)
            if number >= SEPARATE:
                between.append((keys, values))
            states = layer(states, keys, values, allowed)
        return Encoded(lower, states, between)

    def reading(
        self, query: Tensor, query_mask: Tensor, passage_mask: Tensor, passage: list[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """The query's states [batch, query length, hidden], each token having read query and passage."""
        allowed = torch.cat([query_mask, passage_mask], dim=1)[:, None, None, :]
        for number, (layer, (keys, values)) in enumerate(zip(self.query_layers, passage, strict=True)):
            own_keys, own_values = self.read[SEPARATE + number](query)
            query = layer(query, torch.cat([own_keys, keys], dim=2), torch.cat([own_values, values], dim=2), allowed)
        return query

    def tokens(self, ids: Tensor, mask: Tensor, final: Tensor) -> Tokens:
        mean = unit((final * mask[:, :, None].float()).sum(1))
        return Tokens(ids, mask, unit(final), unit(self.words(ids) - self.words_mean), mean)

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        index = torch.cumsum(torch.ones_like(input_ids), dim=1) - 1
        mask = attention_mask.bool()
        in_passage = mask & token_type_ids.bool()
        query_length = (attention_mask * (1 - token_type_ids)).sum(1, keepdim=True)
        same = token_type_ids[:, None, :, None] == token_type_ids[:, None, None, :]
        # Padding (segment 0) would be blind to everything but the query; it is masked as a key.
        states = self.encoded(input_ids, index - token_type_ids * query_length, same & mask[:, None, None, :])
        # In steps of 8: OpenVINO compiles kernels for every length that it has not met.
        longest = query_length.max() + (-query_length.max()) % 8
        in_query = index[:, :longest] < query_length
        read = self.reading(states.lower[:, :longest], in_query, in_passage, states.keys_values)
        query = self.tokens(input_ids[:, :longest], in_query, states.final[:, :longest])
        # The signals count the passage's tokens from its first, as they do in training, where it comes alone.
        place = torch.minimum(index + query_length, index[:, -1:])
        alone = index < in_passage.sum(1, keepdim=True)
        final = states.final.gather(1, place[:, :, None].expand_as(states.final))
        passage = self.tokens(input_ids.gather(1, place), alone, final)
        return (self.slope * self.head(read, query, passage) + self.offset)[:, None]


def from_minilm(folder: Path) -> LateInteractionCrossEncoder:
    """The model with all-MiniLM-L6-v2's weights (a sentence-transformers or BERT folder), its head at zero."""
    source = {name.removeprefix("bert."): value for name, value in load_file(folder / "model.safetensors").items()}
    model = LateInteractionCrossEncoder()
    target = {
        "words.weight": source["embeddings.word_embeddings.weight"],
        "positions.weight": source["embeddings.position_embeddings.weight"],
        "segment": source["embeddings.token_type_embeddings.weight"][0],
        "embedding_norm.weight": source["embeddings.LayerNorm.weight"],
        "embedding_norm.bias": source["embeddings.LayerNorm.bias"],
    }
    block = {
        "query": "attention.self.query",
        "output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "norm": "output.LayerNorm",
    }
    read = {"key": "attention.self.key", "value": "attention.self.value"}
    for number in range(LAYERS):
        places = [(f"layers.{number}", block), (f"read.{number}", read)]
        if number >= SEPARATE:
            places.append((f"query_layers.{number - SEPARATE}", block))
        for place, parts in places:
            for ours, theirs in parts.items():
                for kind in ("weight", "bias"):
                    target[f"{place}.{ours}.{kind}"] = source[f"encoder.layer.{number}.{theirs}.{kind}"].clone()
    missing, unexpected = model.load_state_dict(target, strict=False)
    if unexpected or any(not name.startswith(("head.", "words_mean", "slope", "offset")) for name in missing):
        raise ValueError(f"weights of {folder} do not fit: missing {missing}, unexpected {unexpected}")
    model.words_mean.copy_(model.words.weight.detach().mean(0))
    return model
