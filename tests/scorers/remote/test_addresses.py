"""Names of servers' models, and what is wrong with some of them, before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from rerank_plugins import InvalidInputError, ModelNotFoundError, load_reranker
from rerank_plugins.scorers.remote import RemoteScorer, is_remote


@pytest.mark.parametrize(
    ("name", "endpoint", "model"),
    [
        ("tei:http://host:8080", "http://host:8080/rerank", None),
        ("tei:http://host:8080/", "http://host:8080/rerank", None),
        ("tei:http://host:8080/rerank", "http://host:8080/rerank", None),
        ("tei:https://gateway/tei", "https://gateway/tei/rerank", None),
        ("vllm:http://host:8000#org/name", "http://host:8000/v1/rerank", "org/name"),
        ("vllm:http://host:8000/v1#org/name", "http://host:8000/v1/rerank", "org/name"),
        ("vllm:http://host:8000/v1/rerank", "http://host:8000/v1/rerank", None),
        ("vllm:http://host:8000/rerank", "http://host:8000/rerank", None),
        ("vllm:http://[::1]:8000", "http://[::1]:8000/v1/rerank", None),
        ("cohere:rerank-v4.0-pro", "https://api.cohere.com/v2/rerank", "rerank-v4.0-pro"),
        ("cohere:https://proxy/v2#m", "https://proxy/v2/rerank", "m"),
        ("jina:m", "https://api.jina.ai/v1/rerank", "m"),
        ("voyage:rerank-2.5", "https://api.voyageai.com/v1/rerank", "rerank-2.5"),
        ("dashscope:qwen3-rerank", "https://dashscope.aliyuncs.com/compatible-api/v1/reranks", "qwen3-rerank"),
        ("dashscope:https://x/compatible-api/v1#m", "https://x/compatible-api/v1/reranks", "m"),
        ("siliconflow:BAAI/bge-reranker-v2-m3", "https://api.siliconflow.cn/v1/rerank", "BAAI/bge-reranker-v2-m3"),
        ("nim:http://host:8000#nvidia/m", "http://host:8000/v1/ranking", "nvidia/m"),
        ("infinity:http://host:7997#m", "http://host:7997/rerank", "m"),
        ("llamacpp:http://host:8080", "http://host:8080/v1/rerank", None),
        ("sglang:http://host:30000", "http://host:30000/v1/rerank", None),
    ],
)
def test_a_name_is_a_dialect_and_an_address_or_a_model(name: str, endpoint: str, model: str | None) -> None:
    """The address may be that of the server, of its API or of the endpoint itself."""
    scorer = RemoteScorer.from_name(name, api_key="key")
    assert (scorer.url, scorer.dialect.model) == (endpoint, model)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tei:", "'tei:' lacks an address. Expected tei:URL or tei:URL#MODEL, such as tei:http://localhost:8080."),
        ("vllm:org/name", "'vllm:org/name' lacks an address. Expected vllm:URL"),
        ("nim:http://host", "'nim:http://host' lacks a model. Expected nim:URL#MODEL, such as nim:http://localhost:80"),
        ("cohere:", "'cohere:' lacks a model. Expected cohere:MODEL or cohere:URL#MODEL, such as cohere:MODEL."),
        ("cohere:https://proxy", "lacks a model"),
        ("tei:ftp://host", "tei: 'ftp://host' is no address of a server"),
        ("tei:http://", "tei: 'http://' is no address of a server"),
        ("tei:http://host:port", "tei: 'http://host:port' is no address"),
        ("tei:http://host:99999", "is no address"),
        ("tei:http://[::1", "is no address"),
    ],
)
def test_a_wrong_name_is_refused(name: str, said: str) -> None:
    """With the forms that are right, at loading."""
    with pytest.raises(InvalidInputError) as caught:
        load_reranker(name, api_key="key")
    assert said in str(caught.value)


@pytest.mark.parametrize("address", ["http://user:sesame@host", "http://host/?key=sesame"])
def test_a_key_in_an_address_is_refused(address: str) -> None:
    """Addresses are shown in logs and errors; this error does not show it."""
    with pytest.raises(InvalidInputError, match="Give a key with api_key") as caught:
        load_reranker(f"tei:{address}")
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("address", ["ftp://u:sesame@host", "http://u:sesame/2@host", "http://u:sesame#2@host"])
def test_a_password_is_not_shown_where_the_address_cannot_be_read(address: str) -> None:
    """A slash or a # in a password ends the address before its @."""
    with pytest.raises(InvalidInputError, match=r"not shown.* is no address of a server\. Expected tei:URL") as caught:
        load_reranker(f"tei:{address}")
    assert "sesame" not in str(caught.value)


def test_a_password_is_not_shown_where_the_address_has_no_scheme() -> None:
    """It is said that an address is missing, with an example of one."""
    with pytest.raises(InvalidInputError, match=r"not shown.* lacks an address\. Expected tei:URL") as caught:
        load_reranker("tei:user:sesame@host:8080")
    assert "sesame" not in str(caught.value)


def test_options_of_models_that_run_here_are_refused() -> None:
    """A server's model is computed as the server was started."""
    with pytest.raises(InvalidInputError, match=r"Got precision, max_length for tei:http://h, .* Leave them out"):
        load_reranker("tei:http://h", precision="int8", max_length=512)
    with pytest.raises(InvalidInputError, match=r"Got revision for .* Leave it out"):
        load_reranker("tei:http://h", revision="main")


def test_folders_and_names_of_the_hub_are_no_servers() -> None:
    """Nor are paths, and drives of Windows."""
    assert not any(map(is_remote, ("rerank-mini-en", "BAAI/bge-reranker-v2-m3", "C:\\models", Path("tei:http"), "tei")))


def test_a_dialect_that_does_not_exist_is_no_model() -> None:
    """The error shows what a server's name looks like."""
    with pytest.raises(ModelNotFoundError, match="nor of a server, such as tei:http://host:8080"):
        load_reranker("tie:http://localhost:8080")


def test_loading_sends_nothing() -> None:
    """A server need not run yet when it is named."""
    load_reranker("tei:http://127.0.0.1:9").close()
