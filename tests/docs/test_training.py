"""docs/training.md names every option of `rerank-plugins train`, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import typer.main

from rerank_plugins.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_every_option_is_on_the_page_with_its_default() -> None:
    """The options that the page names are those of the command, and so are the defaults beside them."""
    command = typer.main.get_command(app).commands["train"]  # type: ignore[attr-defined]
    options = {name: option.default for option in command.params for name in option.opts if name.startswith("--")}
    documented = re.findall(r"`(--[a-z-]+)(?: ([^`]+))?`", PAGE.read_text(encoding="utf-8"))
    assert {name for name, _ in documented} == options.keys() - {"--help"}
    table = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `--")]
    defaults = dict(re.findall(r"`(--[a-z-]+) ([^`]+)`", "\n".join(table)))
    assert {name: str(options[name]) for name in defaults} == {
        name: str(type(options[name])(value)) for name, value in defaults.items()
    }
