"""`RerankPostprocessor` in LlamaIndex's own engines, tools, workflows and chains, with the model in the box."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest
from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.chat_engine.types import BaseChatEngine
from llama_index.core.evaluation import RetrieverEvaluator
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.postprocessor import MetadataReplacementPostProcessor, SimilarityPostprocessor
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore
from llama_index.core.tools import RetrieverTool
from llama_index.core.workflow import Context, Event, StartEvent, StopEvent, Workflow, step

from llama_index_stand_ins import QUERY, TEXTS, ByLength, Fixed, Remembers, nodes
from rerank_plugins import Pair, Reranker
from rerank_plugins.llama_index import RerankPostprocessor

# The text that the engine's LLM gave, and the nodes that came with it. MockLLM answers with its prompt.
Answer = tuple[str, list[NodeWithScore]]
Held = list[NodeWithScore]
Engine = Callable[..., Any]
Ask = Callable[[Any], Answer]


def query_engine(held: Held, *chain: BaseNodePostprocessor, **options: Any) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(Fixed(held), llm=MockLLM(), node_postprocessors=list(chain), **options)


def streaming_engine(held: Held, *chain: BaseNodePostprocessor) -> RetrieverQueryEngine:
    return query_engine(held, *chain, streaming=True)


def citation_engine(held: Held, *chain: BaseNodePostprocessor) -> CitationQueryEngine:
    return CitationQueryEngine(Fixed(held), llm=MockLLM(), node_postprocessors=list(chain))


def context_chat(held: Held, *chain: BaseNodePostprocessor) -> ContextChatEngine:
    return ContextChatEngine.from_defaults(Fixed(held), llm=MockLLM(), memory=memory(), node_postprocessors=list(chain))


def condense_chat(held: Held, *chain: BaseNodePostprocessor) -> CondensePlusContextChatEngine:
    return CondensePlusContextChatEngine.from_defaults(
        Fixed(held), llm=MockLLM(), memory=memory(), node_postprocessors=list(chain)
    )


def memory() -> ChatMemoryBuffer:
    # The engines' default keeps a database open that nobody can close, which pytest would report.
    return ChatMemoryBuffer.from_defaults(token_limit=3000)


def tool(held: Held, *chain: BaseNodePostprocessor) -> RetrieverTool:
    return RetrieverTool.from_defaults(Fixed(held), node_postprocessors=list(chain))


def query(engine: BaseQueryEngine) -> Answer:
    return whole(engine.query(QUERY))


def query_async(engine: BaseQueryEngine) -> Answer:
    return whole(asyncio.run(engine.aquery(QUERY)))


def query_streamed(engine: BaseQueryEngine) -> Answer:
    return streamed(engine.query(QUERY))


def query_streamed_async(engine: BaseQueryEngine) -> Answer:
    async def ask() -> Answer:
        response: Any = await engine.aquery(QUERY)
        return "".join([part async for part in response.async_response_gen()]), response.source_nodes

    return asyncio.run(ask())


def chat(engine: BaseChatEngine) -> Answer:
    return whole(engine.chat(QUERY))


def chat_async(engine: BaseChatEngine) -> Answer:
    return whole(asyncio.run(engine.achat(QUERY)))


def chat_streamed(engine: BaseChatEngine) -> Answer:
    return streamed(engine.stream_chat(QUERY))


def call(tool: RetrieverTool) -> Answer:
    output = tool.call(QUERY)
    return output.content, output.raw_output


def call_async(tool: RetrieverTool) -> Answer:
    output = asyncio.run(tool.acall(QUERY))
    return output.content, output.raw_output


def whole(response: Any) -> Answer:
    return response.response, response.source_nodes


def streamed(response: Any) -> Answer:
    return "".join(response.response_gen), response.source_nodes


# What holds the postprocessor, and the ways to ask it.
every_engine = pytest.mark.parametrize(
    ("engine", "ask"),
    [
        *itertools.product([query_engine], [query, query_async]),
        *itertools.product([streaming_engine], [query_streamed, query_streamed_async]),
        *itertools.product([context_chat, condense_chat], [chat, chat_async, chat_streamed]),
        *itertools.product([tool], [call, call_async]),
    ],
)


def ranked(box: Reranker, given: list[NodeWithScore], top_n: int) -> list[tuple[str, float]]:
    """What the postprocessor is to give: ids and scores of the reranker itself."""
    texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in given]
    return [(given[result.index].node_id, result.score) for result in box.rerank(QUERY, texts, top_n=top_n)]


def seen(found: list[NodeWithScore]) -> list[tuple[str, float | None]]:
    return [(node.node_id, node.score) for node in found]


@every_engine
def test_every_engine_uses_the_reranked_nodes(
    engine: Engine, ask: Ask, postprocessor: RerankPostprocessor, box: Reranker
) -> None:
    """The sources are the two best nodes in order with the reranker's scores, and the LLM reads no other."""
    answer, sources = ask(engine(nodes(), postprocessor))
    assert seen(sources) == ranked(box, nodes(), 2)
    assert [node.node_id for node in sources] == ["n1", "n2"]
    assert 0 <= answer.find(TEXTS[1]) < answer.find(TEXTS[2])
    assert TEXTS[0] not in answer


