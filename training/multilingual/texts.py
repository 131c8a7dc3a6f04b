"""Every text of the training data as token ids, tokenized once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

BEGIN, END, PAD, UNKNOWN = 0, 2, 1, 3
QUERY_TOKENS, PASSAGE_TOKENS = 64, 192  # in training; the model reads 512 tokens in all
PREFIXES = ("query:", "passage:")


class Texts:
    """Texts by their number; equal texts have one."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._ids: np.ndarray = np.empty(0, dtype=np.int32)
        self._starts: np.ndarray = np.zeros(1, dtype=np.int64)

    def number(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    def numbers(self, texts: Sequence[str]) -> list[int]:
        return [self.number(text) for text in texts]

    def tokenize(self, tokenizer: Tokenizer) -> None:
        rows: list[np.ndarray] = []
        texts = list(self._numbers)
        for first in range(0, len(texts), 20_000):
            part = tokenizer.encode_batch_fast(texts[first : first + 20_000], add_special_tokens=False)
            rows += [np.array(encoding.ids[:PASSAGE_TOKENS], dtype=np.int32) for encoding in part]
        self._starts = np.cumsum([0, *map(len, rows)])
        self._ids = np.concatenate(rows)

    def save(self, path: Path) -> None:
        np.savez(path, ids=self._ids, starts=self._starts)

    def load(self, path: Path) -> None:
        with np.load(path) as saved:
            self._ids, self._starts = saved["ids"], saved["starts"]

    def ids(self, number: int, most: int) -> np.ndarray:
        return self._ids[self._starts[number] : self._starts[number + 1]][:most]

    def lengths(self, numbers: np.ndarray, most: int) -> np.ndarray:
        return np.minimum(self._starts[numbers + 1] - self._starts[numbers], most)


class Template:
    """``<s> query: A </s> <s> passage: B </s>``, as the bundled tokenizer has it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.query, self.passage = (
            [BEGIN, *tokenizer.encode(prefix, add_special_tokens=False).ids] for prefix in PREFIXES
        )

    def single(self, ids: np.ndarray, *, query: bool) -> list[int]:
        return [*(self.query if query else self.passage), *ids.tolist(), END]

    def length(self, texts: Texts, query: int, passage: int) -> int:
        special = len(self.query) + len(self.passage) + 2
        return special + len(texts.ids(query, QUERY_TOKENS)) + len(texts.ids(passage, PASSAGE_TOKENS))

    def pairs(self, texts: Texts, pairs: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor, Tensor]:
        """input_ids, attention_mask, token_type_ids of pairs of text numbers, padded on the right."""
        rows, types = [], []
        for query, passage in pairs:
            first = self.single(texts.ids(query, QUERY_TOKENS), query=True)
            second = self.single(texts.ids(passage, PASSAGE_TOKENS), query=False)
            rows.append(first + second)
            types.append([0] * len(first) + [1] * len(second))
        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), PAD)
        mask = torch.zeros((len(rows), longest), dtype=torch.long)
        segment = torch.zeros((len(rows), longest), dtype=torch.long)
        for number, (row, kind) in enumerate(zip(rows, types, strict=True)):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
            segment[number, : len(row)] = torch.tensor(kind)
        return ids, mask, segment
