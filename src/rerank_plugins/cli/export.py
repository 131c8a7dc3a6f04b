"""`rerank-plugins export`: a model as OpenVINO IR, and its fidelity report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from rerank_plugins._internal.loading_options import SOURCE_OPTIONS
from rerank_plugins.cli.options import LOADING, takes_options
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE, describe_shortfall


@takes_options({name: LOADING[name] for name in SOURCE_OPTIONS}, argument="source", panel="Loading the model")
def export(
    model: Annotated[str, typer.Argument(help="A folder, or a name on the hub.")],
    precision: Annotated[
        Literal["fp32", "bf16", "int8"], typer.Option(help="fp32 and bf16 share a file; int8 has its own.")
    ] = "int8",
    calibration_data: Annotated[
        Path | None,
        typer.Option(help='A BEIR folder, or lines of {"query": ..., "document": ...}; bundled texts by default.'),
    ] = None,
    output_folder: Annotated[
        Path | None, typer.Option(help="A folder of its own; by default beside the weights.")
    ] = None,
    max_queries: Annotated[int, typer.Option(help="How many queries to compare on, at most.")] = 40,
    *,
    accept: Annotated[bool, typer.Option("--accept", help="Use it by default even below the floor.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
    source: dict[str, Any],
) -> None:
    """Convert or quantize a model for CPUs, and report how far its scores moved. Exit status 1 is below the floor."""
    from rerank_plugins.backends.cpu import int8_is_exact
    from rerank_plugins.export import export_model

    exported = export_model(
        model,
        precision,
        calibration_data=calibration_data,
        output_folder=output_folder,
        accept=accept,
        max_queries=max_queries,
        progress=True,
        **source,
    )
    console = Console(soft_wrap=True, highlight=False)
    if json_output:
        print(json.dumps({"file": str(exported.file), **exported.report}, ensure_ascii=False))  # noqa: T201 - the result
    else:
        console.print(str(exported.file), markup=False)
        console.print(_build_table(exported.report, precision))
        console.print(f"The whole report: {exported.file.parent / FIDELITY_FILE.name}", markup=False)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    if not exported.is_default:
        outcome = (
            "The earlier int8, which is the default, was not replaced"
            if exported.report.get("kept_earlier")
            else f"The export is not used by default; precision='{precision}' loads it"
        )
        errors.print(
            f"Below the floor of fidelity: {describe_shortfall(exported.report)}.\n{outcome}. More or other "
            f"--calibration-data may help; --accept makes the export the default all the same.",
            markup=False,
        )
        raise typer.Exit(1)
    if precision == "int8" and not int8_is_exact():
        errors.print(
            "This processor clips int8 products, so the file is computed in fp32 here and is no faster; "
            "precision='auto' takes fp32 where the folder has it. Processors with VNNI or AMX take the int8.",
            markup=False,
        )


def _build_table(report: dict[str, Any], precision: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for heading in (f"{precision} beside {report['compared_with']}", "mean", "worst", "floor"):
        table.add_column(heading)
    floor, difference, ndcg = report["floor"], report["logit_difference"], report["ndcg_at_10"]
    limit = floor["logit_difference"]
    table.add_row("logit difference", f"{difference['mean']:.2g}", f"{difference['max']:.2g}", str(limit or ""))
    for name, label in (("kendall_tau", "Kendall's tau per query"), ("top_5_overlap", "top-5 overlap per query")):
        table.add_row(label, f"{report[name]['mean']:.3f}", f"{report[name]['min']:.3f}", str(floor[name]))
    if ndcg:
        loss = f"-{floor['ndcg_at_10_loss']}"
        table.add_row("nDCG@10", f"{ndcg['before']:.4f} → {ndcg['after']:.4f}", f"{ndcg['queries']} queries", loss)
    table.caption = f"{report['queries']} queries, {report['pairs']} pairs ({report['texts']})"
    return table
