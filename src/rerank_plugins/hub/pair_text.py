"""`PairText`: the three texts around a query and a document, by the model's template or by what is known of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.hub.config import is_decoder, read_json
from rerank_plugins.hub.known_rerankers import TEMPLATE_FILE, explain_template_of, find_known_reranker
from rerank_plugins.hub.modules import is_saved_for_plain_pairs, read_default_prompt, read_modules

TEMPLATE_NAME = "chat_template.jinja"


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


def read_pair_text(folder: Path, instruction: str | None = None) -> PairText | None:
    """The texts around a query and a document, by the model's chat template or, without one, by what is known of it.

    None where the tokenizer joins pairs by itself. ``instruction`` takes the place of the model's own.

    Raises:
        InvalidInputError: The model has no place for an instruction.
        ModelLoadError: A decoder has no template for pairs, or its template does more to the texts than to put others
            around them.
    """
    written = None if instruction is None else without_surrogates(instruction)
    found = None if is_saved_for_plain_pairs(folder) else _read_pair_text(folder, written)
    if found is None and instruction is not None:
        raise InvalidInputError(explain_no_instruction(folder))
    return found


def _read_pair_text(folder: Path, instruction: str | None) -> PairText | None:
    described = read_modules(folder)
    default = read_default_prompt(read_json(folder / "config_sentence_transformers.json") or {}) if described else None
    saved = (read_json(folder / "sentence_bert_config.json") or {}) if described else {}
    options = dict((saved.get("processing_kwargs") or {}).get("chat_template") or {})
    source = read_template_source(folder, options.pop("chat_template", None))
    if source is not None:
        # Here, because few models have one, and jinja2 takes a while to import.
        from rerank_plugins.hub.chat_template import ChatTemplate

        template = ChatTemplate(folder, source, options)
        # One for chats would be read as one for pairs, unless sentence-transformers says that it was trained so.
        found = template.read(instruction, default) if described or not template.is_for_any_roles() else None
        if found is not None:
            return found
    known = find_known_reranker(folder)
    if known is not None:
        if instruction is not None and not known.takes_instruction:
            raise InvalidInputError(explain_no_instruction(folder))
        prefix = known.write_prefix(default if instruction is None else instruction)
        return PairText(prefix, known.middle, known.suffix, known.strips, known.strips)
    if is_decoder(read_json(folder / "config.json") or {}):
        raise ModelLoadError(_explain_missing_template(folder, has_template=source is not None))
    if source is not None:
        raise ModelLoadError(
            f"{folder} has a chat template, and it does not take messages of the roles query and document, by which "
            f"sentence-transformers would join them. Pairs joined without it would be ranked wrongly. Use another "
            f"model, such as BAAI/bge-reranker-v2-m3."
        )
    return None


def read_template_source(folder: Path, name: str | None = None) -> str | None:
    """The text of the chat template, from its own file or from ``tokenizer_config.json``; None without one.

    ``name`` is that of one of several templates or, as in transformers, a template itself; None takes the default one.
    """
    if name is not None:
        named = _read_named_templates(folder)
        return named.get(name, name)
    try:
        return (folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as exc:
        raise ModelLoadError(f"{folder / TEMPLATE_NAME} cannot be read ({exc}). Download the model again.") from exc
    given = (read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    if isinstance(given, list):
        given = _read_named_templates(folder).get("default")
    return given if isinstance(given, str) and given else None


def list_template_files(folder: Path) -> list[Path]:
    """The files of chat templates: the default one, and those that have names."""
    return [*folder.glob(TEMPLATE_NAME), *sorted((folder / "additional_chat_templates").glob("*.jinja"))]


def _read_named_templates(folder: Path) -> dict[str, str]:
    """Several templates by their names, as transformers 5 saves them in files, and earlier versions did in one."""
    given = (read_json(folder / "tokenizer_config.json") or {}).get("chat_template")
    entries = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    named = {str(one.get("name")): str(one.get("template")) for one in entries}
    files = list_template_files(folder)
    try:
        return named | {
            "default" if file.name == TEMPLATE_NAME else file.stem: file.read_text(encoding="utf-8") for file in files
        }
    except (OSError, ValueError) as exc:
        raise ModelLoadError(f"A chat template of {folder} cannot be read ({exc}). Download the model again.") from exc


def read_special_tokens(folder: Path) -> dict[str, str]:
    """The special tokens by the names that templates know them by, such as ``bos_token``."""
    tokens: dict[str, str] = {}
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        for name, token in (read_json(folder / file) or {}).items():
            text: Any = token.get("content") if isinstance(token, dict) else token
            if name.endswith("_token") and isinstance(text, str):
                tokens[name] = text
    return tokens


def explain_no_instruction(folder: Path) -> str:
    """The message for an instruction that the model has no place for."""
    return (
        f"instruction= is for models whose template has a place for one, such as Qwen3-Reranker; {folder} has no such "
        f"template. Leave it out."
    )


def _explain_missing_template(folder: Path, *, has_template: bool) -> str:
    """Why a decoder without a template for pairs is refused, and how to give it one."""
    names = ", ".join(map(str, (read_json(folder / "config.json") or {}).get("architectures") or ["a decoder"]))
    wrong = explain_template_of(folder)
    if wrong is not None:
        return f"{folder} is a decoder ({names}), and {wrong}"
    found = "its chat template is for chats: it has no words for query and document" if has_template else "it has none"
    return (
        f"{folder} is a decoder ({names}): it reads query and document inside the words of a template, and "
        f"{found}. Expected chat_template.jinja with messages of the roles query and document; without it the "
        f"model would rank wrongly. If this is a copy or a conversion of Qwen3-Reranker, mxbai-rerank-v2, "
        f"bge-reranker-v2-gemma or zerank, say of which in {folder / TEMPLATE_FILE}: "
        f'{{"template_of": "Qwen3-Reranker-0.6B"}}. If it is another, write the template that it was trained with to '
        f"{folder / 'chat_template.jinja'}, as docs/models.md shows."
    )
