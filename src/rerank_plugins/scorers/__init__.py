"""Scorers: (query, passage) pairs in, scores out."""

from __future__ import annotations

from rerank_plugins.scorers.base import DetailedScorer, Pair, Pending, QueuedScorer, Scale, ScoredPair, Scorer

__all__ = ["DetailedScorer", "Pair", "Pending", "QueuedScorer", "Scale", "ScoredPair", "Scorer"]
