"""Callers at once: ours beside the stock LangChain and LlamaIndex rerankers, on the same weights, in one run.

Each call asks for 50 passages of its own. All callers of a round begin at the same moment, as tasks of one event loop;
the same calls, one after the other, are the measure: `back to back` is the time they take alone. With first come, first
served the median caller waits half of it and the last one all of it. Every system has a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from stand_ins import QUERY, passages, write_model

Call = Callable[[list[str]], Awaitable[Any]]


def langchain(folder: Path) -> Call:
    from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
    from langchain_community.cross_encoders import HuggingFaceCrossEncoder

    model = HuggingFaceCrossEncoder(model_name=str(folder), model_kwargs={"device": "cpu"})
    return _compressor(CrossEncoderReranker(model=model, top_n=5))


def llama_index(folder: Path) -> Call:
    from llama_index.postprocessor.sbert_rerank import SentenceTransformerRerank

    return _postprocessor(SentenceTransformerRerank(model=str(folder), top_n=5, device="cpu"))


def our_compressor(folder: Path) -> Call:
    from rerank_plugins.langchain import RerankCompressor

    return _compressor(RerankCompressor(model=str(folder), precision="fp32", top_n=5))


def our_postprocessor(folder: Path) -> Call:
    from rerank_plugins.llama_index import RerankPostprocessor

    return _postprocessor(RerankPostprocessor(model=str(folder), precision="fp32", top_n=5))


def _compressor(compressor: Any) -> Call:
    from langchain_core.documents import Document

    return lambda texts: compressor.acompress_documents([Document(text) for text in texts], QUERY)


def _postprocessor(postprocessor: Any) -> Call:
    from llama_index.core.schema import NodeWithScore, TextNode

    return lambda texts: postprocessor.apostprocess_nodes(
        [NodeWithScore(node=TextNode(text=text)) for text in texts], query_str=QUERY
    )


SYSTEMS = {
    "LangChain CrossEncoderReranker": langchain,
    "LlamaIndex SentenceTransformerRerank": llama_index,
    "ours, fp32, in LangChain": our_compressor,
    "ours, fp32, in LlamaIndex": our_postprocessor,
}


async def burst(call: Call, asked: list[list[str]]) -> list[float]:
    """Seconds until each caller has its answer."""
    start = time.perf_counter()

    async def one(texts: list[str]) -> float:
        await call(texts)
        return time.perf_counter() - start

    return await asyncio.gather(*(one(texts) for texts in asked))


async def measure(call: Call, callers: list[int], rounds: int) -> dict[str, Any]:
    """By number of callers: seconds back to back, and of every caller of a burst."""
    await call(passages(0))
    results: dict[str, Any] = {}
    for count in callers:
        asked = [passages(seed) for seed in range(1, count + 1)]
        found: dict[str, Any] = {"back_to_back": [], "burst": []}
        for _ in range(rounds):
            start = time.perf_counter()
            for texts in asked:
                await call(texts)
            found["back_to_back"].append(time.perf_counter() - start)
            found["burst"].append(await burst(call, asked))
        results[str(count)] = found
    return results


async def behind_a_large_one(folder: Path) -> dict[str, float]:
    """Seconds of 12 documents that come while 5,000 are computed, of the same 12 alone, and of a full batch."""
    from rerank_plugins import load_reranker

    reranker = load_reranker(folder, precision="fp32")
    small, many = passages(1)[:12], [text for seed in range(100) for text in passages(seed)]
    await reranker.arerank(QUERY, passages(0))
    before = reranker.stats()
    start = time.perf_counter()
    await reranker.arerank(QUERY, small)
    alone = time.perf_counter() - start
    large = asyncio.create_task(reranker.arerank(QUERY, many))
    found = []
    for _ in range(5):
        await asyncio.sleep(1.3)
        start = time.perf_counter()
        await reranker.arerank(QUERY, small)
        found.append(time.perf_counter() - start)
    after = reranker.stats()
    large.cancel()
    a_slot = (after.compute_seconds - before.compute_seconds) / (after.padded_tokens - before.padded_tokens)
    return {"alone": alone, "behind": statistics.median(found), "worst": max(found), "batch": a_slot * 2048}


def report(name: str, results: dict[str, Any]) -> None:
    """One line a number of callers."""
    for count, found in results.items():
        alone = statistics.median(found["back_to_back"])
        every = sorted(seconds / alone for round_ in found["burst"] for seconds in round_)
        p50, p99 = statistics.median(every), every[-max(1, len(every) // 100)]
        whole = statistics.median(max(round_) for round_ in found["burst"])
        pairs = 50 * int(count) / whole
        print(f"| {name} | {count} | {pairs:.1f} | {alone:.1f} | {p50:.2f} | {p99:.2f} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", help="systems whose name holds this")
    parser.add_argument("--folder", type=Path, default=Path("build/peers/mini"))
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker == "large":
        print(json.dumps(asyncio.run(behind_a_large_one(args.folder))))
        return
    if args.worker:
        print(json.dumps(asyncio.run(measure(SYSTEMS[args.worker](args.folder), args.callers, args.rounds))))
        return
    if not (args.folder / "config.json").is_file():
        args.folder.mkdir(parents=True, exist_ok=True)
        write_model("mini", args.folder, Path("../shared/models"))
    print("| system | callers | pairs a second | back to back, s | p50 / back to back | p99 / back to back |")
    print("|---|---|---|---|---|---|")
    for name in SYSTEMS:
        if not args.only or args.only in name:
            report(name, ask(name, args))
    print(json.dumps(ask("large", args)))


def ask(worker: str, args: argparse.Namespace) -> Any:
    """A worker's answer, from its last line: libraries print as well."""
    command = [sys.executable, __file__, "--worker", worker, "--folder", str(args.folder)]
    command += ["--rounds", str(args.rounds), "--callers", *map(str, args.callers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - our own
    return json.loads(done.stdout.strip().splitlines()[-1])


if __name__ == "__main__":
    main()
