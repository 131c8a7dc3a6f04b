"""One model, many callers: whose pairs are computed next, and together with whose.

One worker thread for a model computes a batch at a time. A batch belongs to the request with the least work left, so
that small requests need not wait for large ones; of equal ones the first comes first. So that no request starves, the
work left of a request counts for less the more was done for others since it arrived (`AGEING`), and the first to arrive
leads a batch after `PATIENCE` others. Such a turn comes at most every second batch. Where the engine gains by it, small
batches are filled up with rows of other requests.
"""

from __future__ import annotations

import atexit
import heapq
import logging
import threading
from collections.abc import Sequence
from functools import partial
from weakref import WeakSet

from rerank_plugins._internal import fork
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins.errors import ClosedError, OverloadedError, ScoringError
from rerank_plugins.inference.request import ScoringRequest
from rerank_plugins.inference.worker import BatchWorker
from rerank_plugins.scorers.base import Pair
from rerank_plugins.stats import Counts

PATIENCE = 8
"""Batches in a row that others may lead before the request that arrived first leads one."""

AGEING = 1 / 8
"""Characters by which a request gains on others for every character that was done since it arrived.

A request that is not the shortest waits for about eight times its own work, and then takes turns with the shortest.
"""

SHUTDOWN_TIMEOUT = 10.0
"""Seconds that `Scheduler.close` and the end of the interpreter wait for a batch: an engine may hang."""

# Other requests that are looked at to fill a batch: more than fit into one.
_MAX_FILLERS = 64

_THREAD_NAME = "rerank-plugins worker"

_log = logging.getLogger("rerank_plugins.runtime")


