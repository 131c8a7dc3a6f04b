"""From a model's name, such as ``tei:http://host:8080``, to the dialect and the address of its server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

from rerank_plugins._internal.secret import Secret, as_secret
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.scorers.remote.cohere import Cohere
from rerank_plugins.scorers.remote.dashscope import DashScope
from rerank_plugins.scorers.remote.dialect import Dialect
from rerank_plugins.scorers.remote.infinity import Infinity
from rerank_plugins.scorers.remote.jina import Jina
from rerank_plugins.scorers.remote.llamacpp import LlamaCpp
from rerank_plugins.scorers.remote.nim import Nim
from rerank_plugins.scorers.remote.sglang import SGLang
from rerank_plugins.scorers.remote.siliconflow import SiliconFlow
from rerank_plugins.scorers.remote.tei import Tei
from rerank_plugins.scorers.remote.vllm import Vllm
from rerank_plugins.scorers.remote.voyage import Voyage

_CLASSES = (Tei, Cohere, Jina, Vllm, Infinity, LlamaCpp, SGLang, Voyage, DashScope, SiliconFlow, Nim)

DIALECTS: dict[str, type[Dialect]] = {one.name: one for one in _CLASSES}
"""By what stands before the colon of a model's name."""


class Address(NamedTuple):
    """A server, and which of its models."""

    dialect: type[Dialect]
    url: str
    """The endpoint: where requests are posted."""
    model: str | None


def is_remote(model: str | Path) -> bool:
    """Whether the name is that of a server's model; a path never is."""
    name, colon, _ = str(model).partition(":")
    return isinstance(model, str) and bool(colon) and name in DIALECTS


def parse_address(name: str) -> Address:
    """``DIALECT:MODEL`` of a hosted service, or ``DIALECT:URL`` or ``DIALECT:URL#MODEL`` of any server.

    Raises:
        InvalidInputError: There is no such dialect, no address, no model where one is needed, or a key in the address.
    """
    kind, _, rest = name.partition(":")
    dialect = DIALECTS.get(kind)
    if dialect is None:
        raise InvalidInputError(f"{name!r} names no server: expected one of {', '.join(DIALECTS)} before the colon.")
    forms = f"{kind}:URL{'#MODEL' if dialect.needs_model else ' or ' + kind + ':URL#MODEL'}"
    forms = f"{kind}:MODEL or {forms}" if dialect.service else forms
    if "://" in rest:
        base, _, model = rest.partition("#")
        # Of http://user:one#two@host the base has half a password, and is not shown either.
        shown = "what was given (not shown: it has a user or a password)" if "@" in rest else repr(base)
        url = _find_endpoint(base, dialect, f"{shown} is no address of a server. Expected {forms}.")
    else:
        model, url = rest, f"{dialect.service}{dialect.path}"
    has_model, has_address = bool(model.strip()), "://" in rest or dialect.service is not None
    if not has_address or (dialect.needs_model and not has_model):
        missing = "a model" if has_address else "an address"
        given = f"What was given for {kind} (not shown: it may have a password)" if "@" in rest else repr(name)
        raise InvalidInputError(f"{given} lacks {missing}. Expected {forms}, such as {_example(dialect)}.")
    return Address(dialect, url, model.strip() or None)


def find_key(dialect: type[Dialect], name: str, given: Secret | None) -> Secret | None:
    """The key that was given, or that the dialect's environment variables hold; None where there is none.

    `InvalidInputError` where the service at its own address needs one.
    """
    if given is not None:
        return given
    for variable in dialect.key_variables:
        if os.environ.get(variable):
            return as_secret(os.environ[variable], f"The environment variable {variable}")
    if dialect.service is not None and "://" not in name:
        raise InvalidInputError(
            f"{name} needs a key, and there is none. Set the environment variable {dialect.key_variables[0]}, or give "
            f"api_key."
        )
    return None


def _example(dialect: type[Dialect]) -> str:
    if dialect.service is None:
        return f"{dialect.name}:http://localhost:8080" + ("#MODEL" if dialect.needs_model else "")
    return f"{dialect.name}:MODEL"


def _find_endpoint(base: str, dialect: type[Dialect], wrong: str) -> str:
    """The endpoint below an address: people give the server's root, the root of its API, or the endpoint itself.

    ``wrong`` is the error's message where ``base`` is no address.
    """
    try:
        parts = urlsplit(base)
        known = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:  # a port that is no number
        known = False
    if not known:
        raise InvalidInputError(f"{dialect.name}: {wrong}")
    if parts.username is not None or parts.password is not None or parts.query:
        raise InvalidInputError(
            f"{dialect.name}: the address has a user, a password or a query (?...), and addresses are shown in logs "
            f"and errors. Give a key with api_key, or in an environment variable."
        )
    path, ending = parts.path.rstrip("/"), dialect.path
    steps = ending.strip("/").split("/")
    # The longest beginning of the dialect's path that the address ends with already.
    for count in range(len(steps), 0, -1):
        if path.endswith("/" + "/".join(steps[:count])):
            ending = "".join(f"/{step}" for step in steps[count:])
            break
    else:
        ending = "" if path.endswith(f"/{steps[-1]}") else ending
    return urlunsplit((parts.scheme, parts.netloc, path + ending, "", ""))
