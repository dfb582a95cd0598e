"""The infos, or annotations, of a stream that is written: their kinds, and a column for each key."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gymbag.columns import (
    LARGE_ROW_BYTES,
    ArraySpec,
    Column,
    DataColumn,
    ScalarColumn,
    SparseColumn,
    ValueColumn,
)
from gymbag.info_arrays import RowNumbers
from gymbag.info_kinds import (
    MOST_COLUMNS,
    MOST_KINDS,
    NO_KIND,
    NUMERIC,
    RAGGED,
    Form,
    Kind,
    Leaf,
    array_name,
    is_free,
    to_json,
)
from gymbag.storage.plans import InfoSlot
from gymbag.storage.stream import KIND_TABLES, ArraySource, read_kinds

#: The slot of an info in the rows of a plan, the steps that it is about (a slice if all), and their rows.
Chosen = tuple[InfoSlot, RowNumbers, np.ndarray]
# Some of the steps, and the values that they have in a column.
_Found = tuple[RowNumbers, Any]


_IN_COLUMNS = NUMERIC | RAGGED
# More values than these that are in no column are written, and read, faster together with the others.
_MOST_ITEMS = 64


class InfoTable:
    """The kinds and columns of the infos of a stream.

    Args:
        store: Where they are.
        name: "infos" or "annotations".

    Attributes:
        columns: The columns of the table of steps, by name.
        new_columns: Those that came since `take_new` was called.
        new_kinds: The rows for the table of kinds, likewise.
    """

    def __init__(self, store: ArraySource, name: str) -> None:
        self._name = name
        self._kinds = read_kinds(store, name)
        self._numbers = {kind: number for number, kind in enumerate(self._kinds, 1)}
        self.columns: dict[str, Column] = {}
        self.new_columns: dict[str, Column] = {}
        self.new_kinds: list[bytes] = []
        if name == "infos":
            self.columns[name] = ValueColumn()
        # All that there are, also those whose kind a killed writer had not yet noted: each has a row a step.
        for path, dtype in store.dtypes().items():
            base, _, part = path.rpartition("/")
            if path == f"{name}/kind":
                self.begin()
            elif path.startswith(f"{name}/") and base != name and part in ("data", "ends"):
                self.columns[base] = DataColumn()
            elif path.startswith(f"{name}/") and part not in ("data", "ends"):
                self.columns[path] = SparseColumn(dtype, store.read(path, 0, 0).shape[1:])
        self.take_new()  # the store has all of these

    @property
    def table(self) -> str:
        """The name of the table of kinds."""
        return KIND_TABLES[self._name]

    def begin(self) -> None:
        """Make sure that there are the columns that come before those of keys."""
        for path, column in ((self._name, ValueColumn()), (f"{self._name}/kind", ScalarColumn(np.uint16))):
            if path not in self.columns:
                self._add({path: column})

    def _add(self, columns: Mapping[str, Column]) -> None:
        self.columns.update(columns)
        self.new_columns.update(columns)

    def take_new(self) -> tuple[dict[str, Column], list[bytes]]:
        """Return the columns, and the rows of the table of kinds, that came since this was last called."""
        new = self.new_columns, self.new_kinds
        self.new_columns, self.new_kinds = {}, []
        return new

    def bind(self, forms: Sequence[Form], is_first: bool) -> tuple[int, Kind] | None:
        """Decide where the values of infos of these forms go: in columns as far as possible.

        Args:
            forms: What the leaves look like.
            is_first: Whether the info is that of the very first step.

        Returns:
            The number of the kind, and the kind. None if there is no room for another, or if it has so many
            values in no column that an info had better be JSON as a whole.
        """
        if not forms:
            return NO_KIND, ()
        new: dict[str, Column] = {}
        kind = tuple(self._bind_leaf(form, new, is_first) for form in forms)
        number = self._numbers.get(kind)
        if number is None:
            if len(self._kinds) >= MOST_KINDS or sum(leaf.type == "json" for leaf in kind) > _MOST_ITEMS:
                return None
            self.begin()
            self._add(new)
            self._kinds.append(kind)
            number = self._numbers[kind] = len(self._kinds)
            self.new_kinds.append(to_json(kind))
        return number, kind

    def _bind_leaf(self, form: Form, new: dict[str, Column], is_first: bool) -> Leaf:
        """Decide where values of a form go: to a column, if need be one that is added to the new ones."""
        if form.type not in _IN_COLUMNS:
            return Leaf(form.path, form.type)
        array = array_name(form.path)
        path = f"{self._name}/{array}"
        columns = ChainMap(new, self.columns)
        if array is not None and path not in columns:
            column = DataColumn() if form.dtype is None else SparseColumn(form.dtype, form.shape)
            # A large array that does not come from the first step on may come with a few steps only, such as
            # a frame at the end of each episode; in a column all other rows would be as large.
            is_regular = is_first or column.row_bytes < LARGE_ROW_BYTES
            has_room = len(columns) < MOST_COLUMNS and is_free(path, columns, self._name)
            if is_regular and has_room:
                new[path] = column
        fits = array is not None and _fits(form, columns.get(path))
        return Leaf(form.path, form.type, array) if fits else Leaf(form.path, "json")

    def fits(self, form: Form) -> bool:
        """Tell whether there is a column for values of a form."""
        if form.type not in _IN_COLUMNS:
            return False
        array = array_name(form.path)
        return array is not None and _fits(form, self.columns.get(f"{self._name}/{array}"))

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of all columns, of ragged ones only the part that is the same for all."""
        return sum(column.row_bytes for column in self.columns.values())

    def values(self, chosen: Sequence[Chosen], kept: dict[int, Any], count: int) -> dict[str, Any]:
        """Return the rows of all columns for the steps of a block, frozen.

        Args:
            chosen: The rows of the block, by plan.
            kept: What they have aside; it is taken from there.
            count: How many steps there are.
        """
        kinds = np.empty(count, np.uint16)
        found: dict[str, list[_Found]] = {path: [] for path in self.columns}
        for slot, where, rows in chosen:
            kinds[where] = slot.number
            for array, (field, is_aside) in slot.columns.items():
                values = _take_aside(rows[field], kept) if is_aside else rows[field]
                found[f"{self._name}/{array}"].append((where, values))
            if slot.rest is not None:
                found[self._name].append((where, _take_aside(rows[slot.rest], kept)))
        return {
            path: kinds if isinstance(column, ScalarColumn) else _fill(column, found[path], count)
            for path, column in self.columns.items()
        }


