"""Taking turns: of several processes that make the same file, one does, and the others wait for it."""

from __future__ import annotations

import time
from pathlib import Path

from gymbag.atari.notices import notify
from gymbag.storage.lock import LockedFile

_SECONDS_BETWEEN_LOOKS = 0.2


def wait_for_turn(path: Path, doing: str) -> LockedFile:
    """Lock a file, as soon as nobody else has it locked; if that is to be waited for, say so on stderr.

    Args:
        path: The file, which is made if need be.
        doing: What the other process is doing, for people to read.

    Raises:
        OSError: It cannot be opened.
    """
    waiting = False
    while True:
        try:
            return LockedFile(path)
        except BlockingIOError:
            if not waiting:
                notify(f"waiting for another process, which is {doing}")
            waiting = True
            time.sleep(_SECONDS_BETWEEN_LOOKS)
