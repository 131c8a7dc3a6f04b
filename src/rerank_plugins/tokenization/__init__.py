"""From texts to token ids: pair templates, truncation, windows."""

from __future__ import annotations

from rerank_plugins.tokenization.pair_encoder import MAX_QUERY_SHARE, EncodedPair, PairEncoder

__all__ = ["MAX_QUERY_SHARE", "EncodedPair", "PairEncoder"]
