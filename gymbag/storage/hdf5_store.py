"""Writing the arrays of a data set in an HDF5 file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np

from gymbag.columns import ArraySpec
from gymbag.errors import DamagedFileError, RecordingError
from gymbag.storage.codecs import choose_compression, dataset_options
from gymbag.storage.hdf5_file import end_writing
from gymbag.storage.stream import ArrayStore

# What a chunk may hold at most: bytes; rows of the table of steps, or of that of episodes; ragged bytes.
_CHUNK_BYTES = 2 << 20
_STEPS, _EPISODES, _RAGGED_BYTES = 1 << 13, 1 << 11, 1 << 18

# While an array is rewritten, the new one has this behind its name, which no name of an array can have:
# `space_columns` writes a percent sign as %25.
_WIDER = "%wider"


def rows_per_chunk(path: str, spec: ArraySpec) -> int:
    """Choose how many rows of an array make a chunk: a power of two.

    Many rows take less space and time in all; few are read sooner when only some of them are wanted.

    >>> rows_per_chunk("observations", ArraySpec(np.dtype(np.uint8), (210, 160, 3)))
    16
    """
    if path.endswith("/data") and spec == ArraySpec(np.dtype(np.uint8)):
        most = _RAGGED_BYTES
    else:
        most = _EPISODES if path.startswith("episodes/") else _STEPS
    fitting = _CHUNK_BYTES // max(spec.row_bytes, 1)
    return min(1 << max(fitting.bit_length() - 1, 0), most)


class _GrowingArray:
    """An HDF5 dataset and the rows on their way to it, which are written a whole chunk at a time."""

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._chunk_rows = dataset.chunks[0]
        self._pending: list[np.ndarray] = []
        self._written = len(dataset)
        self.length = self._written

    def append(self, rows: np.ndarray) -> None:
        if not len(rows):
            return
        self._pending.append(rows)
        self.length += len(rows)
        if self.length - self._written >= self._chunk_rows:
            self._write(self.length - self.length % self._chunk_rows)

    def flush(self) -> None:
        self._write(self.length)

    def _write(self, end: int) -> None:
        """Write the rows up to row number `end`."""
        count = end - self._written
        if count <= 0:
            return
        rows = np.concatenate(self._pending)
        self._dataset.resize(end, axis=0)
        self._dataset[self._written : end] = rows[:count]
        self._written = end
        # A copy, or the few rows left would keep all of them in memory.
        self._pending = [rows[count:].copy()] if count < len(rows) else []


class HDF5Store(ArrayStore):
    """Writes the arrays of one data set.

    Args:
        file: The open file, which is closed with the store.
        name: Name of the data set.
    """

    def __init__(self, file: h5py.File, name: str) -> None:
        self._file = file
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._group = file[name]
        #: Hands over what is on its way to the store; set by who writes to it.
        self.flush_stream: Callable[[], None] | None = None
        self._arrays: dict[str, _GrowingArray] = {}
        self._dtypes: dict[str, np.dtype[Any]] = {}
        self._group.visititems(self._take)

    def _take(self, path: str, node: h5py.HLObject) -> None:
        if isinstance(node, h5py.Dataset) and not path.endswith(_WIDER):
            if node.maxshape[:1] != (None,):
                raise DamagedFileError(
                    f"{self._file.filename}: {node.name} cannot grow; record to a new file"
                )
            self._arrays[path] = _GrowingArray(node)
            self._dtypes[path] = node.dtype

    def create(self, specs: Mapping[str, ArraySpec]) -> None:
        """Make these arrays, without rows."""
        for path, spec in specs.items():
            self._take(path, self._create(path, spec))

    def _create(self, path: str, spec: ArraySpec) -> h5py.Dataset:
        return self._group.create_dataset(
            path,
            shape=(0, *spec.shape),
            # HDF5 wants every fixed axis to be at least as long as a chunk, which is at least 1.
            maxshape=(None, *(size or None for size in spec.shape)),
            chunks=(rows_per_chunk(path, spec), *(size or 1 for size in spec.shape)),
            dtype=spec.dtype,
            **dataset_options(choose_compression("gzip"), spec),
        )

    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        """Rewrite arrays with these dtypes, which hold all of their values exactly."""
        with self._lock:
            for path, spec in specs.items():
                self._arrays[path].flush()
                if path + _WIDER in self._group:  # left over from an attempt that failed
                    del self._group[path + _WIDER]
                old, new = self._group[path], self._create(path + _WIDER, spec)
                new.resize(len(old), axis=0)
                block = old.chunks[0]
                for start in range(0, len(old), block):
                    new[start : start + block] = old[start : start + block]
                del self._group[path]
                self._group.move(path + _WIDER, path)
                self._take(path, self._group[path])

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""
        return self._dtypes

    def append(self, path: str, rows: np.ndarray) -> None:
        """Add rows to an array.

        Raises:
            RecordingError: This is a forked process, whose parent has the file open.
        """
        if os.getpid() != self._process:
            raise RecordingError(
                f"{self._file.filename} is recorded to by process {self._process}, from which this one was "
                "forked; wrap the env in the process that steps it"
            )
        with self._lock:
            self._arrays[path].append(rows)

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array."""
        with self._lock:
            self._arrays[path].flush()
            rows: np.ndarray = self._group[path][start:stop]
            return rows

    def length(self, path: str) -> int:
        """Count the rows of an array."""
        return self._arrays[path].length if path in self._arrays else 0

    def flush(self) -> None:
        """Write everything to the file; in a forked process do nothing."""
        if os.getpid() != self._process:
            return
        if self.flush_stream is not None:
            self.flush_stream()
        with self._lock:
            if self._file:  # another thread may have closed it just now
                for array in self._arrays.values():
                    array.flush()
                self._file.flush()

    def close(self) -> None:
        """Write everything, and close the file."""
        try:
            with self._lock:
                try:
                    if self._file:
                        for array in self._arrays.values():
                            array.flush()
                finally:
                    self._file.close()
        finally:
            end_writing(self)  # without the lock, as a reader may be waiting for it
