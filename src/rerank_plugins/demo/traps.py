"""`rerank-plugins traps`: how BM25, an embedder and a reranker order passages whose keywords mislead."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins.demo.rag import show_chinese_warnings
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.loading import load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import rank
from rerank_plugins.retrieval.beir import example_folder, read_json_lines
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER, Embedder, load_embedder
from rerank_plugins.retrieval.language import BUNDLED_RERANKER, reads_chinese

Language = Literal["en", "zh"]
LANGUAGES: dict[Language, str] = {"en": "english", "zh": "chinese"}
"""The languages of the traps, and the names of their files."""

STAGES = {"bm25": "BM25", "embedding": "embedding", "reranking": "reranking"}
"""The three ways to order the passages: the fields of `Outcome`, and how they are printed."""

_BAR_WIDTH = 12
# The width of the columns before the passage.
_NUMBERS_WIDTH = 4 * 6 + _BAR_WIDTH + 1 + 1
_CHINESE = "\u3400-\u9fff"
# A pair of Chinese characters, of which the next one is found inside this one; one that stands alone; or a word.
_TERMS = re.compile(rf"(?=([{_CHINESE}]{{2}}))|(?<![{_CHINESE}])([{_CHINESE}])(?![{_CHINESE}])|([^\W_{_CHINESE}]+)")


@dataclass(frozen=True, slots=True)
class Trap:
    """A query, a few passages, and which of them answer it."""

    id: str
    language: Language
    kind: str
    """``"homonym"``, ``"negation"``, ``"synonym"`` or ``"number"``."""
    query: str
    note: str
    """Why the keywords mislead."""
    passages: tuple[str, ...]
    right: tuple[int, ...]
    """Positions of the passages that answer, from 0; never the first, so that a tie solves nothing."""


@dataclass(frozen=True, slots=True)
class Order:
    """One ordering of a trap's passages."""

    positions: tuple[int, ...]
    """Best first; equal scores keep the order of the trap."""
    scores: tuple[float, ...]
    """One score a passage, in the order of the trap: BM25's, a cosine, or the reranker's in [0, 1]."""
    seconds: float
    """The time of this query, without building BM25's index or embedding the passages."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trap, ordered in three ways."""

    trap: Trap
    bm25: Order
    embedding: Order
    reranking: Order

    def is_solved(self, stage: str) -> bool:
        """Whether this one of `STAGES` ranks a passage first that answers."""
        order: Order = getattr(self, stage)
        return order.positions[0] in self.trap.right


