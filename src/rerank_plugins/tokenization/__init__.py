"""From texts to token ids: pair templates, truncation, windows."""

from __future__ import annotations

from rerank_plugins._internal.loading_options import MAX_QUERY_SHARE
from rerank_plugins.tokenization.pair_encoder import EncodedPair, PairEncoder

__all__ = ["MAX_QUERY_SHARE", "EncodedPair", "PairEncoder"]
