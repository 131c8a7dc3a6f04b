"""The chat template of a model folder: its source, and the special tokens that it may name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import read_json

TEMPLATE_NAME = "chat_template.jinja"


def read_template_source(folder: Path, name: str | None = None) -> str | None:
    """The text of the chat template, from its own file or from ``tokenizer_config.json``; None without one.

    ``name`` is that of one of several templates; None takes the default one.
    """
    try:
        return (folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as exc:
        raise ModelLoadError(f"{folder / TEMPLATE_NAME} cannot be read ({exc}). Download the model again.") from exc
    given = (read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    if isinstance(given, list):
        named = {one.get("name"): one.get("template") for one in given if isinstance(one, dict)}
        given = named.get("default" if name is None else name)
    return given if isinstance(given, str) and given else None


def read_special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens by the names that templates know them by, such as ``bos_token``."""
    tokens: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        for name, token in (read_json(folder / file) or {}).items():
            text: Any = token.get("content") if isinstance(token, dict) else token
            if name.endswith("_token") and isinstance(text, str):
                tokens[name] = text
    return tokens
