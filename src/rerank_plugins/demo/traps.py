"""Queries whose keywords mislead: how BM25, an embedder and a reranker order the same few passages."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rerank_plugins._internal.text import json_object, read_file, read_lines
from rerank_plugins.demo.rag import reads_chinese, show_chinese_warnings
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.loading import load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.results import rank
from rerank_plugins.retrieval.beir import example_folder
from rerank_plugins.retrieval.embedder import Embedder, load_embedder

Language = Literal["en", "zh"]
LANGUAGES: dict[Language, str] = {"en": "english", "zh": "chinese"}
"""Of the traps, and the names of their files."""

STAGES = {"bm25": "BM25", "embedding": "embedding", "reranking": "reranking"}
"""The three ways to order, as fields of `Outcome`, and how they are printed."""

_BAR = 12
_NUMBERS = 4 * 6 + _BAR + 1 + 1
"""Width of the columns before the passage."""
_CHINESE_RUN = re.compile("[\u3400-\u9fff]+")
_RUN = re.compile(r"[\u3400-\u9fff]+|[^\W_\u3400-\u9fff]+")


@dataclass(frozen=True, slots=True)
class Trap:
    """A query, a few passages, and which of them answer it."""

    id: str
    language: Language
    kind: str
    """``"homonym"``, ``"negation"``, ``"synonym"`` or ``"number"``."""
    query: str
    note: str
    """What misleads."""
    passages: tuple[str, ...]
    right: tuple[int, ...]
    """Positions of those that answer, from 0; never the first, so that a tie solves nothing."""


@dataclass(frozen=True, slots=True)
class Order:
    """One way to order a trap's passages."""

    positions: tuple[int, ...]
    """Best first; equal scores in the order of the trap."""
    scores: tuple[float, ...]
    """One a passage, in the order of the trap: BM25's, cosines, or in [0, 1] the reranker's."""
    seconds: float
    """For this one query. BM25's index and the vectors of the passages were made before."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A trap, ordered in three ways."""

    trap: Trap
    bm25: Order
    embedding: Order
    reranking: Order

    def solved(self, stage: str) -> bool:
        """Whether one of `STAGES` puts a passage first that answers."""
        order: Order = getattr(self, stage)
        return order.positions[0] in self.trap.right


def read_traps(language: Language) -> list[Trap]:
    """The traps in this language, in the order of their file."""
    path = example_folder("traps") / f"{LANGUAGES[language]}.jsonl"
    return [
        _trap(json_object(line, str(path), number), language) for number, line in read_lines(read_file(path), str(path))
    ]


def _trap(row: dict[str, Any], language: Language) -> Trap:
    return Trap(
        row["_id"], language, row["kind"], row["text"], row["note"], tuple(row["passages"]), tuple(row["right"])
    )


def terms(text: str) -> list[str]:
    """What BM25 compares: words in lower case, and of Chinese every two neighbouring characters."""
    found = []
    for run in _RUN.findall(text.lower()):
        if _CHINESE_RUN.fullmatch(run) and len(run) > 1:
            found += [run[start : start + 2] for start in range(len(run) - 1)]
        else:
            found.append(run)
    return found


def by_bm25(traps: Sequence[Trap]) -> list[Order]:
    """Each trap's passages by BM25, whose statistics are those of the passages of all traps in ``traps``."""
    try:
        import bm25s
    except ImportError as exc:
        raise MissingExtraError("faiss", "BM25", str(exc.name)) from exc
    passages = [terms(passage) for trap in traps for passage in trap.passages]
    index = bm25s.BM25()
    index.index(passages, show_progress=False)
    known = {term for passage in passages for term in passage}
    orders, first = [], 0
    for trap in traps:
        start = time.perf_counter()
        # bm25s has no answer to a query of which it knows no word.
        asked = [term for term in terms(trap.query) if term in known]
        scores = index.get_scores(asked) if asked else [0.0] * len(passages)
        found = [float(score) for score in scores[first : first + len(trap.passages)]]
        orders.append(_order(found, time.perf_counter() - start))
        first += len(trap.passages)
    return orders


def by_embedder(traps: Sequence[Trap], embed: Embedder) -> list[Order]:
    """Each trap's passages by their cosine with the query."""
    orders = []
    for trap in traps:
        vectors = embed(trap.passages)
        start = time.perf_counter()
        scores = [float(cosine) for cosine in vectors @ embed([trap.query])[0]]
        orders.append(_order(scores, time.perf_counter() - start))
    return orders


def by_reranker(traps: Sequence[Trap], reranker: Reranker) -> list[Order]:
    """Each trap's passages as the reranker orders them. The first call, which makes kernels, is not timed."""
    orders = []
    for trap in (*traps[:1], *traps):
        start = time.perf_counter()
        results = reranker.rerank(trap.query, trap.passages)
        seconds = time.perf_counter() - start
        scores = {result.index: result.score or 0.0 for result in results}
        positions = tuple(result.index for result in results)
        orders.append(Order(positions, tuple(scores[place] for place in sorted(scores)), seconds))
    return orders[1:]


