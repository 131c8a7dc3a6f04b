"""SGLang."""

from __future__ import annotations

from typing import Any

from rerank_plugins.scorers.base import Scale
from rerank_plugins.scorers.remote.dialect import Dialect, Entry


class SGLang(Dialect):
    """``POST /v1/rerank`` gives a bare list. Scores are as the model gives them: logits of BGE."""

    name = "sglang"
    scale: Scale = "logit"
    instruction_field = "instruct"

    def entries(self, answer: Any) -> list[Entry]:
        """A bare list."""
        return [Entry(one["index"], one["score"]) for one in answer]
