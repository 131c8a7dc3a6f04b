"""`RerankCompressor` as a Runnable: pipes, batches, configuration, and its run in a trace."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda, RunnablePassthrough
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run

from langchain_stand_ins import QUERY, TEXTS, ByLength, CutsLong, Fixed, Gives, documents
from rerank_plugins import InvalidInputError, Reranker, ScoringError, sigmoid
from rerank_plugins.langchain import RerankCompressor, RerankRetriever

INPUT: Any = {"documents": documents(), "query": QUERY}


def chain(compressor: Runnable[Any, list[Document]]) -> Runnable[Any, str]:
    """Retriever, reranker, prompt, LLM; the fake LLM answers with a fixed text."""
    prompt = ChatPromptTemplate.from_messages([("human", "{passages}\n\n{question}")])
    ranked = {"documents": Fixed(held=documents()), "query": RunnablePassthrough()} | compressor
    passages = ranked | RunnableLambda(lambda found: "\n".join(document.page_content for document in found))
    model = FakeListChatModel(responses=["Titanium."])
    return {"passages": passages, "question": RunnablePassthrough()} | prompt | model | StrOutputParser()


def runs(call: Any) -> list[Run]:
    """The runs of the compressor among all that ``call(callbacks)`` leaves in a trace."""
    collector = RunCollectorCallbackHandler()
    call([collector])
    found, queue = [], list(collector.traced_runs)
    while queue:
        run = queue.pop()
        queue += run.child_runs
        found += [run] if run.name == "RerankCompressor" else []
    return found


def test_runs_in_a_chain(compressor: RerankCompressor) -> None:
    """Retriever | compressor | prompt | llm answers, and the prompt holds the best passages in order."""
    prompts: list[str] = []

    class Reads(BaseCallbackHandler):
        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:  # noqa: ARG002
            prompts.append(messages[0][0].content)

    assert chain(compressor).invoke(QUERY, {"callbacks": [Reads()]}) == "Titanium."
    assert prompts[0].splitlines()[0] == TEXTS[1]
    assert TEXTS[0] not in prompts[0]


def test_invoke_is_compress_documents(compressor: RerankCompressor) -> None:
    """invoke, ainvoke, batch and abatch give what compress_documents gives."""
    expected = compressor.compress_documents(documents(), QUERY)
    assert compressor.invoke(INPUT) == expected
    assert asyncio.run(compressor.ainvoke(INPUT)) == expected
    assert compressor.batch([INPUT] * 5) == [expected] * 5
    assert asyncio.run(compressor.abatch([INPUT] * 5)) == [expected] * 5


def test_a_failing_item_of_a_batch_leaves_the_others(compressor: RerankCompressor) -> None:
    """With return_exceptions the good inputs are ranked beside the bad one."""
    good, bad = compressor.batch([INPUT, {"documents": documents(), "query": ""}], return_exceptions=True)
    assert good == compressor.invoke(INPUT)
    assert isinstance(bad, InvalidInputError)


def test_top_n_of_one_call(compressor: RerankCompressor) -> None:
    """Invoke and ainvoke take top_n, and bind fixes it."""
    assert len(compressor.invoke(INPUT, top_n=1)) == 1
    assert len(compressor.invoke(INPUT, top_n=None)) == 3
    assert len(asyncio.run(compressor.ainvoke(INPUT, top_n=1))) == 1
    assert len(compressor.bind(top_n=3).invoke(INPUT)) == 3


def test_top_n_is_configurable(compressor: RerankCompressor) -> None:
    """configurable_fields sets it for one request in the middle of a chain, and validates it."""
    configurable = compressor.configurable_fields(top_n=ConfigurableField(id="keep"))
    assert len(configurable.invoke(INPUT)) == 2
    assert len(configurable.invoke(INPUT, {"configurable": {"keep": 1}})) == 1
    assert chain(configurable).with_config(configurable={"keep": 1}).invoke(QUERY) == "Titanium."
    with pytest.raises(ValueError, match="top_n must be 0 or more"):
        configurable.invoke(INPUT, {"configurable": {"keep": -1}})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("a query", "Got str, expected"),
        ({"documents": []}, r"Got keys \['documents'\], expected"),
        ({"documents": ["text"], "query": QUERY}, "got str at position 0"),
    ],
)
def test_wrong_input_says_what_was_expected(compressor: RerankCompressor, wrong: Any, message: str) -> None:
    """The error shows the two keys that are needed."""
    with pytest.raises(InvalidInputError, match=message):
        compressor.invoke(wrong)


def test_an_unknown_keyword_is_refused(compressor: RerankCompressor) -> None:
    """A misspelt top_n of a call does not pass unseen."""
    with pytest.raises(InvalidInputError, match="Got topn; a call takes top_n only"):
        compressor.invoke(INPUT, topn=1)


def test_its_input_has_a_schema(compressor: RerankCompressor) -> None:
    """Tools that read schemas see documents and query."""
    properties = compressor.get_input_jsonschema()["$defs"]["RerankInput"]["properties"]
    assert properties.keys() == {"documents", "query"}


CALLS = {
    "compress_documents": lambda c, callbacks: c.compress_documents(documents(), QUERY, callbacks),
    "acompress_documents": lambda c, callbacks: asyncio.run(c.acompress_documents(documents(), QUERY, callbacks)),
    "invoke": lambda c, callbacks: c.invoke(INPUT, {"callbacks": callbacks}),
    "ainvoke": lambda c, callbacks: asyncio.run(c.ainvoke(INPUT, {"callbacks": callbacks})),
    "chain": lambda c, callbacks: chain(c).invoke(QUERY, {"callbacks": callbacks}),
    "async chain": lambda c, callbacks: asyncio.run(chain(c).ainvoke(QUERY, {"callbacks": callbacks})),
    "compression retriever": lambda c, callbacks: ContextualCompressionRetriever(
        base_compressor=c, base_retriever=Fixed(held=documents())
    ).invoke(QUERY, {"callbacks": callbacks}),
    "async compression retriever": lambda c, callbacks: asyncio.run(
        ContextualCompressionRetriever(base_compressor=c, base_retriever=Fixed(held=documents())).ainvoke(
            QUERY, {"callbacks": callbacks}
        )
    ),
    "retriever": lambda c, callbacks: RerankRetriever(base_retriever=Fixed(held=documents()), compressor=c).invoke(
        QUERY, {"callbacks": callbacks}
    ),
    "async retriever": lambda c, callbacks: asyncio.run(
        RerankRetriever(base_retriever=Fixed(held=documents()), compressor=c).ainvoke(QUERY, {"callbacks": callbacks})
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_call_is_one_run_of_its_trace(name: str) -> None:
    """Exactly one run, named, with model, top_n, counts, scores and what was truncated; its output the documents."""
    compressor = RerankCompressor(reranker=CutsLong(), top_n=2)
    (run,) = runs(lambda callbacks: CALLS[name](compressor, callbacks))
    best = compressor.compress_documents(documents(), QUERY)
    metadata = run.extra["metadata"] if run.extra else {}
    # The longest passage, document 2, was cut and comes first.
    assert {key: metadata[key] for key in ("model", "top_n", "n_in", "n_out", "scores", "truncated")} == {
        "model": "CutsLong",
        "top_n": 2,
        "n_in": 3,
        "n_out": 2,
        "scores": [sigmoid(len(TEXTS[2]) / 100), sigmoid(len(TEXTS[1]) / 100)],
        "truncated": [2],
    }
    assert run.inputs == {"documents": documents(), "query": QUERY}
    assert run.outputs == {"output": best}
    assert run.child_runs == []


def test_the_run_names_what_was_truncated_and_not_kept() -> None:
    """A document that lost its place is named too: it may have lost it for being cut."""
    compressor = RerankCompressor(reranker=CutsLong(), top_n=0)
    (run,) = runs(lambda callbacks: compressor.compress_documents(documents(), QUERY, callbacks, top_n=1))
    assert run.extra["metadata"]["truncated"] == [2]  # type: ignore[index]
    compressor.score_threshold = 1.0
    (run,) = runs(lambda callbacks: compressor.compress_documents(documents(), QUERY, callbacks, top_n=None))
    assert (run.extra["metadata"]["n_out"], run.extra["metadata"]["truncated"]) == (0, [2])  # type: ignore[index]


def test_a_scorer_that_cannot_tell_leaves_truncated_unknown() -> None:
    """Truncated is None, not an empty list, where the scorer does not say."""
    compressor = RerankCompressor(reranker=ByLength())
    (run,) = runs(lambda callbacks: compressor.compress_documents(documents(), QUERY, callbacks))
    assert run.extra["metadata"]["truncated"] is None  # type: ignore[index]


def test_the_run_names_the_model(box: Reranker) -> None:
    """Of a loaded reranker it is the model's name, and a run_name given by the caller stands."""
    collector = RunCollectorCallbackHandler()
    RerankCompressor(reranker=box).invoke(INPUT, {"callbacks": [collector], "run_name": "second stage"})
    (run,) = collector.traced_runs
    assert (run.name, run.extra["metadata"]["model"]) == ("second stage", "rerank-mini-en")  # type: ignore[index]


