"""`rerank-plugins train`: a reranker for one's own texts, and whether it is better than what it was made from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins.evaluation.results import METRICS, Ranking
from rerank_plugins.hub.fidelity_report import describe_shortfall
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER

if TYPE_CHECKING:
    from rerank_plugins.training import Training


def train(  # noqa: PLR0913, PLR0917 - one an option
    folder: Annotated[Path, typer.Argument(help="A folder in BEIR layout, with judgements in qrels/.")],
    base: Annotated[str, typer.Option(help="What to train: a folder or a name on the hub, with safetensors.")],
    out: Annotated[
        Path, typer.Option(help="A new folder for the model, and for what a stopped training goes on from.")
    ],
    teacher: Annotated[str, typer.Option(help="A reranker whose scores are learned too; or none.")] = "none",
    split: Annotated[str | None, typer.Option(help="qrels/SPLIT.tsv to learn from; first of train, dev, test.")] = None,
    test_split: Annotated[str | None, typer.Option(help="To evaluate on; the first other of test, dev.")] = None,
    embedder: Annotated[
        str, typer.Option(help="The first stage; or a sentence-transformers model.")
    ] = BUNDLED_EMBEDDER,
    run: Annotated[Path | None, typer.Option(help="A TREC run file of your retriever, instead of --embedder.")] = None,
    top_k: Annotated[int, typer.Option(help="Candidates a query.")] = 50,
    list_size: Annotated[int, typer.Option(help="Passages in a list, one of them relevant.")] = 8,
    epochs: Annotated[int, typer.Option(help="How often each query is learned from.")] = 1,
    batch_size: Annotated[int, typer.Option(help="Lists a step.")] = 8,
    learning_rate: Annotated[float, typer.Option(help="The highest; it rises first, then falls to 0.")] = 2e-5,
    max_length: Annotated[int, typer.Option(help="Tokens of a query and a passage together.")] = 256,
    teacher_weight: Annotated[float, typer.Option(help="0 to 1: the teacher beside a judgement.")] = 0.5,
    development: Annotated[float, typer.Option(help="Share of the judged queries that chooses the best step.")] = 0.1,
    seed: Annotated[int, typer.Option(help="Of all that is drawn.")] = 0,
    test_queries: Annotated[int | None, typer.Option(help="Evaluate a sample of so many; all without it.")] = None,
    minutes_between_checkpoints: Annotated[float, typer.Option(help="A stopped training goes on from the last.")] = 5.0,
    *,
    drop_leaks: Annotated[bool, typer.Option("--drop-leaks", help="Leave out what leaks into the test.")] = False,
    evaluate_teacher: Annotated[bool, typer.Option("--evaluate-teacher", help="Evaluate the teacher too.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew, without what OUT has to go on from.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print all numbers as one JSON object.")] = False,
) -> None:
    """Train a reranker on judged queries, or from a teacher; evaluate it, export it, and write its card."""
    from rerank_plugins.training import train_reranker

    training = train_reranker(
        folder,
        base,
        out=out,
        teacher=None if teacher == "none" else teacher,
        split=split,
        test_split=test_split,
        embedder=embedder,
        run=run,
        top_k=top_k,
        list_size=list_size,
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        max_length=max_length,
        teacher_weight=teacher_weight,
        development=development,
        drop_leaks=drop_leaks,
        seed=seed,
        test_queries=test_queries,
        evaluate_teacher=evaluate_teacher,
        minutes_between_checkpoints=minutes_between_checkpoints,
        fresh=fresh,
        progress=True,
    )
    if json_output:
        print(json.dumps(training.as_json()))  # noqa: T201 - the result goes to standard output as it is
        return
    _show(training)


def _show(training: Training) -> None:
    console = Console(soft_wrap=True, highlight=False)
    evaluation, data = training.evaluation, training.data
    console.print(
        f"{data.collection}: {evaluation.queries} queries that were not learned from. The candidates of "
        f"{evaluation.first_stage}, {evaluation.fetch_k} at most, hold {evaluation.recall:.1%} of what is relevant.\n",
        markup=False,
    )
    console.print(_table(training))
    told = [training.change.verdict, training.development_verdict]
    if training.new_head:
        told.append(f"{training.base} had no ranking head, so there is no order of its own to compare with.")
    if not training.int8_is_default:
        told.append(
            f"The int8 fell below the floor of fidelity ({describe_shortfall(training.fidelity)}): the model is "
            f"loaded in full."
        )
    console.print(Text("\n" + "\n".join(told)))
    console.print(
        f"\nThe model and its card are in {training.folder}.\nload_reranker({str(training.folder)!r})", markup=False
    )


def _table(training: Training) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("", overflow="fold")
    for heading in ("nDCG@10", "95 % interval", "RR@10"):
        table.add_column(heading, justify="right", no_wrap=True)
    evaluation = training.evaluation
    table.add_row(Text(evaluation.first_stage), *_cells(evaluation.before))
    for reranked in evaluation.rerankers:
        label = f"{reranked.model} ({reranked.engine}, {reranked.precision})"
        table.add_row(Text(label), *_cells(reranked.ranking))
    return table


def _cells(ranking: Ranking) -> list[str]:
    ndcg, rr = (ranking.means[metric] for metric in METRICS[:2])
    return [f"{ndcg.mean:.3f}", f"{ndcg.low:.3f} to {ndcg.high:.3f}", f"{rr.mean:.3f}"]
