"""What ``config.json`` and the tokenizer's files say of a model: its kind, its longest input, its padding token."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

from rerank_plugins.errors import ModelLoadError

# Model types whose position ids start after the padding id, so that the first positions are never used.
_OFFSET_TYPES = re.compile(r"(xlm-)?roberta(-prelayernorm|-xl)?|camembert|data2vec-text|ibert|longformer|mpnet|xmod")

# Model types whose tokens read those before them only, of all that transformers has sequence classifiers for.
_DECODERS = frozenset(
    (
        *("arcee", "axk1", "axk2", "biogpt", "bloom", "cohere_compass_text", "ctrl", "deepseek_v2", "deepseek_v3"),
        *("diffllama", "doge", "exaone4", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "glm", "glm4"),
        *("gpt-sw3", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gpt_oss", "gptj", "helium", "hunyuan_v1_dense"),
        *("hunyuan_v1_moe", "jamba", "jetmoe", "llama", "minicpm3", "minimax", "ministral", "ministral3"),
        *("mistral", "mistral4", "mixtral", "modernbert-decoder", "mpt", "nemotron", "olmo", "olmo2", "olmo3"),
        *("openai-gpt", "opt", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_moe", "qwen3", "qwen3_5"),
        *(
            "qwen3_5_text",
            "qwen3_moe",
            "qwen3_next",
            "seed_oss",
            "smollm3",
            "stablelm",
            "starcoder2",
            "zamba",
            "zamba2",
        ),
    )
)

# The usual names of the padding token, where no file names it: BERT's, and the others'.
_PAD_TOKENS = ("[PAD]", "<pad>")

_DOWNLOAD = "Download the model again."


def read_json(path: Path, advice: str = _DOWNLOAD) -> dict[str, Any] | None:
    """The JSON object in ``path``, None if there is no such file; `ModelLoadError` with ``advice`` if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as exc:
        raise ModelLoadError(f"{path} cannot be read ({exc}). {advice}") from exc
    if not isinstance(content, dict):
        raise ModelLoadError(f"{path} holds {type(content).__name__}, expected a JSON object. {advice}")
    return content


def read_config(folder: Path) -> dict[str, Any]:
    """``config.json`` as a dict; `ModelLoadError` if it is missing or damaged."""
    config = read_json(folder / "config.json")
    if config is None:
        raise ModelLoadError(
            f"{folder} has no config.json. Expected a Hugging Face model folder; download the model again."
        )
    return config


def list_custom_classes(folder: Path) -> list[str]:
    """The model classes that ``config.json`` takes from code beside the weights (``auto_map``).

    Code from model folders is never run. Where transformers knows the model type it would take its own class instead,
    which may be another model: JinaBERT calls itself ``bert``. So torch weights of such folders are not used at all.
    """
    try:
        classes = read_config(folder).get("auto_map")
    except ModelLoadError:
        return []
    # Custom tokenizers and processors do not matter: tokenizer.json is read without them.
    kinds = ("AutoConfig", "AutoModel")
    return [name for name in classes if name.startswith(kinds)] if isinstance(classes, dict) else []


def explain_custom_code(classes: list[str]) -> str:
    """Why a model with these custom classes cannot be used, and what to do."""
    return (
        f"config.json takes {', '.join(classes)} from custom code (auto_map), which is never run here, so the torch "
        f"weights cannot be used. onnx/model.onnx or openvino/openvino_model.xml can, on the CPU with engine='auto'. "
        f"Where there is neither, and you trust the code, make one: optimum-cli export onnx --model MODEL --task "
        f"text-classification --trust-remote-code FOLDER. If transformers has the model's class itself, take auto_map "
        f"out of config.json, in a folder of your own."
    )


def check_custom_code(folder: Path) -> None:
    """Raise `ModelLoadError` if the torch weights in ``folder`` need custom code."""
    classes = list_custom_classes(folder)
    if classes:
        raise ModelLoadError(f"{folder}: {explain_custom_code(classes)}")


def is_decoder(config: dict[str, Any]) -> bool:
    """Whether the tokens of the model read those before them only."""
    names = map(str, config.get("architectures") or [])
    return config.get("model_type") in _DECODERS or any(name.endswith("ForCausalLM") for name in names)


def read_max_input_length(folder: Path) -> int | None:
    """Most tokens that the model reads, special tokens included; None if the config does not say."""
    config = read_config(folder)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if not _OFFSET_TYPES.fullmatch(str(config.get("model_type"))):
        return positions
    given = config.get("pad_token_id")
    # transformers counts from its own padding id, not from the tokenizer's. MPNet's is 1 whatever the config says.
    first = 2 if given is None or config["model_type"] == "mpnet" else find_pad_token_id(folder) + 1
    return positions - first


def find_pad_token_id(folder: Path) -> int:
    """The id of the padding token, by ``config.json``, else by the tokenizer, else the model type's default.

    `ModelLoadError` if the vocabulary has no such id.
    """
    config = read_config(folder)
    given, size = config.get("pad_token_id"), config.get("vocab_size")
    pad: Any = _tokenizer_pad_id(folder) if given is None else given
    if pad is None:
        pad = 1 if _OFFSET_TYPES.fullmatch(str(config.get("model_type"))) else 0
    limit = size if isinstance(size, int) else math.inf
    if isinstance(pad, bool) or not isinstance(pad, int) or not 0 <= pad < limit:
        source = "pad_token_id in its config.json" if given is not None else "its tokenizer's padding token"
        raise ModelLoadError(
            f"{folder} cannot be used: {source} is {pad!r}, expected a whole number from 0 and below vocab_size "
            f"({size!r}). Download the model again, or set pad_token_id to the id of the tokenizer's padding token."
        )
    return pad


def _tokenizer_pad_id(folder: Path) -> int | None:
    """The padding token's id by the tokenizer's files; None if they do not name it or cannot be read."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # noqa: BLE001 - tokenizers raises a bare Exception
        return None
    named = [_read_pad_token(folder / name) for name in ("tokenizer_config.json", "special_tokens_map.json")]
    saved = [tokenizer.padding["pad_id"]] if tokenizer.padding is not None else []
    ids = [tokenizer.token_to_id(name) for name in named if name is not None] + saved
    ids += [tokenizer.token_to_id(name) for name in _PAD_TOKENS]
    return next((number for number in ids if number is not None), None)


def _read_pad_token(file: Path) -> str | None:
    try:
        token = (read_json(file) or {}).get("pad_token")
    except ModelLoadError:
        return None
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None
