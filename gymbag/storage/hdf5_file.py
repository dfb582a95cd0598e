"""Opening HDF5 files: clear errors, one writer at a time, and readers that make way for it.

HDF5 refuses to open a file for writing that the same process has open for reading. Readers of this
process therefore let go of their file when a writer comes, and open it again when they are asked
for more.
"""

from __future__ import annotations

import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Protocol

import h5py

from gymbag.errors import DamagedFileError, FileInUseError, GymbagError, StorageError

#: What identifies a file whatever the name it was opened under.
_FileId = tuple[int, int]


class _Flusher(Protocol):
    def flush(self) -> None:
        """Write everything to the file."""


_readers: weakref.WeakKeyDictionary[Any, _FileId] = weakref.WeakKeyDictionary()
_writers: weakref.WeakValueDictionary[_FileId, Any] = weakref.WeakValueDictionary()
_registry = threading.Lock()  # around the readers, which any thread may open
_descriptors: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()


def open_file(path: Path, mode: str) -> h5py.File:
    """Open an HDF5 file in a mode of h5py: r, r+ or x.

    Raises:
        StorageError: It is not there, or may not be opened.
        DamagedFileError: It is not an HDF5 file, or a damaged one.
        FileInUseError: Another process has it open.
    """
    if mode != "x" and not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise StorageError(f"expected an HDF5 file, found {found}: {path}")
    try:
        # HDF5 1.10 and later read this version, and it lets arrays grow without bound at a flat cost.
        return h5py.File(path, mode, libver=("v110", "v110"))
    except OSError as error:
        reason = str(error)
        if "unable to lock file" in reason or isinstance(error, BlockingIOError):
            raise FileInUseError(
                f"{path} is open in another process, which records to it or reads it; close it there first"
            ) from error
        if not os.access(path, os.W_OK if mode == "r+" else os.R_OK) or mode == "x":
            raise StorageError(f"cannot open {path}: {reason}") from error
        if "already open" in reason and "h5clear" not in reason:
            raise FileInUseError(f"{path} is open in this process; close it there first") from error
        if "h5clear" in reason:
            raise DamagedFileError(
                f"{path} was not closed, because the process that recorded to it was killed; HDF5's own tool "
                f"may open it again: h5clear --status --increment {path}"
            ) from error
        if "signature not found" in reason:
            raise DamagedFileError(
                f"expected an HDF5 file, found {_first_bytes(path)}: {path}; nothing was changed"
            ) from error
        raise DamagedFileError(f"{path} cannot be opened, and was not changed: {reason}") from error


@contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """Turn what h5py raises on reading a damaged file into an error of our own.

    Raises:
        DamagedFileError: The block raised such an error.
    """
    try:
        yield
    except GymbagError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(f"{path} is damaged, and was not changed: {error}") from error


class FileOnDemand(ABC):
    """Something that reads from an HDF5 file, which is opened when it is needed.

    That is at the first read, again after `close`, and again in a process that was forked from, or was sent
    the object by, the one that opened it. Threads take turns.

    Args:
        path: The file.
    """

    #: The attributes that another process needs to open the file by itself.
    _address: ClassVar[tuple[str, ...]] = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path
        self._forget()

    @abstractmethod
    def _take_up(self, file: h5py.File) -> None:
        """Get ready to read from a file that has just been opened."""

    def _forget(self) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._file: h5py.File | None = None

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

    def _open(self) -> None:
        """Make sure that the file is open; the lock must be held.

        Raises:
            StorageError: The file is not there, or cannot be read.
        """
        if self._file is not None:
            return
        writer = _writers.get(_identify(self._path)) if self._path.exists() else None
        if writer is not None:
            writer.flush()  # what it has collected is to be read, too
        file = open_file(self._path, "r")
        try:
            with damage_explained(self._path):
                self._take_up(file)
        except BaseException:
            file.close()
            raise
        self._file = file
        with _registry:
            _readers[self] = _identify(self._path)

    def close(self) -> None:
        """Close the file; reading again opens it again."""
        with self._guard():
            if self._file is not None:
                self._file.close()
                self._file = None


def open_for_writing(path: Path) -> h5py.File:
    """Open a file to append to, or make it; `begin_writing` is to follow.

    Raises:
        StorageError: Its folder does not exist, or is not writable.
        DamagedFileError: It is not an HDF5 file, or a damaged one.
        FileInUseError: Another writer has it open.
    """
    if path.exists():
        check_unused(path)
        _release_readers(_identify(path))
        return open_file(path, "r+")
    return open_file(path, "x")


def begin_writing(path: Path, file: h5py.File, flusher: _Flusher) -> None:
    """Note who is writing to a file, to be asked to flush when it is read in the same process."""
    _writers[_identify(path)] = flusher
    _descriptors[flusher] = file.id.get_vfd_handle()


def _disarm() -> None:
    """Keep a forked process from writing to the files of its parent.

    Its copy of the HDF5 library would, as it ends, write what it knew of them at the fork.
    """
    global _registry
    _registry = threading.Lock()  # another thread of the parent may have held it
    for descriptor in _descriptors.values():
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, descriptor)
        os.close(null)
    _descriptors.clear()
    _writers.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_disarm)


def check_unused(path: Path) -> None:
    """Refuse a file that a writer of this process has open.

    Raises:
        FileInUseError: One has.
    """
    if _identify(path) in _writers:
        raise FileInUseError(
            f"{path} is being recorded to by another env of this process; close that env first, or record "
            "to another file"
        )


def _release_readers(identity: _FileId) -> None:
    with _registry:
        readers = [reader for reader, held in list(_readers.items()) if held == identity]
    for reader in readers:
        reader.close()


def end_writing(flusher: _Flusher) -> None:
    """Note that a writer has closed its file, so that readers see what it wrote last."""
    for identity in [identity for identity, writer in list(_writers.items()) if writer is flusher]:
        del _writers[identity]
        _descriptors.pop(flusher, None)
        _release_readers(identity)


def _identify(path: Path) -> _FileId:
    status = path.stat()
    return status.st_dev, status.st_ino


def _first_bytes(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return f"a file that begins with {start!r}" if start else "an empty file"
