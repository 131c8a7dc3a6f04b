"""The padding token's id, where ``config.json`` does not give it: what the tokenizer's files say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

# What tokenizers call it where their files do not say; BERT's and the others'.
_USUAL = ("[PAD]", "<pad>")


def tokenizer_pad_id(folder: Path) -> int | None:
    """The id of the padding token by ``tokenizer_config.json``, ``special_tokens_map.json`` and ``tokenizer.json``.

    None where none of them says, or they cannot be read: whoever needs them says so.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # noqa: BLE001 - tokenizers raises a bare Exception
        return None
    names = [_named(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    ids = [tokenizer.token_to_id(name) for name in names if name is not None]
    if tokenizer.padding is not None:
        ids.append(tokenizer.padding["pad_id"])
    ids += [tokenizer.token_to_id(name) for name in _USUAL]
    return next((number for number in ids if number is not None), None)


def _named(file: Path) -> str | None:
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return None
    token = content.get("pad_token") if isinstance(content, dict) else None
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None
