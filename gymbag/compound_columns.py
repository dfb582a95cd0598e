"""Columns made of other columns: those of Dict, Tuple, Sequence, Graph and OneOf; see `columns`."""

from __future__ import annotations

import importlib
import itertools
import struct
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

import numpy as np

from gymbag.columns import (
    LARGE_ROW_BYTES,
    ArraySpec,
    Column,
    NumberColumn,
    Packing,
    ReadArray,
    Rows,
    promote,
    read_bounds,
)
from gymbag.errors import DamagedFileError, SpaceError


class StructColumn(Column):
    """Values with a fixed set of items, each a column of its own: the base of Dict and Tuple."""

    def __init__(self, columns: Mapping[str, Column]) -> None:
        self.columns = dict(columns)
        self._children = list(self.columns.values())
        # Numbers are checked as they are packed.
        self._freezes: list[Callable[[Any], Any] | None] = [
            None if isinstance(column, NumberColumn) else column.freeze for column in self._children
        ]
        self._row = _join_packings([column.packing for column in self.columns.values()])

    @property
    def packing(self) -> Packing | None:
        return self._row and Packing(f"{self._row[0].size}s", self._row[1])

    @abstractmethod
    def items_of(self, value: Any) -> Sequence[Any]:
        """Take a value (or a stack) apart, in the order of the columns."""

    @abstractmethod
    def from_items(self, items: Sequence[Any]) -> Any:
        """Put a value (or a stack) together."""

    @abstractmethod
    def with_columns(self, columns: Mapping[str, Column]) -> StructColumn:
        """Return the same struct of other columns."""

    def arrays(self) -> dict[str, ArraySpec]:
        return {
            join(name, path): spec
            for name, column in self.columns.items()
            for path, spec in column.arrays().items()
        }

    def freeze(self, value: Any) -> bytes | tuple[Any, ...]:
        items = self.items_of(value)
        if not self._row:
            return tuple([column.freeze(item) for column, item in zip(self._children, items, strict=True)])
        pack, pairs = self._row[0].pack, zip(self._freezes, items, strict=True)
        try:
            return pack(*[item if freeze is None else freeze(item) for freeze, item in pairs])
        except struct.error:  # something else than a number, or too large a one
            return pack(*[column.freeze(item) for column, item in zip(self._children, items, strict=True)])

    def _transpose(self, frozen: Any) -> Iterable[Any]:
        """Return the frozen values of each item, or arrays of them."""
        if self._row:
            rows = frozen
            if not isinstance(rows, np.ndarray):
                rows = np.frombuffer(bytearray().join(frozen), self._row[1])
            return (rows[field] for field in self._row[1].names or ())
        return zip(*frozen, strict=True) if len(frozen) else itertools.repeat(())

    def pack(self, frozen: Sequence[Any]) -> dict[str, np.ndarray]:
        return {
            join(name, path): array
            for (name, column), items in zip(self.columns.items(), self._transpose(frozen), strict=False)
            for path, array in column.pack(items).items()
        }

    def pack_rows(self, frozen: Sequence[Any]) -> dict[str, Rows]:
        return {
            join(name, path): rows
            for (name, column), items in zip(self.columns.items(), self._transpose(frozen), strict=False)
            for path, rows in column.pack_rows(items).items()
        }

    def release(self, frozen: Sequence[Any]) -> None:
        if not self._row:
            for column, items in zip(self.columns.values(), zip(*frozen, strict=True), strict=False):
                column.release(items)

    def unpack(self, read: ReadArray, start: int, stop: int) -> Any:
        return self.from_items(
            [column.unpack(below(read, name), start, stop) for name, column in self.columns.items()]
        )

    def iterate(self, stack: Any) -> Iterator[Any]:
        columns = self.columns.values()
        pairs = zip(columns, self.items_of(stack), strict=True)
        if not self.columns:
            return itertools.repeat(self.from_items([]))  # as many as are asked for
        return map(self.from_items, zip(*(column.iterate(items) for column, items in pairs), strict=False))

    def null(self) -> Any:
        return self.from_items([column.null() for column in self.columns.values()])

    def observe(self, value: Any) -> dict[str, np.dtype[Any]]:
        items = zip(self.columns.items(), self.items_of(value), strict=True)
        return {
            join(name, path): dtype
            for (name, column), item in items
            for path, dtype in column.observe(item).items()
        }

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> StructColumn:
        return self.with_columns(
            {name: column.with_dtypes(under(dtypes, name)) for name, column in self.columns.items()}
        )

    def map(self, function: Callable[..., Any], *stacks: Any) -> Any:
        parts = [self.items_of(stack) for stack in stacks]
        columns = self.columns.values()
        return self.from_items(
            [column.map(function, *items) for column, *items in zip(columns, *parts, strict=True)]
        )