@pytest.mark.parametrize("ask", [query, query_async])
def test_citations_are_numbered_in_the_new_order(ask: Ask, postprocessor: RerankPostprocessor, box: Reranker) -> None:
    """Source 1 of a citation engine is the best node, and every source has its node's new score."""
    _, sources = ask(citation_engine(nodes(), postprocessor))
    # The engine makes a node of its own for each citation, so the texts stand for the ids.
    assert [source.text for source in sources] == [f"Source 1:\n{TEXTS[1]}\n", f"Source 2:\n{TEXTS[2]}\n"]
    assert [source.score for source in sources] == [score for _, score in ranked(box, nodes(), 2)]


def test_a_condensed_question_is_what_ranks() -> None:
    """In a chat with a history the scorer is asked the question the LLM made of it."""
    queries: list[str] = []

    class Asked(ByLength):
        def score(self, pairs: list[Pair], /) -> list[float]:
            queries.extend(question for question, _ in pairs)
            return super().score(pairs)

    engine = condense_chat(nodes(), RerankPostprocessor(reranker=Reranker(Asked()), top_n=1))
    history = [ChatMessage("Which phone do you have?"), ChatMessage("An iPhone 15 Pro.", role="assistant")]
    engine.chat("And its frame?", chat_history=history)
    # MockLLM condenses to its prompt, which holds both.
    assert len(queries) == 3
    assert all("An iPhone 15 Pro." in question and "And its frame?" in question for question in queries)


class Retrieved(Event):
    """What the first step found."""

    nodes: list[NodeWithScore]


class Search(Workflow):
    """Retrieve, then rerank."""

    def __init__(self, postprocessor: RerankPostprocessor) -> None:
        super().__init__(timeout=10)
        self.postprocessor = postprocessor

    @step
    async def retrieve(self, ctx: Context, start: StartEvent) -> Retrieved:
        """The first stage."""
        await ctx.store.set("query", start.query)
        return Retrieved(nodes=await Fixed(nodes()).aretrieve(start.query))

    @step
    async def rerank(self, ctx: Context, found: Retrieved) -> StopEvent:
        """The second stage."""
        asked = await ctx.store.get("query")
        return StopEvent(result=await self.postprocessor.apostprocess_nodes(found.nodes, query_str=asked))


def test_a_workflow_step_reranks(postprocessor: RerankPostprocessor, box: Reranker) -> None:
    """A workflow that retrieves in one step and reranks in the next ends with the best nodes."""

    async def search() -> list[NodeWithScore]:
        found: list[NodeWithScore] = await Search(postprocessor).run(query=QUERY)
        return found

    assert seen(asyncio.run(search())) == ranked(box, nodes(), 2)


