"""Backends: token ids in, logits out. OpenVINO on CPUs, torch on accelerators and as the reference."""

from __future__ import annotations

from rerank_plugins._internal.loading_options import EngineName, Precision
from rerank_plugins.backends.auto import EngineChoice, choose_engine
from rerank_plugins.backends.base import Engine
from rerank_plugins.backends.load import load_engine

__all__ = ["Engine", "EngineChoice", "EngineName", "Precision", "choose_engine", "load_engine"]
