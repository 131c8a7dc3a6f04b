"""An engine that computes when it is told to, and remembers which passages it was given together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from rerank_plugins.backends.base import Logits, Tokens
from rerank_plugins.testing import ToyEngine, toy_reranker


class GatedEngine(ToyEngine):
    """Every batch waits for `let`; its passages stand in ``batches`` from the moment it begins."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self._tokenizer = toy_reranker().scorer.encoder._tokenizer  # type: ignore[attr-defined]
        self._allowed = threading.Semaphore(0)
        self._changed = threading.Condition()

    def let(self, batches: int = 1) -> None:
        """Allow so many batches more."""
        self._allowed.release(batches)

    def until(self, condition: Callable[[], Any]) -> None:
        """Wait, 10 seconds at most, for something that a batch brings about."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout=10)

    def until_begun(self, batches: int) -> None:
        """Wait until so many batches have begun."""
        self.until(lambda: len(self.batches) >= batches)

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        assert token_type_ids is not None
        passages = []
        for ids, types in zip(input_ids.tolist(), token_type_ids.tolist(), strict=True):
            passage = [token for token, kind in zip(ids, types, strict=True) if kind == 1]
            passages.append("".join(self._tokenizer.id_to_token(token) for token in passage[:-1]))
        with self._changed:
            self.batches.append(passages)
            self._changed.notify_all()
        assert self._allowed.acquire(timeout=20)
        return super().logits(input_ids, attention_mask, token_type_ids)
