"""Writing the arrays of a data set: rows are made into chunks, and go to the journal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import h5py
import numpy as np

from gymbag.columns import ArraySpec, Rows
from gymbag.errors import DamagedFileError
from gymbag.storage.base import Header
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.codecs import Codec, Compression, dataset_options
from gymbag.storage.folding import rewrite
from gymbag.storage.hdf5_layout import arrays_of, create_data_set
from gymbag.storage.journal import NewRows
from gymbag.storage.stream import ArrayStore
from gymbag.storage.writable_file import WritableFile

# What a chunk may hold at most: bytes; rows of the table of steps, or of that of episodes; ragged bytes.
_CHUNK_BYTES = 2 << 20
_STEPS, _EPISODES, _RAGGED_BYTES = 1 << 13, 1 << 11, 1 << 18

# While an array is rewritten, the new one has this behind its name, which no name of an array can have:
# `space_columns` writes a percent sign as %25.
_WIDER = "%wider"

# What waits to be written to the journal, and the journal itself, are not to become larger than this.
_LARGEST_WAITING = 1 << 23
_LARGEST_JOURNAL = 1 << 26


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


def _has_row_per_step(path: str) -> bool:
    table, *parts = path.split("/")
    return table not in ("episodes", "sessions") and not {"items", "data"} & set(parts)


class _GrowingArray:
    """The rows of one array on their way to the journal.

    All whole chunks are encoded as soon as they are full. The rows of the open one are kept, and written
    to the journal as they are.
    """

    def __init__(self, path: str, dataset: h5py.Dataset, open_reader: Callable[[str], ChunkReader]) -> None:
        self._path, self._open_reader = path, open_reader
        self.dtype, self.shape = dataset.dtype, dataset.shape[1:]
        self.chunk_rows: int = dataset.chunks[0]
        self.length = self._journaled = len(dataset)
        self._chunk_start = self.length - self.length % self.chunk_rows
        # Up to here the open chunk is in the file, from where it is read once the chunk is full.
        self._in_file = self.length
        self._buffer: np.ndarray | None = None
        self.chunks: list[NewRows] = []
        # Whether the journal, or the file, has rows behind the last one that are to be replaced.
        self._has_open_rows = False

    @cached_property
    def _codec(self) -> Codec | None:
        return self._open_reader(self._path).codec  # by whom few rows are recorded does without

    def append(self, rows: Rows) -> None:
        """Add rows, which are copied, or needed no more when this returns."""
        if isinstance(rows, list):
            self._append_parts(rows)
            return
        while len(rows):
            used = self.length - self._chunk_start
            count = min(len(rows), self.chunk_rows - used)
            new, rows = rows[:count], rows[count:]
            self.length += count
            if used + count == self.chunk_rows:
                self._end_chunk(used, [new])
            else:
                self._keep(used, [new])

    def _append_parts(self, parts: list[np.ndarray]) -> None:
        used = self.length - self._chunk_start
        new: list[np.ndarray] = []  # of the open chunk, which so many came before
        for part in parts:
            at = 0
            while at < len(part):
                count = min(len(part) - at, self._chunk_start + self.chunk_rows - self.length)
                new.append(part[at : at + count])
                at += count
                self.length += count
                if self.length == self._chunk_start + self.chunk_rows:
                    self._end_chunk(used, new)
                    used, new = 0, []
        self._keep(used, new)

    def _keep(self, used: int, new: list[np.ndarray]) -> None:
        """Copy rows of the open chunk, of which `used` came before."""
        for part in new:
            if self._buffer is None:
                self._buffer = np.empty((self.chunk_rows, *self.shape), self.dtype)
            self._buffer[used : used + len(part)] = part
            used += len(part)

    def _end_chunk(self, used: int, parts: list[np.ndarray]) -> None:
        """Encode a chunk of which `used` rows came before."""
        start, stop = self._chunk_start, self.length
        if self._codec is None:
            if self._buffer is not None:
                parts.insert(0, self._buffer[self._journaled - start : used])
            self.chunks.append(self._raw(self._journaled, np.concatenate(parts, dtype=self.dtype)))
        else:
            if used:
                parts.insert(0, self._before(used))
            data = self._codec.encode(*parts)
            self.chunks.append(NewRows(self._path, start, stop - start, "chunk", data))
        self._chunk_start = self._journaled = stop

    def _before(self, used: int) -> np.ndarray:
        """Return the first rows of the open chunk."""
        in_file = self._in_file - self._chunk_start
        if in_file <= 0:
            assert self._buffer is not None
            return self._buffer[:used]
        rows = [self._open_reader(self._path).read(self._chunk_start, self._in_file)]
        if self._buffer is not None:
            rows.append(self._buffer[in_file:used])
        return np.concatenate(rows, dtype=self.dtype)

    def _raw(self, first_row: int, rows: np.ndarray) -> NewRows:
        # Not copied, as they are written before any more come.
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        return NewRows(self._path, first_row, len(rows), "raw", data)

    def take(self, open_rows: Rows | None) -> list[NewRows]:
        """Return what the journal does not have yet.

        Args:
            open_rows: Rows that are to stand behind the last one until there is more to say.
        """
        entries, self.chunks = self.chunks, []
        start, count = self._journaled, self.length - self._journaled
        parts = [open_rows] if isinstance(open_rows, np.ndarray) else list(open_rows or ())
        if count and self._buffer is not None:
            used = start - self._chunk_start
            parts.insert(0, self._buffer[used : used + count])
        if parts or self._has_open_rows:
            if len(parts) != 1 or parts[0].dtype != self.dtype:
                parts = [np.concatenate([np.empty((0, *self.shape), self.dtype), *parts], dtype=self.dtype)]
            entries.append(self._raw(start, parts[0]))
        self._has_open_rows = open_rows is not None and len(open_rows) > 0
        self._journaled = self.length
        return entries

    def widen(self, dataset: h5py.Dataset) -> None:
        """Go on with another dtype; the file has all rows."""
        vars(self).pop("_codec", None)
        self.dtype = dataset.dtype
        self._buffer, self._in_file = None, self.length


class HDF5Store(ArrayStore):
    """Writes the arrays of one data set.

    Args:
        file: The file, which is closed with the store.
        header: What the data set is called and holds, should it have to be made.
        compression: How to compress the arrays of a new data set.
        chunk_rows: How many steps make a chunk of a new data set, instead of what `rows_per_chunk` chooses.
    """

    def __init__(
        self, file: WritableFile, header: Header, compression: Compression, chunk_rows: int | None = None
    ) -> None:
        self.file, self._header = file, header
        self._name = header.name
        self._compression, self._chunk_rows = compression, chunk_rows
        self._arrays: dict[str, _GrowingArray] = {}
        self._waiting = 0
        # Of the file that is open just now.
        self._opened: h5py.File | None = None
        self._readers: dict[str, ChunkReader] = {}
        if file.path.exists():
            with file.opened() as opened:
                if self._name in opened:
                    for path, dataset in arrays_of(opened[self._name]).items():
                        if dataset.maxshape[0] is not None:
                            raise DamagedFileError(f"{file.path}: {dataset.name} cannot grow; use a new file")
                        self._arrays[path] = _GrowingArray(path, dataset, self._reader)

    def create(self, specs: Mapping[str, ArraySpec]) -> None:
        """Make these arrays, without rows, and the data set, if there is none yet."""
        with self.file.change() as opened:
            if self._name not in opened:
                create_data_set(opened, self._header)
            group = opened[self._name]
            for path, spec in specs.items():
                self._arrays[path] = _GrowingArray(path, self._create(group, path, spec), self._reader)

    def _create(self, group: h5py.Group, path: str, spec: ArraySpec) -> h5py.Dataset:
        name = path.removesuffix(_WIDER)
        rows = rows_per_chunk(name, spec)
        if self._chunk_rows is not None and _has_row_per_step(name):
            rows = self._chunk_rows
        return group.create_dataset(
            path,
            shape=(0, *spec.shape),
            # HDF5 wants every fixed axis to be at least as long as a chunk, which is at least 1.
            maxshape=(None, *(size or None for size in spec.shape)),
            chunks=(rows, *(size or 1 for size in spec.shape)),
            dtype=spec.dtype,
            **dataset_options(self._compression, spec),
        )

    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        """Rewrite arrays with these dtypes, which hold all of their values exactly; `flush` comes first."""
        with self.file.change() as opened:
            group = opened[self._name]
            for path, spec in specs.items():
                wider = self._create(group, path + _WIDER, spec)
                rewrite(group[path], wider)
                del group[path]
                group.move(path + _WIDER, path)
                self._arrays[path].widen(group[path])

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""
        return {path: array.dtype for path, array in self._arrays.items()}

    def append(self, path: str, rows: Rows) -> None:
        """Add rows to an array, which are copied, or needed no more when this returns."""
        array = self._arrays[path]
        before = len(array.chunks)
        array.append(rows)
        self._waiting += sum(len(chunk.data) for chunk in array.chunks[before:])

    @property
    def block_rows(self) -> int:
        """Of how many steps the largest rows make a chunk."""
        rows: list[int] = [
            array.chunk_rows for path, array in self._arrays.items() if _has_row_per_step(path)
        ]
        return min(rows)

    @property
    def is_full(self) -> bool:
        """Whether there is so much to write that it should not wait."""
        return self._waiting > _LARGEST_WAITING

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array, which must be in the file already.

        Raises:
            DamagedFileError: There is no such array, or its rows cannot be read.
        """
        array = self._arrays.get(path)
        if array is None:
            raise DamagedFileError(f"there is no array {path}")
        if start == stop:
            return np.empty((0, *array.shape), array.dtype)
        try:
            return self._reader(path).read(start, stop)
        except DamagedFileError as error:
            raise DamagedFileError(f"rows {start} to {stop} of {path} cannot be read: {error}") from error

    def _reader(self, path: str) -> ChunkReader:
        with self.file.opened() as opened:
            if opened is not self._opened:
                self._opened, self._readers = opened, {}
            if path not in self._readers:
                self._readers[path] = ChunkReader(opened[self._name][path])
            return self._readers[path]

    def length(self, path: str) -> int:
        """Count the rows of an array."""
        return self._arrays[path].length if path in self._arrays else 0

    def flush(self, open_rows: Mapping[str, Rows]) -> None:
        """Write everything to the journal, and from there to the file if that is due.

        Args:
            open_rows: Rows of the arrays that are to stand behind the last ones until the next flush.
        """
        entries = [entry for path, array in self._arrays.items() for entry in array.take(open_rows.get(path))]
        self._waiting = 0
        self.file.check_in_place()
        if entries:
            self.file.append(self._name, entries)
        if self.file.journal.size > _LARGEST_JOURNAL:
            self.file.fold()

    def close(self) -> None:
        """Put everything into the file, and close it."""
        self.file.close()