def _join_packings(packings: Sequence[Packing | None]) -> tuple[struct.Struct, np.dtype[Any]] | None:
    """Return what packs values of all of these into one row, and its dtype; None if one has none."""
    known = [packing for packing in packings if packing is not None]
    row = struct.Struct("=" + "".join(packing.format for packing in known))
    if len(known) < len(packings) or not 0 < row.size < LARGE_ROW_BYTES:
        return None
    return row, np.dtype([(str(number), packing.dtype) for number, packing in enumerate(known)])


class DictColumn(StructColumn):
    """Values of a Dict space: dicts with these keys."""

    def __init__(self, keys: Sequence[Any], columns: Mapping[str, Column]) -> None:
        super().__init__(columns)
        self.keys = tuple(keys)

    def items_of(self, value: Any) -> list[Any]:
        try:
            if len(value) == len(self.keys):
                return [value[key] for key in self.keys]
        except (TypeError, KeyError):
            pass
        raise SpaceError(f"expected a dict with the keys {list(self.keys)}, found {value!r}")

    def from_items(self, items: Sequence[Any]) -> dict[Any, Any]:
        return dict(zip(self.keys, items, strict=True))

    def with_columns(self, columns: Mapping[str, Column]) -> DictColumn:
        return DictColumn(self.keys, columns)


class TupleColumn(StructColumn):
    """Values of a Tuple space."""

    def items_of(self, value: Any) -> Sequence[Any]:
        if (type(value) is tuple or isinstance(value, tuple | list)) and len(value) == len(self.columns):
            return value
        raise SpaceError(f"expected a tuple of {len(self.columns)} items, found {value!r}")

    def from_items(self, items: Sequence[Any]) -> tuple[Any, ...]:
        return tuple(items)

    def with_columns(self, columns: Mapping[str, Column]) -> TupleColumn:
        return TupleColumn(columns)


class SequenceColumn(Column):
    """Any number of items a row: Sequence. A frozen row is a list of frozen items.

    Args:
        items: The column of the items.
        stacked: Whether a value is a stack of items rather than a tuple of them.
    """

    def __init__(self, items: Column, stacked: bool) -> None:
        self.items, self.stacked = items, stacked

    def arrays(self) -> dict[str, ArraySpec]:
        items = {join("items", path): spec for path, spec in self.items.arrays().items()}
        return {**items, "ends": ArraySpec(np.dtype(np.int64), cumulative=True)}

    def _items_of(self, value: Any) -> list[Any]:
        try:
            if not self.stacked:
                return list(value)
            lengths: set[int] = set()
            self.items.map(lambda leaf: lengths.add(len(leaf)), value)
            if len(lengths) == 1:
                return list(itertools.islice(self.items.iterate(value), *lengths))
        except TypeError as error:
            raise SpaceError(f"expected a sequence, found {value!r}") from error
        raise SpaceError(f"expected a stack of equally long parts, found {value!r}")

    def freeze(self, value: Any) -> list[Any]:
        return [self.items.freeze(item) for item in self._items_of(value)]

    def pack(self, frozen: Sequence[list[Any]]) -> dict[str, np.ndarray]:
        items = self.items.pack(list(itertools.chain.from_iterable(frozen)))
        packed = {join("items", path): array for path, array in items.items()}
        return {**packed, "ends": np.cumsum([len(row) for row in frozen], dtype=np.int64)}

    def unpack(self, read: ReadArray, start: int, stop: int) -> tuple[Any, ...]:
        bounds = read_bounds(read, start, stop).tolist()
        read_items = below(read, "items")
        if self.stacked:
            pairs = itertools.pairwise(bounds)
            return tuple(self.items.unpack(read_items, begin, end) for begin, end in pairs)
        stack = self.items.unpack(read_items, bounds[0], bounds[-1])
        items = self.items.iterate(stack)
        lengths = (end - begin for begin, end in itertools.pairwise(bounds))
        return tuple(tuple(itertools.islice(items, length)) for length in lengths)

    def iterate(self, stack: tuple[Any, ...]) -> Iterator[Any]:
        return iter(stack)

    def null(self) -> Any:
        return self.items.unpack(_read_nothing(self.items), 0, 0) if self.stacked else ()

    def observe(self, value: Any) -> dict[str, np.dtype[Any]]:
        observed: dict[str, np.dtype[Any]] = {}
        for item in self._items_of(value):
            observed = promote(observed, self.items.observe(item))
        return {join("items", path): dtype for path, dtype in observed.items()}

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> SequenceColumn:
        return SequenceColumn(self.items.with_dtypes(under(dtypes, "items")), self.stacked)


