from __future__ import annotations

import copy
from dataclasses import FrozenInstanceError
from typing import Any

import numpy as np
import pytest
import torch

from rerank_plugins import InvalidInputError, LoadingOptions, ModelNotFoundError, RerankError, load_reranker


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"use_fp16": True}, r"use_fp16=True.*precision='fp16'"),
        ({"batch_size": 32}, "Batches are formed by tokens"),
        ({"top_k": 3}, r"top_n to rerank"),
        ({"trust_remote_code": True}, "never run"),
        ({"cache_dir": "x"}, "Use cache_folder"),
        ({"nonsense": 1}, r"no option 'nonsense'.*It has model, engine"),
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


def test_numbers_of_numpy_are_numbers() -> None:
    """They are held as Python's, which dumps can write."""
    options = LoadingOptions("rerank-mini-en", max_length=np.int64(64), max_query_share=np.float32(0.25))  # type: ignore[arg-type]
    assert (type(options.max_length), options.max_query_share) == (int, 0.25)


def test_options_cannot_be_changed_or_deleted() -> None:
    """Rerankers are shared by them."""
    options = LoadingOptions("rerank-mini-en")
    with pytest.raises(FrozenInstanceError):
        options.threads = 2
    with pytest.raises(FrozenInstanceError):
        del options.threads


def test_a_copy_of_a_loaded_reranker_is_itself() -> None:
    """Its model, queue and counters are shared, not loaded again."""
    with load_reranker("rerank-mini-en") as reranker:
        assert copy.copy(reranker) is copy.deepcopy(reranker) is reranker
