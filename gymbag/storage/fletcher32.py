"""The checksum of HDF5's filter fletcher32, which stands behind the bytes of a chunk."""

from __future__ import annotations

import numpy as np

# Words are summed up in grids of so many rows and columns. Both sums follow from those of the rows and of the
# columns, in half the time of running sums; and small grids lie in memory that is used again and again.
_ROWS, _COLUMNS = 64, 256
_WORDS = _ROWS * _COLUMNS
# How often the second sum counts each row, and how much less often each column.
_ROW_COUNTS = np.arange(_ROWS, 0, -1, dtype=np.uint64) * _COLUMNS
_COLUMN_COUNTS = np.arange(_COLUMNS, dtype=np.uint64)


def fletcher32(data: bytes) -> bytes:
    """Return the checksum of some bytes as it stands in a file: four bytes.

    It is Fletcher's over big-endian words of 16 bits, the last one filled up with a zero:
    `H5_checksum_fletcher32` in https://github.com/HDFGroup/hdf5/blob/develop/src/H5checksum.c

    >>> fletcher32(b"abcde").hex()
    'c729f04f'
    """
    words = np.frombuffer(data, "<u2", len(data) // 2)
    whole = len(words) - len(words) % _WORDS
    first = second = 0
    for start in range(0, whole, _WORDS):
        grid = words[start : start + _WORDS].reshape(_ROWS, _COLUMNS).astype(np.uint32)
        rows, columns = (grid.sum(axis=axis, dtype=np.uint32) for axis in (1, 0))
        second += first * _WORDS + int(_ROW_COUNTS.dot(rows)) - int(_COLUMN_COUNTS.dot(columns))
        first += int(rows.sum(dtype=np.uint64))
    if whole < len(words):
        sums = np.cumsum(words[whole:], dtype=np.uint32)
        second += first * len(sums) + int(sums.sum(dtype=np.uint64))
        first += int(sums[-1])
    if len(data) % 2:
        first += data[-1]
        second += first
    # Adding little-endian words is faster, and as 2**16 is 1 modulo 65535, swapping their bytes is but a
    # multiplication by 256. HDF5 folds a sum until it has 16 bits, so that only a sum of nothing gives 0.
    first, second = ((256 * total - 1) % 65535 + 1 if total else 0 for total in (first, second))
    return (second << 16 | first).to_bytes(4, "little")
