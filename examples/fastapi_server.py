"""A reranking service: one model, shared by all requests.

Run it with: uvicorn fastapi_server:app
RERANK_MODEL names the model (default: the bundled one), RERANK_DEADLINE the longest time in seconds (default: 2).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from rerank_plugins import InvalidInputError, OverloadedError, Reranker, RerankError, load_reranker

STATUS = {InvalidInputError: 422, OverloadedError: 503, TimeoutError: 504}  # DeadlineExceededError is a TimeoutError


class RerankRequest(BaseModel):
    """The body of a request."""

    query: str
    documents: list[str]
    top_n: int | None = None
    deadline: float | None = None


def load() -> Reranker:
    """Load the model, once per process."""
    return load_reranker(os.environ.get("RERANK_MODEL", "rerank-mini-en"))


async def run_until_disconnect(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """Return the result of ``work``, or cancel it and return None if the client disconnects."""
    answer = asyncio.create_task(work)
    try:
        while not (await asyncio.wait((answer,), timeout=0.1))[0]:
            if await request.is_disconnected():
                return None
        return answer.result()
    finally:
        answer.cancel()


def create_app(load_model: Callable[[], Reranker] = load) -> FastAPI:
    """Create an app with one reranker, which is loaded when the server starts and closed when it stops."""
    deadline = float(os.environ.get("RERANK_DEADLINE", "2"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with load_model() as app.state.reranker:
            yield

    app = FastAPI(title="Reranker", lifespan=lifespan)

    @app.post("/rerank")
    async def rerank(body: RerankRequest, request: Request) -> list[dict[str, Any]]:
        reranker: Reranker = request.app.state.reranker
        seconds = deadline if body.deadline is None else min(body.deadline, deadline)
        work = reranker.arerank(body.query, body.documents, top_n=body.top_n, deadline=seconds, on_deadline="partial")
        results = await run_until_disconnect(request, work)
        return [{"index": result.index, "score": result.score} for result in results or ()]

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/stats")
    async def stats(request: Request) -> dict[str, Any]:
        counts = request.app.state.reranker.stats()
        return {**asdict(counts), "padding_share": counts.padding_share, "cache_hit_rate": counts.cache_hit_rate}

    @app.exception_handler(RerankError)
    async def report_error(_: Request, error: RerankError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return JSONResponse({"error": str(error)}, status, {"Retry-After": "1"} if status == 503 else None)

    return app


app = create_app()
