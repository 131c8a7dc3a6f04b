"""The torch engine on CUDA (marker `gpu`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_plugins import Pair, load_reranker

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


def test_auto_takes_cuda_in_fp16(bert_folder: Path) -> None:
    """Where torch sees CUDA, a model with torch weights runs on it, in fp16."""
    engine = load_reranker(bert_folder).scorer.engine  # type: ignore[attr-defined]
    assert (engine.name, engine.precision, engine.device) == ("torch", "fp16", "cuda")


def test_passages_of_mixed_length_are_one_batch_in_fp16(bert_folder: Path) -> None:
    """A batch costs more than the padding of the short ones."""
    reranker = load_reranker(bert_folder, engine="torch", precision="fp16", device="cuda")
    reranker.rerank("cat", ["sat " * count for count in range(10, 110, 10)])
    assert reranker.stats().batches == 1


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-2), ("fp16", 0.1), ("bf16", 0.5)])
def test_cuda_gives_the_logits_of_the_cpu(
    bert_folder: Path, pairs: list[Pair], precision: str, tolerance: float
) -> None:
    """The same pairs have the same logits on CUDA, within what the precision allows."""
    expected = load_reranker(bert_folder, engine="torch", precision="fp32", device="cpu").scorer.score(pairs)
    found = load_reranker(bert_folder, engine="torch", precision=precision, device="cuda")  # type: ignore[arg-type]
    assert found.scorer.score(pairs) == pytest.approx(expected, abs=tolerance)
