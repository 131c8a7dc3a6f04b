"""What a model folder says of how its pairs are encoded, beside the tokenizer itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins.errors import ModelLoadError

# The tokenizers of transformers 5 that give token type ids, without "Tokenizer" and "Fast"; all others give none. Where
# no class is named, it follows from the model type.
_WITH_TOKEN_TYPES = frozenset(
    ("Bert", "Canine", "ConvBert", "Deberta", "DebertaV2", "Electra", "FNet", "LayoutLM", "MobileBert", "SqueezeBert")
)
_TYPES_WITH_TOKEN_TYPES = frozenset(
    (
        "bert",
        "canine",
        "convbert",
        "deberta",
        "deberta-v2",
        "electra",
        "ernie",
        "fnet",
        "layoutlm",
        "megatron-bert",
        "mobilebert",
        "squeezebert",
    )
)

# Those that make their normalizer from tokenizer_config.json, whatever tokenizer.json has.
_BERT = frozenset(("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "MobileBert", "SqueezeBert"))
_BERT_TYPES = frozenset(
    ("bert", "convbert", "distilbert", "electra", "ernie", "layoutlm", "megatron-bert", "mobilebert", "squeezebert")
)

# Tokenizers without a limit of their own say 10 to the 30th.
_NO_LIMIT = 1_000_000_000


class BertNormalization(NamedTuple):
    """What BERT's tokenizer does to a text before it is cut into words."""

    lower_case: bool
    strip_accents: bool | None
    chinese_apart: bool


class TokenizerSettings(NamedTuple):
    """As transformers' tokenizer and sentence-transformers' `CrossEncoder` would take them from the folder."""

    token_types: bool = True
    """Whether the passage's tokens have the type that the pair template gives them; else all types are 0."""
    max_length: int | None = None
    """Most tokens of a pair that the model was saved with; None if nothing says it."""
    prompt: str = ""
    """What stands before every query."""
    lower_case: bool = False
    """Whether texts are put into lower case first, whatever the tokenizer does."""
    normalization: BertNormalization | None = None
    """Instead of the normalizer in ``tokenizer.json``, of a WordPiece tokenizer; None for its own."""


def read_tokenizer_settings(folder: Path) -> TokenizerSettings:
    """Read ``tokenizer_config.json`` and sentence-transformers' files in ``folder``; what is not there has its default.

    Raises:
        ModelLoadError: Pairs are joined by a chat template, or by arguments that were saved, or a file is damaged.
    """
    tokenizer = _read_object(folder / "tokenizer_config.json")
    model = _read_object(folder / "config_sentence_transformers.json")
    saved = _read_object(folder / "sentence_bert_config.json")
    if model.get("model_type") != "CrossEncoder" or not (folder / "modules.json").is_file():
        model, saved = {}, {}  # so sentence-transformers takes them: files of something else
    # A model that sentence-transformers saved for plain texts is not asked through a template.
    plain = "modality_config" in saved and "message" not in saved["modality_config"]
    if not plain and (tokenizer.get("chat_template") or (folder / "chat_template.jinja").is_file()):
        raise ModelLoadError(
            f"{folder} has a chat template, by which query and document are put into the text that the model reads. "
            f"This version joins them as encoders do and would rank wrongly. Use an encoder, such as "
            f"BAAI/bge-reranker-v2-m3."
        )
    if saved.get("processing_kwargs"):
        raise ModelLoadError(
            f"{folder / 'sentence_bert_config.json'} has processing_kwargs={saved['processing_kwargs']!r}, by which "
            f"sentence-transformers calls the tokenizer. This version cannot, and would rank otherwise. Use that "
            f"library for this model, or another model."
        )
    limit = saved.get("max_seq_length")
    return TokenizerSettings(
        _gives_token_types(tokenizer, folder),
        _as_limit(tokenizer.get("model_max_length") if limit is None else limit),
        _default_prompt(model),
        bool(saved.get("do_lower_case")),
        _bert_normalization(tokenizer, folder),
    )


def _gives_token_types(tokenizer: dict[str, Any], folder: Path) -> bool:
    names = tokenizer.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    return _is_of(tokenizer, folder, _WITH_TOKEN_TYPES, _TYPES_WITH_TOKEN_TYPES)


def _bert_normalization(tokenizer: dict[str, Any], folder: Path) -> BertNormalization | None:
    if not _is_of(tokenizer, folder, _BERT, _BERT_TYPES):
        return None
    lower_case, accents, chinese = (
        tokenizer.get(name, default)
        for name, default in (("do_lower_case", True), ("strip_accents", None), ("tokenize_chinese_chars", True))
    )
    return BertNormalization(bool(lower_case), None if accents is None else bool(accents), bool(chinese))


def _is_of(tokenizer: dict[str, Any], folder: Path, classes: frozenset[str], types: frozenset[str]) -> bool:
    """Whether the tokenizer's class is one of ``classes``; where none is named, the model's type one of ``types``."""
    named = tokenizer.get("tokenizer_class")
    if isinstance(named, str):
        return named.removesuffix("Fast").removesuffix("Tokenizer") in classes
    return _read_object(folder / "config.json").get("model_type") in types


def _as_limit(given: Any) -> int | None:
    limited = isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < _NO_LIMIT
    return int(given) if limited else None


def _default_prompt(settings: dict[str, Any]) -> str:
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt if isinstance(prompt, str) else ""


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise ModelLoadError(f"{path} cannot be read ({exc}). Download the model again.") from exc
    if not isinstance(content, dict):
        raise ModelLoadError(
            f"{path} holds {type(content).__name__}, expected a JSON object. Download the model again."
        )
    return content