class Scheduler:
    """Takes requests from any thread or event loop, and computes them on a thread of its own.

    The thread holds the scheduler: it ends only when the scheduler's owner calls `stop` or `close`.
    """

    fork_order = 0  # before the score cache: the batch that is being computed may want its lock

    def __init__(self, worker: BatchWorker, counts: Counts, *, max_queued_pairs: int) -> None:
        self._worker = worker
        self._counts = counts
        self._max_queued_pairs = max_queued_pairs
        self._closed = False
        self._reset()
        fork.register(self)
        with _registry:
            _schedulers.add(self)

    # For the callers' threads.

    def submit(self, pairs: Sequence[Pair], deadline: Deadline | None = None) -> ScoringRequest:
        """See `CrossEncoderScorer.submit`."""
        request = ScoringRequest(pairs, deadline)
        with self._changed:
            if self._closed:
                raise ClosedError("The reranker is closed. Load another with load_reranker(...).")
            self._check_queue(len(pairs))
            if self._thread is None or not self._thread.is_alive():
                self._start()  # before the request is added: it may fail
            request.arrived_at = self._worker.characters
            self._requests[id(request)] = request
            self._count(request, len(pairs))
            # A caller that gives up, at a deadline or because its task was cancelled, is forgotten at once. By its key:
            # a future that held its request would be a cycle, which only the garbage collector frees.
            request.future.add_done_callback(partial(self._forget, id(request)))
            self._changed.notify_all()
        return request

    def stop(self) -> None:
        """Refuse new requests and fail those that wait."""
        with self._changed:
            self._closed = True
            requests = list(self._requests.values())
            self._changed.notify_all()
        for request in requests:
            message = "The reranker was closed while this call waited. Close it after the last call."
            request.fail(ClosedError(message))

    def close(self) -> None:
        """`stop`, and wait for the batch that is being computed, `SHUTDOWN_TIMEOUT` at most."""
        self.stop()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(SHUTDOWN_TIMEOUT)

    def _check_queue(self, pairs: int) -> None:
        """Raise `OverloadedError` where so many more pairs are too many; the lock is held."""
        waiting = self.waiting_pairs
        if not waiting or waiting + pairs <= self._max_queued_pairs:
            return
        computed, forecast = self._worker.pairs, ""
        if computed:
            seconds = waiting * self._counts.plus({})["compute_seconds"] / computed
            forecast = f" (about {seconds:.1f} s of work)"
        raise OverloadedError(
            f"{waiting} pairs of {len(self._requests)} calls wait already{forecast}, and {pairs} more would exceed "
            f"max_queued_pairs={self._max_queued_pairs}. Try again later, send fewer documents, or answer in retrieval "
            f"order with on_error='keep_order'."
        )

    def _count(self, request: ScoringRequest, waiting: int) -> None:
        """Update the sum of waiting pairs; the lock is held."""
        self.waiting_pairs += waiting - request.counted
        request.counted = waiting

    def _forget(self, key: int, _: object = None) -> None:
        with self._changed:
            request = self._requests.pop(key, None)
            if request is None:
                return
            self._count(request, 0)
        if request.begin():  # its turn never came
            self._counts.add(queue_seconds=request.queue_seconds)
        if request.future.cancelled():
            self._counts.add(cancelled=1)

    # At a fork of the process.

    def before_fork(self) -> None:
        """Wait for the batch that is being computed: in the child it would never end."""
        with self._changed:
            self._forks += 1  # or the worker would take the lock again first
        self._busy.acquire()
        self._changed.acquire()

    def after_fork(self, *, in_child: bool) -> None:
        """Go on; the child begins empty, because requests belong to threads of the parent."""
        if in_child:
            self._reset()
            return
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()
        self._busy.release()

    def _reset(self) -> None:
        self._requests: dict[int, ScoringRequest] = {}
        self._computing: list[ScoringRequest] = []
        self.waiting_pairs = 0
        """Pairs without a score at this moment."""
        self._thread: threading.Thread | None = None
        self._passed_over = 0
        self._out_of_turn = False
        self._forks = 0
        self._changed = threading.Condition()
        self._busy = threading.RLock()

    # On the worker's thread.

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name=_THREAD_NAME, daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            raise ScoringError(
                f"No thread can be started to compute on ({exc}). Raise this process's limit of threads."
            ) from exc
        self._thread = thread

    def _run(self) -> None:
        try:
            while self._compute_batch():
                pass
        except BaseException as exc:  # noqa: BLE001 - whatever it is, callers wait for an answer
            self._replace_worker(exc)

    def _compute_batch(self) -> bool:
        """Wait for requests and compute one batch; False when there will be no more."""
        waiting = self._wait()
        if not waiting:
            return waiting is not None
        leader = self._choose_leader(waiting)
        self._computing = [leader]
        with self._busy:
            batch = leader.context.run(self._worker.build_batch, leader, self._fillers(leader, waiting))
            if batch:
                self._computing = [part.request for part in batch]
                leader.context.run(self._worker.compute, batch)
        with self._changed:
            for request in self._computing:
                if id(request) in self._requests:
                    self._count(request, request.waiting)
        self._computing = []
        return True

    def _wait(self) -> list[ScoringRequest] | None:
        """Wait for requests; None when there will be no more."""
        with self._changed:
            while (not self._requests or self._forks) and not self._closed:
                self._changed.wait()
            if self._closed:
                return None
            for key in [key for key, request in self._requests.items() if request.future.done()]:
                self._forget(key)  # its callback was interrupted; it would lead for ever
            return list(self._requests.values())

    def _choose_leader(self, waiting: list[ScoringRequest]) -> ScoringRequest:
        """The request whose batch is next, of those that wait in the order of their arrival."""
        leader = shortest = min(waiting, key=lambda request: request.characters)
        done = self._worker.characters
        if not self._out_of_turn and self._passed_over >= PATIENCE:
            leader = waiting[0]
        elif not self._out_of_turn:
            leader = min(waiting, key=lambda request: request.characters - AGEING * (done - request.arrived_at))
        self._out_of_turn = leader is not shortest
        self._passed_over = 0 if leader is waiting[0] else self._passed_over + 1
        return leader

    def _fillers(self, leader: ScoringRequest, waiting: list[ScoringRequest]) -> list[ScoringRequest]:
        others = (request for request in waiting if request is not leader)
        return heapq.nsmallest(_MAX_FILLERS, others, key=lambda request: request.characters)

    def _replace_worker(self, exc: BaseException) -> None:
        self._counts.add(worker_restarts=1)
        _log.error("The thread that computes ended with %s: %s. Another takes its place.", type(exc).__name__, exc)
        for request in self._computing:
            request.fail(ScoringError(f"The thread that computes ended while at work: {type(exc).__name__}: {exc}"))
        self._computing = []
        try:
            with self._changed:
                if not self._closed:
                    self._start()
        except ScoringError as error:
            for request in list(self._requests.values()):
                request.fail(error)


_schedulers: WeakSet[Scheduler] = WeakSet()
# A set must not change while it is iterated over.
_registry = fork.make_lock()


@atexit.register
def _close_all() -> None:
    # A thread that computes, or frees an engine, while the interpreter shuts down crashes the process. So threads are
    # joined also when their scheduler is gone.
    with _registry:
        schedulers = list(_schedulers)
    for scheduler in schedulers:
        scheduler.stop()
    for thread in threading.enumerate():
        if thread.name == _THREAD_NAME:
            thread.join(SHUTDOWN_TIMEOUT)
