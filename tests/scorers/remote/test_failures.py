"""What goes wrong at a server, or on the way to it, is an error that says so, and never a wrong order."""

from __future__ import annotations

import json
import pickle
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from rerank_plugins import (
    OverloadedError,
    RemoteError,
    RemoteRateLimitError,
    RemoteResponseError,
    RemoteTooLargeError,
    RemoteUnauthorizedError,
    RemoteUnavailableError,
    ScoringError,
    load_reranker,
)
from rerank_plugins.scorers.remote import client
from rerank_servers import KEY, VENDORS, Fault, rerank_server

DOCUMENTS = ["first", "the second", "and the third"]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other quickly where the server says nothing else."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.001)


def fail(*faults: Fault, vendor: str = "cohere", documents: list[str] | None = None) -> RemoteError:
    """The error of a call whose requests meet these faults."""
    with rerank_server(vendor) as server, load_reranker(server.model) as reranker:
        server.faults += faults
        with pytest.raises(RemoteError) as caught:
            reranker.rerank("q", documents or DOCUMENTS)
        assert server.url in str(caught.value) or isinstance(caught.value, RemoteTooLargeError)
    return caught.value


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


def change_first(**values: Any) -> Callable[[Any], Any]:
    """Make the best document's row of an answer another one."""

    def change(answer: Any) -> Any:
        answer["results"][0] |= values
        return answer

    return change


WRONG_ANSWERS = {
    "index twice": (change_first(index=0), "the index 0 twice"),
    "index too large": (change_first(index=3), "the index 3, expected 0 to 2"),
    "index below 0": (change_first(index=-1), "the index -1, expected 0 to 2"),
    "index as text": (change_first(index="2"), "the index '2'"),
    "index with a fraction": (change_first(index=2.0), "the index 2.0"),
    "index as truth": (change_first(index=True), "the index True"),
    "NaN": (change_first(relevance_score=float("nan")), "the score nan for index 2"),
    "infinite": (change_first(relevance_score=float("inf")), "the score inf for index 2"),
    "huge": (change_first(relevance_score=10**400), "the score 1000"),
    "score as text": (change_first(relevance_score="0.5"), "the score '0.5' for index 2"),
    "no score": (change_first(relevance_score=None), "the score None for index 2"),
    "one missing": (lambda answer: {"results": answer["results"][1:]}, "2 scores for 3 documents; the first without"),
    "none": (lambda _: {"results": []}, "0 scores for 3 documents"),
    "no results": (lambda _: {"data": []}, "another shape than cohere has (KeyError: 'results')"),
    "a list": (lambda answer: answer["results"], "another shape than cohere has (TypeError"),
    "null": (lambda _: None, "another shape than cohere has (TypeError"),
    "rows of numbers": (lambda _: {"results": [1, 2, 3]}, "another shape than cohere has (TypeError"),
    "no index": (lambda _: {"results": [{"relevance_score": 1}] * 3}, "another shape than cohere has (KeyError"),
}


@pytest.mark.parametrize(("change", "said"), WRONG_ANSWERS.values(), ids=WRONG_ANSWERS)
def test_a_wrong_answer_is_an_error(change: Callable[[Any], Any], said: str) -> None:
    """An index that is missing, doubled or out of range, a score that is none, another shape."""
    error = fail(Fault(change=change))
    assert type(error) is RemoteResponseError
    assert said in str(error)


@pytest.mark.parametrize("vendor", VENDORS)
def test_no_dialect_ranks_by_a_wrong_index(vendor: str) -> None:
    """In the shape of each."""

    def double(answer: Any) -> Any:
        rows = answer if isinstance(answer, list) else next(answer[name] for name in ROWS if name in answer)
        rows[0]["index"] = rows[1]["index"]
        return answer

    error = fail(Fault(change=double), vendor=vendor)
    assert type(error) is RemoteResponseError
    assert "twice" in str(error)


ROWS = ("results", "data", "rankings")


def test_an_error_with_the_status_of_a_success_has_the_servers_words() -> None:
    """Gateways answer 200 and write the error into the body."""
    error = fail(Fault(change=lambda _: {"code": 400, "error": {"message": "no such model"}}))
    assert type(error) is RemoteResponseError
    assert "another shape than cohere has (KeyError: 'results'). It says: no such model Check which" in str(error)


@pytest.mark.parametrize("proxy", ["nothing://proxy", "http://user:sesa/me@proxy:1"])
def test_a_proxy_that_cannot_be_used_is_an_error_of_the_call(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where to look, shows no password, and ``on_error="keep_order"`` answers as for other failures."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with load_reranker("tei:http://host.invalid") as reranker:
        with pytest.raises(RemoteUnavailableError, match=r"Check the environment's proxies") as caught:
            reranker.rerank("q", DOCUMENTS)
        assert "sesa" not in str(caught.value)
        assert len(reranker.rerank("q", DOCUMENTS, on_error="keep_order")) == 3


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><head><title>Log in</title></head></html>", "it begins \"a page with the title 'Log in'\""),
        (b"", "it is empty"),
        (b'{"results": [', "no JSON"),
        (b"\x80\x81", "no JSON"),
        (b"[" * 100_000, "no JSON"),
    ],
)
def test_what_is_no_json_is_an_error(body: bytes, said: str) -> None:
    """A page of a proxy with the status 200, an empty body, half a one."""
    error = fail(Fault(200, body))
    assert type(error) is RemoteResponseError
    assert said in str(error)


def test_an_answer_that_breaks_off_is_tried_again_and_then_an_error() -> None:
    """A connection that ends early once does no harm."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(cut=True))
        assert len(reranker.rerank("q", DOCUMENTS)) == 3
        server.faults += [Fault(cut=True)] * 4
        with pytest.raises(RemoteResponseError, match=r"broke off or cannot be read .* It was tried 4 times"):
            reranker.rerank("q", DOCUMENTS)


def test_an_answer_that_says_it_is_packed_and_is_not_is_an_error() -> None:
    """A wrong content-encoding; it is not asked for again, as every answer may be billed."""
    error = fail(Fault(200, b"no gzip", {"content-encoding": "gzip"}))
    assert type(error) is RemoteResponseError


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


def test_probabilities_outside_their_range_are_an_error() -> None:
    """A server that sends logits where probabilities are declared is noticed."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(change=change_first(relevance_score=7.5)))
        with pytest.raises(ScoringError, match="says its scores are probabilities"):
            reranker.rerank("q", DOCUMENTS)


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
