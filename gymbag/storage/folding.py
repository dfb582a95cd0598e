"""Putting the rows of a journal into the arrays of its HDF5 file."""

from __future__ import annotations

import h5py
import numpy as np

from gymbag.errors import DamagedFileError
from gymbag.storage.codecs import Codec, codec_of
from gymbag.storage.hdf5_layout import arrays_of
from gymbag.storage.journal import Coverage, Entry, JournalReader


def fold(file: h5py.File, journal: JournalReader) -> None:
    """Write everything that the journal holds into the file, which is open for writing.

    Raises:
        DamagedFileError: The journal does not belong to the file, or is damaged. The change must not be
            committed then.
    """
    for name in journal.entries:
        if name not in file:
            raise DamagedFileError(f"the journal has rows of {name!r}, which {file.filename} does not have")
        arrays = arrays_of(file[name])
        coverage = journal.coverage(name, {path: len(dataset) for path, dataset in arrays.items()})
        for path in journal.entries[name]:
            _fold_array(arrays[path], coverage[path], journal)


def _fold_array(dataset: h5py.Dataset, coverage: Coverage, journal: JournalReader) -> None:
    if coverage.kept < len(dataset):
        dataset.resize(coverage.kept, axis=0)
    codec = codec_of(dataset)
    loose: list[np.ndarray] = []  # rows that follow those of the dataset, and make no chunk yet
    for entry in coverage.entries:
        if entry.encoding == "raw":
            loose.append(read_raw(journal, entry, dataset.dtype, dataset.shape[1:]))
            continue
        _append(dataset, codec, loose)
        loose = []
        dataset.resize(entry.first_row + entry.rows, axis=0)
        _write_chunk(dataset, entry.first_row, journal.read(entry))
    _append(dataset, codec, loose)


def read_raw(
    journal: JournalReader, entry: Entry, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """Read the rows of an entry that is not a chunk, as a read-only array."""
    row_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    data = journal.read(entry)[: entry.rows * row_bytes]
    return np.frombuffer(data, dtype).reshape(entry.rows, *shape)


def _append(dataset: h5py.Dataset, codec: Codec | None, parts: list[np.ndarray]) -> None:
    """Add rows to a dataset, the last chunk of which may be partly filled."""
    start = len(dataset)
    stop = start + sum(map(len, parts))
    if stop == start:
        return
    dataset.resize(stop, axis=0)
    if codec is None:
        dataset[start:stop] = np.concatenate(parts)
        return
    chunk_rows = dataset.chunks[0]
    first = start - start % chunk_rows
    rows = np.concatenate([dataset[first:start], *parts], dtype=dataset.dtype)
    for offset in range(0, len(rows), chunk_rows):
        chunk = rows[offset : offset + chunk_rows]
        if len(chunk) < chunk_rows:
            # HDF5 keeps whole chunks; the array's length tells how much of one counts.
            padding = np.zeros((chunk_rows - len(chunk), *chunk.shape[1:]), chunk.dtype)
            chunk = np.concatenate([chunk, padding], dtype=chunk.dtype)
        _write_chunk(dataset, first + offset, codec.encode(chunk))


def _write_chunk(dataset: h5py.Dataset, first_row: int, data: bytes) -> None:
    dataset.id.write_direct_chunk((first_row,) + (0,) * (dataset.ndim - 1), data)


def rewrite(dataset: h5py.Dataset, wider: h5py.Dataset) -> None:
    """Copy all rows to a dataset of another dtype, a chunk at a time."""
    codec = codec_of(wider)
    block = wider.chunks[0]
    for start in range(0, len(dataset), block):
        _append(wider, codec, [dataset[start : start + block].astype(wider.dtype)])