def test_the_evaluator_measures_the_new_order(postprocessor: RerankPostprocessor) -> None:
    """RetrieverEvaluator, which calls the sync method on a running loop, sees the best node first."""

    def evaluated(*chain: BaseNodePostprocessor) -> Any:
        evaluator = RetrieverEvaluator.from_metric_names(
            ["mrr", "hit_rate"], retriever=Fixed(nodes()), node_postprocessors=list(chain)
        )
        return asyncio.run(evaluator.aevaluate(QUERY, expected_ids=["n1"]))

    assert evaluated().metric_vals_dict == {"mrr": 0.5, "hit_rate": 1.0}
    result = evaluated(postprocessor)
    assert result.retrieved_ids == ["n1", "n2"]
    assert result.metric_vals_dict == {"mrr": 1.0, "hit_rate": 1.0}


def test_the_evaluator_evaluates_a_dataset(postprocessor: RerankPostprocessor) -> None:
    """Queries that the evaluator asks at the same time each get their own order."""
    queries = [QUERY, "Which fruit is healthy?"]
    evaluator = RetrieverEvaluator.from_metric_names(
        ["mrr"], retriever=Fixed(nodes()), node_postprocessors=[postprocessor]
    )

    async def evaluate() -> list[Any]:
        return await asyncio.gather(*(evaluator.aevaluate(question, expected_ids=["n1"]) for question in queries))

    assert [result.retrieved_ids[0] for result in asyncio.run(evaluate())] == ["n1", "n0"]


def test_a_similarity_cutoff_may_follow(postprocessor: RerankPostprocessor, box: Reranker) -> None:
    """SimilarityPostprocessor(0.2) after it keeps the node that answers and drops the other two."""
    postprocessor.top_n = None
    _, sources = query(query_engine(nodes(), postprocessor, SimilarityPostprocessor(similarity_cutoff=0.2)))
    assert seen(sources) == ranked(box, nodes(), 1)
    assert sources[0].get_score() >= 0.2


def test_nothing_above_the_cutoff_leaves_nothing(postprocessor: RerankPostprocessor) -> None:
    """An off-topic question leaves no source, so the engine can abstain."""
    engine = query_engine(nodes(), postprocessor, SimilarityPostprocessor(similarity_cutoff=0.2))
    response = engine.query("When did the Roman empire fall?")
    assert response.source_nodes == []
    assert str(response) == "Empty Response"


def windows() -> list[NodeWithScore]:
    """As `nodes`, each with a window of more text that embedders do not read."""
    given = nodes()
    for node in given:
        node.node.metadata["window"] = f"Before. {node.text} After."
        node.node.excluded_embed_metadata_keys.append("window")
    return given


def test_sentences_are_scored_before_their_windows_replace_them() -> None:
    """Before MetadataReplacementPostProcessor the sentence is scored, and the window comes out with its score."""
    scorer = Remembers()
    given, replace = windows(), MetadataReplacementPostProcessor(target_metadata_key="window")
    sentences = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in given]
    chain = [RerankPostprocessor(reranker=Reranker(scorer), top_n=1), replace]
    _, (source,) = query(query_engine(given, *chain))
    assert scorer.passages == sentences
    assert (source.node_id, source.text) == ("n2", f"Before. {TEXTS[2]} After.")


def test_windows_are_scored_after_they_replaced_sentences(box: Reranker) -> None:
    """After MetadataReplacementPostProcessor it is the window that is scored."""
    replace = MetadataReplacementPostProcessor(target_metadata_key="window")
    chain = [replace, RerankPostprocessor(reranker=box, top_n=2)]
    _, sources = query(query_engine(windows(), *chain))
    assert sources[0].text == f"Before. {TEXTS[1]} After."
    assert seen(sources) == ranked(box, replace.postprocess_nodes(windows()), 2)


@every_engine
def test_what_the_retriever_holds_stays_untouched(engine: Engine, ask: Ask, box: Reranker) -> None:
    """An in-memory retriever can be asked again: its nodes keep their scores, text and metadata."""
    held = nodes()
    before = [(node.model_dump(), node.node.hash) for node in held]
    ask(engine(held, RerankPostprocessor(reranker=box, top_n=2, keep_retrieval_score=True)))
    assert [(node.model_dump(), node.node.hash) for node in held] == before
