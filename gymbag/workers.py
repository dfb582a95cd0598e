"""Threads that share the work on large arrays, where NumPy or a codec leaves the interpreter free."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

# More threads than these wait for memory rather than for processors.
_MOST = 4
# How many tasks may wait for each thread, so that none runs out of them, nor many hold memory.
_WAITING = 4

_Result = TypeVar("_Result")


class Workers:
    """Threads that do tasks; they are started when first needed, and anew in a forked process.

    `count` is how many there are: none where there is but one processor to work on.

    >>> import functools
    >>> done = []
    >>> Workers().run(functools.partial(done.append, number) for number in range(3))
    >>> sorted(done)
    [0, 1, 2]
    """

    def __init__(self) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = min(_MOST, processors) if processors > 1 else 0
        self._forget()
        if hasattr(os, "register_at_fork"):
            # A forked process has none of the threads, and one of them may have held the lock.
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def run(self, tasks: Iterable[Callable[[], object]]) -> None:
        """Do tasks in any order, a few at a time; a task must not run others.

        Raises:
            Exception: What a task raised, once none is under way.
        """
        waiting: deque[Future[object]] = deque()
        try:
            for task in tasks:
                future = self._submit(task)
                if future is None:
                    task()
                    continue
                waiting.append(future)
                if len(waiting) > _WAITING * self.count:
                    waiting.popleft().result()
            for future in waiting:
                future.result()
        finally:
            wait(waiting)

    def begin(self, task: Callable[[], _Result]) -> Callable[[], _Result]:
        """Begin to do a task; return what waits for it and returns its result, or raises what it raised."""
        future = self._submit(task)
        if future is None:
            result = task()
            return lambda: result
        return future.result

    def _submit(self, task: Callable[[], _Result]) -> Future[_Result] | None:
        """Have a thread do a task; return None if there is none to do it."""
        try:
            return self._threads().submit(task) if self.count else None
        except RuntimeError:  # the interpreter is about to exit, and starts no threads
            return None

    def _threads(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.count, "gymbag")
            return self._executor


#: Those that all of gymbag shares in this process.
workers = Workers()
