"""Doing something every so often, and whenever asked, in a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable


class Heartbeat:
    """Calls a function regularly until it is stopped, or the function returns False.

    Args:
        function: What to call. It must not raise.
        seconds: How long to wait between two calls.
    """

    def __init__(self, function: Callable[[], bool], seconds: float) -> None:
        self._function, self._seconds = function, min(seconds, threading.TIMEOUT_MAX)
        self._process = os.getpid()
        self._stopped = False
        self._awake = threading.Event()
        # A daemon, as the interpreter would wait for any other before it runs what stops this one.
        self._thread = threading.Thread(target=self._run, name="gymbag heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        avoid_processor_of(threading.main_thread())
        while True:
            self._awake.wait(self._seconds)
            self._awake.clear()
            if self._stopped or not self._function():
                return

    def hurry(self) -> None:
        """Have the function called soon."""
        self._awake.set()

    def stop(self) -> None:
        """Wait until the function is not running, and call it no more. Stopping again does nothing."""
        self._stopped = True
        # Threads do not survive a fork; and one that lets go of the last reference stops itself.
        if self._process == os.getpid() and threading.current_thread() is not self._thread:
            self._awake.set()
            self._thread.join()


def avoid_processor_of(other: threading.Thread) -> None:
    """Keep the calling thread off the processor that another thread runs on, where that can be told.

    Linux tends to wake a thread on the processor of the one that woke it, which then has to wait.
    """
    try:
        with open(f"/proc/self/task/{other.native_id}/stat", "rb") as file:  # noqa: PTH123  # not a user's
            # The 39th field; the second is a name in parentheses, which may hold spaces.
            processor = int(file.read().rpartition(b")")[2].split()[36])
        allowed = os.sched_getaffinity(0) - {processor}
        if allowed:
            os.sched_setaffinity(0, allowed)
    except (OSError, AttributeError, ValueError, IndexError):
        return  # it then runs wherever the system has it run
