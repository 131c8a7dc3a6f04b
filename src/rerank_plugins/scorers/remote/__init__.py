"""Scorers that ask a server: ``"tei:http://host:8080"``, ``"cohere:rerank-v4.0-pro"`` and others, over HTTP."""

from __future__ import annotations

from rerank_plugins.scorers.remote.address import DIALECTS, is_remote
from rerank_plugins.scorers.remote.dialect import Dialect
from rerank_plugins.scorers.remote.scorer import RemoteRequest, RemoteScorer

__all__ = ["DIALECTS", "Dialect", "RemoteRequest", "RemoteScorer", "is_remote"]
