"""Which optional dependencies are installed."""

from __future__ import annotations

import importlib.util


def torch_installed() -> bool:
    """Whether the extra ``torch`` is installed. Imports nothing."""
    return all(importlib.util.find_spec(name) for name in ("torch", "sentence_transformers"))
