"""Writing the arrays of a data set: rows are made into chunks, and go to the journal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np
from h5py import h5d

from gymbag.columns import LARGE_ROW_BYTES, ArraySpec, Rows
from gymbag.errors import DamagedFileError
from gymbag.storage.base import Header
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.codecs import Codec, Compression, choose_filters
from gymbag.storage.folding import rewrite
from gymbag.storage.hdf5_layout import arrays_of, create_data_set, note_arrays
from gymbag.storage.journal import NewRows
from gymbag.storage.stored_array import ArrayForm, StoredArray, create_arrays
from gymbag.storage.stream import KIND_TABLES, ArrayStore
from gymbag.storage.writable_file import WritableFile
from gymbag.workers import workers

# What a chunk may hold at most: bytes; rows of the table of steps, or of that of episodes; ragged bytes.
_CHUNK_BYTES = 2 << 20
_STEPS, _EPISODES, _RAGGED_BYTES = 1 << 13, 1 << 11, 1 << 18

# While an array is rewritten, the new one has this behind its name, which no name of an array can have:
# `space_columns` writes a percent sign as %25.
_WIDER = "%wider"

# What waits to be written to the journal, and the journal itself, are not to become larger than this.
_LARGEST_WAITING = 1 << 23
_LARGEST_JOURNAL = 1 << 26

# Encoding a chunk of this size takes longer than handing it to another thread. A chunk of large rows is
# encoded where it is, as the memory of its rows is used anew.
_SHARED_BYTES = 1 << 18


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
    others = ("episodes", "sessions", *KIND_TABLES.values())
    return table not in others and not {"items", "data"} & set(parts)


class _GrowingArray:
    """The rows of one array on their way to the journal.

    All whole chunks are encoded as soon as they are full, where that takes long by other threads. The rows of
    the open one are kept, and written to the journal as they are.
    """

    def __init__(self, path: str, form: ArrayForm, length: int = 0) -> None:
        self._path = path
        self.length = self._journaled = length
        self._chunks: list[Callable[[], NewRows]] = []  # return them once they are encoded
        #: How many bytes of chunks wait to be taken.
        self.waiting = 0
        # Whether the journal, or the file, has rows behind the last one that are to be replaced.
        self._has_open_rows = False
        self._take_form(form)

    def _take_form(self, form: ArrayForm) -> None:
        assert form.chunks is not None
        self.form, self.dtype, self.shape = form, form.dtype, form.row_shape
        self.chunk_rows: int = form.chunks[0]
        self._row_bytes = ArraySpec(self.dtype, self.shape).row_bytes
        self._chunk_start = self.length - self.length % self.chunk_rows
        # Holds the open chunk from its first row on; there is none before it has a row.
        self._buffer: np.ndarray | None = None

    def fill_up(self, reader: ChunkReader) -> None:
        """Go on with the last chunk of the file, which has all rows."""
        if self.length:
            start = (self.length - 1) // self.chunk_rows * self.chunk_rows
            rows = reader.read(start, self.length)
            if start == self._chunk_start:
                self._buffer = self._new_buffer()
                self._buffer[: len(rows)] = rows

    def fill_with(self, value: np.ndarray) -> None:
        """Go on with the last chunk of an array whose rows all have this value."""
        if self.length > self._chunk_start:
            self._buffer = np.full((self.chunk_rows, *self.shape), value)

    def widen(self, array: StoredArray) -> None:
        """Go on with another dtype, and chunks of another size; the array, of a file, has all rows."""
        self._take_form(array.form)
        self.fill_up(ChunkReader(array))

    def _new_buffer(self) -> np.ndarray:
        return np.empty((self.chunk_rows, *self.shape), self.dtype)

    def recall(self, start: int, stop: int) -> np.ndarray | None:
        """Return rows start to stop, to be copied at once, or None if they are not in memory."""
        if self._buffer is None or not self._chunk_start <= start <= stop <= self.length:
            return None
        return self._buffer[start - self._chunk_start : stop - self._chunk_start]

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
                self._buffer = self._new_buffer()
            self._buffer[used : used + len(part)] = part
            used += len(part)

    def _end_chunk(self, used: int, parts: list[np.ndarray]) -> None:
        """Encode a chunk of which `used` rows came before."""
        start, stop = self._chunk_start, self.length
        codec = self.form.codec
        chunk_bytes = self.chunk_rows * self._row_bytes
        if codec is not None and chunk_bytes >= _SHARED_BYTES and self._row_bytes < LARGE_ROW_BYTES:
            self._keep(used, parts)
            rows, self._buffer = self._buffer, None  # which is the other thread's now
            assert rows is not None
            self._chunks.append(workers.begin(functools.partial(self._encoded, start, codec, rows)))
            self.waiting += chunk_bytes
        elif codec is None:
            if self._buffer is not None:
                parts.insert(0, self._buffer[self._journaled - start : used])
            self._add_chunk(self._raw(self._journaled, np.concatenate(parts, dtype=self.dtype)))
        else:
            if used:
                assert self._buffer is not None
                parts.insert(0, self._buffer[:used])
            self._add_chunk(self._encoded(start, codec, *parts))
        self._chunk_start = self._journaled = stop

    def _encoded(self, start: int, codec: Codec, *parts: np.ndarray) -> NewRows:
        return NewRows(self._path, start, self.chunk_rows, "chunk", codec.encode(*parts))

    def _add_chunk(self, chunk: NewRows) -> None:
        self._chunks.append(lambda: chunk)
        self.waiting += len(chunk.data)

    def _raw(self, first_row: int, rows: np.ndarray) -> NewRows:
        # Not copied, as they are written before any more come.
        data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
        return NewRows(self._path, first_row, len(rows), "raw", data)

    def take(self, open_rows: Rows | None) -> list[NewRows]:
        """Return what the journal does not have yet.

        Args:
            open_rows: Rows that are to stand behind the last one until there is more to say.
        """
        entries = [chunk() for chunk in self._chunks]
        self._chunks, self.waiting = [], 0
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


class HDF5Store(ArrayStore):
    """Writes the arrays of one data set.

    Args:
        file: The file, which is closed with the store.
        header: What the data set is called and holds, should it have to be made.
        compression: How to compress the arrays of a new data set.
        chunk_rows: For some columns of steps of a new data set, how many make a chunk, instead of what
            `rows_per_chunk` chooses.
    """

    def __init__(
        self, file: WritableFile, header: Header, compression: Compression, chunk_rows: Mapping[str, int]
    ) -> None:
        self.file, self._header = file, header
        self._name = header.name
        self._compression, self._chunk_rows = compression, chunk_rows
        self._arrays: dict[str, _GrowingArray] = {}
        # Of the file that is open just now.
        self._opened: h5py.File | None = None
        self._readers: dict[str, ChunkReader] = {}
        if file.path.exists():
            with file.opened() as opened:
                if self._name in opened:
                    for path, stored in arrays_of(opened[self._name]).items():
                        if stored.form.chunks is None or not stored.can_grow:
                            raise DamagedFileError(
                                f"{file.path}: {self._name}/{path} cannot grow; use a new file"
                            )
                        self._arrays[path] = _GrowingArray(path, stored.form, len(stored))
                        self._readers[path] = ChunkReader(stored)
                    self._opened = opened
        file.known[self._name] = self._arrays

    def create(self, specs: Mapping[str, ArraySpec], rows: Mapping[str, int] | None = None) -> None:
        """Make arrays, and the data set, if there is none yet; see `ArrayStore.create`."""
        rows = rows or {}
        with self.file.change() as opened:
            if self._name not in opened:
                create_data_set(opened, self._header)
            group = opened[self._name]
            forms = {path: self._form(path, spec) for path, spec in specs.items()}
            for path, array in create_arrays(group.id, forms).items():
                if rows.get(path):
                    array.resize(rows[path])
            note_arrays(group, specs)
            for path, form in forms.items():
                growing = self._arrays[path] = _GrowingArray(path, form, rows.get(path, 0))
                growing.fill_with(specs[path].fill_value)

    def _form(self, path: str, spec: ArraySpec) -> ArrayForm:
        rows = rows_per_chunk(path, spec)
        if _has_row_per_step(path):
            rows = self._chunk_rows.get(path.partition("/")[0], rows)
        # A chunk has elements, even if rows have none.
        chunks = (rows, *(size or 1 for size in spec.shape))
        filters = choose_filters(self._compression, spec.dtype)
        return ArrayForm(spec.dtype, spec.shape, chunks, filters, fill_value=spec.fill_value.tobytes())

    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        """Rewrite arrays with these dtypes, which hold all of their values exactly; `flush` comes first."""
        with self.file.change() as opened:
            group = opened[self._name]
            for path, spec in specs.items():
                form = self._form(path, spec)
                narrow = StoredArray(h5d.open(group.id, path.encode()), form=self._arrays[path].form)
                (wider,) = create_arrays(group.id, {path + _WIDER: form}).values()
                rewrite(narrow, wider)
                del group[path]
                group.move(path + _WIDER, path)
                self._arrays[path].widen(wider)

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""
        return {path: array.dtype for path, array in self._arrays.items()}

    def append(self, path: str, rows: Rows) -> None:
        """Add rows to an array, which are copied, or needed no more when this returns."""
        self._arrays[path].append(rows)

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
        return sum(array.waiting for array in self._arrays.values()) > _LARGEST_WAITING

    def fill_up(self) -> None:
        """Make ready to go on with the arrays: read the last chunks, which are to be filled up.

        Raises:
            DamagedFileError: They cannot be read.
        """
        for path, array in self._arrays.items():
            try:
                array.fill_up(self._reader(path))
            except DamagedFileError as error:
                raise DamagedFileError(f"the last rows of {path} cannot be read: {error}") from error
        self._readers.clear()  # they keep these chunks, too

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
        rows = array.recall(start, stop)
        if rows is not None:
            return rows.copy()
        try:
            return self._reader(path).read(start, stop)
        except DamagedFileError as error:
            raise DamagedFileError(f"rows {start} to {stop} of {path} cannot be read: {error}") from error

    def _reader(self, path: str) -> ChunkReader:
        with self.file.opened() as opened:
            if opened is not self._opened:
                self._opened, self._readers = opened, {}
            if path not in self._readers:
                dataset = h5d.open(opened[self._name].id, path.encode())
                self._readers[path] = ChunkReader(StoredArray(dataset, form=self._arrays[path].form))
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
        self.file.check_in_place()
        if entries:
            self.file.append(self._name, entries)
        if self.file.journal.size > _LARGEST_JOURNAL:
            self.file.fold()

    def sync(self) -> None:
        """Have what was flushed survive the loss of power; any thread may call this, at any time.

        Raises:
            StorageError: That is not sure. Nothing can be written any more.
        """
        self.file.sync()

    def close(self) -> None:
        """Put everything into the file, and close it."""
        self.file.close()
