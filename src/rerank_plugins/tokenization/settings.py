"""`TokenizerSettings`: what a model folder says of how pairs are encoded, beside the tokenizer itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.hub.chat_template import read_template_source
from rerank_plugins.hub.config import read_json
from rerank_plugins.hub.head import explain_missing_template, is_decoder
from rerank_plugins.hub.known_rerankers import find_known_reranker
from rerank_plugins.hub.modules import is_saved_for_plain_pairs, read_modules

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


class PairText(NamedTuple):
    """How a query and a document are written as one text."""

    prefix: str
    """Before the query."""
    middle: str
    """Between query and document."""
    suffix: str
    """After the document."""
    strips_query: bool = False
    """Whether white space around the query is taken away."""
    strips_document: bool = False
    """Whether white space around the document is taken away."""


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
    options = saved.get("processing_kwargs") or {}
    plain = is_saved_for_plain_pairs(folder)
    prompt = _read_default_prompt(model)
    pair_text = None if plain else _read_pair_text(folder, options.get("chat_template") or {}, instruction, prompt)
    others = {name: value for name, value in options.items() if name != "chat_template" or pair_text is None}
    if any(others.values()):
        raise ModelLoadError(
            f"{folder / 'sentence_bert_config.json'} has processing_kwargs={others!r}, by which "
            f"sentence-transformers calls the tokenizer. This version cannot, and would rank otherwise. Use that "
            f"library for this model, or another model."
        )
    if pair_text is None and instruction is not None:
        raise InvalidInputError(explain_no_instruction(folder))
    family = _read_family(tokenizer, folder)
    inputs, limit = tokenizer.get("model_input_names"), saved.get("max_seq_length")
    limit = tokenizer.get("model_max_length") if limit is None else limit
    return TokenizerSettings(
        token_types="token_type_ids" in inputs if isinstance(inputs, list) else family in _WITH_TOKEN_TYPES,
        max_length=int(limit) if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT else None,
        prompt="" if pair_text else prompt or "",
        lower_case=bool(saved.get("do_lower_case")),
        normalization=_read_bert_normalization(tokenizer) if family in _BERT else None,
        pair_text=pair_text,
    )


def explain_no_instruction(folder: Path) -> str:
    """The message for an instruction that the model has no place for."""
    return (
        f"instruction= is for models whose template has a place for one, such as Qwen3-Reranker; {folder} has no such "
        f"template. Leave it out."
    )


def _read_pair_text(
    folder: Path, options: dict[str, Any], instruction: str | None, prompt: str | None
) -> PairText | None:
    """The text around a pair, by the model's own template or, if that takes no pairs, by what is known of the model."""
    has_template = read_template_source(folder) is not None
    if has_template:
        from rerank_plugins.tokenization.chat_template import render_pair_text

        found = render_pair_text(folder, options, instruction, prompt)
        if found is not None:
            return found
    known = find_known_reranker(folder)
    if known is not None:
        if instruction is not None and not known.takes_instruction:
            raise InvalidInputError(explain_no_instruction(folder))
        prefix = known.write_prefix(prompt if instruction is None else instruction)
        return PairText(prefix, known.middle, known.suffix, known.strips, known.strips)
    if is_decoder(read_json(folder / "config.json") or {}):
        raise ModelLoadError(explain_missing_template(folder))
    if has_template:
        raise ModelLoadError(
            f"{folder} has a chat template, and it does not take messages of the roles query and document, by which "
            f"sentence-transformers would join them. Pairs joined without it would be ranked wrongly. Use another "
            f"model, such as BAAI/bge-reranker-v2-m3."
        )
    return None


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


def _read_default_prompt(settings: dict[str, Any]) -> str | None:
    name, prompts = settings.get("default_prompt_name"), settings.get("prompts")
    prompt = prompts.get(name) if isinstance(prompts, dict) else None
    return prompt if isinstance(prompt, str) and prompt else None
