"""A chat server on loopback that speaks OpenAI's and Ollama's protocol and remembers what it was asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ANSWER = "The frame is titanium [1]."


class ChatServer(ThreadingHTTPServer):
    """Answers chats with `ANSWER`; ``asked`` holds (path, request body), oldest first.

    Over OpenAI's protocol, tools that are offered are used first, as `_calls` says.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        """The root of the server."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def prompt(self) -> str:
        """All the text of the one chat that was asked."""
        ((_, body),) = self.asked
        return "\n".join(str(message["content"]) for message in body["messages"])


class _Handler(BaseHTTPRequestHandler):
    server: ChatServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/api/show":  # Ollama's client asks for the context length first
            self._reply(200, {"model_info": {"general.architecture": "llama", "llama.context_length": 8192}})
            return
        self.server.asked.append((self.path, body))
        message: dict[str, Any] = {"role": "assistant", "content": ANSWER}
        if self.path == "/v1/chat/completions":
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            if body.get("tools") and body["messages"][-1]["role"] != "tool":
                choice["finish_reason"] = "tool_calls"
                message.update(content=None, tool_calls=_calls(body))
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            head = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
            self._reply(200, {**head, "choices": [choice], "usage": usage})
        elif self.path == "/api/chat":
            head = {"model": body["model"], "created_at": "2026-01-01T00:00:00Z"}
            self._reply(200, {**head, "message": message, "done": True, "done_reason": "stop"})
        else:
            self._reply(404, {"error": f"no {self.path}"})

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        payload = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


def _calls(body: dict[str, Any]) -> list[dict[str, Any]]:
    """One call, of the first tool, with what the user said last as its ``query``."""
    said = [message["content"] for message in body["messages"] if message["role"] == "user"]
    function = {"name": body["tools"][0]["function"]["name"], "arguments": json.dumps({"query": said[-1]})}
    # Ids differ within a conversation, as OpenAI's do.
    return [{"id": f"call_{len(body['messages'])}", "type": "function", "function": function}]


@contextmanager
def chat_server() -> Iterator[ChatServer]:
    """A running server on a free port of loopback."""
    server = ChatServer()
    # The argument is how often it looks whether to stop, in seconds.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
