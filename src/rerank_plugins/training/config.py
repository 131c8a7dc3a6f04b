"""What a training depends on beside its data, its base and its teacher."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rerank_plugins.errors import InvalidInputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The options of `train_reranker` that its weights depend on.

    Raises:
        InvalidInputError: One is outside its range. Nothing is read yet.
    """

    embedder: str
    top_k: int
    list_size: int
    epochs: int
    batch_size: int
    learning_rate: float
    max_length: int
    teacher_weight: float
    development: float
    seed: int

    def __post_init__(self) -> None:
        for name, value, least in (
            ("top_k", self.top_k, 2),
            ("list_size", self.list_size, 2),
            ("epochs", self.epochs, 1),
            ("batch_size", self.batch_size, 1),
            ("max_length", self.max_length, 8),
            ("seed", self.seed, 0),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidInputError(f"{name} must be a whole number of at least {least}, got {value!r}.")
        if self.seed >= 2**32:
            raise InvalidInputError(f"seed must be below 2**32, got {self.seed}.")
        rate = self.learning_rate
        if not _is_number(rate) or not 0 < rate < 1:
            raise InvalidInputError(f"learning_rate must lie between 0 and 1, got {rate!r}. Usual are 1e-5 to 1e-4.")
        if not _is_number(self.teacher_weight) or not 0 <= self.teacher_weight <= 1:
            raise InvalidInputError(f"teacher_weight must lie in [0, 1], got {self.teacher_weight!r}.")
        if not _is_number(self.development) or not 0 < self.development <= 0.5:
            raise InvalidInputError(
                f"development must be a share of the training queries above 0 and of 0.5 at most, "
                f"got {self.development!r}."
            )


def check_minutes(minutes: object) -> None:
    """Raise `InvalidInputError` unless ``minutes`` is a number of at least 0."""
    if not _is_number(minutes) or not isinstance(minutes, int | float) or minutes < 0:
        raise InvalidInputError(
            f"minutes_between_checkpoints must be a number of at least 0, got {minutes!r}. 0 saves after every step."
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
