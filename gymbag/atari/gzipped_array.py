"""An array that was saved with `numpy.save` and compressed with gzip, read row by row from its beginning.

This is how Dopamine writes the columns of its replay buffers. The array may be larger than memory.
"""

from __future__ import annotations

import contextlib
import gzip
import zlib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gymbag.errors import DamagedFileError


def open_gzip(path: Path) -> BinaryIO:
    """Open a gzip file for reading; with isal, which is several times faster, if that is installed."""
    library: Any = gzip
    with contextlib.suppress(ImportError):
        from isal import igzip as library
    file: BinaryIO = library.open(path, "rb")
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
            version = np.lib.format.read_magic(self._file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"found version {version} of the format")
            read = np.lib.format.read_array_header_1_0
            if version == (2, 0):
                read = np.lib.format.read_array_header_2_0
            shape, is_fortran, dtype = read(self._file)
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise DamagedFileError(
                f"{self.path}: expected an array of numpy.save, compressed with gzip: {error}"
            ) from error
        if is_fortran or dtype.kind not in "biuf":
            # An array of objects would be a pickle, which could run any code.
            raise DamagedFileError(
                f"{self.path}: expected numbers in C order, found dtype {dtype}"
                f"{' in Fortran order' if is_fortran else ''}"
            )
        return shape, dtype

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
                read = self._file.readinto(target[done:])  # type: ignore[attr-defined]
                if not read:
                    raise EOFError("the file ends too early")
                done += read
            self._rows_read += count
            if self.shape and self._rows_read == len(self) and self._file.read(1):
                # Reading to the very end has gzip's own checksum compared.
                raise ValueError("there is more behind the last row")
        except (ValueError, OSError, EOFError, zlib.error) as error:
            raise DamagedFileError(
                f"{self.path}: rows {first} to {first + count} of {len(self) if self.shape else 1} "
                f"cannot be read: {error}; get the file anew, as it is damaged"
            ) from error

    def read_all(self) -> np.ndarray:
        """Return the whole array.

        Raises:
            DamagedFileError: It cannot be read.
        """
        array = np.empty(self.shape, self.dtype)
        self.read_into(array.reshape(-1) if not self.shape else array)
        return array

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()
