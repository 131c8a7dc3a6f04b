"""What the examples and `rerank-plugins demo` share: corpus, embedder, table, answer without an LLM."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rerank_plugins._internal.text import json_object, read_file, read_lines
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.highlights import sentence_spans
from rerank_plugins.loading import DEFAULT_MODEL
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.beir import example_collection
from rerank_plugins.retrieval.embedder import BOX_EMBEDDER

BOX_RERANKER = "rerank-mini-en"
CANDIDATES, KEPT = 50, 5
DEFAULT_QUERY = "What is the newest Apple phone made of?"

_BAR = 12
_CHINESE = re.compile("[\u4e00-\u9fff]")


@dataclass(frozen=True, slots=True)
class Passage:
    """One line of a corpus file."""

    id: str
    title: str
    text: str


class Placed(NamedTuple):
    """A passage after reranking: its place in the first stage, from 0, and its score in [0, 1]."""

    position: int
    score: float


class Source(NamedTuple):
    """What an answer rests on: a passage's title, and its best sentence as the adapters write it."""

    title: str
    highlight: dict[str, Any] | None


def example_corpus() -> Path:
    """The English example corpus: in the wheel, or in ``examples/data`` of a source checkout."""
    return example_collection("english") / "corpus.jsonl"


def read_corpus(path: Path) -> list[Passage]:
    """Read JSON lines with ``text`` and, if there, ``_id`` and ``title``; blank lines are passed over.

    Without an id a passage has its line number; without a title, the beginning of its text.
    """
    seen: dict[str, int] = {}
    passages = []
    for number, line in read_lines(read_file(path), str(path)):
        row = json_object(line, str(path), number)
        name = str(number if row.get("_id") is None else row["_id"])
        if name in seen:
            raise InvalidInputError(
                f"{path}, line {number} has the _id {name!r} of line {seen[name]}. Give every passage its own, or none."
            )
        seen[name] = number
        passages.append(Passage(name, str(row.get("title") or row["text"][:60]), row["text"]))
    if not passages:
        raise InvalidInputError(f"{path} holds no passages. Expected one JSON object with 'text' a line.")
    return passages


def is_chinese(text: str) -> bool:
    """Whether there is a Chinese character in the text."""
    return bool(_CHINESE.search(text))


def reads_chinese(model: str) -> bool:
    """False for the reranker in the box; others are taken to read it."""
    return Path(model).name != BOX_RERANKER


def show_chinese_warnings(console: Console, model: str, embedder: str) -> None:
    """Say so where Chinese meets a model in the box, which are both English."""
    if not reads_chinese(model):
        last = DEFAULT_MODEL.rsplit("/", maxsplit=1)[-1]
        console.print(
            f"{BOX_RERANKER} reads English only; its scores for Chinese mean nothing. Use --model {DEFAULT_MODEL}, "
            f"after: hf download {DEFAULT_MODEL} --local-dir models/{last}",
            style="yellow",
            soft_wrap=True,
        )
    if Path(embedder).name == BOX_EMBEDDER:
        console.print(
            f"{BOX_EMBEDDER} knows Chinese by single characters only: 20 of the example's 53 answers were not in "
            f"its top 50. Use --embedder BAAI/bge-m3, or another that reads Chinese.",
            style="yellow",
            soft_wrap=True,
        )


def extractive_answer(reranker: Reranker, query: str, passages: Sequence[str], *, count: int = 2) -> str:
    """The sentences of the passages that the reranker scores best, each with its source [n].

    At most ``count``, and none that scores below a tenth of the first.
    """
    found = [
        (source, passage[start:end])
        for source, passage in enumerate(passages, start=1)
        for start, end in sentence_spans(passage)
    ]
    best = reranker.rerank(query, [text for _, text in found], top_n=count)
    kept = [result for result in best if (result.score or 0.0) >= (best[0].score or 0.0) / 10]
    return " ".join(f"{result.document} [{found[result.index][0]}]" for result in kept)


