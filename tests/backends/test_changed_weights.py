from __future__ import annotations

import os
from pathlib import Path

import pytest

from rerank_plugins import load_reranker


@pytest.mark.slow
def test_a_conversion_of_other_weights_is_made_again(fresh_bert: Path) -> None:
    """Where the weights beside a conversion have changed, the scores are those of the new ones."""
    from safetensors.torch import load_file, save_file

    pairs = [("cat", "the cat sat on the mat")]
    before = load_reranker(fresh_bert, engine="openvino", precision="fp32").scorer.score(pairs)[0]
    file = fresh_bert / "model.safetensors"
    weights = load_file(file)
    for name in ("classifier.weight", "classifier.bias"):
        weights[name] = -weights[name]
    save_file(weights, file, metadata={"format": "pt"})
    os.utime(file, ns=(1, 1))
    after = load_reranker(fresh_bert, engine="openvino", precision="fp32").scorer.score(pairs)[0]
    assert abs(before) > 0.01
    assert after == pytest.approx(-before, abs=1e-4)


def test_a_copied_folder_keeps_its_conversion(fresh_bert: Path) -> None:
    """The same weights under another file time are not converted again."""
    load_reranker(fresh_bert, engine="openvino", precision="fp32")
    made = (fresh_bert / "openvino" / "openvino_model.bin").stat().st_mtime_ns
    os.utime(fresh_bert / "model.safetensors", ns=(1, 1))
    load_reranker(fresh_bert, engine="openvino", precision="fp32")
    assert (fresh_bert / "openvino" / "openvino_model.bin").stat().st_mtime_ns == made
