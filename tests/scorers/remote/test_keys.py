"""Keys of servers: where they come from, and all the places where they are not."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
from typing import Any

import pytest
from pydantic import SecretStr

from rerank_plugins import InvalidInputError, LoadingOptions, RemoteError, load_reranker
from rerank_plugins._internal.secret import Secret
from rerank_plugins.loading import LoadedReranker
from rerank_servers import KEY, Fault, rerank_server


@pytest.mark.parametrize(
    "variable",
    [
        *("COHERE_API_KEY", "CO_API_KEY", "JINA_API_KEY", "VOYAGE_API_KEY", "DASHSCOPE_API_KEY"),
        *("SILICONFLOW_API_KEY", "NVIDIA_API_KEY", "VLLM_API_KEY", "INFINITY_API_KEY", "LLAMA_API_KEY"),
    ],
)
def test_the_services_usual_variable_holds_the_key(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And ``api_key`` is stronger."""
    vendor = {"CO": "cohere", "NVIDIA": "nim", "LLAMA": "llamacpp"}.get(
        variable.removesuffix("_API_KEY"), variable.removesuffix("_API_KEY").lower()
    )
    monkeypatch.setenv(variable, f"{KEY}\n")
    with rerank_server(vendor, key=KEY) as server:
        with load_reranker(server.model) as reranker:
            assert len(reranker.rerank("q", ["a"])) == 1
        with load_reranker(server.model, api_key="another") as reranker:
            assert reranker.rerank("q", ["a"], on_error="keep_order")[0].score is None


def test_a_service_without_a_key_is_an_error_at_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the variable."""
    monkeypatch.delenv("VOYAGE_API_KEY", raising=False)
    with pytest.raises(InvalidInputError, match="Set the environment variable VOYAGE_API_KEY, or give api_key"):
        load_reranker("voyage:rerank-2.5")


def test_a_key_for_a_model_that_runs_here_is_refused() -> None:
    """It would be forgotten in silence."""
    with pytest.raises(InvalidInputError, match="Got api_key for rerank-mini-en, which is computed here"):
        load_reranker("rerank-mini-en", api_key=KEY)


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nfeed", "schlüssel", 7, b"bytes", ["sk"]])
def test_what_no_header_can_carry_is_no_key(key: Any) -> None:
    """The message does not show it."""
    with pytest.raises(InvalidInputError, match="api_key must be") as caught:
        LoadingOptions("cohere:m", api_key=key)
    assert not key or str(key) not in str(caught.value).replace("api_key", "")


def test_pydantics_secrets_are_keys() -> None:
    """LangChain's users have them."""
    assert LoadingOptions("cohere:m", api_key=SecretStr(KEY)) == LoadingOptions("cohere:m", api_key=KEY)


def test_options_differ_by_their_key() -> None:
    """Adapters with two keys do not share a connection."""
    first, second = LoadingOptions("cohere:m", api_key="a"), LoadingOptions("cohere:m", api_key="b")
    assert first != second
    assert len({first, second, LoadingOptions("cohere:m", api_key="a")}) == 2


def test_a_key_is_in_no_repr_and_no_pickle() -> None:
    """Of options, scorers and rerankers; a copy has it, and who reads a pickle needs the variable."""
    options = LoadingOptions("cohere:m", api_key=KEY)
    reranker = load_reranker("cohere:m", api_key=KEY)
    assert isinstance(reranker, LoadedReranker)
    for shown in (options, reranker, reranker.scorer, vars(reranker.scorer), reranker.loaded_from):
        assert KEY not in repr(shown)
    for pickled in (pickle.dumps(options), pickle.dumps(reranker)):
        assert KEY.encode() not in pickled
    assert pickle.loads(pickle.dumps(options)).api_key is None  # noqa: S301 - our own
    assert copy.deepcopy(dataclasses.asdict(options))["api_key"] == Secret(KEY)
    with pytest.raises(TypeError, match="A key is never pickled"):
        pickle.dumps(options.api_key)
    with pytest.raises(TypeError):
        json.dumps(dataclasses.asdict(options))


def test_a_key_is_in_no_log_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """With everything logged that can be, ours and the HTTP client's; also where the server repeats it."""
    caplog.set_level(logging.DEBUG)
    with rerank_server(key=KEY) as server, load_reranker(server.model, api_key=KEY) as reranker:
        server.faults += [Fault(400, f'{{"message": "not {KEY}"}}'.encode()), Fault(drop=True), Fault(cut=True)]
        reranker.rerank("q", ["a"], on_error="keep_order")
        reranker.rerank("q", ["a"])
    assert "1 documents stay in retrieval order: RemoteError: " in caplog.text
    assert "not ***" in caplog.text
    assert KEY not in caplog.text


SPOKEN = {
    "no JSON": Fault(200, f"you sent {KEY}".encode()),
    "another shape": Fault(200, f'{{"message": "you sent {KEY}"}}'.encode()),
    "a score": Fault(change=lambda _: {"results": [{"index": 0, "relevance_score": f"you sent {KEY}"}]}),
    "an escape": Fault(400, f'{{"message": "you sent \\u0073{KEY[1:]}"}}'.encode()),
    "a long text": Fault(400, f"{'you sent ' * 32}{KEY}".encode()),
    "a redirect": Fault(307, b"", {"location": f"https://you-sent.example/?key={KEY}"}),
}


@pytest.mark.parametrize("fault", SPOKEN.values(), ids=SPOKEN)
def test_a_key_that_a_server_repeats_is_in_no_error(fault: Fault) -> None:
    """Nor half of it: in an answer that is no JSON, in a score, written with escapes, where a text is shortened."""
    with rerank_server(key=KEY) as server, load_reranker(server.model, api_key=KEY) as reranker:
        server.faults.append(fault)
        with pytest.raises(RemoteError, match=r"you.sent") as caught:
            reranker.rerank("q", ["a"])
    assert KEY[:6] not in str(caught.value)


def test_options_that_do_not_exist_do_not_show_a_key() -> None:
    """A name that other libraries have for it."""
    with pytest.raises(InvalidInputError) as caught:
        load_reranker("cohere:m", cohere_api_key=KEY)  # type: ignore[call-arg]
    assert KEY not in str(caught.value)
    assert "Did you mean api_key?" in str(caught.value)
