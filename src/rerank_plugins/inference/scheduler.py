"""Many callers, one model: whose pairs are computed next, and together with whose.

One worker thread for a model takes a batch at a time. A batch belongs to the request with the least left to do, so
that nobody waits for a large one who has little to ask; of equal ones the first comes first. So that nobody starves,
what a request has left counts for less the more was done for others since it came (`AGEING`), and the one that came
first leads a batch after `PATIENCE` others. Such a turn comes at most every second batch. Where the engine gains by
it, small batches are filled up with rows of others.
"""

from __future__ import annotations

import atexit
import heapq
import logging
import os
import threading
from collections.abc import Sequence
from functools import partial
from weakref import WeakSet, finalize

# Before this module has its hooks for forks: the last to register is asked first. A fork must wait for the batch at
# work before it takes the cache's lock, which that batch may want.
import rerank_plugins.inference.score_cache  # noqa: F401
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins.errors import ClosedError, OverloadedError, ScoringError
from rerank_plugins.inference.batching import Limits
from rerank_plugins.inference.request import ScoringRequest
from rerank_plugins.inference.worker import BatchWorker, Work
from rerank_plugins.scorers.base import Pair
from rerank_plugins.stats import Counts

PATIENCE = 8
"""Batches in a row that others may lead before the request that came first leads one."""

AGEING = 1 / 8
"""Characters that a request gains on others for every character that was done since it came: one that is not the
shortest waits for about eight times its own work, and then takes turns with the shortest."""

# Others that are looked at to fill a batch: more than fit into one.
_FILLERS = 64


class Scheduler:
    """Takes requests from any thread or event loop. Ends when it is closed or no longer used."""

    def __init__(self, work: Work, limits: Limits, *, max_queued_pairs: int) -> None:
        """See `load_reranker` for ``max_queued_pairs``."""
        self._queue = _Queue(work, limits, max_queued_pairs)
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
        """Refuse what comes, fail what waits, and wait for the batch that is being computed, ten seconds at most."""
        self._queue.close()
        self._queue.join()


