"""`rerank-plugins eval`: does reranking help on these queries, and how sure is that."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins._internal.files import expand
from rerank_plugins.demo.rag import is_chinese, show_chinese_warnings
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.results import METRICS, Evaluation, Interval, QueryChange, Ranking, Reranked
from rerank_plugins.loading import DEFAULT_MODEL
from rerank_plugins.retrieval.embedder import BOX_EMBEDDER

if TYPE_CHECKING:
    from rerank_plugins.backends.auto import EngineName, Precision

# Queries that lost most, and characters of a text, that are printed; --json and --report have all of them.
_SHOWN, _WIDTH = 3, 100


def evaluate(  # noqa: PLR0913, PLR0917 - one an option
    folder: Annotated[Path, typer.Argument(help="A folder in BEIR layout, with judgements in qrels/.")],
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"A folder, rerank-mini-en, or a name on the hub; several are compared. [{DEFAULT_MODEL}]"),
    ] = None,
    embedder: Annotated[str, typer.Option(help="The first stage; or a sentence-transformers model.")] = BOX_EMBEDDER,
    run: Annotated[Path | None, typer.Option(help="A TREC run file of your retriever, instead of --embedder.")] = None,
    top_k: Annotated[int, typer.Option(help="Candidates a query.")] = 50,
    split: Annotated[str | None, typer.Option(help="qrels/SPLIT.tsv; the first there is of test, dev, train.")] = None,
    queries: Annotated[int | None, typer.Option(help="A random sample of so many; all without it.")] = None,
    seed: Annotated[int, typer.Option(help="Of the sample, the intervals and the test.")] = 0,
    engine: Annotated[str, typer.Option(help="auto, openvino or torch.")] = "auto",
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16, fp16 or int8.")] = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Keep scores here as they come: a run that was stopped goes on.")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="Write the whole as one HTML file.")] = None,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print all numbers as one JSON object.")] = False,
) -> None:
    """Compare the order of a first stage with that of rerankers, on judged queries: nDCG@10, RR@10, recall, time."""
    from rerank_plugins.evaluation import evaluate as evaluated

    write = None if report is None else _writer(report)
    evaluation = evaluated(
        folder,
        model or [DEFAULT_MODEL],
        embedder=embedder,
        run=run,
        top_k=top_k,
        split=split,
        queries=queries,
        seed=seed,
        work_folder=out,
        progress=sys.stderr.isatty(),
        engine=cast("EngineName", engine),
        precision=cast("Precision", precision),
    )
    whole = json.dumps(asdict(evaluation))
    if out is not None:
        _write(expand(out) / "evaluation.json", f"{whole}\n")
    if report is not None and write is not None:
        write(evaluation, report)
    if json_output:
        print(whole)  # noqa: T201 - the result goes to standard output as it is
        return
    _warn_of_chinese(evaluation)
    show(evaluation)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        raise InvalidInputError(
            f"{path} cannot be written ({exc.strerror}). The scores are kept: make room and give the command again."
        ) from exc


def _writer(report: Path) -> Callable[[Evaluation, Path], None]:
    """What writes the report; asked for first, because an evaluation may take an hour."""
    from rerank_plugins.evaluation.report.page import write_report

    place = expand(report)
    if place.is_dir() or not os.access(place.absolute().parent, os.W_OK):
        raise InvalidInputError(f"The report {report} cannot be written. Name a file in a folder that is there.")
    return write_report


def _warn_of_chinese(evaluation: Evaluation) -> None:
    if any(is_chinese(change.query) for change in evaluation.rerankers[0].changes):
        for reranked in evaluation.rerankers:
            show_chinese_warnings(Console(stderr=True), reranked.model, evaluation.first_stage)


def show(evaluation: Evaluation) -> None:
    """Print the table, the verdicts, and what lost most."""
    console = Console(soft_wrap=True, highlight=False)
    console.print(
        f"{evaluation.collection}: {evaluation.queries} judged queries over {evaluation.passages} passages. The "
        f"candidates of {evaluation.first_stage}, {evaluation.top_k} at most, hold {evaluation.recall:.1%} of what is "
        f"relevant; no reranker can find the others.\n",
        markup=False,
    )
    console.print(_table(evaluation))
    console.print(
        f"In brackets: 95 % intervals. ms: median a query, and its 95th percentile; {evaluation.machine}.", markup=False
    )
    for reranked in evaluation.rerankers:
        console.print(Text(f"\n{reranked.model} ({reranked.engine}, {reranked.precision})", style="bold"))
        console.print(Text(reranked.verdict))
        lost = [change for change in reranked.changes if change.after < change.before][:_SHOWN]
        if lost:
            console.print(Text(f"What lost most, {len(lost)} of {reranked.worse}:"))
        for change in lost:
            console.print(_lost(change))


def _table(evaluation: Evaluation) -> Table:
    # Narrow, so that it fits 80 columns; a model's name may break, a number may not.
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("nDCG@10", "difference", "p", "RR@10", "R@10", "ms", "p95"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_row(Text(evaluation.first_stage), *_means(evaluation.before, "", ""))
    for reranked in evaluation.rerankers:
        difference = f"{reranked.difference.mean:+.3f}\n{_bounds(reranked.difference, '+.3f')}"
        table.add_row(
            Text(reranked.model), *_means(reranked.ranking, difference, _p(reranked.p_value)), *_times(reranked)
        )
    return table


def _means(ranking: Ranking, difference: str, p: str) -> list[str | Text]:
    ndcg, rr, recall = (ranking.means[metric] for metric in METRICS)
    # Text: rich would read what is in brackets as its markup.
    return [
        Text(f"{ndcg.mean:.3f}\n{_bounds(ndcg, '.3f')}"),
        Text(difference),
        p,
        f"{rr.mean:.3f}",
        f"{recall.mean:.3f}",
    ]


def _p(p_value: float) -> str:
    return "<.001" if p_value < 0.001 else f"{p_value:.3f}"


def _bounds(interval: Interval, form: str) -> str:
    return f"[{interval.low:{form}}, {interval.high:{form}}]"


def _times(reranked: Reranked) -> list[str]:
    """Median and 95th percentile, in milliseconds."""
    seconds = list(reranked.seconds.values())
    high = quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]
    return [f"{1000 * median(seconds):.0f}", f"{1000 * high:.0f}"]


def _lost(change: QueryChange) -> Text:
    lines = [
        f"  {change.before:.3f} → {change.after:.3f}  {_short(change.query)}",
        f"    first before: {_short(change.top_before)}",
        f"    first after:  {_short(change.top_after)}",
    ]
    if change.first_relevant_before is not None:
        # After, another relevant passage may be the best-ranked one.
        ranks = f"rank {change.first_relevant_before}; now the best relevant one has {change.first_relevant_after}"
        lines.append(f"    relevant, {ranks}: {_short(change.relevant)}")
    return Text("\n".join(lines))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
