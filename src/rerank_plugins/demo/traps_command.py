"""`rerank-plugins traps`: queries whose keywords mislead, ordered by BM25, by an embedder and by a reranker."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from rerank_plugins.demo import traps as shared
from rerank_plugins.demo.rag import BOX_RERANKER
from rerank_plugins.retrieval.embedder import BOX_EMBEDDER


def traps(
    language: Annotated[str, typer.Option(help="en, zh, or all that the model reads.")] = "all",
    model: Annotated[str, typer.Option(help="A folder, rerank-mini-en, or a name on the hub.")] = BOX_RERANKER,
    embedder: Annotated[
        str, typer.Option(help="In the box, or any sentence-transformers model for the second order.")
    ] = BOX_EMBEDDER,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how BM25, an embedder and a reranker fare with queries whose keywords mislead."""
    # Warnings go to standard error, so that they are no part of the JSON.
    found = shared.run(language, model, embedder, Console(stderr=True))
    if json_output:
        print(json.dumps({"model": model, "embedder": embedder, **_as_json(found)}))  # noqa: T201 - the result
        return
    console = Console(highlight=False)
    for outcome in found:
        shared.show_outcome(console, outcome)
    shared.show_summary(console, found)


def _as_json(found: list[shared.Outcome]) -> dict[str, object]:
    rows = [{**asdict(one), "solved": {stage: one.solved(stage) for stage in shared.STAGES}} for one in found]
    return {"summary": shared.summary(found), "outcomes": rows}
