"""Threads that share the work on large arrays, where NumPy or a codec leaves the interpreter free."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

# More threads than these wait for memory rather than for processors.
_MOST = 4


class Workers:
    """Threads that do tasks; they are started when first needed, and anew in a forked process.

    `count` is how many there are: none where there is but one processor to work on.

    >>> Workers().submit(lambda: None).result()
    """

    def __init__(self) -> None:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.count = min(_MOST, processors) if processors > 1 else 0
        self._forget()
        if hasattr(os, "register_at_fork"):
            # A forked process has none of the threads, and another one may have held the lock.
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None

    def submit(self, task: Callable[[], None]) -> Future[None]:
        """Have a task done: by one of the threads, or right here if there are none."""
        try:
            if self.count:
                return self._start().submit(task)
        except RuntimeError:  # the interpreter is about to exit, and starts no more threads
            pass
        task()
        done: Future[None] = Future()
        done.set_result(None)
        return done

    def _start(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self.count, "gymbag")
            return self._executor


#: Those that all of gymbag shares in this process.
workers = Workers()
