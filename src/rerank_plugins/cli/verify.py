"""`rerank-plugins verify`: published scores compared with those that this installation computes."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins.evaluation.verification import Comparison, Verification, explain, published_name
from rerank_plugins.evaluation.verification import verify as verify_scores
from rerank_plugins.loading import load_reranker

if TYPE_CHECKING:
    from rerank_plugins._internal.loading_options import EngineName, Precision

_WIDTHS = {"published": 9, "as": 7, "in": 4, "here": 8, "difference": 10, "tolerance": 9, "": 3}


def verify(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the hub.")],
    published_as: Annotated[
        str | None, typer.Option("--as", help="Whose published scores apply to a folder of another name.")
    ] = None,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, fp16, bf16 or int8.")] = "auto",
    device: Annotated[str | None, typer.Option(help="cpu, cuda, mps; the best there is without it.")] = None,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Compare a model's published scores with those computed here. Ends with 1 if any is off."""
    name = published_name(model, published_as)
    # load_reranker refuses unknown names of engines and precisions.
    reranker = load_reranker(
        model, engine=cast("EngineName", engine), precision=cast("Precision", precision), device=device
    )
    with reranker:
        result = verify_scores(reranker, name)
    if json_output:
        # json.dumps writes ASCII, which every terminal can encode.
        print(json.dumps({"model": model, "ok": result.ok, **asdict(result)}))  # noqa: T201 - the result
    else:
        _show(Console(highlight=False), result)
    if not result.ok:
        Console(stderr=True, soft_wrap=True, highlight=False).print(explain(result, model), markup=False)
        raise typer.Exit(1)


def _show(console: Console, result: Verification) -> None:
    console.print(f"{result.published_as}: {result.engine}, {result.precision} on {result.device}\n", style="bold")
    order_ok = {order.query: order.ok for order in result.orders}
    for number, (query, scores) in enumerate(groupby(result.scores, key=lambda one: one.published.query)):
        console.print(Text(query, style="bold"), soft_wrap=True)
        console.print(_table(console.width, list(scores), show_header=number == 0))
        if query in order_ok:
            ok = order_ok[query]
            console.print("  order as published" if ok else "  the order is another one", style="" if ok else "red")
    console.print()
    for precision, source in dict.fromkeys((one.published.precision, one.published.source) for one in result.scores):
        console.print(f"Published in {precision}: {source}", markup=False, style="dim", soft_wrap=True)
    if result.ok:
        console.print(f"All {len(result.scores)} scores are what was published.", style="green")


def _table(width: int, scores: list[Comparison], *, show_header: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=show_header)
    # One table a query, all with the same column widths: the text gets the rest of the terminal.
    left = max(16, width - sum(wide + 1 for wide in _WIDTHS.values()) - 1)
    table.add_column("  passage", width=left, no_wrap=True, overflow="ellipsis")
    for heading, wide in _WIDTHS.items():
        table.add_column(heading, width=wide, justify="right", no_wrap=True)
    for one in scores:
        table.add_row(*_row(one))
    return table


def _row(one: Comparison) -> list[Text]:
    published = one.published
    return [
        Text(f"  {published.passage}"),
        Text(f"{published.score:.4f}"),
        Text("logit" if published.scale == "logit" else "sigmoid", style="dim"),
        Text(published.precision, style="dim"),
        Text(f"{one.here:.4f}"),
        Text(f"{one.difference:+.4f}"),
        Text(f"{one.tolerance:g}"),
        Text("ok", style="green") if one.ok else Text("off", style="bold red"),
    ]
