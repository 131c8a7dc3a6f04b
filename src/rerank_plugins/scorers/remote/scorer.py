"""Scores pairs with a reranker that runs on a server."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
from typing import Any, Self
from weakref import finalize

import httpx

from rerank_plugins._internal import fork
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.loading_options import MAX_QUEUED_PAIRS, LoadingOptions, check_remote
from rerank_plugins._internal.secret import Secret, as_secret
from rerank_plugins._internal.validation import check_pairs
from rerank_plugins.errors import (
    ClosedError,
    DeadlineExceededError,
    InvalidInputError,
    OverloadedError,
    RemoteTooLargeError,
    RemoteUnavailableError,
    ScoringError,
)
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair
from rerank_plugins.scorers.remote.address import find_key, parse_address
from rerank_plugins.scorers.remote.answers import read_scores
from rerank_plugins.scorers.remote.client import RemoteClient
from rerank_plugins.scorers.remote.dialect import Dialect
from rerank_plugins.scorers.remote.loop_thread import LoopThread
from rerank_plugins.scorers.remote.splitting import Part, encode, split
from rerank_plugins.stats import Counts

PARALLEL_REQUESTS = 8
"""The most requests of one call that are sent at the same time."""

# Threads and connections of a parent process: a child must not touch them, not even to free them.
_leaked: list[object] = []


class RemoteRequest:
    """The pairs of one call, on their way to a server and back."""

    queue_seconds = 0.0
    """What waits, waits at the server, which does not tell."""

    def __init__(self, future: concurrent.futures.Future[list[ScoredPair | None]]) -> None:
        self._future = future

    def result(self) -> list[ScoredPair | None]:
        """Wait for the scores: one a pair, in order; at a deadline, None for those that are missing."""
        try:
            return self._future.result()
        except concurrent.futures.CancelledError:
            raise _closed() from None
        except BaseException:
            self._future.cancel()  # the caller was interrupted: the server's answer is not waited for
            raise

    async def aresult(self) -> list[ScoredPair | None]:
        """`result` for event loops. Cancelling the task that waits gives the requests up."""
        try:
            return await asyncio.wrap_future(self._future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise _closed() from None


class RemoteScorer:
    """Scores pairs with a server. Safe to share between threads, event loops and forks.

    All requests run on one thread with an event loop, which starts with the first call and shares its connections
    among all callers; no call takes a thread.
    """

    fork_order = 0  # before the score cache

    def __init__(
        self,
        dialect: Dialect,
        url: str,
        key: Secret | None = None,
        *,
        max_queued_pairs: int = MAX_QUEUED_PAIRS,
        cache: ScoreCache | None = None,
    ) -> None:
        """``url`` is the endpoint. ``max_queued_pairs`` as in `load_reranker`."""
        self.dialect = dialect
        self.url = url
        self.scale: Scale = dialect.scale
        self._key = key
        self._max_queued_pairs = max_queued_pairs
        self._cache = cache
        self._counts = Counts()
        self._closed = False
        self._lock = fork.make_lock()
        self._connected: tuple[LoopThread, RemoteClient] | None = None
        self._finish = finalize(self, _do_nothing)
        self._waiting = 0
        fork.register(self)

    @classmethod
    def from_name(cls, model: str, **loading: Any) -> Self:
        """The scorer of a name such as ``"tei:http://host:8080"``; ``loading`` are options of `load_reranker`."""
        return cls.from_options(LoadingOptions(model, **loading))

    @classmethod
    def from_options(cls, options: LoadingOptions) -> Self:
        """The scorer of ``options.model``. Nothing is sent before the first call."""
        check_remote(options)
        address = parse_address(str(options.model))
        key = find_key(address.dialect, str(options.model), as_secret(options.api_key))
        dialect = address.dialect(address.model, options.instruction)
        if options.score_cache and dialect.listwise:
            raise InvalidInputError(
                f"score_cache={options.score_cache} cannot be used with {address.model}, whose score of a document "
                f"depends on the others of the call. Leave it out."
            )
        scorer = cls(dialect, address.url, key, max_queued_pairs=options.max_queued_pairs)
        if options.score_cache:
            scorer._cache = ScoreCache(scorer.identity, options.score_cache, options.score_cache_folder)
        return scorer

    @property
    def identity(self) -> str:
        """What scores depend on, as far as this side of the network knows: the server may change its model."""
        return json.dumps([self.dialect.name, self.url, self.dialect.model, self.dialect.instruction])

    def submit(self, pairs: list[Pair], /, *, deadline: Deadline | None = None) -> RemoteRequest:
        """Have pairs scored; returns at once.

        Raises `OverloadedError` if too many pairs wait already, `ClosedError` after `close`.
        """
        with self._lock:
            if self._closed:
                raise ClosedError("The reranker is closed. Load another with load_reranker(...).")
            if self._waiting and self._waiting + len(pairs) > self._max_queued_pairs:
                raise OverloadedError(
                    f"{self._waiting} pairs wait for {self.dialect.name} at {self.url} already, and {len(pairs)} more "
                    f"would exceed max_queued_pairs={self._max_queued_pairs}. Try again later, send fewer documents, "
                    f"or answer in retrieval order with on_error='keep_order'."
                )
            if self._connected is None:
                self._connected = self._start()
            thread, client = self._connected
            future = thread.run(self._score(client, pairs, deadline))
            self._waiting += len(pairs)
        future.add_done_callback(lambda done: self._forget(len(pairs), done))
        return RemoteRequest(future)

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One score a pair, in order, on ``scale``."""
        return [scored.score for scored in self.score_detailed(pairs)]

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """As `score`. Whether a pair was truncated is known only where it was cut before it was sent."""
        scored = self.submit(check_pairs(pairs)).result()
        return [pair for pair in scored if pair is not None]  # without a deadline none is missing

    def counts(self) -> dict[str, Any]:
        """Fields of `Stats` with their present values."""
        return self._counts.plus({"waiting_pairs": self._waiting})

    def close(self) -> None:
        """Give up what is asked, close the connections and end the thread. Calls that wait fail with `ClosedError`."""
        with self._lock:
            self._closed = True
        self._finish()
        if self._cache is not None:
            self._cache.close()

    # At a fork of the process.

    def before_fork(self) -> None:
        """Wait until no other thread starts or ends something."""
        self._lock.acquire()

    def after_fork(self, *, in_child: bool) -> None:
        """Go on; the child begins with connections of its own."""
        if in_child:
            _leaked.append((self._connected, self._finish.detach()))
            self._connected, self._finish, self._waiting = None, finalize(self, _do_nothing), 0
            # The lock is free: `make_lock` sees to that.
        else:
            self._lock.release()

    def _start(self) -> tuple[LoopThread, RemoteClient]:
        try:
            client = RemoteClient(self.dialect, self.url, self._key, self._counts)
        except (ValueError, ImportError, OSError, httpx.InvalidURL) as exc:
            # What the HTTP client reads from the environment. The parts of a wrong address may be those of a password.
            said = "InvalidURL" if isinstance(exc, httpx.InvalidURL) else f"{type(exc).__name__}: {exc}"
            raise RemoteUnavailableError(
                f"No connection to {self.url} can be prepared ({said}). Check the environment's "
                f"proxies (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) and certificates (SSL_CERT_FILE, SSL_CERT_DIR); a "
                f"socks5:// proxy needs `pip install socksio`."
            ) from None
        try:
            thread = LoopThread(f"rerank-plugins {self.dialect.name}", client.aclose)
        except RuntimeError as exc:
            raise ScoringError(
                f"No thread can be started to speak with {self.url} ({exc}). Raise this process's limit of threads."
            ) from exc
        # Called when this object is freed or the interpreter ends; the thread itself holds the client only.
        self._finish.detach()
        self._finish = finalize(self, thread.stop)
        return thread, client

    def _forget(self, pairs: int, done: concurrent.futures.Future[Any]) -> None:
        with self._lock:
            self._waiting -= pairs
        if done.cancelled():
            self._counts.add(cancelled=1)

    # On the thread of the event loop.

    async def _score(
        self, client: RemoteClient, pairs: list[Pair], deadline: Deadline | None
    ) -> list[ScoredPair | None]:
        scored: list[ScoredPair | None] = [None] * len(pairs)
        try:
            async with asyncio.timeout(None if deadline is None else deadline.left()):
                await self._fill(client, pairs, scored, deadline)
        except TimeoutError:
            if deadline is None:
                raise
            done = sum(one is not None for one in scored)
            if not deadline.partial:
                raise DeadlineExceededError(
                    f"{done} of {len(pairs)} documents had a score after deadline={deadline.seconds:g} s, from "
                    f"{self.dialect.name} at {self.url}. Give more time or fewer documents, or take what is there with "
                    f"on_deadline='partial'."
                ) from None
        return scored

    async def _fill(
        self, client: RemoteClient, pairs: list[Pair], scored: list[ScoredPair | None], deadline: Deadline | None
    ) -> None:
        """Put the scores into ``scored`` as they come: from the cache, and from requests side by side."""
        if self._cache is not None:
            scored[:] = self._cache.get(pairs)
            hits = sum(one is not None for one in scored)
            self._counts.add(cache_hits=hits, cache_misses=len(pairs) - hits)
        wanted = [position for position, one in enumerate(scored) if one is None]
        if not wanted:
            return
        await client.learn_limits(deadline)
        parts = split(self.dialect, pairs, wanted)
        room = asyncio.Semaphore(PARALLEL_REQUESTS)
        error: Exception | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for part in parts:
                    tasks.create_task(self._score_part(client, part, pairs, scored, room, deadline))
        except ExceptionGroup as group:
            error = group.exceptions[0]
        if error is not None:
            raise error

    async def _score_part(
        self,
        client: RemoteClient,
        part: Part,
        pairs: list[Pair],
        scored: list[ScoredPair | None],
        room: asyncio.Semaphore,
        deadline: Deadline | None,
    ) -> None:
        try:
            async with room:
                answer = await client.post(encode(self.dialect, part), deadline)
        except RemoteTooLargeError:
            if len(part.documents) == 1 or self.dialect.listwise:
                raise
            for half in part.halves():
                await self._score_part(client, half, pairs, scored, room, deadline)
            return
        scores = read_scores(self.dialect, answer, len(part.documents), client.where, client.key)
        billed = self.dialect.billed(answer)
        self._counts.add(tokens=billed.tokens, billed_units=billed.units)
        fresh = [ScoredPair(score, True if cut else None) for score, cut in zip(scores, part.cut, strict=True)]
        for position, one in zip(part.positions, fresh, strict=True):
            scored[position] = one
        if self._cache is not None:
            self._cache.put([pairs[position] for position in part.positions], fresh)


def _closed() -> ClosedError:
    return ClosedError("The reranker was closed while this call waited. Close it after the last call.")


def _do_nothing() -> None:
    """Nothing was started that has to end."""
