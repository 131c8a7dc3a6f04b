"""Runs the code of a page of docs/ as it stands."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from llm_server import chat_server

DOCS = Path(__file__).parents[2] / "docs"


def names_left_by(page: str) -> dict[str, Any]:
    """What the page's code leaves behind, run from top to bottom against a chat server on loopback.

    Beside its own names: ``asked``, what the server was asked, and ``printed``, the lines of its output.
    """
    code = "\n".join(re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL))
    found: dict[str, Any] = {}
    output = io.StringIO()
    with chat_server() as server, pytest.MonkeyPatch.context() as environment, redirect_stdout(output):
        environment.setenv("OPENAI_API_KEY", "none")
        environment.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        exec(compile(code, str(DOCS / page), "exec"), found)  # noqa: S102 - running it is the test
        found["asked"] = list(server.asked)
    found["printed"] = output.getvalue().splitlines()
    return found