def traps(
    language: Annotated[str, typer.Option(help="en, zh, or all that the model reads.")] = "all",
    model: Annotated[str, typer.Option(help="A folder, rerank-mini-en, or a name on the hub.")] = BUNDLED_RERANKER,
    embedder: Annotated[
        str, typer.Option(help="Bundled, or any sentence-transformers model for the second order.")
    ] = BUNDLED_EMBEDDER,
    *,
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show how BM25, an embedder and a reranker fare with queries whose keywords mislead."""
    # Warnings go to standard error, so that they are no part of the JSON.
    outcomes = run_traps(language, model, embedder, Console(stderr=True))
    if json_output:
        rows = [{**asdict(one), "solved": {stage: one.is_solved(stage) for stage in STAGES}} for one in outcomes]
        result = {"model": model, "embedder": embedder, "summary": summarize(outcomes), "outcomes": rows}
        print(json.dumps(result))  # noqa: T201 - the result goes to standard output as it is
        return
    console = Console(highlight=False)
    for outcome in outcomes:
        show_outcome(console, outcome)
    show_summary(console, outcomes)


def run_traps(language: str, model: str, embedder: str, warnings: Console) -> list[Outcome]:
    """Order the traps in ``"en"``, ``"zh"`` or ``"all"`` languages with BM25 and both models."""
    languages = choose_languages(language, model, embedder, warnings)
    embed = load_embedder(embedder)
    outcomes = []
    with load_reranker(model) as reranker:
        for trapset in map(read_traps, languages):
            orders = (order_by_bm25(trapset), order_by_embedder(trapset, embed), order_by_reranker(trapset, reranker))
            outcomes += [Outcome(*row) for row in zip(trapset, *orders, strict=True)]
    return outcomes


def choose_languages(language: str, model: str, embedder: str, console: Console) -> list[Language]:
    """The languages to show for ``"en"``, ``"zh"`` or ``"all"``; prints a warning where a model reads no Chinese.

    With ``"all"``, Chinese is left out if the reranker cannot read it.
    """
    if language not in (*LANGUAGES, "all"):
        raise InvalidInputError(f"language must be one of {', '.join(LANGUAGES)}, all; got {language!r}.")
    if language == "en":
        return ["en"]
    english_only = language == "all" and not reads_chinese(model)
    show_chinese_warnings(console, model, embedder="" if english_only else embedder)
    if not english_only:
        return ["zh"] if language == "zh" else list(LANGUAGES)
    console.print("The Chinese traps are left out; --language zh shows them all the same.", style="yellow")
    return ["en"]


def read_traps(language: Language) -> list[Trap]:
    """The traps in this language, in the order of their file."""
    rows = read_json_lines(example_folder("traps") / f"{LANGUAGES[language]}.jsonl")
    return [
        Trap(row["_id"], language, row["kind"], row["text"], row["note"], tuple(row["passages"]), tuple(row["right"]))
        for _, row in rows
    ]


def split_terms(text: str) -> list[str]:
    """The terms that BM25 compares: words in lower case, and pairs of neighbouring Chinese characters."""
    return ["".join(groups) for groups in _TERMS.findall(text.lower())]


def order_by_bm25(traps: Sequence[Trap]) -> list[Order]:
    """Order each trap's passages by BM25, with the statistics of the passages of all ``traps``."""
    try:
        import bm25s
    except ImportError as exc:
        raise MissingExtraError("faiss", "BM25", str(exc.name)) from exc
    passages = [split_terms(passage) for trap in traps for passage in trap.passages]
    index = bm25s.BM25()
    index.index(passages, show_progress=False)
    known = {term for passage in passages for term in passage}
    orders, first = [], 0
    for trap in traps:
        start = time.perf_counter()
        # bm25s fails on a query of which it knows no word.
        terms = [term for term in split_terms(trap.query) if term in known]
        scores = index.get_scores(terms) if terms else [0.0] * len(passages)
        own = [float(score) for score in scores[first : first + len(trap.passages)]]
        orders.append(_order(own, time.perf_counter() - start))
        first += len(trap.passages)
    return orders


def order_by_embedder(traps: Sequence[Trap], embed: Embedder) -> list[Order]:
    """Order each trap's passages by their cosine with the query."""
    orders = []
    for trap in traps:
        vectors = embed(trap.passages)
        start = time.perf_counter()
        scores = [float(cosine) for cosine in vectors @ embed([trap.query])[0]]
        orders.append(_order(scores, time.perf_counter() - start))
    return orders


def order_by_reranker(traps: Sequence[Trap], reranker: Reranker) -> list[Order]:
    """Order each trap's passages by the reranker. The first call, which compiles kernels, is not timed."""
    orders = []
    for trap in (*traps[:1], *traps):
        start = time.perf_counter()
        results = reranker.rerank(trap.query, trap.passages)
        seconds = time.perf_counter() - start
        scores = tuple(result.score or 0.0 for result in sorted(results, key=lambda result: result.index))
        orders.append(Order(tuple(result.index for result in results), scores, seconds))
    return orders[1:]


def _order(scores: Sequence[float], seconds: float) -> Order:
    return Order(tuple(rank(scores)), tuple(scores), seconds)


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print a trap's passages in the reranker's order, with their ranks in the other two orders."""
    trap = outcome.trap
    console.print(Text(trap.query, style="bold"), Text(f"({trap.kind})", style="dim"))
    console.print(Text(trap.note, style="dim"), soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("after", "BM25", "embed", "score"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=5)
    table.add_column("", no_wrap=True, min_width=_BAR_WIDTH)
    table.add_column("  passage", no_wrap=True)
    for place, position in enumerate(outcome.reranking.positions, start=1):
        score, right = outcome.reranking.scores[position], position in trap.right
        passage = Text(f"{'✓' if right else ' '} {trap.passages[position]}", style="green" if right else "")
        passage.truncate(max(20, min(console.width, 120) - _NUMBERS_WIDTH), overflow="ellipsis")
        table.add_row(
            str(place),
            # BM25 does not find a passage without a word in common; its rank would be that of the file.
            str(outcome.bm25.positions.index(position) + 1) if outcome.bm25.scores[position] > 0 else "-",
            str(outcome.embedding.positions.index(position) + 1),
            f"{score:.3f}",
            Text("█" * round(_BAR_WIDTH * score), style="green" if right else "red"),
            passage,
        )
    console.print(table)
    timings = (f"{word} {1000 * getattr(outcome, stage).seconds:.1f} ms" for stage, word in STAGES.items())
    wrong = [word for stage, word in STAGES.items() if not outcome.is_solved(stage)]
    console.print(Text("  ".join(timings), style="cyan"), soft_wrap=True)
    if wrong:
        console.print(Text(f"fell into it: {', '.join(wrong)}", style="red"), soft_wrap=True)
    console.print()


def summarize(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By stage: the number of traps it solves (``solved``), the number of all ``traps``, and mean milliseconds."""
    return {
        stage: {
            "solved": sum(outcome.is_solved(stage) for outcome in outcomes),
            "traps": len(outcomes),
            "milliseconds": 1000 * sum(getattr(one, stage).seconds for one in outcomes) / max(1, len(outcomes)),
        }
        for stage in STAGES
    }


def show_summary(console: Console, outcomes: Sequence[Outcome]) -> None:
    """Print in how many traps each stage ranks a right passage first, by language."""
    table = Table(title="A right passage comes first in", title_justify="left")
    languages = [language for language in LANGUAGES if any(one.trap.language == language for one in outcomes)]
    for heading in ("", *(LANGUAGES[language].capitalize() for language in languages), "ms a query"):
        table.add_column(heading, justify="right" if heading else "left")
    by_language = [summarize([one for one in outcomes if one.trap.language == language]) for language in languages]
    total = summarize(outcomes)
    for stage, word in STAGES.items():
        counts = (f"{numbers[stage]['solved']} of {numbers[stage]['traps']}" for numbers in by_language)
        table.add_row(word, *counts, f"{total[stage]['milliseconds']:.1f}")
    console.print(table)
