"""Keeping other writers off a file: a lock that ends with the process that holds it.

The lock is one that the operating system keeps, on a file of its own, so that a process that was killed
holds none, and a file that it left behind blocks nobody.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import time
import weakref
from pathlib import Path


def _try_to_lock(descriptor: int) -> None:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def share(descriptor: int) -> None:
    """Lock an HDF5 file as HDF5 does to read it, so that other programs do not open it for writing.

    Raises:
        BlockingIOError: One has.
    """
    fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)


# A follower looks for an instant whether a file is locked, by locking it; so once is not enough. On a busy
# machine it may have to wait for its turn right then. These are an eighth of a second in all.
_ATTEMPTS = 8
_FIRST_SECONDS = 0.001


def is_locked(path: Path) -> bool:
    """Tell whether a `LockedFile` has a file open, in this process or another."""
    try:
        # To write, as network file systems lock for good only what may be written.
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except PermissionError:
        descriptor = os.open(path, os.O_RDONLY)
    try:
        _try_to_lock(descriptor)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


_held: weakref.WeakSet[LockedFile] = weakref.WeakSet()


class LockedFile:
    """A file that no other `LockedFile`, of this process or another, has open; it is made if need be.

    Args:
        path: The file.

    Raises:
        BlockingIOError: Another has it open.
        OSError: It cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.process = os.getpid()
        for attempt in itertools.count(1):
            self.descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                _try_to_lock(self.descriptor)
                if self._is_in_place():
                    break
            except OSError as error:
                os.close(self.descriptor)
                if not isinstance(error, BlockingIOError):
                    raise
                if attempt == _ATTEMPTS:
                    raise BlockingIOError(error.errno, "locked", str(path)) from error
                time.sleep(_FIRST_SECONDS * 2 ** (attempt - 1))
            else:
                os.close(self.descriptor)  # whoever held it removed the file just now
        _held.add(self)

    def _is_in_place(self) -> bool:
        """Tell whether the path still leads to this file, which may have been moved or removed."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.descriptor))
        except FileNotFoundError:
            return False

    def is_empty(self) -> bool:
        """Tell whether there is nothing in it."""
        return os.fstat(self.descriptor).st_size == 0

    def close(self, remove: bool) -> bool:
        """Release the lock; closing again does nothing.

        Args:
            remove: Whether to remove the file, too.

        Returns:
            Whether it was removed.
        """
        if self.descriptor < 0:
            return False
        try:
            if remove and self._is_in_place():
                self.path.unlink()
                return True
        except OSError:
            pass  # it holds nothing, so it may as well stay
        finally:
            self._forget()
        return False

    def _forget(self) -> None:
        _held.discard(self)
        os.close(self.descriptor)
        self.descriptor = -1


def _leave_to_parent() -> None:
    """Close in a forked process what belongs to its parent, lest the lock outlive the parent."""
    for held in list(_held):
        held._forget()


os.register_at_fork(after_in_child=_leave_to_parent)
