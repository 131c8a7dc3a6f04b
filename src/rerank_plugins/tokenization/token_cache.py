"""Token ids of texts met before: bounded, and shared by threads."""

from __future__ import annotations

import hashlib
import threading
from array import array
from collections.abc import Callable, Sequence
from typing import NamedTuple

from cachetools import LRUCache


class Tokens(NamedTuple):
    """A text's token ids, up to the most that is ever used of them."""

    ids: Sequence[int]
    complete: bool
    """Whether these are all."""


class TokenCache:
    """The ids of the texts used last. Holds digests instead of texts, and four bytes a token."""

    def __init__(self, texts: int) -> None:
        """``texts``: how many are kept, at least 1; the one used longest ago goes first."""
        self._kept: LRUCache[bytes, Tokens] = LRUCache(texts)
        self._lock = threading.Lock()

    def tokens(self, texts: Sequence[str], tokenize: Callable[[list[str]], list[Tokens]]) -> list[Tokens]:
        """The tokens of ``texts``, in order; ``tokenize`` is asked for those that are not kept, each once."""
        keys = [_digest(text) for text in texts]
        with self._lock:
            found = {key: self._kept[key] for key in set(keys) if key in self._kept}
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        # Without the lock: threads tokenize side by side, and the same text twice does no harm.
        made = [Tokens(array("i", ids), complete) for ids, complete in tokenize(list(missing.values()))]
        new = dict(zip(missing, made, strict=True))
        with self._lock:
            self._kept.update(new)
        found |= new
        return [found[key] for key in keys]


def _digest(text: str) -> bytes:
    # 128 bits of a cryptographic hash: two texts never share them. Lone surrogates stay apart.
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
