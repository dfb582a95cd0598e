"""Holding back Ctrl-C while something is done that must be done whole."""

from __future__ import annotations

import signal
import threading
from typing import Any


class Uninterrupted:
    """Handles a Ctrl-C that comes during a `with` block only at its end.

    Python raises KeyboardInterrupt between any two instructions of the main thread, and nowhere else; so in
    other threads there is nothing to do.
    """

    def __enter__(self) -> None:
        """Begin to take note of Ctrl-C rather than to act on it."""
        self._received: list[tuple[Any, ...]] = []
        self._handler: Any = None
        if threading.get_ident() == threading.main_thread().ident:
            handler = signal.getsignal(signal.SIGINT)
            if callable(handler):
                self._handler = handler
                signal.signal(signal.SIGINT, self._note)

    def _note(self, *arguments: Any) -> None:
        self._received.append(arguments)

    def __exit__(self, *_: object) -> None:
        """Act on a Ctrl-C that came."""
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
            if self._received:
                self._handler(*self._received[-1])