def _fits(form: Form, column: Column | None) -> bool:
    if isinstance(column, SparseColumn):
        spec = column.spec
        return form.type in NUMERIC and (form.dtype, form.shape) == (spec.dtype, spec.shape)
    return column is not None and form.type in RAGGED


def _take_aside(numbers: np.ndarray, kept: dict[int, Any]) -> list[bytes]:
    return [kept.pop(number) for number in numbers.tolist()]


def _fill(column: Column, found: Sequence[_Found], count: int) -> Any:
    """Return rows of a column of which some have values."""
    if isinstance(column, SparseColumn):
        return _fill_rows(column.spec, found, count)
    texts = [b""] * count
    for where, values in found:
        if isinstance(where, slice):
            return values
        for row, text in zip(where.tolist(), values, strict=True):
            texts[row] = text
    return texts


def _fill_rows(spec: ArraySpec, found: Sequence[_Found], count: int) -> np.ndarray:
    """Return rows of an array of which some have values: an array, or a list of their bytes."""
    filled: np.ndarray | None = None
    for where, values in found:
        rows: np.ndarray = values
        if isinstance(values, list):
            rows = np.frombuffer(b"".join(values), spec.dtype).reshape(-1, *spec.shape)
        if isinstance(where, slice):
            return rows
        if filled is None:
            filled = np.full((count, *spec.shape), spec.fill_value)
        filled[where] = rows
    return np.full((count, *spec.shape), spec.fill_value) if filled is None else filled
