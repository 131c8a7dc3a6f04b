"""The public API as a type checker sees it: checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from rerank_plugins import Pair, RankedResult, Reranker, Scorer, load_reranker


class Constant:
    """The smallest scorer."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One score a pair."""
        return [0.0 for _ in pairs]


scorer: Scorer = Constant()
assert_type(load_reranker("rerank-mini-en", engine="openvino", precision="int8"), Reranker)
assert_type(Reranker(scorer, scale="probability").rerank("query", ("a", "b"), top_n=1), list[RankedResult])


async def ranked() -> list[RankedResult]:
    """The async method returns the same."""
    return await Reranker(scorer).arerank("query", (text for text in ("a", "b")), score_threshold=0.5)


load_reranker("rerank-mini-en", use_fp16=True)  # type: ignore[arg-type]
load_reranker("rerank-mini-en", precision="half")  # type: ignore[arg-type]