class OptionalColumn(Column):
    """A column whose values may be None."""

    def __init__(self, column: SequenceColumn) -> None:
        self.column = column

    def arrays(self) -> dict[str, ArraySpec]:
        return {**self.column.arrays(), "present": ArraySpec(np.dtype(bool))}

    def freeze(self, value: Any) -> list[Any] | None:
        return None if value is None else self.column.freeze(value)

    def pack(self, frozen: Sequence[list[Any] | None]) -> dict[str, np.ndarray]:
        present = np.array([row is not None for row in frozen], dtype=bool)
        return {**self.column.pack([row or [] for row in frozen]), "present": present}

    def unpack(self, read: ReadArray, start: int, stop: int) -> tuple[Any, ...]:
        present = read("present", start, stop).tolist()
        values = self.column.unpack(read, start, stop)
        return tuple(value if here else None for value, here in zip(values, present, strict=True))

    def iterate(self, stack: tuple[Any, ...]) -> Iterator[Any]:
        return iter(stack)

    def null(self) -> None:
        return None

    def observe(self, value: Any) -> dict[str, np.dtype[Any]]:
        return {} if value is None else self.column.observe(value)

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> OptionalColumn:
        return OptionalColumn(self.column.with_dtypes(dtypes))


class GraphColumn(TupleColumn):
    """Values of a Graph space: the library's `GraphInstance(nodes, edges, edge_links)`."""

    def __init__(self, columns: Mapping[str, Column], library: str) -> None:
        super().__init__(columns)
        self.library = library

    def with_columns(self, columns: Mapping[str, Column]) -> GraphColumn:
        return GraphColumn(columns, self.library)

    def _graph(self, items: Sequence[Any]) -> Any:
        return importlib.import_module(f"{self.library}.spaces").GraphInstance(*items)

    def unpack(self, read: ReadArray, start: int, stop: int) -> tuple[Any, ...]:
        return tuple(map(self._graph, zip(*super().unpack(read, start, stop), strict=True)))

    def iterate(self, stack: tuple[Any, ...]) -> Iterator[Any]:
        return iter(stack)

    def null(self) -> Any:
        # A graph cannot do without nodes, unlike its edges.
        nodes = self.columns["nodes"]
        assert isinstance(nodes, OptionalColumn)
        return self._graph([nodes.column.null(), None, None])

    def map(self, function: Callable[..., Any], *stacks: Any) -> Any:
        return function(*stacks)


