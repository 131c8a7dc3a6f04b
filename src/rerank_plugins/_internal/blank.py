"""Blank texts: those in which a reader sees nothing and a model has nothing to match."""

from __future__ import annotations

import re
import unicodedata

# Separators, controls, formats such as U+200B, surrogates, private use, and combining marks, which need a letter below
# them. Not Cn: a character of a newer Unicode than this Python's may be visible.
_INVISIBLE_CATEGORIES = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Mn", "Mc", "Me"))

# Hangul fillers and Braille's blank are letters and symbols by category, and invisible; U+FFFD stands for what could
# not be decoded.
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0\N{REPLACEMENT CHARACTER}")

# Unassigned code points that Unicode reserves for invisible characters, then those that will never be characters.
_IGNORED = (range(0x2065, 0x2066), range(0xFFF0, 0xFFF9), range(0xE0000, 0xE1000), range(0xFDD0, 0xFDF0))

_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def is_blank(text: str) -> bool:
    """Whether there is no letter, digit, punctuation mark or symbol in a text."""
    if any(map(_is_visible, text)):
        return False
    # A pair of surrogates is a character.
    pairs = "".join(_SURROGATE_PAIR.findall(text))
    return not any(map(_is_visible, pairs.encode("utf-16-le", "surrogatepass").decode("utf-16-le")))


def _is_visible(character: str) -> bool:
    if unicodedata.category(character) in _INVISIBLE_CATEGORIES or character in _INVISIBLE:
        return False
    number = ord(character)
    return number & 0xFFFE != 0xFFFE and not any(number in part for part in _IGNORED)
