"""Which texts are blank: what a reader sees nothing of, and a model has nothing to match in."""

from __future__ import annotations

import re
import unicodedata

# Separators, controls, formats such as U+200B, surrogates, private use, and combining marks, which need a letter below
# them. Not Cn: those of a newer Unicode than this Python's are signs like others.
_NO_SIGN = frozenset(("Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co", "Mn", "Mc", "Me"))

# Hangul fillers and Braille's blank are letters and symbols by category, and show nothing; U+FFFD stands for what
# could not be read.
_SHOW_NOTHING = frozenset("\u115f\u1160\u2800\u3164\uffa0\N{REPLACEMENT CHARACTER}")

# Of no category yet, and to be ignored by what Unicode says of its future; then what will never be a character.
_IGNORED = (range(0x2065, 0x2066), range(0xFFF0, 0xFFF9), range(0xE0000, 0xE1000), range(0xFDD0, 0xFDF0))

_SURROGATE_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


def is_blank(text: str) -> bool:
    """Whether there is no letter, digit, punctuation mark or symbol in a text.

    White space, control characters, a byte order mark, zero-width characters and combining marks alone are blank, by
    themselves and together. Where a text is none of that, its first sign ends the search.
    """
    if any(map(_is_sign, text)):
        return False
    # Two surrogates together are a character.
    pairs = "".join(_SURROGATE_PAIR.findall(text))
    return not any(map(_is_sign, pairs.encode("utf-16-le", "surrogatepass").decode("utf-16-le")))


def _is_sign(character: str) -> bool:
    if unicodedata.category(character) in _NO_SIGN or character in _SHOW_NOTHING:
        return False
    number = ord(character)
    return number & 0xFFFE != 0xFFFE and not any(number in part for part in _IGNORED)
