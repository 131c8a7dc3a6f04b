"""`TokenizerSettings`: what a model folder says of how pairs are encoded, beside the tokenizer itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.config import read_json
from rerank_plugins.hub.modules import read_default_prompt, read_modules
from rerank_plugins.hub.pair_text import PairText, read_pair_text

# The tokenizers that take their normalizer from tokenizer_config.json instead of tokenizer.json.
_BERT = frozenset(
    ("bert", "convbert", "distilbert", "electra", "ernie", "layoutlm", "megatronbert", "mobilebert", "squeezebert")
)

# The tokenizers of transformers 5 that give token type ids.
_WITH_TOKEN_TYPES = _BERT - {"distilbert"} | {"canine", "deberta", "debertav2", "fnet"}

# transformers writes 10 to the 30th for a tokenizer without a limit.
_NO_LIMIT = 1_000_000_000


class BertNormalization(NamedTuple):
    """Arguments of `tokenizers.normalizers.BertNormalizer`."""

    lowercase: bool
    strip_accents: bool | None
    handle_chinese_chars: bool


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
    pair_text: PairText | None = None
    """The text that a pair is written as; None where the tokenizer's own template for pairs joins it."""


def read_tokenizer_settings(folder: Path, instruction: str | None = None) -> TokenizerSettings:
    """Read ``tokenizer_config.json``, the chat template and sentence-transformers' files; a missing one means defaults.

    Raises:
        InvalidInputError: The model takes no ``instruction``.
        ModelLoadError: A file is damaged, a decoder has no template for pairs, or the folder asks for what this version
            cannot do.
    """
    tokenizer = read_json(folder / "tokenizer_config.json") or {}
    model = read_json(folder / "config_sentence_transformers.json") or {}
    saved = read_json(folder / "sentence_bert_config.json") or {}
    if not read_modules(folder):
        model, saved = {}, {}  # as in sentence-transformers: these files belong to another kind of model
    pair_text = read_pair_text(folder, instruction)
    options = saved.get("processing_kwargs") or {}
    others = {name: value for name, value in options.items() if name != "chat_template" or pair_text is None}
    if any(others.values()):
        raise ModelLoadError(
            f"{folder / 'sentence_bert_config.json'} has processing_kwargs={others!r}, by which "
            f"sentence-transformers calls the tokenizer. This version cannot, and would rank otherwise. Use that "
            f"library for this model, or another model."
        )
    family = _read_family(tokenizer, folder)
    inputs, limit = tokenizer.get("model_input_names"), saved.get("max_seq_length")
    limit = tokenizer.get("model_max_length") if limit is None else limit
    return TokenizerSettings(
        token_types="token_type_ids" in inputs if isinstance(inputs, list) else family in _WITH_TOKEN_TYPES,
        max_length=int(limit) if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT else None,
        prompt="" if pair_text else read_default_prompt(model) or "",
        lower_case=bool(saved.get("do_lower_case")),
        normalization=_read_bert_normalization(tokenizer) if family in _BERT else None,
        pair_text=pair_text,
    )


def _read_family(tokenizer: dict[str, Any], folder: Path) -> str:
    """Whose tokenizer it is, by its class or, if none is named, by the model's type; in lower case without hyphens."""
    name = tokenizer.get("tokenizer_class") or (read_json(folder / "config.json") or {}).get("model_type")
    return str(name).removesuffix("Fast").removesuffix("Tokenizer").replace("-", "").lower()


def _read_bert_normalization(tokenizer: dict[str, Any]) -> BertNormalization:
    accents = tokenizer.get("strip_accents")
    return BertNormalization(
        lowercase=bool(tokenizer.get("do_lower_case", True)),
        strip_accents=None if accents is None else bool(accents),
        handle_chinese_chars=bool(tokenizer.get("tokenize_chinese_chars", True)),
    )