class OneOfColumn(Column):
    """Values of a OneOf space: (number of the alternative, its value)."""

    _CHOICE: ClassVar[NumberColumn] = NumberColumn(np.dtype(np.int64))

    def __init__(self, alternatives: Sequence[Column]) -> None:
        self.alternatives = tuple(SequenceColumn(column, stacked=False) for column in alternatives)

    def arrays(self) -> dict[str, ArraySpec]:
        arrays = {"choice": self._CHOICE.arrays()[""]}
        for number, column in enumerate(self.alternatives):
            arrays.update({join(str(number), path): spec for path, spec in column.arrays().items()})
        return arrays

    def _take_apart(self, value: Any) -> tuple[int, list[Any]]:
        if isinstance(value, tuple | list) and len(value) == 2:
            choice = self._CHOICE.freeze(value[0])
            if 0 <= choice < len(self.alternatives):
                return choice, [
                    [value[1]] if number == choice else [] for number in range(len(self.alternatives))
                ]
        raise SpaceError(f"expected (number below {len(self.alternatives)}, value), found {value!r}")

    def freeze(self, value: Any) -> tuple[int, list[Any]]:
        choice, values = self._take_apart(value)
        pairs = zip(self.alternatives, values, strict=True)
        return choice, [column.freeze(item) for column, item in pairs]

    def pack(self, frozen: Sequence[tuple[int, list[Any]]]) -> dict[str, np.ndarray]:
        packed = self._CHOICE.pack([choice for choice, _ in frozen])
        arrays = {"choice": packed[""]}
        for number, column in enumerate(self.alternatives):
            rows = column.pack([values[number] for _, values in frozen])
            arrays.update({join(str(number), path): array for path, array in rows.items()})
        return arrays

    def unpack(self, read: ReadArray, start: int, stop: int) -> tuple[Any, ...]:
        choices = read("choice", start, stop)
        if len(choices) and not 0 <= choices.min() <= choices.max() < len(self.alternatives):
            raise DamagedFileError(f"expected choices below {len(self.alternatives)}, found {choices}")
        values = [
            column.unpack(below(read, str(number)), start, stop)
            for number, column in enumerate(self.alternatives)
        ]
        if any(len(values[choice][row]) != 1 for row, choice in enumerate(choices)):
            raise DamagedFileError(f"expected one value of each choice in rows {start} to {stop}")
        return tuple((choice, values[choice][row][0]) for row, choice in enumerate(choices))

    def iterate(self, stack: tuple[Any, ...]) -> Iterator[Any]:
        return iter(stack)

    def null(self) -> tuple[Any, Any]:
        return np.int64(0), self.alternatives[0].items.null()

    def observe(self, value: Any) -> dict[str, np.dtype[Any]]:
        _, values = self._take_apart(value)
        return {
            join(str(number), path): dtype
            for number, (column, item) in enumerate(zip(self.alternatives, values, strict=True))
            for path, dtype in column.observe(item).items()
        }

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> OneOfColumn:
        return OneOfColumn(
            [
                column.with_dtypes(under(dtypes, str(number))).items
                for number, column in enumerate(self.alternatives)
            ]
        )


def encode_key(key: str) -> str:
    """Make the name of an array or group of a key: as it is, where an array or group may be called so."""
    name = quote(key, safe=" !#$&'()+,:;=@[]", errors="surrogatepass")
    return name if name.strip(".") else name.replace(".", "%2E")


def join(name: str, path: str) -> str:
    """Put a name in front of a relative path, which may be empty."""
    return f"{name}/{path}" if path else name


def below(read: ReadArray, name: str) -> ReadArray:
    """Return a reader of the arrays below a name."""
    return lambda path, start, stop: read(join(name, path), start, stop)


def under(dtypes: Mapping[str, np.dtype[Any]], name: str) -> dict[str, np.dtype[Any]]:
    """Pick what is named below a name, under its relative path."""
    chosen = {}
    for path, dtype in dtypes.items():
        if path == name or path.startswith(f"{name}/"):
            chosen[path[len(name) + 1 :]] = dtype
    return chosen


def _read_nothing(column: Column) -> ReadArray:
    arrays = column.arrays()
    return lambda path, start, stop: np.empty((0, *arrays[path].shape), arrays[path].dtype)