@pytest.mark.parametrize("name", [name for name in CALLS if name.endswith("compress_documents")])
@pytest.mark.parametrize("manager", [CallbackManager, AsyncCallbackManager])
def test_callbacks_may_be_a_manager(name: str, manager: Any) -> None:
    """A list, a sync and an async manager are all taken, by the sync and the async method."""
    collector = RunCollectorCallbackHandler()
    CALLS[name](RerankCompressor(reranker=ByLength()), manager([collector], inheritable_handlers=[collector]))
    assert [run.name for run in collector.traced_runs] == ["RerankCompressor"]


@pytest.mark.parametrize("name", CALLS)
def test_errors_are_recorded_and_propagate(name: str) -> None:
    """A failing scorer reaches the caller and stands in the run."""

    def call(callbacks: Any) -> None:
        with pytest.raises(ScoringError, match="1 scores for 3 pairs"):
            CALLS[name](RerankCompressor(reranker=Gives(1.0)), callbacks)

    (run,) = runs(call)
    assert "ScoringError" in str(run.error)


@pytest.mark.parametrize(
    "call",
    [
        lambda c, config: c.invoke("no dictionary", config),
        lambda c, config: c.invoke(INPUT, config, topn=1),
        lambda c, config: c.compress_documents((1 / 0 for _ in "a"), QUERY, config["callbacks"]),
    ],
)
def test_wrong_input_is_recorded_too(call: Any) -> None:
    """What fails the checks leaves a run with its error, like what fails in the scorer."""

    def failing(callbacks: Any) -> None:
        with pytest.raises((InvalidInputError, ZeroDivisionError)):
            call(RerankCompressor(reranker=ByLength()), {"callbacks": callbacks})

    (run,) = runs(failing)
    assert run.error


