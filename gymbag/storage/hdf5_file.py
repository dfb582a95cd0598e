"""Files that are opened when they are needed, and what this process is recording to them."""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Protocol

from gymbag.errors import DamagedFileError, GymbagError
from gymbag.storage.snapshot import DAMAGE, Snapshot


class _Flusher(Protocol):
    def flush_for_readers(self) -> None:
        """Put everything recorded so far where readers find it."""


# By what identifies a file whatever the name it was opened under.
_writers: weakref.WeakValueDictionary[tuple[int, int], Any] = weakref.WeakValueDictionary()


def note_writer(path: Path, writer: _Flusher) -> None:
    """Note who is recording to a file, to be asked to flush when it is read in the same process."""
    _writers[_identify(path)] = writer


def _identify(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def flush_writer(path: Path) -> None:
    """Have who is recording to a file in this process, if anybody, keep what was recorded so far."""
    writer = _writers.get(_identify(path)) if path.exists() else None
    if writer is not None:
        writer.flush_for_readers()


# The writers of a forked process's parent are not its own.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_writers.clear)


class FileOnDemand(ABC):
    """Something that reads from an HDF5 file, which is opened when it is needed.

    That is at the first read, again after `close`, when a writer has changed it, and in a process that was
    forked from, or was sent the object by, the one that opened it. Threads take turns.

    Args:
        path: The file.
        salvaging: Whether to pass over what is damaged in the journal.
    """

    #: The attributes that another process needs to open the file by itself.
    _address: ClassVar[tuple[str, ...]] = ("_path", "_salvaging")

    def __init__(self, path: Path, salvaging: bool = False) -> None:
        self._path, self._salvaging = path, salvaging
        self._forget()

    @abstractmethod
    def _take_up(self, snapshot: Snapshot) -> None:
        """Get ready to read from a file that has just been opened."""

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._snapshot: Snapshot | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Hand over nothing but the address."""
        return {name: vars(self)[name] for name in self._address if name in vars(self)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take up the address, and open the file when it is needed."""
        vars(self).update(state)
        self._forget()

    def _guard(self) -> threading.RLock:
        """Return the lock to hold while reading from the file; a forked process begins anew."""
        if self._process != os.getpid():
            self._forget()
        return self._lock

    def _open(self) -> Snapshot:
        """Make sure that the file is open; the lock must be held.

        Raises:
            StorageError: The file is not there, or cannot be read.
        """
        if self._snapshot is None:
            flush_writer(self._path)
        while self._snapshot is None:
            snapshot = Snapshot(self._path, self._salvaging)
            try:
                self._take_up(snapshot)
            except (*DAMAGE, GymbagError) as error:
                is_current = snapshot.is_current()
                snapshot.close()
                if not is_current:
                    continue  # it was changed meanwhile
                if isinstance(error, GymbagError):
                    raise
                raise DamagedFileError(f"{self._path} is damaged, and was not changed: {error}") from error
            except BaseException:
                snapshot.close()
                raise
            else:
                self._snapshot = snapshot
        return self._snapshot

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        with self._guard():
            if self._snapshot is not None:
                self._snapshot.close()
                self._snapshot = None
