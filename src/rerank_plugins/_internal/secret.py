"""Keys of services, which are shown and written nowhere."""

from __future__ import annotations

from typing import Any, Self

from rerank_plugins.errors import InvalidInputError


class Secret:
    """A key. Its text is given by `reveal` alone: no repr, no pickle, no dump, no message has it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The key itself."""
        return self._text

    def remove_from(self, text: str) -> str:
        """``text`` without the key: servers repeat a wrong key in their errors."""
        return text.replace(self._text, "***")

    def __repr__(self) -> str:
        return "Secret('***')"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Secret) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("A key is never pickled. Leave it out, and set the service's environment variable.")


def as_secret(value: object, name: str = "api_key") -> Secret | None:
    """``value`` as a `Secret`: a string, an object with ``get_secret_value()`` such as pydantic's, a `Secret`, None.

    `InvalidInputError`, without the value, for anything else and for what no HTTP header can carry.
    """
    if value is None or isinstance(value, Secret):
        return value
    unwrap = getattr(value, "get_secret_value", None)
    text = unwrap() if callable(unwrap) else value
    if not isinstance(text, str):
        raise InvalidInputError(f"{name} must be a string, a SecretStr or None, got {type(value).__name__}.")
    text = text.strip()  # a key that was read from a file ends with a line feed
    if not text or not text.isascii() or not text.isprintable() or " " in text:
        raise InvalidInputError(
            f"{name} must be one word of printable ASCII characters, got {len(text)} characters that are not. Copy it "
            f"again, or leave it out: None takes the service's environment variable."
        )
    return Secret(text)
