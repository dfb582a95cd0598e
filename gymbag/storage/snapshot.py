"""An HDF5 file as it is at one moment, while others may go on recording to it.

A writer changes the file only after it has said so in the journal (see `transaction`). So what was read is
right if the journal still says the same afterwards; else it is to be read again, from a new snapshot.
`docs/format.md` has this under "Reading it".
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import h5py

from gymbag.errors import DamagedFileError, FileInUseError, GymbagError, StorageError
from gymbag.storage.journal import (
    PREAMBLE_BYTES,
    JournalReader,
    check_base,
    journal_path,
    read_header,
)
from gymbag.storage.open_files import open_to_read
from gymbag.storage.transaction import OverlaidFile, parse_redo

#: What h5py raises when it meets damage.
DAMAGE = (OSError, RuntimeError, LookupError, TypeError, ValueError)

_REMEDY = "gymbag.salvage(file, new_file) saves what can still be read"
# A file that changes faster than it can be opened is being changed without end.
_MOST_ATTEMPTS = 1000

_Result = TypeVar("_Result")


class Snapshot:
    """A file that is open for reading.

    Args:
        path: The file.
        salvaging: Whether to pass over what is damaged in the journal.

    Attributes:
        path: The file.
        file: The HDF5 file, with the changes that its writer has committed.
        journal: The rows that are not in it yet, or None if there are none.
        damage: What of the journal was passed over, and why, or None.

    Raises:
        StorageError: It is not there, or may not be read.
        DamagedFileError: It is not an HDF5 file, or a damaged one.
    """

    file: Any = None
    _file_descriptor = _journal_descriptor = -1

    def __init__(self, path: Path, salvaging: bool = False) -> None:
        self.path = path
        # Where the writer has it, who may have come by another name.
        self._journal_path = journal_path(path.resolve())
        self._salvaging = salvaging
        for _ in range(_MOST_ATTEMPTS):
            self.journal: JournalReader | None = None
            self.damage: str | None = None
            self._journal_descriptor = self._open_journal()
            self._token = self._read_token()
            try:
                self._open()
            except BaseException as error:
                is_current = self.is_current()
                self.close()
                if is_current or not isinstance(error, GymbagError):
                    raise
            else:
                if self.is_current():
                    return
                self.close()
        raise FileInUseError(f"{path} is changed all the time, so that it cannot be read")

    def _open_journal(self) -> int:
        try:
            return os.open(self._journal_path, os.O_RDONLY)
        except FileNotFoundError:
            return -1
        except OSError as error:
            raise StorageError(f"cannot open {self._journal_path}: {error.strerror}") from error

    def _open(self) -> None:
        self._file_descriptor = _open_descriptor(self.path)
        size, pages = os.fstat(self._file_descriptor).st_size, dict[int, bytes]()
        if self._journal_descriptor >= 0:
            try:
                header = read_header(self._journal_descriptor)
                if header is not None:
                    journal = JournalReader(self._journal_descriptor, header)
                    redo = journal.redo()
                    if redo is not None:  # it contains the rows
                        size, pages = parse_redo(redo)
                    else:
                        check_base(header, self._file_descriptor)
                        self.journal = journal
                        journal.advance()
            except DamagedFileError as error:
                if not self._salvaging:
                    raise DamagedFileError(f"{self._journal_path}: {error}; {_REMEDY}") from error
                self.damage = str(error)
        # Not by its path: HDF5 would give what another snapshot of this process saw of the file.
        self.file = open_hdf5(self.path, OverlaidFile(self.path, self._file_descriptor, size, pages))

    def _read_token(self) -> tuple[object, ...]:
        """Return what is different once the file has been changed."""
        if self._journal_descriptor >= 0:
            preamble = os.pread(self._journal_descriptor, PREAMBLE_BYTES, 0)
            if preamble:
                return (preamble,)
            is_another = not os.fstat(self._journal_descriptor).st_nlink  # one may have taken its place
        else:
            is_another = self._journal_path.exists()
        if is_another:
            return (object(),)  # like no other, so that the file is opened anew
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return ()
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def is_current(self) -> bool:
        """Tell whether the file has not been changed since; rows may have been added to the journal."""
        return self._read_token() == self._token

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            self.file.close()
            self.file = None
        for descriptor in (self._journal_descriptor, self._file_descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._journal_descriptor = self._file_descriptor = -1

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        """Close the file, if nobody has: readers may just be forgotten, and descriptors stay open."""
        # At the interpreter's end the system closes them. HDF5 may be gone by then, and this module's names.
        if not is_finalizing():
            self.close()

    def __enter__(self) -> Snapshot:
        """Return the snapshot, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


def read_file(path: Path, read: Callable[[Snapshot], _Result], salvaging: bool = False) -> _Result:
    """Read something from a file, all of it from one and the same state of the file.

    Args:
        path: The file.
        read: Called with a snapshot, again if the file was changed meanwhile.
        salvaging: Whether to pass over what is damaged in the journal.

    Raises:
        DamagedFileError: The file is damaged.
    """
    for _ in range(_MOST_ATTEMPTS):
        with Snapshot(path, salvaging) as snapshot:
            try:
                result = read(snapshot)
            except GymbagError:
                if snapshot.is_current():
                    raise
            except DAMAGE as error:
                if snapshot.is_current():
                    raise DamagedFileError(f"{path} is damaged, and was not changed: {error}") from error
            else:
                if snapshot.is_current():
                    return result
    raise FileInUseError(f"{path} is changed all the time, so that it cannot be read")


def check_is_hdf5(path: Path) -> None:
    """Make sure that a file is there and HDF5 can open it.

    Raises:
        StorageError: It is not there, or may not be read.
        DamagedFileError: It is not an HDF5 file, or a damaged one.
    """
    Snapshot(path).close()


def _open_descriptor(path: Path) -> int:
    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise StorageError(f"expected an HDF5 file, found {found}: {path}")
    try:
        return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"cannot open {path}: {error.strerror}") from error


def open_hdf5(
    path: Path, file: OverlaidFile, open_file: Callable[[OverlaidFile], h5py.File] = open_to_read
) -> h5py.File:
    """Open an HDF5 file to read, whoever else has it open.

    Args:
        path: What to call it in errors.
        file: The file.
        open_file: What opens it.

    Raises:
        DamagedFileError: It is not an HDF5 file, or a damaged one.
    """
    try:
        return open_file(file)
    except OSError as error:
        reason = str(error)
        if "h5clear" in reason:
            raise DamagedFileError(
                f"{path} is being written by another program, or was not closed by it; if none is running, "
                f"HDF5's own tool may open it again: h5clear --status --increment {path}"
            ) from error
        if "signature not found" in reason:
            raise DamagedFileError(
                f"expected an HDF5 file, found {_first_bytes(path)}: {path}; nothing was changed"
            ) from error
        raise DamagedFileError(f"{path} cannot be opened, and was not changed: {reason}") from error


def _first_bytes(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(16)
    return f"a file that begins with {start!r}" if start else "an empty file"
