"""One client for all dialects: connections, timeouts, and what is tried again."""

from __future__ import annotations

import asyncio
import functools
import random
from typing import Any

import httpx

from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.secret import Secret
from rerank_plugins.errors import RemoteResponseError, RemoteUnavailableError
from rerank_plugins.scorers.remote.answers import parse_json
from rerank_plugins.scorers.remote.dialect import Dialect
from rerank_plugins.scorers.remote.failures import Failure, from_status, without_key
from rerank_plugins.stats import Counts

TRIES = 4
"""How often a request is sent before its error is the caller's."""

LONGEST_WAIT = 30.0
"""Seconds: a server that asks to wait longer is not waited for. A deadline may end the waiting earlier."""

CONNECT_TIMEOUT = 5.0

ANSWER_TIMEOUT = 120.0
"""Seconds without a byte of the answer: a large model on a CPU computes a request for a minute."""

MAX_CONNECTIONS = 64

# Bytes. Scores take about fifty each, and a server may send the documents back.
_LARGEST_ANSWER = 64_000_000

# Seconds before the second try where the server does not say; doubled before each later one.
_FIRST_WAIT = 0.25


# Reading the certificates takes a tenth of a second.
_create_tls_context = functools.cache(httpx.create_ssl_context)


class RemoteClient:
    """Speaks with one server. All its methods are for one event loop."""

    def __init__(self, dialect: Dialect, url: str, key: Secret | None, counts: Counts) -> None:
        self.dialect = dialect
        self.url = url
        self.where = f"{dialect.name} at {url}"
        self.key = key
        self._counts = counts
        self._asked_limits = False
        self._asking_limits = asyncio.Lock()
        headers = {
            "accept": "application/json",
            "content-type": "application/json",
            "user-agent": "rerank-plugins",
        }
        if key is not None:
            headers["authorization"] = f"Bearer {key.reveal()}"
        self._http = httpx.AsyncClient(
            headers=headers,
            verify=_create_tls_context(),
            # A call may wait for a connection as long as its deadline lets it.
            timeout=httpx.Timeout(ANSWER_TIMEOUT, connect=CONNECT_TIMEOUT, pool=None),
            limits=httpx.Limits(max_connections=MAX_CONNECTIONS),
        )

    async def post(self, body: bytes, deadline: Deadline | None) -> Any:
        """The JSON of the answer to a request; raises `RemoteError`."""
        return parse_json(await self._ask("POST", self.url, body, deadline), self.where, self.key)

    async def learn_limits(self, deadline: Deadline | None) -> None:
        """Ask the server for its limits, once, where its dialect has a path for it."""
        path = self.dialect.info_path
        async with self._asking_limits:
            if path is None or self._asked_limits:
                return
            url = self.url.removesuffix(self.dialect.path) + path
            outcome = await self._repeat("GET", url, None, deadline)
            if isinstance(outcome, bytes):
                self.dialect.learn(parse_json(outcome, f"{self.dialect.name} at {url}", self.key))
            elif outcome.status not in (404, 405):  # a proxy may let nothing through but the endpoint
                raise outcome.error()
            self._asked_limits = True

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _ask(self, method: str, url: str, body: bytes | None, deadline: Deadline | None) -> bytes:
        outcome = await self._repeat(method, url, body, deadline)
        if isinstance(outcome, Failure):
            raise outcome.error()
        return outcome

    async def _repeat(self, method: str, url: str, body: bytes | None, deadline: Deadline | None) -> bytes | Failure:
        """The body of the answer, or why there is none after the last try."""
        attempt = 1
        while True:
            self._counts.add(http_requests=1, http_retries=attempt > 1)
            outcome = await self._attempt(method, url, body)
            if isinstance(outcome, bytes):
                return outcome
            wait = _jitter(outcome.wait, attempt)
            longest = LONGEST_WAIT if deadline is None else min(LONGEST_WAIT, deadline.left())
            if not outcome.again or attempt == TRIES or wait > longest:
                return outcome.after(attempt)
            await asyncio.sleep(wait)
            attempt += 1

    async def _attempt(self, method: str, url: str, body: bytes | None) -> bytes | Failure:
        status = None
        try:
            async with self._http.stream(method, url, content=body) as response:
                status = response.status_code
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _LARGEST_ANSWER:
                        return Failure(
                            RemoteResponseError,
                            f"{self.where} sent more than {_LARGEST_ANSWER:,} bytes. Check which server it is.",
                            status,
                        )
        except (httpx.HTTPError, httpx.InvalidURL) as exc:
            return self._explain(exc, status)
        if response.is_success:
            return bytes(content)
        return from_status(self.dialect, self.where, status, response.headers, bytes(content), self.key)

    def _explain(self, exc: Exception, status: int | None) -> Failure:
        """The failure that an error of the connection stands for; ``status`` if the answer had begun."""
        said = without_key(self.key, f"{type(exc).__name__}: {exc}".removesuffix(": "))
        if isinstance(exc, httpx.DecodingError) or (status is not None and not isinstance(exc, httpx.TimeoutException)):
            message = f"The answer of {self.where} broke off or cannot be read ({said}). Look into the server's log."
            # A wrong content-encoding is so each time, and each answer may be billed.
            again = not isinstance(exc, httpx.DecodingError)
            return Failure(RemoteResponseError, message, status, again=again, cause=exc)
        if isinstance(exc, httpx.ReadTimeout | httpx.WriteTimeout):
            # Not again: the server may still be computing the first one.
            message = f"{self.where} sent nothing for {ANSWER_TIMEOUT:g} s. Send fewer documents, or a deadline."
            return Failure(RemoteUnavailableError, message, status, cause=exc)
        message = f"{self.where} cannot be reached ({said}). Check that it runs, and the address."
        again = isinstance(exc, httpx.NetworkError | httpx.ConnectTimeout | httpx.RemoteProtocolError)
        return Failure(RemoteUnavailableError, message, status, again=again, cause=exc)


def _jitter(asked: float | None, attempt: int) -> float:
    """Seconds to wait: what the server asks for and a little more, or a time that doubles."""
    if asked:  # 0 says that it may be tried again, and not when
        return asked + random.uniform(0.0, 0.1 * asked)  # noqa: S311 - so that callers do not come back together
    return _FIRST_WAIT * 2.0 ** (attempt - 1) * random.uniform(0.5, 1.0)  # noqa: S311 - the same
