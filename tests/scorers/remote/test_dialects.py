"""Every dialect against a stand-in that takes nothing but what its original documents."""

from __future__ import annotations

import pytest

from rerank_plugins import RemoteError, load_reranker
from rerank_plugins.scorers.remote import DIALECTS, RemoteScorer
from rerank_servers import KEY, VENDORS, logit, probability, rerank_server

DOCUMENTS = ["mid " * 10, "long " * 40, "short", "中文文档" * 30, 'quote " and \\ and \n']


def test_every_dialect_has_a_stand_in() -> None:
    """No dialect is spoken that no test has listened to."""
    assert DIALECTS.keys() == VENDORS.keys()


@pytest.mark.parametrize("vendor", VENDORS)
def test_a_request_is_what_the_server_takes_and_scores_are_mapped_by_index(vendor: str) -> None:
    """Documents come back in the server's order, each with the probability of its own score, whatever the scale."""
    with rerank_server(vendor, key=KEY) as server, load_reranker(server.model, api_key=KEY) as reranker:
        results = reranker.rerank("what is long?", DOCUMENTS)
        assert reranker.scale == server.vendor.scale
    by_length = sorted(range(len(DOCUMENTS)), key=lambda index: -len(DOCUMENTS[index]))
    assert [result.index for result in results] == by_length
    for result in results:
        assert result.document == DOCUMENTS[result.index]
        assert result.score == pytest.approx(probability(result.document), abs=1e-12)
        assert result.truncated is None


@pytest.mark.parametrize("vendor", VENDORS)
async def test_raw_scores_are_the_servers_own(vendor: str) -> None:
    """`score` gives logits of servers that send logits and probabilities of the others; queries may differ."""
    with rerank_server(vendor) as server, load_reranker(server.model) as reranker:
        scores = reranker.score([("a", "x" * 7), ("b", "y" * 90), ("a", "z" * 200)])
    expected = logit if server.vendor.scale == "logit" else probability
    assert scores == pytest.approx([expected("x" * 7), expected("y" * 90), expected("x" * 200)], abs=1e-12)
    texts = [
        [one["text"] if isinstance(one, dict) else one for one in body[server.vendor.texts]] for body in server.bodies
    ]
    assert sorted(texts) == [["x" * 7, "z" * 200], ["y" * 90]]


@pytest.mark.parametrize(
    ("vendor", "name"), [("sglang", "instruct"), ("dashscope", "instruct"), ("siliconflow", "instruction")]
)
def test_an_instruction_is_sent_where_there_is_a_field_for_it(vendor: str, name: str) -> None:
    """And nowhere else: a dialect without one refuses it."""
    dialect = DIALECTS[vendor]("m", "Is it about cats?")
    assert dialect.body("q", ["d"])[name] == "Is it about cats?"
    assert name not in DIALECTS[vendor]("m").body("q", ["d"])
    with pytest.raises(ValueError, match="have no field for an instruction"):
        load_reranker("cohere:m", instruction="Is it about cats?", api_key=KEY)


@pytest.mark.parametrize(
    ("vendor", "tokens", "units"), [("cohere", 0, 1), ("jina", 300, 0), ("voyage", 300, 0), ("siliconflow", 300, 0)]
)
def test_what_was_billed_is_counted(vendor: str, tokens: int, units: int) -> None:
    """Tokens, or the service's own units, of all requests."""
    with rerank_server(vendor) as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", ["a" * 100, "b" * 200])
        stats = reranker.stats()
    assert (stats.tokens, stats.billed_units, stats.http_requests, stats.pairs) == (tokens, units, 1, 2)


def test_tei_is_asked_for_its_limit_once() -> None:
    """``max_client_batch_size`` of /info decides how many texts a request has."""
    info = {"model_id": "m", "model_type": {"reranker": {}}, "max_client_batch_size": 10}
    with rerank_server("tei", info=info) as server, load_reranker(server.model) as reranker:
        for _ in range(2):
            assert len(reranker.rerank("q", [f"{number}" for number in range(25)])) == 25
        assert sorted(len(body["texts"]) for body in server.bodies) == [7, 7, 9, 9, 9, 9]
        assert reranker.stats().http_requests == 7


def test_tei_that_was_restarted_with_a_lower_limit_still_ranks() -> None:
    """It answers 422, and requests are halved until it takes them."""
    info = {"model_id": "m", "model_type": {"reranker": {}}, "max_client_batch_size": 10}
    with rerank_server("tei", info=info) as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", ["asks for the limit"])
        info["max_client_batch_size"] = 4
        results = reranker.rerank("q", ["x" * number for number in range(1, 11)])
    assert [one.index for one in results] == list(range(9, -1, -1))


def test_tei_with_an_embedding_model_is_refused() -> None:
    """Its /info says what the model is, before anything would be ranked by it."""
    info = {"model_id": "BAAI/bge-m3", "model_type": {"embedding": {}}, "max_client_batch_size": 32}
    with rerank_server("tei", info=info) as server, load_reranker(server.model) as reranker:
        with pytest.raises(RemoteError, match="'BAAI/bge-m3', of the type embedding, expected a reranker"):
            reranker.rerank("q", ["a"])
        assert server.bodies == []


def test_infinity_gets_texts_as_long_as_it_takes() -> None:
    """A longer one is cut to its limit, and the result says so."""
    with rerank_server("infinity") as server, load_reranker(server.model) as reranker:
        first, second = reranker.rerank("q", ["a" * 130_000, "b"])
        assert (first.truncated, second.truncated) == (True, None)
        assert [len(text) for text in server.bodies[0]["documents"]] == [122_880, 1]


def test_scores_of_jinas_third_generation_may_be_negative() -> None:
    """They are cosines: ordered, and no probabilities."""
    scorer = RemoteScorer.from_name("jina:jina-reranker-v3", api_key=KEY)
    assert (scorer.scale, scorer.dialect.listwise) == ("logit", True)
    assert RemoteScorer.from_name("jina:jina-reranker-v2-base-multilingual", api_key=KEY).scale == "probability"
