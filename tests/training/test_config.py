"""Options outside their range are refused before anything is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import InvalidInputError
from rerank_plugins.training import train_reranker


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fetch_k": 1}, r"fetch_k must be a whole number of at least 2 \(candidates\), got 1"),
        ({"list_size": 1}, r"list_size must be a whole number of at least 2 \(passages\), got 1"),
        ({"epochs": 0}, r"epochs must be a whole number of at least 1 \(epochs\), got 0"),
        ({"epochs": True}, "epochs must be a whole number"),
        ({"batch_size": 2.0}, "batch_size must be a whole number"),
        ({"max_length": 4}, r"max_length must be a whole number of at least 8 \(tokens\), got 4"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"seed": 2**32}, "seed must be below"),
        ({"learning_rate": 2}, "learning_rate must be a number greater than 0 and less than 1, got 2"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number greater than 0"),
        ({"teacher_weight": 1.5}, "teacher_weight must be a number at least 0 and at most 1, got 1.5"),
        ({"development": 0.6}, "development must be a number at least 0 and at most 0.5, got 0.6"),
        (
            {"minutes_between_checkpoints": -1},
            r"minutes_between_checkpoints must be a number of at least 0 \(minutes\), got -1",
        ),
        ({"minutes_between_checkpoints": float("nan")}, "minutes_between_checkpoints must be a number"),
        ({"teacher": 3}, "teacher must be a string or a Path or a Reranker"),
        ({"evaluate_teacher": True}, "evaluate_teacher needs a teacher"),
        ({"top_k": 20}, "train_reranker has no option 'top_k' .* It is called fetch_k"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    """With what was got and what was expected."""
    with pytest.raises(InvalidInputError, match=message):
        train_reranker("no-such-folder", "no/such-model", output_folder=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
