"""Opening HDF5 files: clear errors, one writer at a time, and readers that make way for it.

HDF5 refuses to open a file for writing that the same process has open for reading. Readers of this
process therefore let go of their file when a writer comes, and open it again when they are asked
for more.
"""

from __future__ import annotations

import os
import weakref
from pathlib import Path
from typing import Any, Protocol

import h5py

from gymbag.errors import DamagedFileError, FileInUseError, StorageError

#: What identifies a file whatever the name it was opened under.
_FileId = tuple[int, int]


class _Holder(Protocol):
    def release(self) -> None:
        """Close the file, to be opened again on demand."""


class _Flusher(Protocol):
    def flush(self) -> None:
        """Write everything to the file."""


_readers: weakref.WeakKeyDictionary[Any, _FileId] = weakref.WeakKeyDictionary()
_writers: weakref.WeakValueDictionary[_FileId, Any] = weakref.WeakValueDictionary()


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
        # HDF5 1.10 and later read this version, and it lets arrays grow without bound at a flat
        # cost.
        return h5py.File(path, mode, libver=("v110", "v110"))
    except OSError as error:
        reason = str(error)
        if "lock" in reason or "already open" in reason or isinstance(error, BlockingIOError):
            raise FileInUseError(f"{path} is open in another process: {reason}") from error
        if "signature not found" in reason:
            raise DamagedFileError(
                f"expected an HDF5 file, found {_first_bytes(path)}: {path}; nothing was changed"
            ) from error
        if mode == "x" or not os.access(path, os.W_OK if mode == "r+" else os.R_OK):
            raise StorageError(f"cannot open {path}: {reason}") from error
        raise DamagedFileError(f"{path} cannot be opened, and was not changed: {reason}") from error


def open_for_reading(path: Path, holder: _Holder) -> h5py.File:
    """Open a file to read; a writer in this process first writes what it has collected.

    Raises:
        StorageError: There is no such file.
        DamagedFileError: It is not an HDF5 file, or a damaged one.
        FileInUseError: Another process is writing to it.
    """
    writer = _writers.get(_identify(path)) if path.exists() else None
    if writer is not None:
        writer.flush()
    file = open_file(path, "r")
    _readers[holder] = _identify(path)
    return file


def open_for_writing(path: Path) -> h5py.File:
    """Open a file to append to, or make it; `begin_writing` is to follow.

    Raises:
        StorageError: Its folder does not exist, or is not writable.
        DamagedFileError: It is not an HDF5 file, or a damaged one.
        FileInUseError: Another writer has it open.
    """
    if path.exists():
        check_unused(path)
        release_readers(path)
        return open_file(path, "r+")
    return open_file(path, "x")


def begin_writing(path: Path, flusher: _Flusher) -> None:
    """Note who is writing to a file, to be asked to flush when it is read in the same process."""
    _writers[_identify(path)] = flusher


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


def release_readers(path: Path) -> None:
    """Have all readers of this process let go of a file."""
    identity = _identify(path)
    for reader in [reader for reader, held in list(_readers.items()) if held == identity]:
        reader.release()


def end_writing(flusher: _Flusher) -> None:
    """Note that a writer has closed its file."""
    for identity in [identity for identity, writer in list(_writers.items()) if writer is flusher]:
        del _writers[identity]


def _identify(path: Path) -> _FileId:
    status = path.stat()
    return status.st_dev, status.st_ino


def _first_bytes(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return f"a file that begins with {start!r}" if start else "an empty file"
