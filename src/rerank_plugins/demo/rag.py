"""`rerank-plugins demo`: retrieve 50, rerank, keep 5, answer. The example pipelines share its functions."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.highlights import check_highlight, highlight_as_dict, sentence_spans
from rerank_plugins.loading import DEFAULT_MODEL, load_reranker
from rerank_plugins.reranker import Reranker
from rerank_plugins.retrieval.beir import example_corpus, read_corpus
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER, load_embedder
from rerank_plugins.retrieval.language import BUNDLED_RERANKER, chinese_warnings, is_chinese

FETCH_K, TOP_N = 50, 5
DEFAULT_QUERY = "What is the newest Apple phone made of?"

_BAR_WIDTH = 12


class Placement(NamedTuple):
    """Where a reranked passage was in the first stage, from 0, and its score in [0, 1]."""

    position: int
    score: float


class Source(NamedTuple):
    """A passage that an answer cites: its title, and its best sentence as the adapters write it."""

    title: str
    highlight: dict[str, Any] | None


def demo(
    query: Annotated[str, typer.Argument(help="A question to the example corpus.")] = DEFAULT_QUERY,
    model: Annotated[str, typer.Option(help="A folder, rerank-mini-en, or a name on the hub.")] = BUNDLED_RERANKER,
) -> None:
    """Retrieve, rerank and answer a question, and show what reranking changed."""
    try:
        import faiss
    except ImportError as exc:
        raise MissingExtraError("faiss", "The demo's index", str(exc.name)) from exc
    check_highlight(highlight=True)
    console = Console()
    if is_chinese(query):
        show_chinese_warnings(console, model, BUNDLED_EMBEDDER)
    passages = read_corpus(example_corpus())
    embed = load_embedder(BUNDLED_EMBEDDER)
    vectors = embed([passage.text for passage in passages])
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    reranker = load_reranker(model)

    console.print(f"Question to {len(passages)} passages: {query}\n", markup=False)
    start = time.perf_counter()
    _, positions = index.search(embed([query]), FETCH_K)
    candidates = [passages[position] for position in positions[0]]
    retrieved = time.perf_counter()
    results = reranker.rerank(query, [passage.text for passage in candidates], top_n=TOP_N, highlight=True)
    reranked = time.perf_counter()

    best = [Placement(result.index, result.score) for result in results if result.score is not None]
    show_comparison(console, [passage.title for passage in candidates], best)
    show_timings(console, retrieval=retrieved - start, reranking_with_highlights=reranked - retrieved)
    answer = extractive_answer(reranker, query, [candidates[position].text for position, _ in best])
    sources = [Source(candidates[result.index].title, highlight_as_dict(result)) for result in results]
    show_answer(console, answer, "extractive: the best-scoring sentences, no LLM", sources)


def show_chinese_warnings(console: Console, model: str, embedder: str) -> None:
    """Print which of the two models cannot read Chinese, and what to use instead."""
    for warning in chinese_warnings(model, embedder):
        console.print(warning, style="yellow", soft_wrap=True)


def extractive_answer(reranker: Reranker, query: str, passages: Sequence[str]) -> str:
    """The two sentences that the reranker scores best, each with its source [n]; one if the other is far worse."""
    sentences = [
        (source, passage[start:end])
        for source, passage in enumerate(passages, start=1)
        for start, end in sentence_spans(passage)
    ]
    best = reranker.rerank(query, [text for _, text in sentences], top_n=2)
    quotes = [result for result in best if (result.score or 0.0) >= (best[0].score or 0.0) / 10]
    return " ".join(f"{result.document} [{sentences[result.index][0]}]" for result in quotes)


def show_comparison(console: Console, titles: Sequence[str], best: Sequence[Placement]) -> None:
    """Print the reranked passages, and those of the first stage's best that reranking dropped, with both ranks."""
    table = Table(title=f"{len(titles)} candidates → {len(best)} kept", title_justify="left", expand=False)
    for heading in ("after", "FAISS", "score"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=5)
    table.add_column("", no_wrap=True, min_width=_BAR_WIDTH)
    table.add_column("passage", overflow="ellipsis", no_wrap=True, max_width=60)
    for rank, (position, score) in enumerate(best, start=1):
        bar = Text("█" * round(_BAR_WIDTH * score), style="green")
        table.add_row(str(rank), str(position + 1), f"{score:.3f}", bar, Text(titles[position]))
    table.add_section()
    for position in sorted(set(range(min(len(best), len(titles)))) - {position for position, _ in best}):
        table.add_row("-", str(position + 1), "", Text("dropped", style="dim"), Text(titles[position], style="dim"))
    console.print(table)


def show_timings(console: Console, **seconds: float) -> None:
    """Print how long each step took, in milliseconds."""
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
    """The message for a person whose LLM did not answer."""
    if isinstance(exc, ImportError):
        return f"The LLM {llm} needs a client that is not installed: {exc}. The example's imports name its package."
    place = f" at {url}" if url else ""
    return (
        f"The LLM {llm}{place} did not answer: {type(exc).__name__}: {exc}\n"
        f"Expected a reachable server and, for openai:NAME, the key in OPENAI_API_KEY. "
        f"Check --llm-url, the key and the server, or leave --llm out for an extractive answer."
    )


def pipeline_options(description: str) -> argparse.Namespace:
    """Parse the command line of both example pipelines, read its ``passages`` and choose its ``model``."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--query", default=DEFAULT_QUERY)
    parser.add_argument("--model", help=f"reranker; without it {BUNDLED_RERANKER}, for Chinese {DEFAULT_MODEL}")
    parser.add_argument("--embedder", default=BUNDLED_EMBEDDER, help="bundled, or any sentence-transformers model")
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
    options.model = options.model or (DEFAULT_MODEL if options.chinese else BUNDLED_RERANKER)
    return options
