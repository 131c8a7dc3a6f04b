"""`rerank-plugins`: rank, eval, calibrate, train, export, demo, traps, models, verify, doctor."""

from __future__ import annotations

import io
import sys

import typer

from rerank_plugins.cli.calibrate import calibrate
from rerank_plugins.cli.doctor import doctor
from rerank_plugins.cli.eval import evaluate
from rerank_plugins.cli.export import export
from rerank_plugins.cli.models import models
from rerank_plugins.cli.rank import rank
from rerank_plugins.cli.train import train
from rerank_plugins.cli.verify import verify
from rerank_plugins.demo.rag import demo
from rerank_plugins.demo.traps import traps
from rerank_plugins.errors import RerankError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Rerank retrieved documents with a cross-encoder.",
)
for command in (rank, calibrate, train, export, demo, traps, models, verify, doctor):
    app.command()(command)
app.command("eval")(evaluate)  # a function of that name would hide Python's own


def main() -> None:
    """Run the command line; errors a person can cause are one message and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        # A document may hold what the terminal's encoding, or any encoding, cannot.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except RerankError as error:
        print(f"rerank-plugins: {error}", file=sys.stderr)  # noqa: T201 - this is what stderr is for
        sys.exit(2)
