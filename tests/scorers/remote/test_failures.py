"""What goes wrong at a server, or on the way to it, is an error that says so, and never a wrong order."""

from __future__ import annotations

import json
import pickle
import socket
import time

import pytest

from rerank_plugins import (
    OverloadedError,
    RemoteError,
    RemoteRateLimitError,
    RemoteTooLargeError,
    RemoteUnauthorizedError,
    RemoteUnavailableError,
    ScoringError,
    load_reranker,
)
from rerank_plugins.scorers.remote import client
from rerank_servers import KEY, Fault, rerank_server
from server_faults import DOCUMENTS, fail


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, RemoteError, "Check the model's name"),
        (401, RemoteUnauthorizedError, "Check the key (COHERE_API_KEY or CO_API_KEY or api_key)"),
        (402, RemoteUnauthorizedError, "no credit left"),
        (403, RemoteUnauthorizedError, "Check the key"),
        (404, RemoteError, "Check the address and the model's name"),
        (413, RemoteTooLargeError, "Give shorter documents"),
        (422, RemoteError, "Check the model's name"),
        (424, RemoteUnavailableError, "Look into the server's log"),
        (500, RemoteUnavailableError, "Look into the server's log"),
        (501, RemoteUnavailableError, "Look into the server's log"),
    ],
)
def test_an_error_says_the_status_the_servers_words_and_what_to_do(
    status: int, kind: type[RemoteError], advice: str
) -> None:
    """Such errors are not tried again; they are `ScoringError`s, and keep their status in a pickle."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(status, b'{"message": "the server\'s own words"}'))
        with pytest.raises(ScoringError) as caught:
            reranker.rerank("q", ["one"])
        assert type(caught.value) is kind
        assert str(caught.value).startswith(f"cohere at {server.url}/v2/rerank answered {status} ")
        assert "the server's own words. " in str(caught.value)
        assert advice in str(caught.value)
        assert pickle.loads(pickle.dumps(caught.value)).status == status  # noqa: S301 - our own
        assert reranker.stats().http_requests == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"error": "texts is empty", "error_type": "Validation"}', "texts is empty"),
        (b'{"error": {"message": "too long", "type": "x", "code": 400}}', "too long"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required"),
        (b'{"detail": "no such model"}', "no such model"),
        (b'{"code": "InvalidParameter", "message": "bad", "request_id": "1"}', "bad"),
        (b'{"object": "error", "message": "over length", "code": 400}', "over length"),
        (b"<html><head><title>Bad Request</title></head><body>x</body></html>", "a page with the title 'Bad Request'"),
        (b"plain\nwords\x1b[31m", "plain words [31m"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[[[["),
        (b"x" * 100_000, "x" * 299 + "…"),
    ],
)
def test_every_servers_errors_are_read(body: bytes, words: str) -> None:
    """The message alone, in one short line that a terminal can print."""
    error = fail(Fault(400, body))
    assert f"answered 400 Bad Request: {words}" in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 529])
def test_what_may_pass_is_tried_again(status: int) -> None:
    """Three errors and then an answer give a ranking."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults += [Fault(status)] * 3
        assert [one.index for one in reranker.rerank("q", DOCUMENTS)] == [2, 1, 0]
        assert (reranker.stats().http_requests, reranker.stats().http_retries) == (4, 3)


def test_what_does_not_pass_is_given_up_after_four_tries() -> None:
    """The error is a `RemoteRateLimitError`, which is an `OverloadedError`, and says how often it was tried."""
    error = fail(*[Fault(429)] * 5)
    assert isinstance(error, RemoteRateLimitError)
    assert isinstance(error, OverloadedError)
    assert "answered 429 Too Many Requests: not now. " in str(error)
    assert str(error).endswith("It was tried 4 times.")


@pytest.mark.parametrize("headers", [{"retry-after-ms": "200"}, {"retry-after": "0.2"}])
def test_the_servers_wish_to_wait_is_kept(headers: dict[str, str]) -> None:
    """Not a moment less, and at most a tenth more."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(429, headers=headers))
        reranker.rerank("q", ["connects"])
        server.faults.append(Fault(429, headers=headers))
        start = time.monotonic()
        reranker.rerank("q", DOCUMENTS)
        assert time.monotonic() - start >= 0.2


def test_a_server_that_asks_to_wait_no_time_is_given_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """``retry-after: 0`` from a server that is too busy must not make four requests in a moment."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.2)
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(429, headers={"retry-after": "0"}))
        start = time.monotonic()
        reranker.rerank("q", DOCUMENTS)
        assert time.monotonic() - start >= 0.1


