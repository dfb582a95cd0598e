"""Reading the arrays of a data set in an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gymbag.errors import DamagedFileError
from gymbag.storage.hdf5_file import FileOnDemand
from gymbag.storage.stream import ArraySource


class HDF5Source(FileOnDemand, ArraySource):
    """Reads the arrays of one data set, as long as they are when the file is opened.

    The latest chunks of each array are kept, as small reads mostly follow one another.

    Args:
        path: The file.
        name: Name of the data set.
    """

    _address = ("_path", "_name")

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self._name = name

    def _take_up(self, file: h5py.File) -> None:
        self._datasets: dict[str, h5py.Dataset] = {}
        self._lengths: dict[str, int] = {}
        self._chunk_rows: dict[str, int] = {}
        self._chunks: dict[str, dict[int, np.ndarray]] = {}
        file[self._name].visititems(self._take)

    def _take(self, path: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and node.shape:
            self._datasets[path] = node
            self._lengths[path] = len(node)
            # Other tools may have rewritten the file without chunks.
            self._chunk_rows[path] = node.chunks[0] if node.chunks else len(node) + 1

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""
        with self._guard():
            self._open()
            return {path: dataset.dtype for path, dataset in self._datasets.items()}

    def length(self, path: str) -> int:
        """Count the rows of an array.

        Raises:
            DamagedFileError: There is no such array.
        """
        with self._guard():
            self._open()
            return self._length(path)

    def _length(self, path: str) -> int:
        try:
            return self._lengths[path]
        except KeyError:
            raise DamagedFileError(f"{self._path}: {self._name} has no array {path}") from None

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array, as a new array.

        Raises:
            DamagedFileError: The file has no such rows, or they cannot be read.
        """
        with self._guard():
            self._open()
            length = self._length(path)
            if not 0 <= start <= stop <= length:
                raise DamagedFileError(
                    f"{self._path}: expected rows {start} to {stop} of {self._name}/{path}, "
                    f"which has {length}"
                )
            chunk_rows = self._chunk_rows[path]
            first, last = start // chunk_rows, max(stop - 1, start) // chunk_rows
            if stop == start or last - first > 1:
                return self._load(path, start, stop)
            parts = []
            for number in range(first, last + 1):
                offset = number * chunk_rows
                chunk = self._chunk(path, number, offset, min(offset + chunk_rows, length))
                parts.append(chunk[max(start - offset, 0) : stop - offset])
            if len(parts) == 1:
                return parts[0].copy()
            return np.concatenate(parts, dtype=parts[0].dtype)  # keeps the byte order

    def _chunk(self, path: str, number: int, start: int, stop: int) -> np.ndarray:
        """Return a chunk, and keep the latest two: small reads follow one another, also across a border."""
        kept = self._chunks.setdefault(path, {})
        if number not in kept:
            rows = self._load(path, start, stop)
            while len(kept) > 1:
                del kept[next(iter(kept))]
            kept[number] = rows
        return kept[number]

    def _load(self, path: str, start: int, stop: int) -> np.ndarray:
        try:
            rows: np.ndarray = self._datasets[path][start:stop]
            return rows
        except OSError as error:
            raise DamagedFileError(
                f"{self._path}: rows {start} to {stop} of {self._name}/{path} cannot be read: {error}"
            ) from error
