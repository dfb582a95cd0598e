"""The rows of a table on their way to the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gymbag.columns import Column, Rows
from gymbag.compound_columns import join
from gymbag.storage.stream import ArrayStore, array_specs


class TableWriter:
    """Hands the rows of a table to the store."""

    def __init__(self, store: ArrayStore, columns: Mapping[str, Column]) -> None:
        self._store = store
        self._columns: dict[str, Column] = {}
        self._ends: dict[str, int] = {}
        self.add(columns)

    def add(self, columns: Mapping[str, Column], are_new: bool = False) -> None:
        """Take on columns, which the store has; those that are new have no values in their rows."""
        self._columns.update(columns)
        for path, spec in array_specs(columns).items():
            if spec.cumulative:
                length = 0 if are_new else self._store.length(path)
                self._ends[path] = int(self._store.read(path, length - 1, length)[0]) if length else 0

    def pack(self, rows: Mapping[str, Any]) -> dict[str, Rows]:
        """Make arrays of frozen rows, given by column, that go on from the last rows written."""
        packed = {}
        for name, column in self._columns.items():
            for path, array in column.pack_rows(rows[name]).items():
                where = join(name, path)
                packed[where] = np.add(array, self._ends[where]) if where in self._ends else array
        return packed

    def pack_row(self, row: Sequence[Any]) -> dict[str, Rows]:
        """Make arrays of a single row."""
        return self.pack({name: [value] for name, value in zip(self._columns, row, strict=True)})

    def write(self, rows: Mapping[str, Any]) -> None:
        """Hand frozen rows, given by column, to the store."""
        # All are packed before any is appended, lest an error leave the columns unequal.
        for path, array in self.pack(rows).items():
            if path in self._ends and len(array):
                self._ends[path] = int(array[-1])
            self._store.append(path, array)
        for name, column in self._columns.items():
            column.release(rows[name])
