"""Reading what will be asked for next in a thread of its own, while the present is being used.

Decompression lets other threads run, so a training loop that works on one block of frames need not wait for
the next.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


class OngoingReads:
    """The reads that threads are doing for one reader, so that closing it can wait for them."""

    def __init__(self) -> None:
        self._forget()

    def _forget(self) -> None:
        self._process = os.getpid()
        self._lock = threading.Lock()
        # An executor keeps a call until it is done, and nobody else needs to.
        self._futures: weakref.WeakSet[Future[Any]] = weakref.WeakSet()

    def add(self, future: Future[Any]) -> None:
        """Note a read that has been handed to a thread."""
        if self._process != os.getpid():  # a forked process has none of its parent's threads
            self._forget()
        with self._lock:
            self._futures.add(future)

    def settle(self) -> None:
        """Return once no thread reads any more; those that have not begun will not."""
        if self._process == os.getpid():
            with self._lock:
                futures = list(self._futures)
            wait([future for future in futures if not future.cancel()])

    def __reduce__(self) -> tuple[type[OngoingReads], tuple[()]]:
        """Begin without any in another process."""
        return OngoingReads, ()


class ReadAhead(Generic[_Result]):
    """Reads one thing at a time in a thread, which ends when this object is gone.

    Args:
        ongoing: Where to note what is being read.
    """

    def __init__(self, ongoing: OngoingReads) -> None:
        self._ongoing = ongoing
        self._process = os.getpid()
        self._executor: ThreadPoolExecutor | None = None
        self._begun: tuple[int, Future[_Result]] | None = None

    def begin(self, number: int, read: Callable[[int], _Result]) -> None:
        """Have the thread read number so-and-so; `read` must not hold this object, lest the thread stay."""
        self._begun = None
        if self._process != os.getpid():
            return
        try:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(1, "gymbag-read-ahead")
            future = self._executor.submit(read, number)
        except RuntimeError:  # threads have run out, or the interpreter is about to exit
            return
        self._ongoing.add(future)
        self._begun = number, future

    def take(self, number: int) -> _Result | None:
        """Return what was read under that number, or None if that was not begun or was called off."""
        begun, self._begun = self._begun, None
        if begun is None:
            return None
        future = begun[1]
        # A forked process has the future, but not the thread that would fulfil it.
        if begun[0] != number or self._process != os.getpid() or future.cancel():
            future.cancel()
            return None
        return future.result()

    def end(self) -> None:
        """Let the thread end."""
        self._executor = None