def show_comparison(console: Console, titles: Sequence[str], best: Sequence[Placed]) -> None:
    """Print the passages kept, and those of the first stage's best that were not, with both ranks."""
    table = Table(title=f"{len(titles)} candidates → {len(best)} kept", title_justify="left", expand=False)
    for heading in ("after", "FAISS", "score"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=5)
    table.add_column("", no_wrap=True, min_width=_BAR)
    table.add_column("passage", overflow="ellipsis", no_wrap=True, max_width=60)
    for rank, placed in enumerate(best, start=1):
        bar = Text("█" * round(_BAR * placed.score), style="green")
        table.add_row(str(rank), str(placed.position + 1), f"{placed.score:.3f}", bar, Text(titles[placed.position]))
    table.add_section()
    kept = {placed.position for placed in best}
    for position in (place for place in range(min(len(best), len(titles))) if place not in kept):
        table.add_row("-", str(position + 1), "", Text("dropped", style="dim"), Text(titles[position], style="dim"))
    console.print(table)


def show_timings(console: Console, **seconds: float) -> None:
    """Print what took how long, in milliseconds."""
    console.print(
        "  ".join(f"{name.replace('_', ' ')} {1000 * value:.0f} ms" for name, value in seconds.items()), style="cyan"
    )


def show_answer(console: Console, answer: str, origin: str, sources: Sequence[Source]) -> None:
    """Print an answer, where it comes from, and the numbered sources, each with its best sentence."""
    console.print(Text(f"\nAnswer ({origin})", style="bold"))
    console.print(Text(answer))
    for number, source in enumerate(sources, start=1):
        console.print(Text(f"  [{number}] {source.title}", style="dim"))
        if source.highlight is not None:
            sentence = Text(" ".join(source.highlight["text"].split()), style="green")
            console.print(Padding(sentence, (0, 0, 0, 6), expand=False))


def llm_failure(llm: str, url: str | None, exc: Exception) -> str:
    """What to tell a person whose LLM did not answer."""
    if isinstance(exc, ImportError):
        return f"The LLM {llm} needs a client that is not installed: {exc}. The example's imports name its package."
    place = f" at {url}" if url else ""
    return (
        f"The LLM {llm}{place} did not answer: {type(exc).__name__}: {exc}\n"
        f"Expected a reachable server and, for openai:NAME, the key in OPENAI_API_KEY. "
        f"Check --llm-url, the key and the server, or leave --llm out for an extractive answer."
    )


def pipeline_options(description: str) -> argparse.Namespace:
    """The command line that both example pipelines share, with ``passages`` read and ``model`` settled."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--query", default=DEFAULT_QUERY)
    parser.add_argument("--model", help=f"reranker; without it {BOX_RERANKER}, for Chinese {DEFAULT_MODEL}")
    parser.add_argument("--embedder", default=BOX_EMBEDDER, help="in the box, or any sentence-transformers model")
    parser.add_argument("--corpus", type=Path, default=example_corpus(), help="JSON lines with 'text' and 'title'")
    parser.add_argument("--llm", help="openai:NAME or ollama:NAME; without it an extractive answer")
    parser.add_argument("--llm-url", help="an OpenAI-compatible or Ollama server, for --llm")
    options = parser.parse_args()
    if options.llm_url and not options.llm:
        parser.error("--llm-url needs the model's name too: --llm openai:NAME or --llm ollama:NAME")
    if options.llm:
        provider, _, name = options.llm.partition(":")
        if provider not in ("openai", "ollama") or not name:
            parser.error(f"--llm must be openai:NAME or ollama:NAME, got {options.llm!r}")
    options.passages = read_corpus(options.corpus)
    options.chinese = is_chinese(options.query) or is_chinese(options.passages[0].text)
    options.model = options.model or (DEFAULT_MODEL if options.chinese else BOX_RERANKER)
    return options
