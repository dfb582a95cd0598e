"""Doing something when it is due, and whenever asked, in a thread of its own."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable


class Heartbeat:
    """Calls a function again and again until it is stopped.

    Each call makes the other threads give up the interpreter for a moment, which may cost them more than the
    call itself: on a small env, call it a few times a second at most.

    Args:
        function: What to call. It returns in how many seconds it is to be called again, at the latest, or
            None never to be. It must not raise.
        seconds: In how many seconds it is first to be called.
        aside: Whether to keep off the processor that the calling thread runs on now.
        name: Of the thread.
    """

    def __init__(
        self,
        function: Callable[[], float | None],
        seconds: float,
        aside: bool = False,
        name: str = "gymbag heartbeat",
    ) -> None:
        self._function, self._seconds = function, seconds
        self._process = os.getpid()
        self._stopped = False
        self._next: Callable[[], None] | None = None
        # Free when the function is to be called soon. An event, of more parts, would have the thread keep the
        # interpreter from the others for longer.
        self._alarm = threading.Lock()
        self._alarm.acquire()
        self._avoided = _processor() if aside else None
        # A daemon, as the interpreter would wait for any other before it runs what stops this one.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        _avoid(self._avoided)
        seconds: float | None = self._seconds
        while seconds is not None:
            self._alarm.acquire(timeout=min(seconds, threading.TIMEOUT_MAX))
            if self._stopped:
                return
            seconds = self._function()
            if self._next is not None:
                self._next()
                return

    def hurry(self) -> None:
        """Have the function called soon."""
        if self._alarm.locked():
            with contextlib.suppress(RuntimeError):  # somebody else has just done so
                self._alarm.release()

    def call_after(self, function: Callable[[], None]) -> bool:
        """If this is called from within the function, have another called once that returns, and end.

        Returns:
            Whether it is.
        """
        is_inside = threading.current_thread() is self._thread
        if is_inside:
            self._next = function
        return is_inside

    def stop(self) -> None:
        """Wait until the function is not running, and call it no more. Stopping again does nothing."""
        self._stopped = True
        # Threads do not survive a fork; and one that lets go of the last reference stops itself.
        if self._process == os.getpid() and threading.current_thread() is not self._thread:
            self.hurry()
            self._thread.join()


def _processor() -> int | None:
    """Return the processor that the calling thread runs on, where that can be told."""
    try:
        with open("/proc/thread-self/stat", "rb") as file:  # noqa: PTH123  # not a user's
            # The 39th field; the second is a name in parentheses, which may hold spaces.
            return int(file.read().rpartition(b")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return None


def _avoid(processor: int | None) -> None:
    """Keep the calling thread off a processor, if there is another one.

    Linux tends to wake a thread on the processor of the one that woke it, which then has to wait.
    """
    if processor is not None:
        allowed = os.sched_getaffinity(0) - {processor}
        if allowed:
            with contextlib.suppress(OSError):  # it then runs wherever the system has it run
                os.sched_setaffinity(0, allowed)
