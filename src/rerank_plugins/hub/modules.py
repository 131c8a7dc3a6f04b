"""The chain of modules that sentence-transformers writes: which there are, and the files of their sub-folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import read_json

MODULES_FILE = "modules.json"

_WEIGHTS_FILE = "model.safetensors"


class Module(NamedTuple):
    """One module of a chain."""

    kind: str
    """Its class, without the package if that is sentence-transformers: classes of others are other classes."""
    path: str
    """Its sub-folder; empty for the folder itself."""
    config: dict[str, Any]
    """Its own settings, from ``config.json`` in its sub-folder; empty for the transformer."""


def read_modules(folder: Path) -> list[Module]:
    """The modules of a cross-encoder in ``folder``, in order; empty if sentence-transformers did not write it.

    Those of another kind of model, such as an embedder, are not read, as in sentence-transformers.
    """
    kind = (read_json(folder / "config_sentence_transformers.json") or {}).get("model_type")
    entries = _read_entries(folder / MODULES_FILE) if kind == "CrossEncoder" else []
    return [_read_module(folder, entry) for entry in entries]


def is_saved_for_plain_pairs(folder: Path) -> bool:
    """Whether sentence-transformers saved a cross-encoder that joins pairs as the tokenizer does, not by a template."""
    if not read_modules(folder):
        return False
    saved = read_json(folder / "sentence_bert_config.json") or {}
    return "message" not in (saved.get("modality_config") or {})


def read_default_prompt(settings: dict[str, Any]) -> str | None:
    """The prompt that ``config_sentence_transformers.json`` gives by default; None without one."""
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt if isinstance(prompt, str) and prompt else None


def list_module_files(folder: Path) -> list[Path]:
    """The files that decide what the modules behind the transformer compute, present or not; without such, none."""
    files = [file for module in read_modules(folder) for file in _list_files(folder / module.path, module)]
    return [folder / MODULES_FILE, *files] if files else []


def has_weights(kind: str) -> bool:
    """Whether modules of this class have weights of their own."""
    return kind in ("Dense", "LayerNorm")


def _list_files(place: Path, module: Module) -> list[Path]:
    if module.kind == "Transformer":
        return []
    return [place / "config.json", *([place / _WEIGHTS_FILE] if has_weights(module.kind) else [])]


def _read_entries(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    except (OSError, ValueError, RecursionError) as exc:
        raise ModelLoadError(f"{path} cannot be read ({exc}). Download the model again.") from exc
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "type" in entry for entry in entries):
        raise ModelLoadError(f"{path} is no list of modules. Download the model again.")
    return entries


def _read_module(folder: Path, entry: dict[str, Any]) -> Module:
    kind, path = str(entry["type"]), str(entry.get("path") or "")
    kind = kind.rsplit(".", maxsplit=1)[-1] if kind.startswith("sentence_transformers.") else kind
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ModelLoadError(
            f"{folder / MODULES_FILE} names the folder {path!r}, which is outside of the model's. "
            f"Expected one below it. Download the model again, or use another model."
        )
    config = {} if kind == "Transformer" else read_json(folder / path / "config.json") or {}
    return Module(kind, path, config)
