"""The untrained base as the bi-encoder that it is: unit vectors of queries and passages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from model import find_segments, pool_states, unit
from prepare import load_base, load_tokenizer
from rerank_plugins.retrieval import Embedder
from rerank_plugins.scorers import Pair
from texts import END, PAD, Template

MOST_TOKENS = 512
BATCH_TOKENS = 2_400


class BaseEncoder:
    """multilingual-e5-small, computed in bf16 on two threads."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = load_tokenizer(tokenizer)
        self._template = Template(self._tokenizer)
        self._model = load_base().eval()

    def embedder(self, queries: Iterable[str]) -> Embedder:
        """An embedder to which ``queries`` are queries, and every other text is a passage."""
        known = set(queries)
        return lambda texts: self.encode([(text, text in known) for text in texts])

    def cosines(self, pairs: Sequence[Pair]) -> list[float]:
        """Of each query with its passage."""
        texts = list(dict.fromkeys([(query, True) for query, _ in pairs] + [(passage, False) for _, passage in pairs]))
        vectors = dict(zip(texts, self.encode(texts), strict=True))
        return [float(vectors[query, True] @ vectors[passage, False]) for query, passage in pairs]

    def encode(self, texts: Sequence[tuple[str, bool]]) -> np.ndarray:
        """float32 [texts, 384], of length 1; each text says whether it is a query."""
        rows = []
        encodings = self._tokenizer.encode_batch([text for text, _ in texts], add_special_tokens=False)
        for (_, is_query), encoding in zip(texts, encodings, strict=True):
            prefix = self._template.query if is_query else self._template.passage
            rows.append([*prefix, *encoding.ids[: MOST_TOKENS - len(prefix) - 1], END])
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]), reverse=True)
        parts: list[list[int]] = []
        for place in order:
            if not parts or len(rows[parts[-1][0]]) * (len(parts[-1]) + 1) > BATCH_TOKENS:
                parts.append([])
            parts[-1].append(place)
        vectors = np.empty((len(rows), 384), dtype=np.float32)
        with ThreadPoolExecutor(2) as threads:
            batches = threads.map(lambda part: self._encode([rows[place] for place in part]), parts)
            for part, found in zip(parts, batches, strict=True):
                vectors[part] = found
        return vectors

    @torch.inference_mode()
    def _encode(self, rows: list[list[int]]) -> np.ndarray:
        padded = torch.nn.utils.rnn.pad_sequence(list(map(torch.tensor, rows)), batch_first=True, padding_value=PAD)
        lengths = torch.tensor([len(row) for row in rows])
        mask = (torch.arange(padded.shape[1])[None, :] < lengths[:, None]).long()
        found = find_segments(mask, torch.zeros_like(mask))
        return unit(pool_states(self._model.states(padded, found, torch.bfloat16), found.query)).numpy()
