"""Backends: token ids in, logits out. OpenVINO on CPUs, torch on accelerators and as the reference."""

from __future__ import annotations

from rerank_plugins._internal.loading_options import EngineName, Precision
from rerank_plugins.backends.auto import Engine, EngineChoice, choose_engine, load_engine

__all__ = ["Engine", "EngineChoice", "EngineName", "Precision", "choose_engine", "load_engine"]
