"""Numbers and texts as a report shows them."""

from __future__ import annotations

import re
from math import isfinite

from rerank_plugins.evaluation.results import Interval

UNKNOWN = "–"
"""Stands where a number is none."""

# What HTML takes for an error, what no file in UTF-8 can hold, and what moves the cursor instead of being read.
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with what cannot be shown replaced by U+FFFD."""
    return _UNREADABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def cut(text: str, length: int) -> str:
    """At most ``length`` characters of the text, and how many it has if that is more."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text):,} characters in all)"


def counted(count: int, one: str, many: str) -> str:
    """``1 query``, ``1,355 queries``."""
    return f"{count:,} {one if count == 1 else many}"


def number(value: float) -> str:
    """Three decimals: ``0.731``."""
    return f"{value:.3f}".replace("-", "−") if isfinite(value) else UNKNOWN


def signed(value: float) -> str:
    """The same with its sign: ``+0.120``, ``−0.034``, ``0.000``."""
    shown = number(value)
    if shown in {UNKNOWN, "0.000", "−0.000"}:
        return shown.removeprefix("−")
    return shown if shown.startswith("−") else f"+{shown}"


def interval(value: Interval) -> str:
    """Its ends: ``0.70 to 0.76``, with the decimals of the mean."""
    return f"{number(value.low)} to {number(value.high)}"


def signed_interval(value: Interval) -> str:
    """The same with signs."""
    return f"{signed(value.low)} to {signed(value.high)}"


def p_value(value: float) -> str:
    """Three decimals; below .001 no more than that."""
    return "< 0.001" if value < 0.001 else number(value)


def milliseconds(value: float) -> str:
    """Whole from 10 on: ``3.2``, ``187``, ``2,310``."""
    if not isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"
