"""Stand-ins on loopback for servers that rerank. They refuse whatever differs from what their originals document.

The longer a document, the more relevant it is: its logit is a hundredth of its characters, less one.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-0123456789abcdef"
MODEL = "MODEL-NAME"


def logit(document: str) -> float:
    """The stand-ins' opinion of a document."""
    return len(document) / 100 - 1


def probability(document: str) -> float:
    """Its sigmoid."""
    return 1 / (1 + math.exp(-logit(document)))


@dataclass
class Fault:
    """What a stand-in does instead of answering well, once."""

    status: int = 200
    body: bytes = b'{"message": "not now"}'
    headers: dict[str, str] = field(default_factory=dict)
    change: Callable[[Any], Any] | None = None
    """Makes another answer of the right one."""
    cut: bool = False
    """Ends the connection in the middle of the right answer."""
    drop: bool = False
    """Ends the connection without an answer."""
    seconds: float = 0.0
    """Waits before anything else; the right answer follows where nothing else is said."""


@dataclass(frozen=True)
class Vendor:
    """How a stand-in's original is spoken to."""

    name: str
    path: str
    allowed: dict[str, Any]
    """The fields of a request beside query and documents, with the values they must have; ``...`` takes any."""
    answer: Callable[[list[str]], Any]
    """From documents to the answer, best first as all of them send it."""
    scale: str = "probability"
    model: str | None = MODEL
    texts: str = "documents"
    wrapped: bool = False
    """Whether texts are ``{"text": ...}``."""
    max_documents: int | None = None

    def name_at(self, url: str) -> str:
        """The name that `load_reranker` takes."""
        return f"{self.name}:{url}" + ("" if self.model is None else f"#{self.model}")

    def read(self, body: Any) -> list[str]:
        """The documents of a request; raises ValueError where it is not as documented."""
        expected = {"query", self.texts, *self.allowed}
        if not isinstance(body, dict) or set(body) != expected:
            raise ValueError(f"fields {sorted(body)}, expected {sorted(expected)}")
        for name, value in self.allowed.items():
            if value is not ... and (body[name] != value or type(body[name]) is not type(value)):
                raise ValueError(f"{name} is {body[name]!r}, expected {value!r}")
        texts = [body["query"], *body[self.texts]]
        if self.wrapped:
            if any(set(one) != {"text"} for one in texts):
                raise ValueError("texts must be objects of the one field text")
            texts = [one["text"] for one in texts]
        if len(texts) < 2 or not all(isinstance(text, str) and text for text in texts):
            raise ValueError("the query and at least one document must be strings that are not empty")
        if "top_n" in body and body["top_n"] != len(texts) - 1:
            raise ValueError("top_n is not the number of documents")
        return texts[1:]


def _ranked(documents: list[str], score: Callable[[str], float], name: str = "relevance_score") -> list[dict[str, Any]]:
    rows = [{"index": index, name: score(document)} for index, document in enumerate(documents)]
    return sorted(rows, key=lambda row: -row[name])


def _usage(documents: list[str]) -> dict[str, int]:
    return {"total_tokens": sum(map(len, documents))}


def _jina_shape(score: Callable[[str], float], **more: Any) -> Callable[[list[str]], Any]:
    return lambda documents: {
        "model": MODEL,
        "usage": _usage(documents),
        "results": _ranked(documents, score),
        **more,
    }


def _with_documents(documents: list[str]) -> Any:
    """VLLM always sends them back."""
    rows = _ranked(documents, probability)
    results = [{**row, "document": {"text": documents[row["index"]]}} for row in rows]
    return {"id": "rerank-1", "model": MODEL, "usage": _usage(documents), "results": results}


VENDORS = {
    one.name: one
    for one in (
        Vendor(
            "tei",
            "/rerank",
            {"raw_scores": True, "truncate": True},
            lambda documents: _ranked(documents, logit, "score"),
            scale="logit",
            model=None,
            texts="texts",
            max_documents=32,
        ),
        Vendor(
            "cohere",
            "/v2/rerank",
            {"model": MODEL},
            lambda documents: {
                "id": "1",
                "results": _ranked(documents, probability),
                "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}},
            },
            max_documents=1000,
        ),
        Vendor("jina", "/v1/rerank", {"model": MODEL, "return_documents": False}, _jina_shape(probability)),
        Vendor("vllm", "/v1/rerank", {"model": MODEL, "truncate_prompt_tokens": -1}, _with_documents),
        Vendor(
            "infinity",
            "/rerank",
            {"model": MODEL, "raw_scores": True, "return_documents": False},
            _jina_shape(logit, object="rerank", id="1", created=0),
            scale="logit",
        ),
        Vendor("llamacpp", "/v1/rerank", {"model": MODEL}, _jina_shape(logit, object="list"), scale="logit"),
        Vendor(
            "sglang",
            "/v1/rerank",
            {"model": MODEL},
            lambda documents: [
                {**row, "document": documents[row["index"]]} for row in _ranked(documents, logit, "score")
            ],
            scale="logit",
        ),
        Vendor(
            "voyage",
            "/v1/rerank",
            {"model": MODEL, "truncation": True},
            lambda documents: {
                "object": "list",
                "data": _ranked(documents, probability),
                "model": MODEL,
                "usage": _usage(documents),
            },
            max_documents=1000,
        ),
        Vendor(
            "dashscope",
            "/compatible-api/v1/reranks",
            {"model": MODEL},
            _jina_shape(probability, object="list", id="1"),
            max_documents=500,
        ),
        Vendor(
            "siliconflow",
            "/v1/rerank",
            {"model": MODEL, "top_n": ..., "return_documents": False},
            lambda documents: {
                "id": "1",
                "results": _ranked(documents, probability),
                "meta": {"tokens": {"input_tokens": sum(map(len, documents)), "output_tokens": 0}},
            },
        ),
        Vendor(
            "nim",
            "/v1/ranking",
            {"model": MODEL, "truncate": "END"},
            lambda documents: {"rankings": _ranked(documents, logit, "logit")},
            scale="logit",
            texts="passages",
            wrapped=True,
            max_documents=512,
        ),
    )
}


