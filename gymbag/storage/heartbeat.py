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
        name: Of the thread.
    """

    def __init__(
        self,
        function: Callable[[], float | None],
        seconds: float,
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
        # A daemon, as the interpreter would wait for any other before it runs what stops this one.
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
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
