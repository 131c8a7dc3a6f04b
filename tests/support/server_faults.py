"""Calls of a remote reranker whose requests meet faults of the server."""

from __future__ import annotations

import pytest

from rerank_plugins import RemoteError, RemoteTooLargeError, load_reranker
from rerank_servers import Fault, rerank_server

DOCUMENTS = ["first", "the second", "and the third"]


def fail(*faults: Fault, vendor: str = "cohere", documents: list[str] | None = None) -> RemoteError:
    """The error of a call whose requests meet these faults."""
    with rerank_server(vendor) as server, load_reranker(server.model) as reranker:
        server.faults += faults
        with pytest.raises(RemoteError) as caught:
            reranker.rerank("q", documents or DOCUMENTS)
        assert server.url in str(caught.value) or isinstance(caught.value, RemoteTooLargeError)
    return caught.value
