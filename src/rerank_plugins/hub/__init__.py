"""A model's name becomes a folder, and what the folder holds."""

from __future__ import annotations

from rerank_plugins.hub.lookup import find_model

__all__ = ["find_model"]
