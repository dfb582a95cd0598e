"""Memory for copies of large rows, such as frames, on their way to a store."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

# A ring holds about this many bytes, and at least so many rows: more than a block has, and few enough to stay
# in the processor's cache. Copies of frames then take a third less time than with 16 MiB.
_BYTES, _LEAST = 4 << 20, 8


class RowRing:
    """Memory for copies of large rows, used again, as the system takes longer to give it than to fill it.

    Copies made one after the other lie one behind the other as far as possible: they can then be compressed
    together, which takes fewer calls, and makes them smaller.

    Args:
        dtype: The dtype of the rows.
        shape: Their shape, of at least one element.

    >>> ring = RowRing(np.dtype("u1"), (1 << 21,))
    >>> rows = [ring.take() for _ in range(3)]
    >>> [len(part) for part in ring.join(rows)]
    [3]
    >>> ring.give_back(rows)
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        count = max(_BYTES // (dtype.itemsize * math.prod(shape)), _LEAST)
        self._memory = np.empty((count, *shape), dtype)
        self._rows: list[np.ndarray] = list(self._memory)
        self._numbers = {id(row): number for number, row in enumerate(self._rows)}
        self._free = bytearray(b"\1") * count
        self._next = 0

    def take(self) -> np.ndarray:
        """Return a row to write to, which is nobody else's until it is given back."""
        number = self._free.find(1, self._next)
        if number < 0:
            number = self._free.find(1)
            if number < 0:
                return np.empty(self._memory.shape[1:], self._memory.dtype)
        self._free[number] = 0
        self._next = number + 1
        return self._rows[number]

    def join(self, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the same rows in as few arrays as possible, without copying them."""
        parts: list[np.ndarray] = []
        start = stop = -1  # of the last part, if it lies in the ring
        for row in rows:
            number = self._numbers.get(id(row), -1)
            if number < 0:
                parts.append(row[np.newaxis])
                start = stop = -1
            elif number == stop:
                stop += 1
                parts[-1] = self._memory[start:stop]
            else:
                start, stop = number, number + 1
                parts.append(self._memory[start:stop])
        return parts

    def give_back(self, rows: Sequence[np.ndarray]) -> None:
        """Take back rows that nobody needs any more."""
        for row in rows:
            number = self._numbers.get(id(row), -1)
            if number >= 0:
                self._free[number] = 1
