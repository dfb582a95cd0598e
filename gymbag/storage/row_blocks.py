"""The rows of a table, a block of rows at a time.

To read and take apart thousands of rows at once costs hardly more than one row by itself. So a table that is
gone through in order is read in blocks, whatever the episodes in it:

    block      0               1               2
    rows       |---------------|---------------|--------
    episodes   [ 0 ][   1   ][    2    ][ 3 ][ 4 ] ...
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Protocol

from gymbag.columns import ReadArray
from gymbag.compound_columns import below
from gymbag.errors import DamagedFileError
from gymbag.storage.read_ahead import ReadAhead

#: The stack of each column.
Rows = list[Any]
#: The first row of a block, the row after its last, and what is in it.
Block = tuple[int, int, Rows]


class Unpacks(Protocol):
    """What a column has to offer to be read in blocks."""

    def unpack(self, read: ReadArray, start: int, stop: int) -> Any:
        """Read rows start to stop as a stack."""


class RowBlocks:
    """Rows start to stop of some columns, to be gone through in order.

    The latest block is kept, and the next may be read in a thread meanwhile. Who asks for rows before the
    latest block gets them, but slowly. No value is given to two who ask for different rows, so each may
    change what it is given; who asks for the same rows again needs new blocks.

    Args:
        columns: The columns, each under the name of its arrays.
        read: Reads an array.
        block_rows: How many rows make a block; row 0 begins one.
        start: The first row.
        stop: The row after the last.
        ahead: Reads the next block while the latest is used; by default nothing does.
    """

    def __init__(
        self,
        columns: Mapping[str, Unpacks],
        read: ReadArray,
        block_rows: int,
        start: int,
        stop: int,
        ahead: ReadAhead[Rows] | None = None,
    ) -> None:
        self._block_rows = block_rows
        self._start, self._stop = start, stop
        self._read = functools.partial(_read_rows, columns, read)
        self._read_block = functools.partial(_read_block, self._read, block_rows, start, stop)
        self._ahead = ahead
        # Replaced as a whole, as threads may share the blocks.
        self._latest: Block = (start, start, [])

    def have_ahead(self, start: int, stop: int) -> bool:
        """Tell whether rows start to stop are among these, and still ahead or in the latest block."""
        return self._latest[0] <= start and stop <= self._stop

    def block(self, start: int, stop: int) -> Block:
        """Return the block with row `start`, if need be only as much of it as belongs to rows start to stop.

        Raises:
            DamagedFileError: Those rows cannot be read.
        """
        latest = self._latest
        if latest[0] <= start < latest[1]:  # the quick way, for most
            return latest
        if start >= self._stop:
            raise DamagedFileError(f"expected row {start}, found a table of {self._stop} rows")
        number = start // self._block_rows
        end = min((number + 1) * self._block_rows, self._stop)
        if start >= latest[1]:
            try:
                return self._go_to(number, end)
            except DamagedFileError:
                pass  # the damage may lie in other rows of the block
        end = min(end, stop)
        return start, end, self._read(start, end)

    def _go_to(self, number: int, end: int) -> Block:
        start = max(number * self._block_rows, self._start)
        self._latest = start, start, []  # lest two blocks be held where one would do
        values = self._ahead.take(number) if self._ahead else None
        if values is None:
            values = self._read_block(number)
        block = self._latest = start, end, values
        if self._ahead:
            if end < self._stop:
                self._ahead.begin(number + 1, self._read_block)
            else:
                self._ahead.end()
        return block


def _read_rows(columns: Mapping[str, Unpacks], read: ReadArray, start: int, stop: int) -> Rows:
    return [column.unpack(below(read, name), start, stop) for name, column in columns.items()]


def _read_block(read_rows: functools.partial[Rows], size: int, start: int, stop: int, number: int) -> Rows:
    return read_rows(max(number * size, start), min((number + 1) * size, stop))