class RerankServer(ThreadingHTTPServer):
    """A stand-in. ``bodies`` are the requests, oldest first; ``complaints`` what was wrong with some of them."""

    daemon_threads = True

    def __init__(self, vendor: Vendor, key: str | None, info: dict[str, Any] | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.vendor = vendor
        self.key = key
        self.info = info
        """What ``GET /info`` answers; None where there is no such path."""
        self.bodies: list[dict[str, Any]] = []
        self.complaints: list[str] = []
        self.faults: list[Fault] = []
        """What goes wrong with the next requests, in order."""
        self.delay = 0.0
        """Seconds that every answer takes."""
        self.max_bytes: int | None = None
        self.connections = 0
        self.at_work, self.most_at_work = 0, 0
        """Requests that are being answered now, and the most there were at once."""
        self.lock = threading.Lock()

    @property
    def url(self) -> str:
        """The root of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def model(self) -> str:
        """The name that `load_reranker` takes."""
        return self.vendor.name_at(self.url)

    def handle_error(self, *_: Any) -> None:
        """A client that hangs up is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: RerankServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_GET(self) -> None:
        if self.path == "/info" and self.server.info is not None:
            self._reply(200, self.server.info)
        else:
            self._reply(404, {"error": f"no {self.path}"})

    def do_POST(self) -> None:
        server = self.server
        length = int(self.headers["content-length"])
        content = self.rfile.read(length)
        if len(content) < length:  # the client has hung up
            self.close_connection = True
            return
        with server.lock:
            server.at_work += 1
            server.most_at_work = max(server.most_at_work, server.at_work)
            fault = server.faults.pop(0) if server.faults else Fault(change=lambda answer: answer)
        try:
            time.sleep(server.delay + fault.seconds)
            self._answer(content, fault)
        finally:
            with server.lock:
                server.at_work -= 1

    def _answer(self, content: bytes, fault: Fault) -> None:
        server = self.server
        if server.key is not None and self.headers["authorization"] != f"Bearer {server.key}":
            self._reply(401, {"message": f"the key {self.headers['authorization']} is wrong"})
            return
        if server.max_bytes is not None and len(content) > server.max_bytes:
            self._reply(413, {"error": "length limit exceeded"})
            return
        try:
            documents = self._read(content)
        except (ValueError, KeyError, TypeError) as exc:
            server.complaints.append(f"{type(exc).__name__}: {exc}")
            self._reply(400, {"message": f"the stand-in refuses this: {exc}"})
            return
        most = server.vendor.max_documents if server.info is None else server.info["max_client_batch_size"]
        if most is not None and len(documents) > most:
            said = f"batch size {len(documents)} > maximum allowed batch size {most}"
            self._reply(422, {"error": said, "error_type": "Validation"})
        elif fault.drop:
            self.close_connection = True
        elif fault.status != 200 or (fault.change is None and not fault.cut and not fault.seconds):
            self._send(fault.status, fault.body, fault.headers)
        else:
            answer = server.vendor.answer(documents)
            self._reply(200, answer if fault.change is None else fault.change(answer), cut=fault.cut)

    def _read(self, content: bytes) -> list[str]:
        vendor = self.server.vendor
        if self.path != vendor.path:
            raise ValueError(f"the path {self.path}, expected {vendor.path}")
        if self.headers["content-type"] != "application/json" or self.headers["accept"] != "application/json":
            raise ValueError("content-type and accept must be application/json")
        if self.server.key is None and "authorization" in self.headers:
            raise ValueError("a key that nobody asked for")
        body = json.loads(content.decode("utf-8"))
        self.server.bodies.append(body)
        return vendor.read(body)

    def _reply(self, status: int, body: Any, *, cut: bool = False) -> None:
        payload = json.dumps(body).encode()
        if not cut:
            self._send(status, payload, {"content-type": "application/json"})
            return
        self.send_response(status)
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload[: len(payload) // 2])
        self.close_connection = True

    def _send(self, status: int, payload: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(payload)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def rerank_server(
    vendor: str = "cohere", *, key: str | None = None, info: dict[str, Any] | None = None
) -> Iterator[RerankServer]:
    """A running stand-in on a free port of loopback. At the end nothing must have been wrong with a request."""
    server = RerankServer(VENDORS[vendor], key, info)
    # The argument is how often it looks whether to stop, in seconds.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
        assert server.complaints == []
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
