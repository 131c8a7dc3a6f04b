"""Six signals of how a query matches a passage, from token ids and a bi-encoder's final token vectors.

They are the ensemble that costs no labels, and the score that training starts from. Three look for the query's tokens
(MaxSim: for each query token the nearest passage token), three for its sense: the bi-encoder's cosine, with the whole
passage and with the piece of it that is nearest.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

SIGNALS = ("cosine", "clause cosine", "sentence cosine", "maxsim", "bigrams", "window")
CLAUSE, SENTENCE = 16, 32  # tokens
STRIDE = 4  # where pieces begin; so up to three tokens at the end, one of them [SEP], are in the whole passage only
ELSEWHERE = 4.0  # taken from the similarity of a token outside the passage: below every cosine
# BM25's usual k1 .9 and b .4 (Anserini's), and the mean passage length of the training collections, in tokens.
K1, B, MEAN_LENGTH = 0.9, 0.4, 130.0


def unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(1e-6)


class Tokens(NamedTuple):
    """One segment of each pair, all vectors of length 1: ``units`` are final states, ``mean`` is their mean's."""

    ids: Tensor
    mask: Tensor
    units: Tensor
    words: Tensor
    mean: Tensor


class Matched(NamedTuple):
    """``signals`` [batch, 6], standardized; ``tokens`` [batch, query length, 5]; ``importance`` sums to 1 a query."""

    signals: Tensor
    tokens: Tensor
    importance: Tensor


class Matching(nn.Module):
    """No weight of it is trained; the buffers are counted or fitted on training texts."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__()
        self.register_buffer("idf", torch.zeros(vocabulary))
        self.register_buffer("middle", torch.zeros(len(SIGNALS)))
        self.register_buffer("spread", torch.ones(len(SIGNALS)))

    def forward(self, query: Tokens, passage: Tokens) -> Matched:
        known, inside = query.mask.float(), passage.mask.float()
        outside = ELSEWHERE * (1.0 - inside)[:, None, :]
        idf = self.idf[query.ids] * known
        importance = idf / (idf.sum(1, keepdim=True) + 1e-6)
        similarity = query.units @ passage.units.transpose(1, 2) - outside
        words = query.words @ passage.words.transpose(1, 2) - outside
        same = (query.ids[:, :, None] == passage.ids[:, None, :]) & passage.mask[:, None, :]
        count = same.float().sum(-1)
        length = inside.sum(1, keepdim=True)
        saturated = count * (K1 + 1) / (count + K1 * (1 - B + B * length / MEAN_LENGTH))
        best, best_word = similarity.max(-1).values, words.max(-1).values
        found = (count > 0).float()
        signals = torch.stack(
            [
                (query.mean * passage.mean).sum(-1),
                nearest_piece(query, passage, CLAUSE),
                nearest_piece(query, passage, SENTENCE),
                (best * known).sum(1) / known.sum(1),
                bigrams(similarity, importance * known),
                best_window(similarity, importance),
            ],
            dim=1,
        )
        tokens = torch.stack([best, best_word, saturated / (K1 + 1), idf / 8.0, found], dim=-1)
        return Matched((signals - self.middle) / self.spread, tokens, importance)


def nearest_piece(query: Tokens, passage: Tokens, length: int) -> Tensor:
    """Cosine of the query with the nearest ``length`` tokens in a row, [batch]; of a shorter passage, with it all."""
    inside = functional.pad(passage.units * passage.mask[:, :, None], (0, 0, 0, length - 1))
    pieces = functional.avg_pool1d(inside.transpose(1, 2), length, stride=STRIDE).transpose(1, 2)
    cosines = (unit(pieces) @ query.mean[:, :, None]).squeeze(-1)
    # A piece that begins near the end would be that end alone, often a lone [SEP].
    begins = STRIDE * (torch.cumsum(torch.ones_like(cosines), dim=1) - 1)
    whole = (begins == 0) | (begins + length <= passage.mask.float().sum(1, keepdim=True))
    return (cosines - ELSEWHERE * (~whole).float()).max(-1).values


def bigrams(similarity: Tensor, importance: Tensor) -> Tensor:
    """MaxSim of two query tokens in a row with two passage tokens in a row, [batch]."""
    both = (similarity[:, :-1, :-1] + similarity[:, 1:, 1:]) / 2.0
    weight = (importance[:, :-1] + importance[:, 1:]) / 2.0
    return (both.max(-1).values * weight).sum(1)


def best_window(similarity: Tensor, importance: Tensor) -> Tensor:
    """MaxSim inside the best window of the passage, [batch]: all of the query in one place."""
    padded = functional.pad(similarity, (0, SENTENCE - 1), value=-ELSEWHERE)
    inside = functional.max_pool1d(padded, SENTENCE, stride=1)
    return (inside * importance[:, :, None]).sum(1).max(-1).values
