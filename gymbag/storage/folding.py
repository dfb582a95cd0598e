"""Putting the rows of a journal into the arrays of its HDF5 file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import h5py
import numpy as np
from h5py import h5d

from gymbag.columns import ArraySpec
from gymbag.errors import DamagedFileError
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.journal import Coverage, Entry, JournalReader
from gymbag.storage.stored_array import ArrayForm, StoredArray


class KnownArray(Protocol):
    """What a writer knows of an array, so that it need not be read again."""

    @property
    def form(self) -> ArrayForm:
        """What never changes of it."""

    def recall(self, start: int, stop: int) -> np.ndarray | None:
        """Return rows start to stop if they are still in memory, to be copied at once."""


def fold(
    file: h5py.File, journal: JournalReader, known: Mapping[str, Mapping[str, KnownArray]] | None = None
) -> None:
    """Write everything that the journal holds into the file, which is open for writing.

    Args:
        file: The file.
        journal: Its journal.
        known: What is known of the arrays of each data set.

    Raises:
        DamagedFileError: The journal does not belong to the file, or is damaged. The change must not be
            committed then.
    """
    for name in journal.entries:
        if name not in file:
            raise DamagedFileError(f"the journal has rows of {name!r}, which {file.filename} does not have")
        group, remembered = file[name].id, (known or {}).get(name, {})
        arrays = {}
        for path in journal.entries[name]:
            form = remembered[path].form if path in remembered else None
            arrays[path] = StoredArray(h5d.open(group, path.encode()), form=form)
        coverage = journal.coverage(name, {path: len(array) for path, array in arrays.items()})
        for path, array in arrays.items():
            try:
                _fold_array(array, coverage[path], journal, remembered.get(path))
            except DamagedFileError as error:
                raise DamagedFileError(f"{name}/{path}: {error}") from error


def _fold_array(
    array: StoredArray, coverage: Coverage, journal: JournalReader, known: KnownArray | None
) -> None:
    form, row = array.form, coverage.kept
    loose: list[np.ndarray] = []  # rows from `row` on that make no chunk yet
    if row < len(array):
        # Whole chunks are dropped: to cut one HDF5 would restore it, for which it may lack the filter.
        first = row - row % (form.chunks or (1,))[0]
        loose.append(_read(array, first, row, known))
        array.resize(first)
        row = first
    if len(array) != coverage.length:
        array.resize(coverage.length)
    for entry in coverage.entries:
        if entry.encoding == "raw":
            loose.append(read_raw(journal, entry, form.dtype, form.row_shape))
            continue
        if loose:
            _write(array, row, loose, known)
            loose = []
        array.write_chunk(entry.first_row, journal.read(entry))
        row = entry.first_row + entry.rows
    _write(array, row, loose, known)


def _read(array: StoredArray, start: int, stop: int, known: KnownArray | None) -> np.ndarray:
    rows = None if known is None else known.recall(start, stop)
    return ChunkReader(array).read(start, stop) if rows is None else rows


def read_raw(
    journal: JournalReader, entry: Entry, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """Read the rows of an entry that is not a chunk, as a read-only array."""
    data = journal.read(entry)[: entry.rows * ArraySpec(dtype, shape).row_bytes]
    return np.frombuffer(data, dtype).reshape(entry.rows, *shape)


def _write(array: StoredArray, start: int, parts: list[np.ndarray], known: KnownArray | None = None) -> None:
    """Write rows from row `start` on, behind which nothing has been written yet."""
    count = sum(map(len, parts))
    if not count:
        return
    codec = array.form.codec
    if codec is None:
        array.as_dataset()[start : start + count] = np.concatenate(parts)
        return
    chunk_rows = codec.shape[0]
    first = start - start % chunk_rows
    if first < start:
        parts = [_read(array, first, start, known), *parts]
        count += start - first
    # HDF5 keeps whole chunks; the array's length tells how much of one counts.
    rows = np.empty((-(-count // chunk_rows) * chunk_rows, *codec.shape[1:]), codec.dtype)
    np.concatenate(parts, out=rows[:count])
    rows[count:] = np.zeros((), codec.dtype)
    for offset in range(0, len(rows), chunk_rows):
        array.write_chunk(first + offset, codec.encode(rows[offset : offset + chunk_rows]))


def rewrite(array: StoredArray, wider: StoredArray) -> None:
    """Copy all rows to an empty array of another dtype, a chunk at a time."""
    wider.resize(len(array))
    assert wider.form.chunks is not None
    block = wider.form.chunks[0]
    reader = ChunkReader(array)
    for start in range(0, len(reader), block):
        rows = reader.read(start, min(start + block, len(reader)))
        _write(wider, start, [rows.astype(wider.form.dtype)])
