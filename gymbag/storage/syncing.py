"""Forcing what was written to the disk, so that it survives the loss of power."""

from __future__ import annotations

import errno
import fcntl
import functools
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from gymbag.errors import StorageError

# What a file system answers that cannot do it at all, as some network drives cannot sync folders.
_UNABLE = (errno.EINVAL, errno.ENOTSUP)


class Syncer:
    """Syncs files and folders, until that fails for the first time.

    After a failure the system may have dropped what it could not write, and forgets the error once it has
    told it: a later sync that succeeds proves nothing. So none is tried, and each call raises again.

    Threads take turns, as of two that sync one file at once only one is told of an error.

    Args:
        is_active: Whether to sync at all.

    Attributes:
        is_active: Whether it does.
    """

    def __init__(self, is_active: bool = True) -> None:
        self.is_active = is_active
        self._lock = threading.Lock()
        self._failure: tuple[str, OSError] | None = None

    def check(self) -> None:
        """Make sure that nothing has failed so far.

        Raises:
            StorageError: Something has.
        """
        if self._failure is not None:
            what, error = self._failure
            raise StorageError(
                f"cannot sync {what} to the disk: {error.strerror}; what was synced before is safe"
            ) from error

    def sync(self, descriptor: int, what: str) -> None:
        """Return once all that was written to a file is on the disk.

        Args:
            descriptor: The file.
            what: What it is that matters of it, to be named in the error.

        Raises:
            StorageError: That failed, now or before.
        """
        self._do(functools.partial(_sync_file, descriptor), what)

    def sync_folder(self, folder: Path, what: str) -> None:
        """Return once all names of a folder are on the disk; see `sync`.

        Raises:
            StorageError: That failed, now or before.
        """
        self._do(functools.partial(_sync_folder, folder), what)

    def _do(self, sync: Callable[[], None], what: str) -> None:
        if not self.is_active:
            return
        with self._lock:
            self.check()
            try:
                sync()
            except OSError as error:
                self._failure = what, error
            self.check()


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
    finally:
        os.close(descriptor)


def _sync_file(descriptor: int) -> None:
    if sys.platform == "darwin":
        # There, fsync leaves the data in the cache of the drive.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
        except OSError as error:
            if error.errno not in _UNABLE:
                raise
            os.fsync(descriptor)
    elif hasattr(os, "fdatasync"):
        os.fdatasync(descriptor)  # the size, too, but not the times
    else:
        os.fsync(descriptor)
