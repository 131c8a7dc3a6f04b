"""First-stage candidates: exact search by cosine over the vectors of an encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import faiss
import numpy as np
from numpy.typing import NDArray

Encode = Callable[[Sequence[str]], NDArray[np.float32]]


def top_candidates(
    encode: Encode, queries: dict[str, str], passages: dict[str, str], count: int = 50
) -> dict[str, list[str]]:
    """The ids of the ``count`` nearest passages of every query, best first."""
    passage_ids = list(passages)
    index = faiss.IndexFlatIP(int(encode(["dimension"]).shape[1]))
    index.add(encode(list(passages.values())))
    _, found = index.search(encode(list(queries.values())), min(count, len(passage_ids)))
    return {query: [passage_ids[row] for row in rows] for query, rows in zip(queries, found, strict=True)}