def test_it_shows_in_streamed_events(compressor: RerankCompressor) -> None:
    """astream_events has one start and one end of it; the end carries documents and metadata."""

    async def events() -> list[Any]:
        return [event async for event in chain(compressor).astream_events(QUERY, version="v2")]

    ours = [event for event in asyncio.run(events()) if event["name"] == "RerankCompressor"]
    kinds = [event["event"] for event in ours if event["event"] != "on_chain_stream"]
    assert kinds == ["on_chain_start", "on_chain_end"]
    assert ours[-1]["data"]["output"] == compressor.invoke(INPUT)
    assert (ours[-1]["metadata"]["n_in"], ours[-1]["metadata"]["n_out"]) == (3, 2)


def test_metadata_of_one_run_stays_out_of_the_next(compressor: RerankCompressor) -> None:
    """What a run notes does not leak into its siblings or into the caller's own configuration."""
    collector = RunCollectorCallbackHandler()
    config: Any = {"callbacks": [collector], "metadata": {"tenant": "a"}}
    compressor.invoke(INPUT, config)
    compressor.invoke({"documents": [], "query": QUERY}, config)
    assert config["metadata"] == {"tenant": "a"}
    first, second = (run.extra["metadata"] for run in collector.traced_runs if run.extra)
    assert (first["n_in"], second["n_in"], second["scores"], second["tenant"]) == (3, 0, [], "a")
