"""Reading infos, or annotations, from their columns; `info_kinds` says how they lie there.

Rows are read many at a time. Each column that some row needs is read once, the rows of one kind are put
together in one go, and then take their places again:

    kind    1    1    2    1    0        rows 0 1 3 are of kind 1, row 2 is of kind 2, row 4 is JSON
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from gymbag import json_values
from gymbag.columns import BytesColumn, DataColumn, ReadArray, TextColumn, read_bounds
from gymbag.compound_columns import below
from gymbag.errors import DamagedFileError
from gymbag.info_arrays import (
    ListedValues,
    Part,
    Parts,
    Path,
    RowNumbers,
    group_rows,
    iterate_values,
    leaves_of,
)
from gymbag.info_kinds import (
    NO_KIND,
    NUMERIC,
    RAGGED,
    Kind,
    Leaf,
    arrays_of,
    build_infos,
    check_rows,
)
from gymbag.storage.stream import KIND_TABLES, ArraySource, read_kinds

_ALL = slice(None)

_RAGGED_COLUMNS: dict[str, BytesColumn] = {"str": TextColumn(), "bytes": DataColumn()}


class InfoColumn:
    """Infos of steps, or annotations, as they are read.

    Args:
        source: Where the arrays are.
        name: "infos" or "annotations": what the group of the arrays is called.
    """

    def __init__(self, source: ArraySource, name: str) -> None:
        self._source, self._name = source, name
        self._kinds: Sequence[Kind] = ()
        self._checked: set[int] = set()

    def unpack(self, read: ReadArray, start: int, stop: int) -> tuple[dict[str, Any] | None, ...]:
        """Read the infos of rows start to stop, None in place of an empty one.

        Raises:
            DamagedFileError: They cannot be read, or the columns do not hold what the kinds say.
        """
        block = _Block(self._name, read, start, stop)
        numbers = self._read_numbers(read, start, stop)
        if numbers is None:
            return tuple(block.infos(_ALL)) if self._exist() else (None,) * (stop - start)
        infos = {
            number: block.infos_of_kind(self._kind(number), rows) if number else block.infos(rows)
            for number, rows in group_rows(numbers)
        }
        if len(infos) == 1:
            return tuple(*infos.values())
        return tuple(map(next, map(infos.__getitem__, numbers.tolist())))

    def parts(self, start: int, stop: int) -> Parts:
        """Take the infos of rows start to stop apart by their keys; columns are read when they are asked for.

        Raises:
            DamagedFileError: The infos cannot be read.
        """
        read = below(self._source.read, self._name)
        numbers = self._read_numbers(read, start, stop)
        if numbers is None:
            if not self._exist():
                return {}
            numbers = np.zeros(stop - start, np.uint8)
        known, firsts = np.unique(numbers, return_index=True)
        first_rows = dict(zip(known.tolist(), firsts.tolist(), strict=True))
        kinds = {number: self._kind(number) for number in first_rows if number}
        # Of each key: where it is found first, its columns with the kinds that use them, and its JSON.
        order: dict[Path, tuple[int, int]] = {}
        columns: dict[Path, dict[Leaf, list[int]]] = {}
        listed = ListedValues()
        for number, kind in kinds.items():
            for place, leaf in enumerate(kind):
                if leaf.type not in ("dict", "json"):
                    columns.setdefault(leaf.path, {}).setdefault(leaf, []).append(number)
                    here = first_rows[number], place
                    order[leaf.path] = min(order.get(leaf.path, here), here)
        with_items = [number for number, kind in kinds.items() if _has_items(kind)]
        if with_items or NO_KIND in first_rows:
            rest = _Ragged(read, start, stop)
            rows = np.flatnonzero(np.isin(numbers, with_items) | (numbers == NO_KIND) & rest.filled)
            for row, number, text in zip(rows.tolist(), numbers[rows].tolist(), rest.of(rows), strict=True):
                for place, path, value in self._values_in(text, kinds.get(number)):
                    listed.add(row, path, value)
                    order[path] = min(order.get(path, (row, place)), (row, place))
        parts: Parts = {}
        for path in sorted(order, key=order.__getitem__):
            parts[path] = [listed.part(path)] if path in listed.found else []
            for leaf, users in columns.get(path, {}).items():
                among = None if len(users) == len(first_rows) else numbers
                read_part = functools.partial(
                    _read_part, self._source, self._name, leaf, (start, stop), among, users
                )
                parts[path].append(Part(leaf.type if leaf.type in NUMERIC else "any", read_part))
        return parts

    def _exist(self) -> bool:
        """Tell whether there are any; there may be later, in a recording that goes on."""
        return self._source.has(f"{self._name}/ends")

    def _read_numbers(self, read: ReadArray, start: int, stop: int) -> np.ndarray | None:
        """Read the numbers of the kinds of rows; None if none of them is of a kind."""
        if not self._source.has(f"{self._name}/kind"):
            return None
        numbers = read("kind", start, stop)
        if numbers.shape != (stop - start,) or numbers.dtype.kind != "u":
            raise DamagedFileError(
                f"{self._name}/kind: expected {stop - start} unsigned integers, found {numbers.dtype} of "
                f"shape {numbers.shape}"
            )
        return numbers if numbers.any() else None

    def _kind(self, number: int) -> Kind:
        """Return the kind of that number, of a table that may have grown."""
        if number > len(self._kinds):
            self._kinds = read_kinds(self._source, self._name)
        kinds = self._kinds  # replaced as a whole, as threads may read at the same time
        if number > len(kinds):
            raise DamagedFileError(
                f"{self._name}/kind: expected numbers up to {len(kinds)}, the length of "
                f"{KIND_TABLES[self._name]}, found {number}"
            )
        kind = kinds[number - 1]
        if number not in self._checked:
            for path in (f"{self._name}/{array}" for leaf in kind for array in arrays_of(leaf)):
                if not self._source.has(path):
                    raise DamagedFileError(f"expected the array {path} of infos of kind {number}, found none")
            self._checked.add(number)
        return kind

    def _values_in(self, text: bytes, kind: Kind | None) -> Iterator[tuple[int, Path, Any]]:
        """Yield the values that a row of JSON has, each with its place among all values, and its path."""
        if kind is None:
            info = _decode_info(self._name, text) or {}
            for place, (path, value) in enumerate(leaves_of(info)):
                yield place, path, value
            return
        items = iter(_decode_items(self._name, kind, text))
        for place, leaf in enumerate(kind):
            if leaf.type == "json":
                item = next(items)
                for path, value in (
                    leaves_of(item, leaf.path) if isinstance(item, dict) else [(leaf.path, item)]
                ):
                    yield place, path, value


class _Block:
    """Rows start to stop of a group of infos, each of whose arrays is read but once."""

    def __init__(self, name: str, read: ReadArray, start: int, stop: int) -> None:
        self._name, self._read = name, read
        self._start, self._stop = start, stop
        self._columns: dict[tuple[bool, str | None], np.ndarray | _Ragged] = {}

    @functools.cached_property
    def _rest(self) -> _Ragged:
        """The JSON of what is in no column."""
        return _Ragged(self._read, self._start, self._stop)

    def infos(self, rows: RowNumbers) -> Iterator[dict[str, Any] | None]:
        """Return the infos of rows that are JSON."""
        if not self._rest.filled.any():  # the rule, for envs without infos
            return iter([None] * self._count(rows))
        return (_decode_info(self._name, text) if text else None for text in self._rest.of(rows))

    def infos_of_kind(self, kind: Kind, rows: RowNumbers) -> Iterator[dict[str, Any]]:
        """Return the infos of rows that are of one kind."""
        items: Iterator[Any] = iter(())
        if _has_items(kind) or self._rest.filled.any():
            texts = self._rest.of(rows)
            items = zip(*(_decode_items(self._name, kind, text) for text in texts), strict=True)
        return build_infos(
            kind, [iter(next(items)) if leaf.type == "json" else self._values(leaf, rows) for leaf in kind]
        )

    def _count(self, rows: RowNumbers) -> int:
        return self._stop - self._start if isinstance(rows, slice) else len(rows)

    def _values(self, leaf: Leaf, rows: RowNumbers) -> Iterator[Any]:
        """Return the values of a leaf in some of the rows."""
        if leaf.type == "none":
            return iter([None] * self._count(rows))
        if leaf.type == "dict":
            return iter([{} for _ in range(self._count(rows))])
        which = leaf.type in RAGGED, leaf.array
        column = self._columns.get(which)
        if column is None:
            column = self._columns[which] = _read_column(self._read, leaf, self._start, self._stop)
        if isinstance(column, _Ragged):
            return map(_RAGGED_COLUMNS[leaf.type].from_bytes, column.of(rows))
        check_rows(leaf, column, self._stop - self._start)
        return iterate_values(leaf.type, column[rows])


class _Ragged:
    """Rows start to stop of a ragged column.

    Attributes:
        filled: Which of the rows have any bytes.
    """

    def __init__(self, read: ReadArray, start: int, stop: int) -> None:
        bounds = read_bounds(read, start, stop)
        begin, end = int(bounds[0]), int(bounds[-1])
        self._bounds = bounds - begin
        self._data = read("data", begin, end).tobytes() if begin < end else b""
        if len(self._data) != end - begin:
            raise DamagedFileError(
                f"expected {end - begin} bytes of rows {start} to {stop}, found {len(self._data)}"
            )
        self.filled = bounds[:-1] < bounds[1:]

    def of(self, rows: RowNumbers) -> list[bytes]:
        """Return what stands in some of the rows."""
        data = self._data
        begins, ends = self._bounds[:-1][rows].tolist(), self._bounds[1:][rows].tolist()
        return [data[begin:end] for begin, end in zip(begins, ends, strict=True)]


def _read_column(read: ReadArray, leaf: Leaf, start: int, stop: int) -> np.ndarray | _Ragged:
    assert leaf.array is not None
    if leaf.type in RAGGED:
        return _Ragged(below(read, leaf.array), start, stop)
    return read(leaf.array, start, stop)


def _read_part(
    source: ArraySource,
    name: str,
    leaf: Leaf,
    bounds: tuple[int, int],
    numbers: np.ndarray | None,
    users: list[int],
) -> tuple[RowNumbers, Any]:
    """Read the values of a leaf in the rows whose kinds have it; in all if there are no numbers of kinds."""
    rows = _ALL if numbers is None else np.flatnonzero(np.isin(numbers, users))
    if leaf.type == "none":
        return rows, [None] * (bounds[1] - bounds[0] if isinstance(rows, slice) else len(rows))
    column = _read_column(below(source.read, name), leaf, *bounds)
    if isinstance(column, _Ragged):
        return rows, list(map(_RAGGED_COLUMNS[leaf.type].from_bytes, column.of(rows)))
    check_rows(leaf, column, bounds[1] - bounds[0])
    return rows, column if isinstance(rows, slice) else column[rows]


def _has_items(kind: Kind) -> bool:
    return any(leaf.type == "json" for leaf in kind)


def _decode_info(name: str, text: bytes) -> dict[str, Any] | None:
    info = json_values.decode(text)
    if not isinstance(info, dict):
        raise DamagedFileError(f"{name}/data: expected a JSON object, found {text[:80]!r}")
    return info or None


def _decode_items(name: str, kind: Kind, text: bytes) -> list[Any]:
    """Read the JSON list of a row, which has an item for each leaf of a kind that is in no column."""
    count = sum(leaf.type == "json" for leaf in kind)
    items = json_values.decode(text) if text else []
    if not isinstance(items, list) or len(items) != count or bool(text) != bool(count):
        raise DamagedFileError(f"{name}/data: expected a JSON list of {count} items, found {text[:80]!r}")
    return items
