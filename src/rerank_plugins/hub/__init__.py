"""From a model's name to its folder, and what the folder holds."""

from __future__ import annotations

from rerank_plugins.hub.lookup import find_model, list_bundled_models

__all__ = ["find_model", "list_bundled_models"]
