"""`rerank-plugins export`: a model as OpenVINO IR, and what it kept of the model's judgement."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from rerank_plugins.hub.fidelity_report import FIDELITY_FILE, describe_shortfall


class _Precision(StrEnum):
    FP32 = "fp32"
    BF16 = "bf16"
    INT8 = "int8"


def export(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the hub.")],
    precision: Annotated[
        _Precision, typer.Option(help="fp32 and bf16 share a file; int8 has its own.")
    ] = _Precision.INT8,
    calibration: Annotated[
        Path | None,
        typer.Option(help='A BEIR folder, or lines of {"query": ..., "document": ...}; a built-in set without it.'),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="A folder of its own; without it, beside the weights.")] = None,
    queries: Annotated[int, typer.Option(help="How many queries to compare on, at most.")] = 40,
    *,
    accept: Annotated[bool, typer.Option("--accept", help="Use it by default even below the floor.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Convert or quantize a model for CPUs, and report how far its scores moved. Ends with 1 below the floor."""
    from rerank_plugins.backends.cpu import int8_is_exact
    from rerank_plugins.export import export_model

    exported = export_model(
        model,
        precision.value,
        calibration=calibration,
        out=out,
        accept=accept,
        queries=queries,
        progress=True,
    )
    console = Console(soft_wrap=True, highlight=False)
    if json_output:
        print(json.dumps({"file": str(exported.file), **exported.report}, ensure_ascii=False))  # noqa: T201 - the result
    else:
        console.print(str(exported.file), markup=False)
        console.print(_table(exported.report, precision.value))
        console.print(f"The whole report: {exported.file.parent / FIDELITY_FILE.name}", markup=False)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    if not exported.is_default:
        outcome = (
            "The int8 that was there, and is the default, stays in its place"
            if exported.report.get("kept_earlier")
            else f"It stays there and is not used by default; precision='{precision.value}' loads it"
        )
        errors.print(
            f"Below the floor of fidelity: {describe_shortfall(exported.report)}.\n{outcome}. More or other "
            f"--calibration pairs may help; --accept makes the export the default all the same.",
            markup=False,
        )
        raise typer.Exit(1)
    if precision is _Precision.INT8 and not int8_is_exact():
        errors.print(
            "This processor clips int8 products, so the file is computed in fp32 here and is no faster; "
            "precision='auto' takes fp32 where the folder has it. Processors with VNNI or AMX take the int8.",
            markup=False,
        )


def _table(report: dict[str, Any], precision: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in (f"{precision} beside {report['compared_with']}", "mean", "worst", "floor"):
        table.add_column(heading)
    floor, difference, ndcg = report["floor"], report["logit_difference"], report["ndcg_at_10"]
    limit = floor["logit_difference"]
    table.add_row("logit difference", f"{difference['mean']:.2g}", f"{difference['max']:.2g}", str(limit or ""))
    for name, label in (("kendall_tau", "Kendall's tau a query"), ("top_5_overlap", "top-5 overlap a query")):
        table.add_row(label, f"{report[name]['mean']:.3f}", f"{report[name]['min']:.3f}", str(floor[name]))
    if ndcg:
        lost = f"-{floor['ndcg_at_10_loss']}"
        table.add_row("nDCG@10", f"{ndcg['before']:.4f} → {ndcg['after']:.4f}", f"{ndcg['queries']} queries", lost)
    table.caption = f"{report['queries']} queries, {report['pairs']} pairs ({report['texts']})"
    return table