def test_a_wait_that_takes_too_long_is_not_waited_for() -> None:
    """A minute, or longer than the deadline: the error comes at once, and says what the server asked for."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults += [Fault(429, headers={"retry-after": "60"}), Fault(503, headers={"retry-after": "2"})]
        start = time.monotonic()
        with pytest.raises(RemoteRateLimitError, match="It asks to wait 60 s"):
            reranker.rerank("q", DOCUMENTS)
        with pytest.raises(RemoteUnavailableError, match="It asks to wait 2 s"):
            reranker.rerank("q", DOCUMENTS, deadline=1.5)
        assert time.monotonic() - start < 1.5


def test_an_error_in_retrieval_order() -> None:
    """``on_error="keep_order"`` answers as for a model that is computed here."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults += [Fault(500), Fault(401)]
        for _ in range(2):
            results = reranker.rerank("q", DOCUMENTS, on_error="keep_order")
            assert [(one.index, one.score) for one in results] == [(0, None), (1, None), (2, None)]
        assert reranker.stats().unranked == 2


@pytest.mark.parametrize("proxy", ["nothing://proxy", "http://user:sesa/me@proxy:1"])
def test_a_proxy_that_cannot_be_used_is_an_error_of_the_call(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where to look, shows no password, and ``on_error="keep_order"`` answers as for other failures."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with load_reranker("tei:http://host.invalid") as reranker:
        with pytest.raises(RemoteUnavailableError, match=r"Check the environment's proxies") as caught:
            reranker.rerank("q", DOCUMENTS)
        assert "sesa" not in str(caught.value)
        assert len(reranker.rerank("q", DOCUMENTS, on_error="keep_order")) == 3


def test_a_connection_that_the_server_closed_is_opened_again() -> None:
    """Servers close idle connections without a word."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", DOCUMENTS)
        server.faults.append(Fault(drop=True))
        assert len(reranker.rerank("q", DOCUMENTS)) == 3
        assert server.connections == 2


def test_a_server_that_is_not_there() -> None:
    """The error names the address, and says to check it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with load_reranker(f"vllm:{url}") as reranker, pytest.raises(RemoteUnavailableError) as caught:
        reranker.rerank("q", DOCUMENTS)
    assert f"vllm at {url}/v1/rerank cannot be reached" in str(caught.value)
    assert "Check that it runs, and the address. It was tried 4 times." in str(caught.value)


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a deadline too there is an end to waiting; the request is not sent again, as it may be computed yet."""
    monkeypatch.setattr(client, "ANSWER_TIMEOUT", 0.1)
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(seconds=0.5))
        with pytest.raises(RemoteUnavailableError, match=r"sent nothing for 0\.1 s"):
            reranker.rerank("q", DOCUMENTS)
        assert reranker.stats().http_requests == 1


def test_a_redirect_is_not_followed() -> None:
    """The key, and the texts, go nowhere else than where they were sent."""
    error = fail(Fault(307, b"", {"location": "https://elsewhere.example/v2/rerank"}))
    assert "It redirects to https://elsewhere.example/v2/rerank, which is not followed" in str(error)


def test_a_wrong_key_is_not_repeated() -> None:
    """Servers write the key into their error; ours has the words without it."""
    with (
        rerank_server(key="another") as server,
        load_reranker(server.model, api_key=KEY) as reranker,
        pytest.raises(RemoteUnauthorizedError) as caught,
    ):
        reranker.rerank("q", DOCUMENTS)
    assert "the key Bearer *** is wrong" in str(caught.value)
    assert KEY not in repr(caught.value)


def test_a_request_that_is_too_large_is_halved() -> None:
    """Until the server takes it; the scores are those of one request."""
    documents = [f"{number:04}" * number for number in range(1, 41)]
    with rerank_server("vllm") as server, load_reranker(server.model) as reranker:
        server.max_bytes = 1_000
        results = reranker.rerank("q", documents)
        assert [one.index for one in results] == list(range(39, -1, -1))
        assert len(server.bodies) > 4


def test_one_document_that_is_too_large_is_an_error() -> None:
    """There is nothing left to halve."""
    with rerank_server("vllm") as server, load_reranker(server.model) as reranker:
        server.max_bytes = 500
        with pytest.raises(RemoteTooLargeError, match="Give shorter documents, or raise the server's limit"):
            reranker.rerank("q", ["a", "b" * 600])


def test_a_document_that_no_request_can_hold_is_an_error_before_it_is_sent() -> None:
    """TEI takes 2 MB."""
    with rerank_server("tei") as server, load_reranker(server.model) as reranker:
        with pytest.raises(RemoteTooLargeError, match=r"2,100,000 characters .* 2,000,000 bytes, the most that tei"):
            reranker.rerank("q", ["a", "b" * 2_100_000])
        assert server.bodies == []


@pytest.mark.parametrize("model", ["jina-reranker-v3", "jinaai/jina-reranker-v3"])
def test_documents_of_a_listwise_model_are_never_parted(model: str) -> None:
    """Its scores can be compared within a request only."""
    with rerank_server("jina") as server, load_reranker(f"jina:{server.url}#{model}") as reranker:
        with pytest.raises(RemoteTooLargeError, match="can be compared within a request only"):
            reranker.rerank("q", [f"{number}" for number in range(2049)])
        assert json.dumps(server.bodies) == "[]"