class _Queue:
    """The requests, and the thread that works on them."""

    def __init__(self, work: Work, limits: Limits, max_queued_pairs: int) -> None:
        self.counts = Counts()
        self._worker = BatchWorker(work, limits, self.counts)
        self._max_queued_pairs = max_queued_pairs
        self._closed = False
        self.after_fork()
        with _adding:
            _queues.add(self)

    # From the callers' threads.

    def put(self, request: ScoringRequest) -> None:
        if not request.pairs:
            request.settle()
            return
        with self._changed:
            if self._closed:
                raise ClosedError("The reranker is closed. Load another with load_reranker(...).")
            waiting = self._waiting
            if waiting and waiting + len(request.pairs) > self._max_queued_pairs:
                raise OverloadedError(
                    f"{waiting} pairs of {len(self._requests)} calls wait already{self._forecast(waiting)}, and "
                    f"{len(request.pairs)} more would exceed max_queued_pairs={self._max_queued_pairs}. Try again "
                    f"later, send fewer documents, or answer in retrieval order with on_error='keep_order'."
                )
            if self._thread is None or not self._thread.is_alive():
                self._start()  # before anything waits for it
            request.came_at = self._worker.characters
            self._requests[id(request)] = request
            self._count(request)
            # Whoever gives up, at a deadline or because its task was cancelled, is forgotten at once. By its key: a
            # future that held its request would be garbage only the collector finds.
            request.future.add_done_callback(partial(self._forget, id(request)))
            self._changed.notify_all()

    def token_budget(self) -> int:
        return self._worker.token_budget

    def waiting_pairs(self) -> int:
        return self._waiting

    def _count(self, request: ScoringRequest, waiting: int | None = None) -> None:
        """Keep the sum of what waits; the lock is held."""
        now = request.waiting if waiting is None else waiting
        self._waiting += now - request.counted
        request.counted = now

    def _forecast(self, waiting: int) -> str:
        computed = self._worker.pairs
        if not computed:
            return ""
        seconds = waiting * self.counts.plus({})["compute_seconds"] / computed
        return f" (about {seconds:.1f} s of work)"

    def _forget(self, key: int, _: object = None) -> None:
        with self._changed:
            request = self._requests.pop(key, None)
            if request is None:
                return
            self._count(request, 0)
        if request.begin():  # its turn never came
            self.counts.add(queue_seconds=request.queue_seconds)
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
        self._requests: dict[int, ScoringRequest] = {}
        self._waiting = 0
        self._thread: threading.Thread | None = None
        self._passed_over = 0
        self._out_of_turn = False
        self._forks = 0
        self._changed = threading.Condition()
        self._busy = threading.RLock()

    # From here on: the worker's thread.

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="rerank-plugins worker", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:
            raise ScoringError(f"No thread can be started to compute on ({exc}). Let this process have more.") from exc
        self._thread = thread
        with _starting:
            _threads.difference_update([known for known in _threads if not known.is_alive()])
            _threads.add(thread)

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
        try:
            with self._changed:
                if not self._closed:
                    self._start()
        except ScoringError as error:
            for request in list(self._requests.values()):
                request.fail(error)

    def _step(self, in_hand: list[ScoringRequest]) -> bool:
        """One batch, of the requests that it puts in hand. False when there will be no more."""
        with self._changed:
            while (not self._requests or self._forks) and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            for key in [key for key, request in self._requests.items() if request.future.done()]:
                self._forget(key)  # its callback was cut off; it would lead for ever
            waiting = list(self._requests.values())
        if not waiting:
            return True
        leader = self._leader(waiting)
        in_hand.append(leader)
        with self._busy:
            leader.context.run(self._worker.serve, leader, self._fillers(leader, waiting), in_hand)
        with self._changed:
            for request in in_hand:
                if id(request) in self._requests:
                    self._count(request)
        return True

    def _leader(self, waiting: list[ScoringRequest]) -> ScoringRequest:
        """Whose batch is next, of those that wait, the first that came first."""
        leader = shortest = min(waiting, key=lambda request: request.characters)
        done = self._worker.characters
        if self._out_of_turn:
            pass
        elif self._passed_over >= PATIENCE:
            leader = waiting[0]
        else:
            leader = min(waiting, key=lambda request: request.characters - AGEING * (done - request.came_at))
        self._out_of_turn = leader is not shortest
        self._passed_over = 0 if leader is waiting[0] else self._passed_over + 1
        return leader

    def _fillers(self, leader: ScoringRequest, waiting: list[ScoringRequest]) -> list[ScoringRequest]:
        if not self._worker.shared_slots:
            return []
        others = (request for request in waiting if request is not leader)
        return heapq.nsmallest(_FILLERS, others, key=lambda request: request.characters)


_log = logging.getLogger("rerank_plugins.runtime")

# Seconds that the end of an interpreter waits for a batch. An engine that hangs must not hold it up for ever.
_LONGEST_GOODBYE = 10.0

_queues: WeakSet[_Queue] = WeakSet()
_threads: set[threading.Thread] = set()
# A set must not change while it is walked. The one for queues is held over a fork, and taken before any other.
_adding, _starting = threading.Lock(), threading.Lock()
_forking = threading.local()


@atexit.register
def _close_all() -> None:
    # A thread that computes, or takes an engine apart, while the interpreter is taken apart crashes the process. So
    # threads are joined also whose queue is gone.
    with _adding:
        queues = list(_queues)
    for queue in queues:
        queue.close()
    with _starting:
        threads = list(_threads)
    for thread in threads:
        thread.join(_LONGEST_GOODBYE)


def _before_fork() -> None:
    _adding.acquire()
    # In one order for all threads that fork, so that none waits for what another holds.
    _forking.queues = sorted(_queues, key=id)
    for queue in _forking.queues:
        queue.before_fork()


def _after_fork_in_parent() -> None:
    for queue in _forking.queues:
        queue.after_fork_in_parent()
    _forking.queues = []
    _adding.release()


def _after_fork_in_child() -> None:
    global _adding, _starting
    _adding, _starting = threading.Lock(), threading.Lock()
    _threads.clear()
    for queue in _forking.queues:
        queue.after_fork()
    _forking.queues = []


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
