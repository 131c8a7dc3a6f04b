from __future__ import annotations

from typing import Any

import pytest
import torch

from rerank_plugins import InvalidInputError, ModelNotFoundError, RerankError, load_reranker


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_fp16": True}, r"use_fp16=True.*precision='fp16'"),
        ({"batch_size": 32}, "Batches are formed by tokens"),
        ({"top_k": 3}, r"top_n to rerank"),
        ({"trust_remote_code": True}, "never run"),
        ({"cache_dir": "x"}, "Use cache_folder"),
        ({"nonsense": 1}, r"no option 'nonsense'.*help\(load_reranker\)"),
        ({"engine": "onnx"}, "engine must be one of"),
        ({"precision": "fp8"}, "precision must be one of"),
        ({"max_length": 0}, "max_length must be a whole number of at least 1"),
        ({"max_length": True}, "max_length must be a whole number of at least 1"),
        ({"max_length": "512"}, "max_length must be a whole number of at least 1"),
    ],
)
def test_load_reranker_refuses_wrong_options(options: dict[str, Any], message: str) -> None:
    """An option that does not exist or cannot be is an error with what to use, before the model is looked for."""
    with pytest.raises(InvalidInputError, match=message):
        load_reranker("no-such-model", local_files_only=True, **options)


def test_load_reranker_without_the_model_is_an_error() -> None:
    """A model that is nowhere is this package's error, and a FileNotFoundError."""
    with pytest.raises(ModelNotFoundError) as caught:
        load_reranker("no-such-model", local_files_only=True)
    assert isinstance(caught.value, RerankError)
    assert isinstance(caught.value, FileNotFoundError)


def test_a_device_of_torch_is_a_device() -> None:
    """Its name is taken, as everywhere in torch."""
    with load_reranker("rerank-mini-en", device=torch.device("cpu")) as reranker:  # type: ignore[arg-type]
        assert reranker.score(("a", "b"))
