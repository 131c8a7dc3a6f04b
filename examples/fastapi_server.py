"""A reranking service: one model, shared by all requests.

Run it with: uvicorn fastapi_server:app
RERANK_MODEL names another model than the one in the box, RERANK_DEADLINE another most of seconds than 2.
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

STATUS = {InvalidInputError: 422, OverloadedError: 503, TimeoutError: 504}  # a deadline's error is one


class Question(BaseModel):
    """What is asked."""

    query: str
    documents: list[str]
    top_n: int | None = None
    deadline: float | None = None


def load() -> Reranker:
    """The model, once a process."""
    return load_reranker(os.environ.get("RERANK_MODEL", "rerank-mini-en"))


async def unless_gone(request: Request, work: Coroutine[Any, Any, Any]) -> Any:
    """What the work gives; None, and the work cancelled, when the client goes away first."""
    answer = asyncio.create_task(work)
    try:
        while not (await asyncio.wait((answer,), timeout=0.1))[0]:
            if await request.is_disconnected():
                return None
        return answer.result()
    finally:
        answer.cancel()


def create_app(loaded: Callable[[], Reranker] = load) -> FastAPI:
    """An app around one reranker, which is loaded when the server starts and closed when it stops."""
    deadline = float(os.environ.get("RERANK_DEADLINE", "2"))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with loaded() as app.state.reranker:
            yield

    app = FastAPI(title="Reranker", lifespan=lifespan)

    @app.post("/rerank")
    async def rerank(question: Question, request: Request) -> list[dict[str, Any]]:
        reranker: Reranker = request.app.state.reranker
        seconds = deadline if question.deadline is None else min(question.deadline, deadline)
        work = reranker.arerank(
            question.query, question.documents, top_n=question.top_n, deadline=seconds, on_deadline="partial"
        )
        results = await unless_gone(request, work)
        return [{"index": result.index, "score": result.score} for result in results or ()]

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/stats")
    async def stats(request: Request) -> dict[str, Any]:
        found = request.app.state.reranker.stats()
        return {**asdict(found), "padding_share": found.padding_share, "cache_hit_rate": found.cache_hit_rate}

    @app.exception_handler(RerankError)
    async def say(_: Request, error: RerankError) -> JSONResponse:
        status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
        return JSONResponse({"error": str(error)}, status, {"Retry-After": "1"} if status == 503 else None)

    return app


app = create_app()
