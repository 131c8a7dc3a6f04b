from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification

from rerank_plugins.backends.first_token import limit_to_first_token
from stand_in_models import write_model

SHAPE = {"vocab_size": 100, "max_position_embeddings": 66}


def example() -> dict[str, torch.Tensor]:
    """Three rows of ids, two of them padded at the end."""
    ids = torch.arange(5, 41).reshape(3, 12)
    mask = torch.ones_like(ids)
    mask[1, 7:] = mask[2, 2:] = 0
    return {"input_ids": ids, "attention_mask": mask}


def model(folder: Path, architecture: str, **config: Any) -> Any:
    write_model(folder, architecture, **SHAPE, **config)
    return AutoModelForSequenceClassification.from_pretrained(folder).eval()


def outputs_of_layers(module: Any, feed: dict[str, torch.Tensor]) -> list[tuple[int, ...]]:
    """Shapes that the encoder's layers give, first to last."""
    shapes: list[tuple[int, ...]] = []

    def note(_: Any, __: Any, output: Any) -> None:
        shapes.append(tuple((output[0] if isinstance(output, tuple) else output).shape))

    hooks = [layer.register_forward_hook(note) for layer in module.base_model.encoder.layer]
    module(**feed)
    for hook in hooks:
        hook.remove()
    return shapes


@pytest.mark.parametrize("architecture", ["bert", "roberta", "xlm-roberta", "camembert", "electra"])
def test_the_last_layer_gives_one_token_and_the_logits_stay(tmp_path: Path, architecture: str) -> None:
    """Of a batch with padded rows; all layers before it give every token."""
    module, feed = model(tmp_path, architecture), example()
    with torch.inference_mode():
        before = module(**feed).logits
        limit_to_first_token(module, feed)
        torch.testing.assert_close(module(**feed).logits, before, rtol=1e-5, atol=1e-5)
        assert outputs_of_layers(module, feed) == [(3, 12, 32), (3, 1, 32)]


def test_other_rows_than_the_example_have_the_same_logits(tmp_path: Path) -> None:
    """Of other length, number and padding."""
    module, feed = model(tmp_path, "bert"), example()
    other = {"input_ids": torch.arange(10, 60).reshape(1, 50), "attention_mask": torch.ones(1, 50, dtype=torch.int64)}
    other["attention_mask"][0, 33:] = 0
    with torch.inference_mode():
        before = module(**other).logits
        limit_to_first_token(module, feed)
        torch.testing.assert_close(module(**other).logits, before, rtol=1e-5, atol=1e-5)


def test_a_layer_built_otherwise_is_left_alone(tmp_path: Path) -> None:
    """MPNet's attention has a bias of positions: its model stays as it was."""
    module, feed = model(tmp_path, "mpnet"), example()
    with torch.inference_mode():
        before, last = module(**feed).logits, module.base_model.encoder.layer[-1]
        limit_to_first_token(module, feed)
        assert module.base_model.encoder.layer[-1] is last
        assert torch.equal(module(**feed).logits, before)


def test_a_model_without_such_layers_is_left_alone(tmp_path: Path) -> None:
    """DistilBERT keeps its layers elsewhere."""
    module, feed = model(tmp_path, "distilbert", n_layers=1, n_heads=2, dim=32, hidden_dim=32), example()
    with torch.inference_mode():
        before = module(**feed).logits
        limit_to_first_token(module, feed)
        assert torch.equal(module(**feed).logits, before)


def test_a_head_that_reads_all_tokens_keeps_the_whole_layer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A head that pools over the sequence would change: the layer is computed whole."""

    class Mean(torch.nn.Module):
        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.layer = layer

        def forward(self, hidden: torch.Tensor) -> Any:
            return self.layer(hidden.mean(dim=1, keepdim=True))

    module, feed = model(tmp_path, "bert"), example()
    module.bert.pooler = Mean(module.bert.pooler)
    with torch.inference_mode(), caplog.at_level(logging.DEBUG):
        before, last = module(**feed).logits, module.bert.encoder.layer[-1]
        limit_to_first_token(module, feed)
        assert module.bert.encoder.layer[-1] is last
        assert torch.equal(module(**feed).logits, before)
