"""`rerank-plugins eval`: rerankers compared with a first stage on judged queries."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

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
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.results import METRICS, Evaluation, Interval, QueryChange, Ranking, Reranked
from rerank_plugins.loading import DEFAULT_MODEL
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER
from rerank_plugins.retrieval.language import chinese_warnings, is_chinese
from rerank_plugins.scorers.remote.address import is_remote

# Queries with the largest losses that are printed, and characters of each text; --json and --report have all of them.
_MAX_LOSSES, _MAX_CHARACTERS = 3, 100


@takes_options(COMPUTING, argument="loading", panel=PANEL)
def evaluate(  # noqa: PLR0913 - one parameter an option
    folder: Annotated[Path, typer.Argument(help="A folder in BEIR layout, with qrels/.")],
    model: Annotated[
        list[str] | None,
        typer.Option(
            help=f"A folder, rerank-mini-en, a name on the hub, or a server's (tei:URL, cohere:MODEL); several are "
            f"compared. [{DEFAULT_MODEL}]"
        ),
    ] = None,
    embedder: EmbedderOption = BUNDLED_EMBEDDER,
    run_file: RunFileOption = None,
    fetch_k: FetchKOption = 50,
    split: SplitOption = None,
    max_queries: MaxQueriesOption = None,
    seed: Annotated[int, typer.Option(help="Random seed of the sample, the intervals and the test.")] = 0,
    work_folder: Annotated[
        str | None, typer.Option(help="Write scores here as they are computed, to continue after a stop.")
    ] = None,
    report: Annotated[str | None, typer.Option(help="Write a report as one HTML file.")] = None,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print all numbers as one JSON object.")] = False,
    loading: dict[str, Any],
) -> None:
    """Compare the order of a first stage with that of rerankers, on judged queries: nDCG@10, RR@10, recall, time."""
    from rerank_plugins.evaluation.run import evaluate as run_evaluation

    if report is not None:
        # Before the evaluation, which may take an hour: a missing extra or folder is reported at once.
        from rerank_plugins.evaluation.report import write_report

        check_output_file(expand(report), "--report")
    evaluation = run_evaluation(
        folder,
        model or [DEFAULT_MODEL],
        embedder=embedder,
        run_file=run_file,
        fetch_k=fetch_k,
        split=split,
        max_queries=max_queries,
        seed=seed,
        work_folder=work_folder,
        progress=sys.stderr.isatty(),
        **loading,
    )
    result = json.dumps(asdict(evaluation))
    if work_folder is not None:
        _write(expand(work_folder) / "evaluation.json", f"{result}\n")
    if report is not None:
        write_report(evaluation, report)
    if json_output:
        print(result)  # noqa: T201 - the result goes to standard output as it is
        return
    _warn_about_chinese(evaluation)
    print_evaluation(evaluation)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InvalidInputError(
            f"{path} cannot be written ({exc.strerror}). The scores are kept: free disk space and repeat the command."
        ) from exc


def _warn_about_chinese(evaluation: Evaluation) -> None:
    if any(is_chinese(change.query) for change in evaluation.rerankers[0].changes):
        models = [reranked.model for reranked in evaluation.rerankers]
        warnings = [one for model in models for one in chinese_warnings(model, evaluation.first_stage)]
        for warning in dict.fromkeys(warnings):
            Console(stderr=True).print(warning, style="yellow", soft_wrap=True)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print the table, the verdicts, and the queries with the largest losses."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{evaluation.collection}: {evaluation.queries} judged queries over {evaluation.passages} passages. The "
        f"candidates of {evaluation.first_stage}, {evaluation.fetch_k} at most, hold {evaluation.recall:.1%} of what "
        f"is relevant; no reranker can find the others.\n",
        markup=False,
    )
    console.print(_table(evaluation))
    console.print(
        f"In brackets: 95 % intervals. ms: median a query, and its 95th percentile; {evaluation.machine}.", markup=False
    )
    for reranked in evaluation.rerankers:
        console.print(Text(f"\n{reranked.model} ({reranked.engine}, {reranked.precision})", style="bold"))
        console.print(Text(reranked.verdict))
        if reranked.billed_units:
            console.print(f"Billed: {reranked.billed_units:g} units.")
        if reranked.tokens and is_remote(reranked.model):
            console.print(f"The server counts {reranked.tokens} tokens.")
        losses = [change for change in reranked.changes if change.after < change.before][:_MAX_LOSSES]
        if losses:
            console.print(Text(f"The largest losses, {len(losses)} of {reranked.worse}:"))
        for change in losses:
            console.print(_describe(change))


def _table(evaluation: Evaluation) -> Table:
    # Narrow, so that it fits 80 columns; a model's name may wrap, a number may not.
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("nDCG@10", "difference", "p", "RR@10", "R@10", "ms", "p95"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row(Text(evaluation.first_stage), *_means(evaluation.before, "", ""))
    for reranked in evaluation.rerankers:
        difference = f"{reranked.difference.mean:+.3f}\n{_bounds(reranked.difference, '+.3f')}"
        p_value = "<.001" if reranked.p_value < 0.001 else f"{reranked.p_value:.3f}"
        table.add_row(Text(reranked.model), *_means(reranked.ranking, difference, p_value), *_milliseconds(reranked))
    return table


def _means(ranking: Ranking, difference: str, p_value: str) -> list[str | Text]:
    ndcg, rr, recall = (ranking.means[metric] for metric in METRICS)
    # Text objects, because rich would read the brackets as markup.
    interval = Text(f"{ndcg.mean:.3f}\n{_bounds(ndcg, '.3f')}")
    return [interval, Text(difference), p_value, f"{rr.mean:.3f}", f"{recall.mean:.3f}"]


def _bounds(interval: Interval, form: str) -> str:
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def _milliseconds(reranked: Reranked) -> list[str]:
    """Median and 95th percentile."""
    seconds = list(reranked.seconds.values())
    high = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return [f"{1000 * median(seconds):.0f}", f"{1000 * high:.0f}"]


def _describe(change: QueryChange) -> Text:
    lines = [
        f"  {change.before:.3f} → {change.after:.3f}  {_shorten(change.query)}",
        f"    first before: {_shorten(change.top_before)}",
        f"    first after:  {_shorten(change.top_after)}",
    ]
    if change.first_relevant_before is not None:
        # After reranking, another relevant passage may be the best-ranked one.
        ranks = f"rank {change.first_relevant_before}; now the best relevant one has {change.first_relevant_after}"
        lines.append(f"    relevant, {ranks}: {_shorten(change.relevant)}")
    return Text("\n".join(lines))


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MAX_CHARACTERS else f"{line[: _MAX_CHARACTERS - 1]}…"
