"""Options declared once, as annotated fields of a dataclass; signatures, help and command lines are derived from them.

A field's annotation holds its type, a sentence for its users and, where there is one, its range:

    max_length: Annotated[int, AtLeast(1, "tokens"), "Most tokens of a query-document pair."] = 1024
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Number
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from rerank_plugins.errors import InvalidInputError

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """A number of at least ``least``, a whole one unless ``whole`` is False; ``unit`` says of what."""

    least: int
    unit: str
    whole: bool = True

    def check(self, name: str, value: object) -> None:
        """Raise `InvalidInputError` unless ``value`` is such a number."""
        kinds = int if self.whole else (int, float)
        # "not at least", so that NaN is refused.
        if isinstance(value, bool) or not isinstance(value, kinds) or not value >= self.least:
            number = "whole number" if self.whole else "number"
            raise InvalidInputError(f"{name} must be a {number} of at least {self.least} ({self.unit}), got {value!r}.")


@dataclass(frozen=True, slots=True)
class Between:
    """A number above ``low`` and below ``high``; with ``inclusive`` it may also be one of the two."""

    low: float
    high: float
    inclusive: bool = False

    def check(self, name: str, value: object) -> None:
        """Raise `InvalidInputError` unless ``value`` is such a number."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        inside = number and (self.low < value < self.high or (self.inclusive and value in (self.low, self.high)))  # type: ignore[operator]
        if not inside:
            ends = ("at least", "at most") if self.inclusive else ("greater than", "less than")
            raise InvalidInputError(
                f"{name} must be a number {ends[0]} {self.low:g} and {ends[1]} {self.high:g}, got {value!r}."
            )


@dataclass(frozen=True, slots=True)
class Option:
    """One field of an options class."""

    name: str
    type: Any
    """Without `Annotated`: what ``help()`` shows."""
    default: Any
    """`inspect.Parameter.empty` where it has to be given."""
    help: str
    range: AtLeast | Between | None
    kinds: tuple[Any, ...]
    """The members of its type, where that is a union; else the type alone."""
    choices: tuple[str, ...]
    """The values of a `Literal`; empty for other types."""
    is_path: bool
    """Whether it may be a path, which is held as a string."""

    @property
    def objects(self) -> tuple[type, ...]:
        """The classes whose instances it may be, besides strings, paths, numbers and None."""
        plain = (str, Path, int, float, bool, NoneType)
        return tuple(kind for kind in self.kinds if isinstance(kind, type) and kind not in plain)

    def check(self, value: object) -> None:
        """Raise `InvalidInputError` unless the option can have this value."""
        if (value is None and NoneType in self.kinds) or isinstance(value, self.objects):
            return
        if self.choices:
            if not isinstance(value, str) or value not in self.choices:
                raise InvalidInputError(f"{self.name} must be one of {', '.join(self.choices)}; got {value!r}.")
        elif self.range is not None:
            self.range.check(self.name, value)
        elif bool in self.kinds:
            if not isinstance(value, bool):
                raise InvalidInputError(f"{self.name} must be True or False, got {value!r}.")
        elif str in self.kinds and (not isinstance(value, str) or not value.strip()):
            classes = ["Path"] * self.is_path + [kind.__name__ for kind in self.objects]
            wanted = " or ".join(["a string", *(f"a {name}" for name in classes)])
            what = re.split(r"[.:] |\.$", self.help)[0].replace("``", "")
            raise InvalidInputError(f"{self.name} must be {wanted}, not blank; got {value!r}. Expected: {what}.")


@functools.cache
def options_of(cls: Any) -> dict[str, Option]:
    """The options that a dataclass declares, by name."""
    hints = get_type_hints(cls, include_extras=True)
    found = {}
    for field in dataclasses.fields(cls):
        hint = hints[field.name]
        kind, *extras = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        sentence = next((extra for extra in extras if isinstance(extra, str)), "")
        limits = next((extra for extra in extras if isinstance(extra, AtLeast | Between)), None)
        default = inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default
        kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        choices = tuple(choice for one in kinds if get_origin(one) is Literal for choice in get_args(one))
        found[field.name] = Option(field.name, kind, default, sentence, limits, kinds, choices, Path in kinds)
    return found


def check_options(options: Any) -> None:
    """For ``__post_init__``: hold paths as strings and numpy's numbers as Python's, and check every range.

    Raises:
        InvalidInputError: A value is of another type or out of its range.
    """
    declared: Any = type(options)
    for name, option in options_of(declared).items():
        given = getattr(options, name)
        value = given.item() if isinstance(given, Number) and hasattr(given, "item") else given
        value = str(value) if option.is_path and isinstance(value, Path) else value
        if value is not given:
            object.__setattr__(options, name, value)
        option.check(value)


def takes_options(
    declared: Callable[P, Any], *, hints: Mapping[str, str]
) -> Callable[[Callable[..., T]], Callable[P, T]]:
    """Give a function the signature and the documentation of an options class, and call it with an instance.

    ``hints`` say what to use instead of options that do not exist, by their names.
    """
    options = options_of(declared)
    fields = {field.name: field for field in dataclasses.fields(declared)}  # type: ignore[arg-type]
    kinds = {True: inspect.Parameter.KEYWORD_ONLY, False: inspect.Parameter.POSITIONAL_OR_KEYWORD}
    parameters = [
        inspect.Parameter(name, kinds[bool(fields[name].kw_only)], default=option.default, annotation=option.type)
        for name, option in options.items()
    ]

    def decorate(function: Callable[..., T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            refuse_unknown(kwargs, options, function.__name__, hints)
            try:
                signature.bind(*args, **kwargs)
            except TypeError as exc:  # declared() would name the class
                raise TypeError(f"{function.__name__}(): {exc}") from None
            return function(declared(*args, **kwargs))

        returns = get_type_hints(function).get("return", inspect.Signature.empty)
        signature = inspect.Signature(parameters, return_annotation=returns)
        call.__signature__ = signature  # type: ignore[attr-defined]
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": returns}
        call.__doc__ = inspect.cleandoc(function.__doc__ or "").replace("{options}", _describe(options))
        return call

    return decorate


def _describe(options: Mapping[str, Option]) -> str:
    """The options as the ``Args`` of a docstring."""
    lines = (
        textwrap.fill(f"{name}: {option.help}", 116, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for name, option in options.items()
    )
    return "\n".join(["Args:", *lines])


def refuse_unknown(given: Mapping[str, object], known: Iterable[str], taker: str, hints: Mapping[str, str]) -> None:
    """Raise `InvalidInputError` for the first option that is not ``known``, with what ``taker`` has instead of it."""
    known = list(known)
    for name in given:
        if name in known:
            continue
        similar = get_close_matches(name, known, n=1)
        hint = f"Did you mean {similar[0]}?" if similar else f"It has {', '.join(known)}."
        secret = any(word in name.lower() for word in ("key", "token", "secret", "password"))
        got = "" if secret else f" (got {name}={shorten(repr(given[name]))})"
        raise InvalidInputError(f"{taker} has no option {name!r}{got}. {hints.get(name, hint)}")


def shorten(text: str) -> str:
    """At most 80 characters of a text, for messages."""
    return text if len(text) <= 80 else f"{text[:79]}…"
