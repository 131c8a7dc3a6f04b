"""Which optional dependencies are installed."""

from __future__ import annotations

import importlib.util

from rerank_plugins.errors import MissingExtraError


def torch_installed() -> bool:
    """Whether the extra ``torch`` is installed; imports nothing."""
    return all(importlib.util.find_spec(name) for name in ("torch", "sentence_transformers"))


def check_installed(extra: str, purpose: str, *modules: str) -> None:
    """Raise `MissingExtraError` for the first of the extra's ``modules`` that is not installed; imports nothing."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError(extra, purpose, module)
