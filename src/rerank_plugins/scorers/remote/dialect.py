"""What servers differ in: paths, requests, answers, limits, and what their scores are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

from rerank_plugins.errors import InvalidInputError
from rerank_plugins.scorers.base import Scale


class Entry(NamedTuple):
    """One document of an answer, as the server wrote it: not checked."""

    index: Any
    score: Any


class Billed(NamedTuple):
    """What an answer says it cost."""

    tokens: int = 0
    units: float = 0.0
    """In the service's own unit: Cohere's search units."""


class Dialect:
    """How to speak with one kind of server; this one is the shape that most share.

    ``POST {model, query, documents}`` gives ``{results: [{index, relevance_score}]}``. A subclass says what differs.
    """

    name: ClassVar[str]
    """What stands before the colon of a model's name."""
    path: ClassVar[str] = "/v1/rerank"
    """The path of the endpoint."""
    service: ClassVar[str | None] = None
    """The address of a hosted service; None for servers that people run themselves."""
    key_variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables that may hold the key; the first one that is set counts."""
    scale: Scale = "probability"
    needs_model: ClassVar[bool] = False
    """Whether every request names a model."""
    instruction_field: ClassVar[str | None] = None
    """The request's field for an instruction; None where there is none."""
    max_documents: int | None = None
    """The most documents of one request; None where the server names no limit."""
    max_bytes: int = 8_000_000
    """The most bytes of one request. Where no server documents a limit: what common proxies let through is less."""
    max_characters: int | None = None
    """The most characters of one text; None where the server cuts texts itself."""
    info_path: ClassVar[str | None] = None
    """Where the server tells its limits, asked once before the first request; None for servers that do not."""
    listwise: bool = False
    """Whether a document's score depends on the other documents of the request."""

    def __init__(self, model: str | None = None, instruction: str | None = None) -> None:
        """``model`` as the server calls it; None takes the one that the server has."""
        if instruction is not None and self.instruction_field is None:
            raise InvalidInputError(
                f"The requests of {self.name} have no field for an instruction, got {instruction!r}. Leave instruction "
                f"out, or write it into the query."
            )
        self.model = model
        self.instruction = instruction

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """The body of a request, without the instruction."""
        named = {} if self.model is None else {"model": self.model}
        return {**named, "query": query, "documents": list(documents)}

    def body(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """The body of a request."""
        told = {} if self.instruction is None else {str(self.instruction_field): self.instruction}
        return {**self.request(query, documents), **told}

    def entries(self, answer: Any) -> list[Entry]:
        """The documents of an answer; raises KeyError, TypeError or AttributeError where it has another shape."""
        return [Entry(one["index"], one["relevance_score"]) for one in answer["results"]]

    def billed(self, answer: Any) -> Billed:
        """What the answer says it cost; zeros where it does not say."""
        usage = answer.get("usage") if isinstance(answer, dict) else None
        return Billed(tokens=as_count(usage.get("total_tokens"))) if isinstance(usage, dict) else Billed()

    def learn(self, info: Any) -> None:
        """Take the limits from what ``info_path`` answered."""

    def is_too_large(self, status: int, words: str) -> bool:  # noqa: ARG002 - for subclasses
        """Whether an error says that the request had too many documents or bytes, so that halves may pass."""
        return status == 413


def as_count(value: Any) -> int:
    """``value`` if it is a number of something, else 0."""
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e15 else 0
