"""An answer that cannot be used is an error that says why, and never a wrong order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rerank_plugins import RemoteResponseError, ScoringError, load_reranker
from rerank_servers import VENDORS, Fault, rerank_server
from server_faults import DOCUMENTS, fail


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


def test_probabilities_outside_their_range_are_an_error() -> None:
    """A server that sends logits where probabilities are declared is noticed."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        server.faults.append(Fault(change=change_first(relevance_score=7.5)))
        with pytest.raises(ScoringError, match="says its scores are probabilities"):
            reranker.rerank("q", DOCUMENTS)
