"""An array that was saved with `numpy.save` and compressed with gzip, read row by row from its beginning.

This is how Dopamine writes the columns of its replay buffers. The array may be larger than memory.
"""

from __future__ import annotations

import gzip
import re
import zlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gymbag.errors import DamagedFileError

# How many bytes hold the size of the header, by version of the format.
_SIZE_BYTES = {b"\x93NUMPY\x01\x00": 2, b"\x93NUMPY\x02\x00": 4}

# What `numpy.save` writes in front of numbers; an old Python has an L behind integers.
_HEADER = re.compile(
    rb"\{'descr': '(?P<dtype>[<>|][biuf][1248])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>(\d{1,15}L?, ?)*(\d{1,15}L?)?)\),? *\} *\n"
)
_LONGEST_HEADER = 1 << 10

# How much is read at once. What gzip is asked for, it first makes as bytes of their own, so that all at once
# would take twice the memory and, as that is new to the process, ten times as long.
_PART_BYTES = 256 << 10


def _choose_library() -> tuple[Any, tuple[type[Exception], ...]]:
    """Return the library that reads gzip, and what it raises if the file is damaged."""
    errors: list[Any] = [ValueError, OSError, EOFError, zlib.error]
    try:
        from isal import igzip, igzip_lib
    except ImportError:
        return gzip, tuple(errors)
    return igzip, (*errors, igzip_lib.error)


_library, GZIP_ERRORS = _choose_library()


def open_gzip(path: Path) -> BinaryIO:
    """Open a gzip file for reading; with isal, which is several times faster, if that is installed."""
    file: BinaryIO = _library.open(path, "rb")
    return file


class GzippedArray(AbstractContextManager["GzippedArray"]):
    """Reads an array once, from its first row on.

    Args:
        path: The file.

    Attributes:
        path: The file.
        shape: The shape of the array.
        dtype: Its dtype: numbers or bools, never objects.

    Raises:
        DamagedFileError: The file is not there, or is no such array.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = open_gzip(path)
        except OSError as error:
            raise DamagedFileError(f"{path} cannot be opened: {error}") from error
        try:
            self.shape, self.dtype = self._read_header()
        except BaseException:
            self._file.close()
            raise
        self._rows_read = 0

    def _read_header(self) -> tuple[tuple[int, ...], np.dtype[Any]]:
        try:
            magic = self._file.read(8)
            if magic not in _SIZE_BYTES:
                raise ValueError(f"it begins with {magic!r}")
            size = int.from_bytes(self._file.read(_SIZE_BYTES[magic]), "little")
            header = self._file.read(min(size, _LONGEST_HEADER))
        except GZIP_ERRORS as error:
            raise DamagedFileError(
                f"{self.path}: expected an array of numpy.save, compressed with gzip: {error}"
            ) from error
        found = _HEADER.fullmatch(header)
        if not found:
            # An array of objects, for one, would be a pickle, which could run any code.
            raise DamagedFileError(f"{self.path}: expected an array of numbers in C order, found {header!r}")
        shape = tuple(
            int(size.rstrip(b"L")) for size in found["shape"].replace(b" ", b"").split(b",") if size
        )
        return shape, np.dtype(found["dtype"].decode())

    def __len__(self) -> int:
        """Count the rows."""
        return self.shape[0]

    def read_into(self, rows: np.ndarray) -> None:
        """Read the next rows.

        Args:
            rows: (K, ...), contiguous and of the array's dtype: where they belong.

        Raises:
            DamagedFileError: They are not all there, or cannot be read.
        """
        first, count = self._rows_read, len(rows)
        target = rows.reshape(-1).view(np.uint8).data
        done = 0
        try:
            while done < len(target):
                read = self._file.readinto(target[done : done + _PART_BYTES])  # type: ignore[attr-defined]
                if not read:
                    raise EOFError("the file ends too early")
                done += read
            self._rows_read += count
            if self.shape and self._rows_read == len(self) and self._file.read(1):
                # Reading to the very end has gzip's own checksum compared.
                raise ValueError("there is more behind the last row")
        except GZIP_ERRORS as error:
            raise DamagedFileError(
                f"{self.path}: rows {first} to {first + count} of {len(self) if self.shape else 1} "
                f"cannot be read: {error}; get the file anew, as it is damaged"
            ) from error

    def read_all(self) -> np.ndarray:
        """Return the whole array.

        Raises:
            DamagedFileError: It cannot be read.
        """
        try:
            array = np.empty(self.shape, self.dtype)
        except (MemoryError, ValueError) as error:
            raise DamagedFileError(
                f"{self.path}: there is no room in memory for shape {self.shape}"
            ) from error
        self.read_into(array.reshape(-1) if not self.shape else array)
        return array

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
