"""Numbers and texts as a report shows them."""

from __future__ import annotations

import re
from math import isfinite

from rerank_plugins.evaluation.results import Interval

UNKNOWN = "–"
"""Shown for NaN and infinity."""

# Characters that HTML forbids, surrogates, and control characters.
_UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")


def clean(text: str) -> str:
    """The text with unreadable characters replaced by U+FFFD."""
    return _UNREADABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\r", "\n"))


def cut(text: str, length: int) -> str:
    """The first ``length`` characters of the text, and the number of all if there are more."""
    return text if len(text) <= length else f"{text[:length]} … ({len(text):,} characters in all)"


def plural(count: int, one: str, many: str) -> str:
    """``1 query``, ``1,355 queries``."""
    return f"{count:,} {one if count == 1 else many}"


def number(value: float) -> str:
    """Three decimals: ``0.731``."""
    return f"{value:z.3f}".replace("-", "−") if isfinite(value) else UNKNOWN


def signed(value: float) -> str:
    """Three decimals and the sign: ``+0.120``, ``−0.034``, ``0.000``."""
    text = number(value)
    return f"+{text}" if value > 0 and text not in {UNKNOWN, "0.000"} else text


def interval(value: Interval) -> str:
    """The ends of an interval: ``0.701 to 0.764``."""
    return f"{number(value.low)} to {number(value.high)}"


def signed_interval(value: Interval) -> str:
    """The ends of an interval with signs: ``−0.012 to +0.064``."""
    return f"{signed(value.low)} to {signed(value.high)}"


def p_value(value: float) -> str:
    """Three decimals, or ``< 0.001``."""
    return "< 0.001" if value < 0.001 else number(value)


def milliseconds(value: float) -> str:
    """Milliseconds, without decimals from 10 on: ``3.2``, ``187``, ``2,310``."""
    if not isfinite(value):
        return UNKNOWN
    return f"{value:,.0f}" if value >= 9.95 else f"{value:.1f}"
