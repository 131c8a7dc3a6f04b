"""`Calibration`: a curve from raw scores to probabilities of relevance. Pure Python, float64."""

from __future__ import annotations

import json
import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self, get_args

from rerank_plugins._internal.files import expand, write_atomically
from rerank_plugins.errors import InvalidInputError

__all__ = ["Calibration", "Method"]

Method = Literal["platt", "isotonic"]
"""A logistic curve of two parameters (Platt), or a non-decreasing curve through knots (isotonic)."""

_KIND, _VERSION = "rerank-plugins calibration", 1
_HINT = "Expected a file that `rerank-plugins calibrate` wrote."
_FARTHEST = 700.0  # exp() overflows near 710; at 700 the probability is within 1e-304 of 0 or 1
_LARGEST = 1e300  # the difference of two knots is then finite as well


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """A non-decreasing map from a scorer's raw scores to probabilities of relevance.

    Attributes:
        method: ``"platt"``: 1 / (1 + e^-(slope · score + intercept)). ``"isotonic"``: straight lines between knots,
            level beyond the first and the last.
        slope: The slope of Platt's curve, 0 or more.
        intercept: The intercept of Platt's curve.
        scores: The scores at the knots of the isotonic curve, strictly ascending.
        probabilities: The probabilities at the knots, in [0, 1], never descending.
        model: The name of the model it was fitted with. Scores of another model have another meaning.
        fitted_on: A description of the collection, the candidates and their number.
        ece_before: Expected calibration error of the uncalibrated scores on queries that were not fitted on, in [0, 1].
        ece_after: The same with this calibration.
    """

    method: Method
    slope: float = 1.0
    intercept: float = 0.0
    scores: tuple[float, ...] = ()
    probabilities: tuple[float, ...] = ()
    model: str
    fitted_on: str
    ece_before: float
    ece_after: float

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InvalidInputError(f"method must be 'platt' or 'isotonic', got {self.method!r}.")
        if not isinstance(self.model, str) or not isinstance(self.fitted_on, str):
            raise InvalidInputError(f"model and fitted_on must be strings, got {self.model!r} and {self.fitted_on!r}.")
        for name in ("slope", "intercept", "ece_before", "ece_after"):
            number = _as_number(name, getattr(self, name))
            if name.startswith("ece") and not 0 <= number <= 1:
                raise InvalidInputError(f"{name} must lie in [0, 1], got {number!r}.")
            object.__setattr__(self, name, number)
        for name in ("scores", "probabilities"):
            values = getattr(self, name)
            if isinstance(values, str) or not isinstance(values, Iterable):
                raise InvalidInputError(f"{name} must be a list of numbers, got {type(values).__name__}.")
            object.__setattr__(self, name, tuple(_as_number(name, value) for value in values))
        if self.slope < 0:
            raise InvalidInputError(f"slope must be 0 or more, so that higher scores stay above, got {self.slope!r}.")
        if self.method == "isotonic":
            self._check_knots()

    def _check_knots(self) -> None:
        scores, probabilities = self.scores, self.probabilities
        if len(scores) < 2 or len(scores) != len(probabilities):
            raise InvalidInputError(
                f"An isotonic calibration needs two knots or more, as many scores as probabilities, got "
                f"{len(scores)} and {len(probabilities)}."
            )
        if any(low >= high for low, high in pairwise(scores)):
            raise InvalidInputError("The scores of an isotonic calibration must ascend strictly, and these do not.")
        if sorted(probabilities) != list(probabilities) or not 0 <= probabilities[0] <= probabilities[-1] <= 1:
            raise InvalidInputError("The probabilities of an isotonic calibration must ascend from 0 to 1 at most.")

    def probability(self, score: float) -> float:
        """The probability in [0, 1] that a document with this raw score is relevant; never lower for a higher score."""
        if self.method == "isotonic":
            return self._between_knots(score)
        exponent = self.slope * score + self.intercept
        # One formula on both sides, unlike `sigmoid`: each of its steps keeps the order, to the last bit.
        return 1.0 / (1.0 + math.exp(-max(-_FARTHEST, min(_FARTHEST, exponent))))

    def _between_knots(self, score: float) -> float:
        right = bisect_right(self.scores, score)
        if right in (0, len(self.scores)):
            return self.probabilities[-1 if right else 0]
        left = right - 1
        share = (score - self.scores[left]) / (self.scores[right] - self.scores[left])
        low, high = self.probabilities[left], self.probabilities[right]
        return min(low + share * (high - low), high)

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a file that `write` wrote; raises `InvalidInputError` if it is missing, damaged or something else."""
        file = expand(path)
        try:
            data = json.loads(file.read_bytes().decode("utf-8"))
        except OSError as exc:
            raise InvalidInputError(f"The calibration {path} cannot be read ({exc.strerror}). {_HINT}") from exc
        except (ValueError, RecursionError) as exc:
            raise InvalidInputError(f"The calibration {path} is not JSON ({exc}). {_HINT}") from exc
        if not isinstance(data, dict) or data.get("kind") != _KIND:
            raise InvalidInputError(f'{path} is no calibration: it has no "kind": {json.dumps(_KIND)}. {_HINT}')
        if data.get("version") != _VERSION:
            raise InvalidInputError(
                f"The calibration {path} has the format {data.get('version')!r}, and this release reads {_VERSION}. "
                f"Fit it anew with `rerank-plugins calibrate`, or install the release that wrote it."
            )
        try:
            calibration = cls(**{name: value for name, value in data.items() if name not in ("kind", "version")})
        except TypeError as exc:  # a field that is missing, or one too many
            raise InvalidInputError(f"The calibration {path} is damaged ({exc}). {_HINT}") from exc
        except InvalidInputError as exc:
            raise InvalidInputError(f"The calibration {path} is damaged: {exc} {_HINT}") from exc
        if calibration.method == "platt" and not {"slope", "intercept"} <= data.keys():
            raise InvalidInputError(f"The calibration {path} is damaged (no slope or no intercept). {_HINT}")
        return calibration

    def write(self, path: str | Path) -> None:
        """Write it as JSON, replacing a file of that name at once: readers see the old one or the new one."""
        target = expand(path)
        unused = ("scores", "probabilities") if self.method == "platt" else ("slope", "intercept")
        fields = {name: value for name, value in asdict(self).items() if name not in unused}
        text = json.dumps({"kind": _KIND, "version": _VERSION, **fields}, indent=1)
        try:
            write_atomically(target, f"{text}\n")
        except OSError as exc:
            raise InvalidInputError(
                f"The calibration cannot be written to {target} ({exc.strerror}). Name a file in a folder that is "
                f"there and can be written to."
            ) from exc

    def fits(self, model: str) -> bool:
        """Whether it was fitted with ``model``, by the last part of the names: folders move."""
        return Path(self.model).name == Path(model).name


def _as_number(name: str, value: Any) -> float:
    # Written so that NaN fails it too.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= _LARGEST:
        got = repr(value) if isinstance(value, (float, str)) else type(value).__name__
        raise InvalidInputError(f"{name} must be a finite number of {_LARGEST:g} at most, got {got}.")
    return float(value)
