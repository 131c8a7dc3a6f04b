"""Many callers, one model: whose pairs are computed next, and together with whose.

One worker thread for a model takes a batch at a time. A batch belongs to the request with the least left to do, so
that nobody waits for a large one who has little to ask; of equal ones the first comes first. The request that has
waited longest gets a batch at the latest after `PATIENCE` others. Where the engine gains by it, small batches are
filled up with rows of others.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections.abc import Sequence
from weakref import WeakSet, finalize

# Before this module has its hooks for forks: the last to register is asked first. A fork must wait for the batch at
# work before it takes the cache's lock, which that batch may want.
import rerank_plugins.score_cache  # noqa: F401
from rerank_plugins.batch_worker import BatchWorker, Work
from rerank_plugins.deadline import Deadline
from rerank_plugins.errors import ClosedError, OverloadedError, ScoringError
from rerank_plugins.scorer import Pair
from rerank_plugins.scoring_request import ScoringRequest
from rerank_plugins.stats import Counts

PATIENCE = 8
"""Batches in a row that may pass over the request that came first."""


class Scheduler:
    """Takes requests from any thread or event loop. Ends when it is closed or no longer used."""

    def __init__(self, work: Work, *, token_budget: int, shared_slots: int, max_queued_pairs: int) -> None:
        """See `load_reranker` for ``max_queued_pairs``."""
        self._queue = _Queue(work, token_budget, shared_slots, max_queued_pairs)
        self.counts = self._queue.counts
        # The thread holds the queue and not the scheduler: one that is dropped without being closed ends as well.
        finalize(self, self._queue.close).atexit = False

    @property
    def token_budget(self) -> int:
        """Slots of a batch at most: what was given, or less since memory ran out."""
        return self._queue.token_budget()

    def submit(self, pairs: Sequence[Pair], deadline: Deadline | None = None) -> ScoringRequest:
        """Have pairs scored; returns at once.

        Raises:
            OverloadedError: Too many pairs wait.
            ClosedError: After `close`.
        """
        request = ScoringRequest(pairs, deadline)
        self._queue.put(request)
        return request

    def waiting_pairs(self) -> int:
        """Pairs without a score at this moment."""
        return self._queue.waiting_pairs()

    def close(self) -> None:
        """Refuse what comes, fail what waits, and wait for the batch that is being computed."""
        self._queue.close()
        self._queue.join()


class _Queue:
    """The requests, and the thread that works on them."""

    def __init__(self, work: Work, token_budget: int, shared_slots: int, max_queued_pairs: int) -> None:
        self.counts = Counts()
        self._worker = BatchWorker(work, token_budget, shared_slots, self.counts)
        self._max_queued_pairs = max_queued_pairs
        self._requests: dict[int, ScoringRequest] = {}
        self._passed_over = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self.after_fork()
        _queues.add(self)

    # From the callers' threads.

    def put(self, request: ScoringRequest) -> None:
        if not request.pairs:
            request.settle()
            return
        with self._changed:
            if self._closed:
                raise ClosedError("The reranker is closed. Load another with load_reranker(...).")
            waiting = self.waiting_pairs()
            if waiting and waiting + len(request.pairs) > self._max_queued_pairs:
                self.counts.add(overloaded=1)
                raise OverloadedError(
                    f"{waiting} pairs of {len(self._requests)} calls wait already{self._forecast(waiting)}, and "
                    f"{len(request.pairs)} more would exceed max_queued_pairs={self._max_queued_pairs}. Try again "
                    f"later, send fewer documents, or answer in retrieval order with on_error='keep_order'."
                )
            self._requests[id(request)] = request
            # Whoever gives up, at a deadline or because its task was cancelled, is forgotten at once.
            request.future.add_done_callback(lambda _: self._forget(request))
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._changed.notify_all()

    def token_budget(self) -> int:
        return self._worker.token_budget

    def waiting_pairs(self) -> int:
        return sum(request.waiting for request in list(self._requests.values()))

    def _forecast(self, waiting: int) -> str:
        computed = self._worker.pairs
        if not computed:
            return ""
        seconds = waiting * self.counts.plus({})["compute_seconds"] / computed
        return f" (about {seconds:.1f} s of work)"

    def _forget(self, request: ScoringRequest) -> None:
        with self._changed:
            self._requests.pop(id(request), None)
        if request.future.cancelled() and not request.expired and not request.closed:
            self.counts.add(cancelled=1)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            waiting = list(self._requests.values())
            self._changed.notify_all()
        for request in waiting:
            request.close()

    def join(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_LONGEST_GOODBYE)

    # The locks, and what a fork does to them.

    def before_fork(self) -> None:
        """Wait for the batch that is being computed: in the child it would never end."""
        with self._changed:
            self._forks += 1  # or the worker would take the lock again before we get it
        self._busy.acquire()
        self._changed.acquire()

    def after_fork_in_parent(self) -> None:
        self._forks -= 1
        self._changed.notify_all()
        self._changed.release()
        self._busy.release()

    def after_fork(self) -> None:
        """What waits belongs to threads of the parent; the next caller starts a thread of this process."""
        self._requests, self._thread, self._passed_over, self._forks = {}, None, 0, 0
        self._changed = threading.Condition()
        self._busy = threading.RLock()

    # From here on: the worker's thread.

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="rerank-plugins worker", daemon=True)
        self._thread.start()
        _threads.difference_update([thread for thread in _threads if not thread.is_alive()])
        _threads.add(self._thread)

    def _run(self) -> None:
        in_hand: list[ScoringRequest] = []
        try:
            while self._step(in_hand):
                in_hand.clear()
        except BaseException as exc:  # noqa: BLE001 - whatever it is, callers wait for an answer
            self._died(exc, in_hand)

    def _died(self, exc: BaseException, in_hand: list[ScoringRequest]) -> None:
        self.counts.add(worker_restarts=1)
        _log.error("The thread that computes ended with %s: %s. Another takes its place.", type(exc).__name__, exc)
        for request in in_hand:
            request.fail(ScoringError(f"The thread that computes ended while at work: {type(exc).__name__}: {exc}"))
        with self._changed:
            if not self._closed:
                self._start()

    def _step(self, in_hand: list[ScoringRequest]) -> bool:
        """One batch, of the requests that it puts in hand. False when there will be no more."""
        with self._changed:
            while (not self._requests or self._forks) and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            first = next(iter(self._requests.values()))
            waiting = sorted(self._requests.values(), key=lambda request: request.characters)
        leader = first if self._passed_over >= PATIENCE else waiting[0]
        in_hand.append(leader)
        others = (request for request in waiting if request is not leader)
        with self._busy:
            leader.context.run(self._worker.serve, leader, others, in_hand)
        self._passed_over = 0 if first in in_hand else self._passed_over + 1
        return True


_log = logging.getLogger("rerank_plugins.runtime")

# Seconds that the end of an interpreter waits for a batch. An engine that hangs must not hold it up for ever.
_LONGEST_GOODBYE = 10.0

_queues: WeakSet[_Queue] = WeakSet()
_threads: set[threading.Thread] = set()
_forking = threading.local()


@atexit.register
def _close_all() -> None:
    # A thread that computes, or takes an engine apart, while the interpreter is taken apart crashes the process. So
    # threads are joined also whose queue is gone.
    for queue in list(_queues):
        queue.close()
    for thread in list(_threads):
        thread.join(_LONGEST_GOODBYE)


def _before_fork() -> None:
    # In one order for all threads that fork, so that none waits for what another holds.
    _forking.queues = sorted(_queues, key=id)
    for queue in _forking.queues:
        queue.before_fork()


def _after_fork_in_parent() -> None:
    for queue in _forking.queues:
        queue.after_fork_in_parent()
    _forking.queues = []


def _after_fork_in_child() -> None:
    _threads.clear()
    for queue in _forking.queues:
        queue.after_fork()
    _forking.queues = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
