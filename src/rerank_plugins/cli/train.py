"""`rerank-plugins train`: train a reranker, and compare it with its base."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins._internal.options import options_of
from rerank_plugins.cli.options import takes_options
from rerank_plugins.evaluation.results import METRICS, Ranking
from rerank_plugins.hub.fidelity_report import describe_shortfall
from rerank_plugins.training.config import TrainingConfig

if TYPE_CHECKING:
    from rerank_plugins.training import Training

_OPTIONS = options_of(TrainingConfig)


@takes_options(
    {name: option for name, option in _OPTIONS.items() if name not in {"folder", "progress"}}, argument="options"
)
def train(
    folder: Annotated[Path, typer.Argument(help=_OPTIONS["folder"].help)],
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print all results as one JSON object.")] = False,
    options: dict[str, Any],
) -> None:
    """Train a reranker on judged queries, or from a teacher; evaluate it, export it, and write its model card."""
    from rerank_plugins.training import train_reranker

    training = train_reranker(folder, **options, progress=True)
    if json_output:
        print(json.dumps(training.as_json()))  # noqa: T201 - the result goes to standard output as it is
        return
    _print_results(training)


def _print_results(training: Training) -> None:
    console = Console(soft_wrap=True, highlight=False)
    evaluation, data = training.evaluation, training.data
    console.print(
        f"{data.collection}: {evaluation.queries} queries that were not learned from. The candidates of "
        f"{evaluation.first_stage}, {evaluation.fetch_k} at most, hold {evaluation.recall:.1%} of what is relevant.\n",
        markup=False,
    )
    console.print(_build_table(training))
    lines = [training.change.verdict, training.development_verdict]
    if training.new_head:
        lines.append(f"{training.base} had no ranking head, so it is not compared with.")
    if not training.int8_is_default:
        lines.append(
            f"The int8 fell below the floor of fidelity ({describe_shortfall(training.fidelity)}): fp32 stays the "
            f"default."
        )
    console.print(Text("\n" + "\n".join(lines)))
    console.print(
        f"\nThe model and its card are in {training.folder}.\nload_reranker({str(training.folder)!r})", markup=False
    )


def _build_table(training: Training) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("nDCG@10", "95 % interval", "RR@10"):
        table.add_column(heading, justify="right", no_wrap=True)
    evaluation = training.evaluation
    table.add_row(Text(evaluation.first_stage), *_format_metrics(evaluation.before))
    for reranked in evaluation.rerankers:
        label = f"{reranked.model} ({reranked.engine}, {reranked.precision})"
        table.add_row(Text(label), *_format_metrics(reranked.ranking))
    return table


def _format_metrics(ranking: Ranking) -> list[str]:
    ndcg, rr = (ranking.means[metric] for metric in METRICS[:2])
    return [f"{ndcg.mean:.3f}", f"{ndcg.low:.3f} to {ndcg.high:.3f}", f"{rr.mean:.3f}"]
