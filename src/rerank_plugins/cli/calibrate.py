"""`rerank-plugins calibrate`: fits a calibration, so that scores are probabilities."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from rerank_plugins._internal.files import check_output_file, expand
from rerank_plugins.cli.options import (
    COMPUTING,
    PANEL,
    EmbedderOption,
    FetchKOption,
    MaxQueriesOption,
    RunFileOption,
    SplitOption,
    takes_options,
)
from rerank_plugins.loading import DEFAULT_MODEL
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER

if TYPE_CHECKING:
    from rerank_plugins.evaluation import CalibrationResult


@takes_options(COMPUTING, argument="loading", panel=PANEL)
def calibrate(  # noqa: PLR0913 - one parameter an option
    folder: Annotated[Path, typer.Argument(help="A folder in BEIR layout, with qrels/.")],
    model: Annotated[
        str, typer.Option(help="A folder, rerank-mini-en, a name on the hub, or a server's.")
    ] = DEFAULT_MODEL,
    method: Annotated[
        Literal["auto", "platt", "isotonic"], typer.Option(help="auto cross-validates both, from 1,000 pairs on.")
    ] = "auto",
    embedder: EmbedderOption = BUNDLED_EMBEDDER,
    run_file: RunFileOption = None,
    fetch_k: FetchKOption = 50,
    split: SplitOption = None,
    max_queries: MaxQueriesOption = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sample and of the half that is held out.")] = 0,
    output_file: Annotated[
        str, typer.Option(help="The file to write; an existing one is replaced.")
    ] = "calibration.json",
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print all numbers as one JSON object.")] = False,
    loading: dict[str, Any],
) -> None:
    """Fit scores to judged queries, so that they are probabilities of relevance, and measure it on other queries."""
    from rerank_plugins.evaluation.calibration.run import calibrate as run_calibration

    place = expand(output_file)
    # Before scoring, which may take an hour.
    check_output_file(place, "--output-file")
    result = run_calibration(
        folder,
        model,
        method=method,
        embedder=embedder,
        run_file=run_file,
        fetch_k=fetch_k,
        split=split,
        max_queries=max_queries,
        seed=seed,
        progress=sys.stderr.isatty(),
        **loading,
    )
    result.calibration.write(place)
    if json_output:
        report = json.dumps({"file": str(place), **asdict(result)})
        print(report)  # noqa: T201 - the result goes to standard output as it is
        return
    _show(Console(soft_wrap=True, highlight=False), result, place)


def _show(console: Console, result: CalibrationResult, output_file: Path) -> None:
    calibration, held_out = result.calibration, result.held_out
    console.print(
        f"{calibration.model}, {calibration.method}, fitted on {calibration.fitted_on}\n"
        f"measured on {held_out.queries} other queries: {held_out.pairs} pairs, {held_out.relevant} relevant\n",
        markup=False,
    )
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("", "before", "after"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("expected calibration error", f"{calibration.ece_before:.4f}", f"{calibration.ece_after:.4f}")
    table.add_row("Brier score", f"{result.brier_before:.4f}", f"{result.brier_after:.4f}")
    console.print(table)
    console.print()
    console.print(_thresholds(result))
    console.print(
        "precision: the share of the kept documents that are relevant. recall: the share of the relevant candidates\n"
        "that are kept. kept: documents a query. none: queries with a relevant candidate that return nothing. none\n"
        "without: queries that return nothing when their relevant candidates are removed. Unjudged documents count as\n"
        "not relevant.\n"
    )
    console.print(f"load_reranker({calibration.model!r}, calibration={str(output_file)!r})", markup=False)


def _thresholds(result: CalibrationResult) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("score_threshold", "precision", "recall", "kept", "none", "none without"):
        table.add_column(heading, justify="right")
    for effect in result.thresholds:
        table.add_row(
            f"{effect.threshold:g}",
            "" if effect.precision is None else f"{effect.precision:.0%}",
            f"{effect.recall:.0%}",
            f"{effect.kept:.1f}",
            f"{effect.empty_with_answer:.0%}",
            f"{effect.empty_without_answer:.0%}",
        )
    return table
