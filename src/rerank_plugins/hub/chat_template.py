"""`ChatTemplate`: a template of jinja2 as the texts that it puts around a query and a document.

It is rendered with marks in place of the texts, in jinja2's sandbox: it comes from whoever published the model. A
template that does anything to the texts but put others around them is refused.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.hub.pair_text import PairText, explain_no_instruction, read_special_tokens

# What stands for a text. Private-use characters are in no template.
_MARKS = ("\ue000\ue001", "\ue000\ue002", "\ue000\ue003")

# The roles of a pair, and two that no template can know.
_ROLES = ("query", "document")
_OTHER_ROLES = ("unheardone", "unheardtwo")

# Put around the marks: texts that are long, of several lines, blank at their ends, or look like code. All of them must
# come through as they are. The long ones are longer than a template that cuts texts would allow.
_AROUND = ("", "word ", "Two\nlines\n\n", "{{ 'x' }} {% if %} <b>&amp;</b> \"'\\n", "</think> ", "long " * 20_000)


class ChatTemplate:
    """A chat template, compiled."""

    def __init__(self, folder: Path, source: str, options: dict[str, Any]) -> None:
        self.folder = folder
        self._variables = {**read_special_tokens(folder), "add_generation_prompt": False, **options}
        if options.get("continue_final_message"):
            self._refuse("is used with continue_final_message, which takes the words after the document away")
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = lambda form: dt.datetime.now().astimezone().strftime(form)
        try:
            self._template = environment.from_string(source)
        except jinja2.TemplateError as exc:
            self._refuse(f"cannot be read ({exc})", exc)

    def read(self, instruction: str | None, default: str | None) -> PairText | None:
        """The texts around a pair with the instruction, else with the ``default``, else without; None as `split`."""
        found = self.split(default if instruction is None else instruction)
        if instruction is not None:
            without = self.split(default) if found is None else found
            if without is not None and (found is None or not self._has_place_for_instruction()):
                raise InvalidInputError(explain_no_instruction(self.folder))
        return found

    def is_for_any_roles(self) -> bool:
        """Whether messages of other roles are written as query and document are, but for the names of the roles.

        So do templates of chats: they know nothing of queries and documents, and write what they do not know.
        """
        query, document = _MARKS[:2]
        rendered = [self._render(query, document, None, roles) for roles in (_ROLES, _OTHER_ROLES)]
        written = [_hide_roles(text) for text in rendered if text is not None]
        return len(written) == len(rendered) and written[0] == written[1]

    def split(self, system: str | None) -> PairText | None:
        """The texts around a pair; None if a query or a document does not come through."""
        query, document = _MARKS[:2]
        rendered = self._render(query, document, system)
        if rendered is None or query not in rendered or document not in rendered:
            return None
        strips = self._find_stripping(system)
        found = self._cut(rendered, query, document, strips)
        for around in _AROUND:
            texts = [f"{around}{query}{around}", f"{around}{document}{around}"]
            written = [text.strip() if strip else text for text, strip in zip(texts, strips, strict=True)]
            expected = found.prefix + written[0] + found.middle + written[1] + found.suffix
            if self._render(texts[0], texts[1], system) != expected:
                self._refuse("changes the texts that it is given, or depends on them")
        return found

    def _has_place_for_instruction(self) -> bool:
        """Whether a system message comes through."""
        query, document, system = _MARKS
        return system in (self._render(query, document, system) or "")

    def _find_stripping(self, system: str | None) -> tuple[bool, bool]:
        query, document = _MARKS[:2]
        rendered = self._render(f" {query} ", f" {document} ", system) or ""
        return f" {query} " not in rendered, f" {document} " not in rendered

    def _cut(self, rendered: str, query: str, document: str, strips: tuple[bool, bool]) -> PairText:
        if rendered.count(query) != 1 or rendered.count(document) != 1:
            self._refuse("names the query or the document more than once")
        prefix, _, rest = rendered.partition(query)
        middle, _, suffix = rest.partition(document)
        if not middle and document in rest:
            self._refuse("puts nothing between query and document, so that 'cat' and 'dog' would be read as 'catdog'")
        if document in prefix:
            self._refuse("puts the document before the query, and here the query comes first")
        return PairText(prefix, middle, suffix, *strips)

    def _render(self, query: str, document: str, system: str | None, roles: tuple[str, str] = _ROLES) -> str | None:
        """The rendered text with strings for contents or, where these do not come through, with lists of parts."""
        for make in (str, lambda text: [{"type": "text", "text": text}]):
            given = [("system", system)] if system is not None else []
            contents = (*given, (roles[0], query), (roles[1], document))
            messages = [{"role": role, "content": make(text)} for role, text in contents]
            try:
                rendered = self._template.render(messages=messages, tools=None, documents=None, **self._variables)
            except Exception:  # noqa: BLE001, S112 - a template may raise anything, and says by it that it takes no pairs
                continue
            if _MARKS[0] in rendered and _MARKS[1] in rendered:
                return rendered
        return None

    def _refuse(self, reason: str, cause: BaseException | None = None) -> NoReturn:
        raise ModelLoadError(
            f"The chat template of {self.folder} {reason}. Expected one that puts fixed texts before, between and "
            f"after query and document. Use sentence-transformers for this model, or another model."
        ) from cause


def _hide_roles(text: str) -> str:
    """The text without the names of roles, in any case: templates write them as ``Query`` and ``QUERY`` too."""
    text = text.casefold()
    for number in range(len(_ROLES)):
        for role in (_ROLES[number], _OTHER_ROLES[number]):
            text = text.replace(role, f"\x00{number}")
    return text


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
