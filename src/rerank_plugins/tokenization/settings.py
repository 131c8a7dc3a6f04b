"""`TokenizerSettings`: what a model folder says of how pairs are encoded, beside the tokenizer itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import read_json

__all__ = ["BertNormalization", "TokenizerSettings", "read_tokenizer_settings"]

# The tokenizer classes that take their normalizer from tokenizer_config.json instead of tokenizer.json, without
# "Tokenizer" and "Fast", and their model types, which decide if no class is named.
_BERT = frozenset(("Bert", "ConvBert", "DistilBert", "Electra", "LayoutLM", "MobileBert", "SqueezeBert"))
_BERT_MODELS = frozenset(
    ("bert", "convbert", "distilbert", "electra", "ernie", "layoutlm", "megatron-bert", "mobilebert", "squeezebert")
)

# The tokenizer classes of transformers 5 that give token type ids, and their model types.
_WITH_TOKEN_TYPES = _BERT - {"DistilBert"} | {"Canine", "Deberta", "DebertaV2", "FNet"}
_MODELS_WITH_TOKEN_TYPES = _BERT_MODELS - {"distilbert"} | {"canine", "deberta", "deberta-v2", "fnet"}

# transformers writes 10 to the 30th for a tokenizer without a limit.
_NO_LIMIT = 1_000_000_000


class BertNormalization(NamedTuple):
    """What BERT's tokenizer does to a text before it splits it into words."""

    lower_case: bool
    strip_accents: bool | None
    split_chinese: bool


class TokenizerSettings(NamedTuple):
    """The settings that transformers' tokenizer and sentence-transformers' `CrossEncoder` take from the folder."""

    token_types: bool = True
    """Whether the model tells token types apart; else all token type ids are 0."""
    max_length: int | None = None
    """Most tokens of a pair, as saved with the model; None if the folder does not say."""
    prompt: str = ""
    """The text before every query."""
    lower_case: bool = False
    """Whether texts are put into lower case before the tokenizer's own normalization."""
    normalization: BertNormalization | None = None
    """Replaces the normalizer of a WordPiece tokenizer; None keeps the one in ``tokenizer.json``."""


def read_tokenizer_settings(folder: Path) -> TokenizerSettings:
    """Read ``tokenizer_config.json`` and sentence-transformers' files in ``folder``; a missing file means defaults.

    Raises:
        ModelLoadError: The model joins pairs by a chat template or by saved arguments, or a file is damaged.
    """
    tokenizer = read_json(folder / "tokenizer_config.json") or {}
    model = read_json(folder / "config_sentence_transformers.json") or {}
    saved = read_json(folder / "sentence_bert_config.json") or {}
    if model.get("model_type") != "CrossEncoder" or not (folder / "modules.json").is_file():
        model, saved = {}, {}  # as in sentence-transformers: these files belong to another kind of model
    # A model that sentence-transformers saved for plain texts does not use its template.
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
        _has_token_types(tokenizer, folder),
        _parse_limit(tokenizer.get("model_max_length") if limit is None else limit),
        _read_default_prompt(model),
        bool(saved.get("do_lower_case")),
        _read_bert_normalization(tokenizer, folder),
    )


def _has_token_types(tokenizer: dict[str, Any], folder: Path) -> bool:
    names = tokenizer.get("model_input_names")
    if isinstance(names, list):
        return "token_type_ids" in names
    return _has_tokenizer_of(tokenizer, folder, _WITH_TOKEN_TYPES, _MODELS_WITH_TOKEN_TYPES)


def _read_bert_normalization(tokenizer: dict[str, Any], folder: Path) -> BertNormalization | None:
    if not _has_tokenizer_of(tokenizer, folder, _BERT, _BERT_MODELS):
        return None
    lower_case, accents, chinese = (
        tokenizer.get(name, default)
        for name, default in (("do_lower_case", True), ("strip_accents", None), ("tokenize_chinese_chars", True))
    )
    return BertNormalization(bool(lower_case), None if accents is None else bool(accents), bool(chinese))


def _has_tokenizer_of(tokenizer: dict[str, Any], folder: Path, classes: frozenset[str], types: frozenset[str]) -> bool:
    """Whether the tokenizer's class is one of ``classes`` or, if none is named, the model's type one of ``types``."""
    name = tokenizer.get("tokenizer_class")
    if isinstance(name, str):
        return name.removesuffix("Fast").removesuffix("Tokenizer") in classes
    return (read_json(folder / "config.json") or {}).get("model_type") in types


def _parse_limit(given: Any) -> int | None:
    limited = isinstance(given, int | float) and not isinstance(given, bool) and 0 < given < _NO_LIMIT
    return int(given) if limited else None


def _read_default_prompt(settings: dict[str, Any]) -> str:
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt if isinstance(prompt, str) else ""
