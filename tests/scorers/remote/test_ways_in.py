"""Servers through every way in: both adapters, the command line, an evaluation, a calibration."""

from __future__ import annotations

import json
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps, load
from llama_index.core.schema import NodeWithScore, TextNode

from beir_folders import write_folder, write_run
from rerank_plugins import InvalidInputError
from rerank_plugins.evaluation import evaluate
from rerank_plugins.langchain import RerankCompressor, RerankCrossEncoder
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_servers import KEY, Fault, rerank_server

Here = Callable[..., subprocess.CompletedProcess[str]]
TEXTS = ["short", "the longest of them", "a medium one"]
BEST_FIRST = ["the longest of them", "a medium one", "short"]


async def test_langchain_ranks_with_a_server() -> None:
    """Sync and async, with what went wrong in retrieval order."""
    documents = [Document(text, id=text) for text in TEXTS]
    with rerank_server("jina", key=KEY) as server:
        compressor = RerankCompressor(model=server.model, api_key=KEY, top_n=None, on_error="keep_order")
        assert [one.id for one in compressor.compress_documents(documents, "q")] == BEST_FIRST
        assert [one.id for one in await compressor.acompress_documents(documents, "q")] == BEST_FIRST
        server.faults.append(Fault(500))
        assert [one.id for one in compressor.compress_documents(documents, "q")] == TEXTS
        compressor.close()


def test_langchains_cross_encoder_gives_the_servers_scores() -> None:
    """For LangChain's own `CrossEncoderReranker`."""
    with rerank_server("tei") as server:
        encoder = RerankCrossEncoder(model=server.model)
        assert encoder.score([("q", "x" * 100), ("q", "x" * 300)]) == [0.0, 2.0]
        encoder.close()


async def test_llama_index_ranks_with_a_server() -> None:
    """Sync and async."""
    nodes = [NodeWithScore(node=TextNode(text=text), score=0.5) for text in TEXTS]
    with rerank_server("voyage", key=KEY) as server:
        postprocessor = RerankPostprocessor(model=server.model, api_key=KEY)
        for best in (
            postprocessor.postprocess_nodes(nodes, query_str="q"),
            await postprocessor.apostprocess_nodes(nodes, query_str="q"),
        ):
            assert [one.node.get_content() for one in best] == BEST_FIRST
        postprocessor.close()


ADAPTERS: dict[str, Callable[..., Any]] = {
    "compressor": RerankCompressor,
    "cross-encoder": RerankCrossEncoder,
    "postprocessor": RerankPostprocessor,
}


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapters_key_is_in_no_repr_pickle_or_dump(adapter: str) -> None:
    """The key is a field to be set, and read from the environment where the adapter is read again."""
    made = ADAPTERS[adapter](model="cohere:m", api_key=KEY, max_queued_pairs=7)
    assert made.api_key.reveal() == KEY
    written = [repr(made), str(made), repr(made.model_dump()), made.model_dump_json(), str(pickle.dumps(made))]
    assert not any(KEY in text for text in written)
    again = pickle.loads(pickle.dumps(made))  # noqa: S301 - our own
    assert (again.model, again.max_queued_pairs, again.api_key) == ("cohere:m", 7, None)
    assert made.model_copy().api_key == made.api_key
    assert made.model_json_schema()["properties"]["api_key"]["anyOf"][0]["writeOnly"] is True


@pytest.mark.filterwarnings("ignore:The function `load` is in beta")
def test_langchains_dump_has_no_key_and_is_read_again() -> None:
    """And nor have traces, which hold the same."""
    compressor = RerankCompressor(model="cohere:m", api_key=KEY)
    assert KEY not in dumps(compressor)
    again = load(dumpd(compressor), valid_namespaces=["rerank_plugins"], allowed_objects=[RerankCompressor])
    assert (again.model, again.api_key) == ("cohere:m", None)


def test_a_wrong_key_field_does_not_show_the_key() -> None:
    """Pydantic repeats what was given unless it is told not to."""
    with pytest.raises(ValueError, match="api_key must be one word") as caught:
        RerankCompressor(model="cohere:m", api_key=f"{KEY} {KEY}")
    assert KEY not in str(caught.value)


def test_rank_asks_a_server(here: Here, tmp_path: Path) -> None:
    """With a key from the command line; an error is one message and status 2."""
    file = tmp_path / "documents.txt"
    file.write_text("\n".join(TEXTS), encoding="utf-8")
    with rerank_server("siliconflow", key=KEY) as server:
        arguments = ("rank", "q", "--documents", file, "--model", server.model, "--json")
        done = here(*arguments, "--api-key", KEY)
        assert [json.loads(line)["document"] for line in done.stdout.splitlines()] == BEST_FIRST
        wrong = here(*arguments, "--api-key", "another")
    assert wrong.returncode == 2
    assert wrong.stderr.startswith("rerank-plugins: siliconflow at http://127.0.0.1:")
    assert "answered 401 Unauthorized" in wrong.stderr


@pytest.fixture
def collection(tmp_path: Path) -> tuple[Path, Path]:
    """Two queries whose relevant passage is the longest, and a run that has it last."""
    passages = {"a": "short", "b": "a medium one", "c": "the longest of them"}
    folder = write_folder(tmp_path / "small", passages, {"q": "one", "r": "two"}, {"q": {"c": 1}, "r": {"c": 1}})
    return folder, write_run(tmp_path / "run", {"q": ["a", "b", "c"], "r": ["b", "a", "c"]})


def test_eval_shows_what_a_server_finds_and_bills(here: Here, collection: tuple[Path, Path]) -> None:
    """One row of the table for each, and what the answers say it cost: two queries and the call before."""
    folder, run = collection
    with rerank_server("cohere") as paid, rerank_server("vllm") as own:
        done = here("eval", folder, "--run-file", run, "--model", paid.model, "--model", own.model)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("1.000") >= 4
    assert "Billed: 3 units." in done.stdout
    assert "The server counts 108 tokens." in done.stdout


def test_scores_of_an_evaluation_are_paid_for_once(collection: tuple[Path, Path], tmp_path: Path) -> None:
    """With ``work_folder`` the same evaluation asks the server for nothing again, and writes no key."""
    folder, run = collection
    work = tmp_path / "work"
    with rerank_server("cohere", key=KEY) as server:
        first, second = (
            evaluate(folder, [server.model], run_file=run, work_folder=work, api_key=KEY).rerankers[0] for _ in "12"
        )
        assert len(server.bodies) == 3
    assert (first.billed_units, second.billed_units) == (3, 0)
    assert first.ranking == second.ranking
    assert not any(KEY.encode() in file.read_bytes() for file in work.iterdir() if file.is_file())


def test_local_models_and_servers_stand_in_one_evaluation(collection: tuple[Path, Path]) -> None:
    """Each gets the options that it has; alone, one that it has not is an error."""
    folder, run = collection
    with rerank_server("jina", key=KEY) as server:
        models, how = [server.model, "rerank-mini-en"], {"precision": "int8", "api_key": KEY}
        found = evaluate(folder, models, run_file=run, **how).rerankers
        assert [(one.engine, one.precision) for one in found] == [
            ("jina", "as the server computes"),
            ("openvino", "int8"),
        ]
        with pytest.raises(InvalidInputError, match="Got precision for jina:"):
            evaluate(folder, [server.model], run_file=run, **how)
