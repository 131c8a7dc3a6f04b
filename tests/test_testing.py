from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rerank_plugins import OutOfMemoryError, Reranker, ScoringError
from rerank_plugins.backends.torch import TorchEngine, ran_out_of_memory
from rerank_plugins.testing import NaNEngine, SlowEngine, WordOverlap, toy_reranker


def test_word_overlap_ranks_by_shared_words() -> None:
    """The scorer's logit runs from -4, no word in common, to 4, all of the query's."""
    results = Reranker(WordOverlap()).rerank("Red apple", ["pears", "an apple", "apple RED"])
    assert [result.index for result in results] == [2, 1, 0]
    assert WordOverlap().score([("a b", "a b"), ("a b", "a"), ("a b", "c")]) == [4, 0, -4]


def test_a_toy_reranker_scores_the_same_everywhere() -> None:
    """Its numbers are pinned: tests that compare with them hold on every machine."""
    results = toy_reranker().rerank("query", ["first", "second", "third"])
    assert [(result.index, round(result.score or 0, 6)) for result in results] == PINNED


PINNED = [(1, 0.46998), (2, 0.468625), (0, 0.423492)]


def test_doubles_go_around_any_engine() -> None:
    """An engine that is slow and gives NaN at times is one around the other."""
    reranker = toy_reranker(SlowEngine(NaNEngine(at=2), seconds=0.001))
    assert len(reranker.rerank("q", ["a", "b"])) == 2
    with pytest.raises(ScoringError, match="NaN"):
        reranker.rerank("q", ["a", "b"])


def test_the_doubles_import_neither_torch_nor_openvino() -> None:
    """A test that uses them starts fast."""
    script = (
        "import sys, rerank_plugins.testing as t; t.toy_reranker().rerank('q', ['a']); "
        "print([name for name in ('torch', 'openvino', 'transformers', 'langchain_core') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    ("error", "device", "memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "cuda:0", True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "mps", True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"), "cuda:0", False),
        (RuntimeError("a kernel failed: out of memory, says its name"), "mps", False),
        (IndexError("index out of range in self"), "cuda:0", False),
    ],
)
def test_torch_tells_memory_from_other_errors(error: Exception, device: str, memory: bool) -> None:  # noqa: FBT001 - test data
    """An error of a device's memory is distinguished from every other error."""
    assert ran_out_of_memory(error, device) == memory


class Exhausted(torch.nn.Module):
    """In a model's place, on a device that is full."""

    def forward(self, **_: Any) -> Any:
        """Raise what torch raises."""
        raise torch.OutOfMemoryError("CUDA out of memory.")


def test_a_full_device_is_an_out_of_memory_error(bert_folder: Path) -> None:
    """The torch engine says how much did not fit, and what to do."""
    engine = TorchEngine(bert_folder, "fp32", "cpu")
    engine.model = Exhausted()
    ids = np.ones((2, 8), dtype=np.int64)
    with pytest.raises(OutOfMemoryError, match=r"2 pairs of 8 tokens do not fit into the memory of cpu \(CUDA out of"):
        engine.logits(ids, ids, None)