def outcomes(language: Language, reranker: Reranker, embed: Embedder) -> list[Outcome]:
    """The traps in one language, each ordered in three ways."""
    traps = read_traps(language)
    stages = (by_bm25(traps), by_embedder(traps, embed), by_reranker(traps, reranker))
    return [Outcome(*found) for found in zip(traps, *stages, strict=True)]


def _order(scores: Sequence[float], seconds: float) -> Order:
    return Order(tuple(rank(scores)), tuple(scores), seconds)


def languages(asked: str, model: str, embedder: str, console: Console) -> list[Language]:
    """The languages to show for ``"en"``, ``"zh"`` or ``"all"``, with a word on ``console`` where Chinese is not read.

    With ``"all"``, Chinese is left out for a reranker that cannot read it.

    Raises:
        InvalidInputError: Another word.
    """
    if asked not in (*LANGUAGES, "all"):
        raise InvalidInputError(f"language must be one of {', '.join(LANGUAGES)}, all; got {asked!r}.")
    if asked == "en":
        return ["en"]
    left_out = asked == "all" and not reads_chinese(model)
    show_chinese_warnings(console, model, embedder="" if left_out else embedder)
    if not left_out:
        return ["zh"] if asked == "zh" else list(get_args(Language))
    console.print("The Chinese traps are left out; --language zh shows them all the same.", style="yellow")
    return ["en"]


def show_outcome(console: Console, outcome: Outcome) -> None:
    """Print a trap's passages as the reranker orders them, with their places in the other two orders."""
    trap = outcome.trap
    console.print(Text(trap.query, style="bold"), Text(f"({trap.kind})", style="dim"))
    console.print(Text(trap.note, style="dim"), soft_wrap=True)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for heading in ("after", "BM25", "embed", "score"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=5)
    table.add_column("", no_wrap=True, min_width=_BAR)
    table.add_column("  passage", no_wrap=True)
    for place, position in enumerate(outcome.reranking.positions, start=1):
        score, right = outcome.reranking.scores[position], position in trap.right
        passage = Text(f"{'✓' if right else ' '} {trap.passages[position]}", style="green" if right else "")
        passage.truncate(max(20, min(console.width, 120) - _NUMBERS), overflow="ellipsis")
        table.add_row(
            str(place),
            # Without a word in common BM25 has not found it; the place would be that of the file.
            str(outcome.bm25.positions.index(position) + 1) if outcome.bm25.scores[position] > 0 else "-",
            str(outcome.embedding.positions.index(position) + 1),
            f"{score:.3f}",
            Text("█" * round(_BAR * score), style="green" if right else "red"),
            passage,
        )
    console.print(table)
    timings = (f"{word} {1000 * getattr(outcome, stage).seconds:.1f} ms" for stage, word in STAGES.items())
    missed = [word for stage, word in STAGES.items() if not outcome.solved(stage)]
    console.print(Text("  ".join(timings), style="cyan"), soft_wrap=True)
    if missed:
        console.print(Text(f"fell into it: {', '.join(missed)}", style="red"), soft_wrap=True)
    console.print()


def summary(found: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By stage: in how many traps a right passage is first (``solved``), of how many, and the mean milliseconds."""
    return {
        stage: {
            "solved": sum(outcome.solved(stage) for outcome in found),
            "traps": len(found),
            "milliseconds": 1000 * sum(getattr(outcome, stage).seconds for outcome in found) / max(1, len(found)),
        }
        for stage in STAGES
    }


def show_summary(console: Console, found: Sequence[Outcome]) -> None:
    """Print in how many traps each stage puts a right passage first, by language."""
    table = Table(title="A right passage comes first in", title_justify="left")
    spoken = [language for language in LANGUAGES if any(outcome.trap.language == language for outcome in found)]
    for heading in ("", *(LANGUAGES[language].capitalize() for language in spoken), "ms a query"):
        table.add_column(heading, justify="right" if heading else "left")
    by_language = [summary([one for one in found if one.trap.language == language]) for language in spoken]
    everything = summary(found)
    for stage, word in STAGES.items():
        counts = (f"{numbers[stage]['solved']} of {numbers[stage]['traps']}" for numbers in by_language)
        table.add_row(word, *counts, f"{everything[stage]['milliseconds']:.1f}")
    console.print(table)


def run(language: str, model: str, embedder: str, warnings: Console) -> list[Outcome]:
    """Load both models and spring the traps in ``"en"``, ``"zh"`` or ``"all"`` languages.

    Raises:
        InvalidInputError: Another language.
        MissingExtraError: BM25 or the embedder needs the extra ``faiss``, or a model an extra of its own.
        ModelNotFoundError: One of the models is nowhere.
    """
    chosen = languages(language, model, embedder, warnings)
    embed = load_embedder(embedder)
    with load_reranker(model) as reranker:
        return [outcome for one in chosen for outcome in outcomes(one, reranker, embed)]
