"""Reading the arrays of a data set in an HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from gymbag.errors import DamagedFileError
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.hdf5_file import FileOnDemand
from gymbag.storage.stream import ArraySource


class HDF5Source(FileOnDemand, ArraySource):
    """Reads the arrays of one data set, as long as they are when the file is opened.

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
        self._readers: dict[str, ChunkReader] = {}
        file[self._name].visititems(self._take)

    def _take(self, path: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and node.shape:
            self._datasets[path] = node

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
            return len(self._reader(path))

    def _reader(self, path: str) -> ChunkReader:
        try:
            return self._readers[path]
        except KeyError:
            if path not in self._datasets:
                raise DamagedFileError(f"{self._path}: {self._name} has no array {path}") from None
        reader = self._readers[path] = ChunkReader(self._datasets[path])
        return reader

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array, as a new array.

        Raises:
            DamagedFileError: The file has no such rows, or they cannot be read.
        """
        with self._guard():
            self._open()
            reader = self._reader(path)
            if not 0 <= start <= stop <= len(reader):
                raise DamagedFileError(
                    f"{self._path}: expected rows {start} to {stop} of {self._name}/{path}, "
                    f"which has {len(reader)}"
                )
            try:
                return reader.read(start, stop)
            except DamagedFileError as error:
                raise DamagedFileError(
                    f"{self._path}: rows {start} to {stop} of {self._name}/{path} cannot be read: {error}"
                ) from error
