"""Putting the rows of a journal into the arrays of its HDF5 file."""

from __future__ import annotations

import h5py
import numpy as np

from gymbag.errors import DamagedFileError
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.codecs import Codec, codec_of
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
        group = file[name]
        arrays = {path: group[path] for path in journal.entries[name]}
        coverage = journal.coverage(name, {path: len(dataset) for path, dataset in arrays.items()})
        for path, dataset in arrays.items():
            try:
                _fold_array(dataset, coverage[path], journal)
            except DamagedFileError as error:
                raise DamagedFileError(f"{name}/{path}: {error}") from error


def _fold_array(dataset: h5py.Dataset, coverage: Coverage, journal: JournalReader) -> None:
    codec = codec_of(dataset)
    dtype, shape = dataset.dtype, dataset.shape[1:]
    corner = (0,) * len(shape)
    row = coverage.kept
    loose: list[np.ndarray] = []  # rows from `row` on that make no chunk yet
    if row < len(dataset):
        # Whole chunks are dropped: to cut one HDF5 would restore it, for which it may lack the filter.
        first = row - row % dataset.chunks[0]
        loose.append(ChunkReader(dataset).read(first, row))
        dataset.resize(first, axis=0)
        row = first
    if len(dataset) != coverage.length:
        dataset.resize(coverage.length, axis=0)
    for entry in coverage.entries:
        if entry.encoding == "raw":
            loose.append(read_raw(journal, entry, dtype, shape))
            continue
        if loose:
            _write(dataset, codec, row, loose)
            loose = []
        dataset.id.write_direct_chunk((entry.first_row, *corner), journal.read(entry))
        row = entry.first_row + entry.rows
    _write(dataset, codec, row, loose)


def read_raw(
    journal: JournalReader, entry: Entry, dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> np.ndarray:
    """Read the rows of an entry that is not a chunk, as a read-only array."""
    row_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    data = journal.read(entry)[: entry.rows * row_bytes]
    return np.frombuffer(data, dtype).reshape(entry.rows, *shape)


def _write(dataset: h5py.Dataset, codec: Codec | None, start: int, parts: list[np.ndarray]) -> None:
    """Write rows from row `start` on, behind which nothing has been written yet."""
    count = sum(map(len, parts))
    if not count:
        return
    if codec is None:
        dataset[start : start + count] = np.concatenate(parts)
        return
    chunk_rows = dataset.chunks[0]
    first = start - start % chunk_rows
    if first < start:
        parts = [ChunkReader(dataset, codec).read(first, start), *parts]
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, dtype=dataset.dtype)
    for offset in range(0, len(rows), chunk_rows):
        chunk = rows[offset : offset + chunk_rows]
        if len(chunk) < chunk_rows:
            # HDF5 keeps whole chunks; the array's length tells how much of one counts.
            whole = np.zeros((chunk_rows, *chunk.shape[1:]), chunk.dtype)
            whole[: len(chunk)] = chunk
            chunk = whole
        corner = (0,) * (chunk.ndim - 1)
        dataset.id.write_direct_chunk((first + offset, *corner), codec.encode(chunk))


def rewrite(dataset: h5py.Dataset, wider: h5py.Dataset) -> None:
    """Copy all rows to an empty dataset of another dtype, a chunk at a time."""
    codec = codec_of(wider)
    wider.resize(len(dataset), axis=0)
    block = wider.chunks[0]
    reader = ChunkReader(dataset)
    for start in range(0, len(reader), block):
        rows = reader.read(start, min(start + block, len(reader)))
        _write(wider, codec, start, [rows.astype(wider.dtype)])
