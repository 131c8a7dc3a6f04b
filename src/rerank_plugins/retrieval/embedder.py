"""Bi-encoders for the first stage: the bundled static embedder, or any sentence-transformers model."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rerank_plugins._internal.files import expand
from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import MissingExtraError, ModelNotFoundError
from rerank_plugins.hub.lookup import list_bundled_models

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Embedder = Callable[[Sequence[str]], "NDArray[np.float32]"]
"""Encodes texts as unit vectors, float32 [texts, dimensions]: an inner product of two is their cosine."""

BUNDLED_EMBEDDER = "embed-static-en"


def load_embedder(name: str) -> Embedder:
    """Load a bundled embedder, a model2vec folder, or a sentence-transformers model.

    Raises:
        MissingExtraError: The library that computes this embedder is not installed.
        ModelNotFoundError: sentence-transformers cannot load it.
    """
    import numpy as np

    folder = next((bundled for bundled in list_bundled_models() if bundled.name == name), expand(name))
    if _is_static(folder):
        try:
            from model2vec import StaticModel
        except ImportError as exc:
            raise MissingExtraError("faiss", f"The embedder {name}", str(exc.name)) from exc
        encode: Callable[[list[str]], object] = StaticModel.from_pretrained(folder).encode
    else:
        encode = _sentence_transformer(str(folder) if str(name).startswith("~") else name)

    def encode_normalized(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.asarray(encode([without_surrogates(text) for text in texts]), dtype=np.float32)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        units: NDArray[np.float32] = vectors / np.maximum(norms, np.float32(1e-12))
        return units

    return encode_normalized


def _is_static(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and json.loads(config.read_text(encoding="utf-8")).get("model_type") == "model2vec"


def _sentence_transformer(name: str) -> Callable[[list[str]], object]:
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as exc:
        raise MissingExtraError("torch", f"The embedder {name}", str(exc.name)) from exc
    try:
        return SentenceTransformer(name).encode
    except Exception as exc:  # the hub's client and transformers raise many kinds for one cause
        raise ModelNotFoundError(
            f"The embedder {name!r} cannot be loaded ({type(exc).__name__}: {str(exc).splitlines()[0]}). "
            f"Expected the folder or the hub's name of a sentence-transformers model; "
            f"{BUNDLED_EMBEDDER!r} (English) needs no download."
        ) from exc
