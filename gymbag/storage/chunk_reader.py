"""Reading rows of one HDF5 dataset, faster than HDF5 itself.

HDF5 restores one chunk after the other, and every thread waits for it. Here one thread only fetches what
stands in the file, and a `Codec` does the rest: a short read takes its rows from the chunks restored last,
and for a long one several threads restore chunks, right where their rows belong:

    file --read_direct_chunk--> batches of chunks --workers: Codec.decode--> rows start to stop

What no codec is for is left to HDF5: other filters, datasets without chunks, and chunks that were never
written or that a filter was skipped for.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from gymbag.errors import DamagedFileError
from gymbag.storage.codecs import Codec, check_filters, is_never_zero, load_filters
from gymbag.storage.stored_array import StoredArray
from gymbag.workers import workers

# Bytes of rows in a batch of chunks: enough to outweigh handing it to another thread.
_BATCH_BYTES = 1 << 20
# From this size on rows are restored by several threads. Those of less are there sooner without: threads that
# wait for the interpreter again and again, as with small chunks, take a third more processor time.
_MANY_BYTES = 1 << 26
# Chunks up to this size may be zeros in the file where longer ones would have been compressed.
_SHORT_BYTES = 64


class ChunkReader:
    """Reads rows of an array, as long as it is now; any number of threads may do so at once.

    The latest two chunks are kept: small reads follow one another, also across a border.

    Args:
        array: An array of an open file, of at least one axis.
    """

    def __init__(self, array: StoredArray) -> None:
        self._array = array
        self._shape, self._dtype = array.shape, array.form.dtype
        # Other tools may have rewritten the file without chunks, or with some that part rows.
        chunks = array.form.chunks or (len(array) + 1,)
        self._chunk_rows: int = chunks[0]
        #: The codec of its chunks, or None if HDF5 restores them.
        self.codec: Codec | None = array.form.codec
        if self.codec is None:
            load_filters(array.form.filters)
        self._is_never_zero = self.codec is None and is_never_zero(array.form.filters)
        self._kept: tuple[tuple[int, np.ndarray], ...] = ()

    def __len__(self) -> int:
        """Count the rows."""
        length: int = self._shape[0]
        return length

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the rows."""
        dtype: np.dtype[Any] = self._dtype
        return dtype

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop, which must be there, as a new array.

        Raises:
            DamagedFileError: They cannot be read; of which file and dataset, the caller knows.
            MissingExtraError: HDF5 would need a filter that is not installed.
        """
        first, last = start // self._chunk_rows, max(stop - 1, start) // self._chunk_rows
        # Who reads whole chunks does so one after the other, and has no use for copies.
        is_whole = start % self._chunk_rows == 0 and (stop % self._chunk_rows == 0 or stop == len(self))
        if is_whole or stop == start or last - first > 1:
            return self._load(start, stop)
        parts = []
        for number in range(first, last + 1):
            offset = number * self._chunk_rows
            parts.append(self._chunk(number)[max(start - offset, 0) : stop - offset])
        if len(parts) == 1:
            return parts[0].copy()
        return np.concatenate(parts, dtype=parts[0].dtype)  # keeps the byte order

    def _chunk(self, number: int) -> np.ndarray:
        """Return the rows of a chunk, and keep them."""
        kept = self._kept  # another thread may replace, but never changes it
        for known, rows in kept:
            if known == number:
                return rows
        offset = number * self._chunk_rows
        rows = self._load(offset, min(offset + self._chunk_rows, len(self)))
        self._kept = ((number, rows), *kept[:1])
        return rows

    def _load(self, start: int, stop: int) -> np.ndarray:
        """Read rows from the file."""
        codec = self.codec
        if codec is None or stop == start:
            rows = self._load_by_hdf5(start, stop)
            if self._is_never_zero and rows.size:
                self._check_not_zeroed(start, stop)
            return rows
        if start % self._chunk_rows == 0 and stop - start == self._chunk_rows:
            mask, data = self._read_chunk(start)
            if not mask:
                return _decode(codec, start, data)
        rows = np.empty((stop - start, *self._shape[1:]), self._dtype)
        pieces = self._fetch(start, rows)
        if rows.nbytes < _MANY_BYTES:
            _restore(codec, pieces)
            return rows
        batches = _batched(pieces, max(1, _BATCH_BYTES // (rows[:1].nbytes * self._chunk_rows)))
        workers.run(functools.partial(_restore, codec, batch) for batch in batches)
        return rows

    def _fetch(self, start: int, rows: np.ndarray) -> Iterator[_Piece]:
        """Yield what stands in the file for each chunk of the rows, but for those that HDF5 restores."""
        stop = start + len(rows)
        for begin in range(start - start % self._chunk_rows, stop, self._chunk_rows):
            first, end = max(begin, start), min(begin + self._chunk_rows, stop)
            part = rows[first - start : end - start]
            mask, data = self._read_chunk(begin)
            if mask:
                part[...] = self._load_by_hdf5(first, end)
            else:
                yield _Piece(data, begin, part, first - begin)

    def _read_chunk(self, begin: int) -> tuple[int, bytes]:
        """Return the filter mask of a chunk, and what stands in the file for it."""
        try:
            return self._array.read_chunk(begin)
        # Never written, or damaged: HDF5 can tell. (Of an array no chunk of which was written, h5py takes a
        # number that HDF5 did not set for the bytes of a chunk.)
        except (OSError, RuntimeError, MemoryError):
            return -1, b""

    def _check_not_zeroed(self, start: int, stop: int) -> None:
        """Make sure that chunks are not all zeros, whose checksum is zero too, so that HDF5 takes them."""
        for begin in range(start - start % self._chunk_rows, stop, self._chunk_rows):
            _, data = self._read_chunk(begin)
            if len(data) > _SHORT_BYTES and not any(data):
                end = begin + self._chunk_rows
                raise DamagedFileError(f"chunk of rows {begin} to {end}: nothing but zeros")

    def _load_by_hdf5(self, start: int, stop: int) -> np.ndarray:
        try:
            rows: np.ndarray = self._array.as_dataset()[start:stop]
            return rows
        except OSError as error:
            if self.codec is None:
                check_filters(self._array.as_dataset())
            raise DamagedFileError(str(error)) from error


@dataclass(frozen=True)
class _Piece:
    """Rows that are to be restored from a chunk.

    Attributes:
        data: What stands in the file for the chunk.
        begin: Number of the chunk's first row.
        rows: Where the rows belong.
        skipped: How many rows of the chunk come before them.
    """

    data: bytes
    begin: int
    rows: np.ndarray
    skipped: int


def _batched(pieces: Iterator[_Piece], count: int) -> Iterator[list[_Piece]]:
    while batch := list(itertools.islice(pieces, count)):
        yield batch


def _restore(codec: Codec, pieces: Iterable[_Piece]) -> None:
    for piece in pieces:
        if len(piece.rows) == codec.shape[0]:
            _decode(codec, piece.begin, piece.data, piece.rows)
        else:
            whole = _decode(codec, piece.begin, piece.data)
            piece.rows[...] = whole[piece.skipped : piece.skipped + len(piece.rows)]


def _decode(codec: Codec, begin: int, data: bytes, out: np.ndarray | None = None) -> np.ndarray:
    """Restore the chunk whose first row has this number."""
    try:
        return codec.decode(data, out)
    except DamagedFileError as error:
        raise DamagedFileError(f"chunk of rows {begin} to {begin + codec.shape[0]}: {error}") from error
