"""How the values of a space lie in flat, growing arrays.

A column takes the values of one space, one a row, and keeps them in arrays that can be stored anywhere:

    Box, MultiBinary, MultiDiscrete   one array, a value a row
    Discrete                          one array, a number a row
    Dict, Tuple                       the arrays of each item's column
    Text, custom spaces               data (uint8) and ends
    Sequence                          the arrays of the items' column, an item a row, and ends
    Graph                             nodes, edges, edge_links: each a sequence, which may be absent
    OneOf                             choice, and each alternative as a sequence of no item or one

`ends[i]` is where row i ends in the array next to it (so it starts where row i-1 ends): the one and only
way in which ragged rows are stored.

Writing goes in two steps, because envs may reuse their buffers while arrays are best converted many rows at
a time: `freeze` takes a private copy of one value at once, `pack` makes arrays of many frozen values later.
Reading gives a *stack*: for one array just its rows, for a Dict a dict of stacks, for a Tuple a tuple of
stacks, and for ragged values a tuple with a value a row.

This module has the columns of single values; `compound_columns` has those made of other columns.
"""

from __future__ import annotations

import functools
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from gymbag import json_values
from gymbag.errors import DamagedFileError, SpaceError
from gymbag.row_ring import RowRing

# Values of at least this many bytes are copied to a ring.
_LARGE_BYTES = 1 << 14

#: Rows of an array: together, or, if they are large, in parts.
Rows = np.ndarray | list[np.ndarray]

# The codes of the module `struct` for signed integers, by their bytes.
_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}

_ndarray = np.ndarray  # found faster than by way of its module


def join_rows(rows: Rows) -> np.ndarray:
    """Return rows as an array of their own."""
    parts = rows if isinstance(rows, list) else [rows]
    return np.concatenate(parts, dtype=parts[0].dtype)  # keeps the byte order


#: Reads rows start to stop of the array of that name.
ReadArray = Callable[[str, int, int], np.ndarray]


class LossyCastError(SpaceError):
    """A value has a dtype whose values the array cannot hold exactly."""


@dataclass(frozen=True)
class ArraySpec:
    """What one growing array holds: rows of this dtype and shape.

    In a cumulative array each row is an end offset, so rows that are appended go on from the last
    one. In a sparse array some rows have no value: `fill_value` stands there.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    cumulative: bool = False
    sparse: bool = False

    @property
    def fill_value(self) -> np.ndarray:
        """NaN for floats of a sparse array, else zero."""
        return np.array(np.nan if self.sparse and self.dtype.kind == "f" else 0, self.dtype)

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.dtype.itemsize * math.prod(self.shape)


class Packing(NamedTuple):
    """How frozen values lie in rows of bytes.

    Attributes:
        format: Of one value, for the module `struct`.
        dtype: Of the same bytes, for NumPy; `Column.pack` takes arrays of it.
    """

    format: str
    dtype: np.dtype[Any]


#: Values of fewer bytes are packed into rows.
LARGE_ROW_BYTES = 1 << 12


class Column(ABC):
    """How the values of one space lie in flat arrays; see the module."""

    @abstractmethod
    def arrays(self) -> dict[str, ArraySpec]:
        """List the arrays by their names, which are paths relative to the column."""

    @abstractmethod
    def freeze(self, value: Any) -> Any:
        """Check one value and take a private copy of it.

        Raises:
            SpaceError: The arrays cannot hold it without losing something.
        """

    @abstractmethod
    def pack(self, frozen: Sequence[Any]) -> dict[str, np.ndarray]:
        """Turn frozen values into rows of the arrays; ends count from 0.

        Columns with a `packing` take an array of its dtype, too.
        """

    def pack_rows(self, frozen: Sequence[Any]) -> dict[str, Rows]:
        """Do as `pack`, but leave large rows where they were frozen; `release` is to follow."""
        return dict(self.pack(frozen))

    @abstractmethod
    def unpack(self, read: ReadArray, start: int, stop: int) -> Any:
        """Read rows start to stop as a stack."""

    @abstractmethod
    def iterate(self, stack: Any) -> Iterator[Any]:
        """Yield the values of a stack one by one."""

    def iterate_rows(self, stack: Any, start: int, stop: int) -> Iterator[Any]:
        """Yield values start to stop of a stack one by one."""
        return self.iterate(self.map(operator.itemgetter(slice(start, stop)), stack))

    @abstractmethod
    def null(self) -> Any:
        """Return the value that stands for no action: NaN for floats, zeros, or nothing."""

    def release(self, frozen: Sequence[Any]) -> None:
        """Take back frozen values that are packed and needed no more; most columns have no use for them."""
        return

    @property
    def row_bytes(self) -> int:
        """Bytes of one row, of ragged columns only the part that is the same for all."""
        return sum(spec.row_bytes for spec in self.arrays().values())

    @property
    def packing(self) -> Packing | None:
        """How frozen values lie in a row of bytes; None if they have no fixed size, or are too large."""
        return None

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        """Tell the dtypes of the arrays."""
        return {path: spec.dtype for path, spec in self.arrays().items()}

    def thaw(self, frozen: Any) -> Any:
        """Return the value that was frozen."""
        arrays = self.pack([frozen])
        return next(self.iterate(self.unpack(lambda path, start, stop: arrays[path][start:stop], 0, 1)))

    def observe(self, value: Any) -> dict[str, np.dtype[Any]]:
        """Tell the dtypes a value really has, where they are not fixed by the space."""
        return {}

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> Column:
        """Return the same column with other dtypes, of the arrays that `observe` names."""
        return self

    def stack(self, values: Sequence[Any]) -> Any:
        """Make a stack of values."""
        column = self.with_dtypes(functools.reduce(promote, map(self.observe, values), {}))
        arrays = column.pack([column.freeze(value) for value in values])
        return column.unpack(lambda name, start, stop: arrays[name][start:stop], 0, len(values))

    def map(self, function: Callable[..., Any], *stacks: Any) -> Any:
        """Apply a function to the leaves (arrays, or tuples of ragged values) of equally formed stacks."""
        return function(*stacks)


class ArrayColumn(Column):
    """Values of one dtype and shape: Box, MultiBinary, MultiDiscrete. Frozen rows are bytes."""

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape
        self._null = np.full(shape, np.nan if dtype.kind == "f" else 0, dtype=dtype)
        self._is_large = ArraySpec(dtype, shape).row_bytes >= _LARGE_BYTES

    def arrays(self) -> dict[str, ArraySpec]:
        return {"": ArraySpec(self.dtype, self.shape)}

    def freeze(self, value: Any) -> bytes | np.ndarray:
        if type(value) is _ndarray and value.shape == self.shape:
            dtype = value.dtype
            if dtype is self.dtype or dtype == self.dtype:
                return self._freeze_large(value) if self._is_large else value.tobytes()
        array = self._as_array(value)
        with np.errstate(all="ignore"):
            cast = array.astype(self.dtype)
        if not _equal_numbers(cast, array):
            raise LossyCastError(
                f"expected values that {self.dtype} holds exactly, found {array.dtype} {value!r}; "
                f"have the env and the agent give {self.dtype}, or record under a new name"
            )
        return self._freeze_large(cast) if self._is_large else cast.tobytes()

    @functools.cached_property
    def _ring(self) -> RowRing:
        return RowRing(self.dtype, self.shape)

    def _freeze_large(self, value: np.ndarray) -> np.ndarray:
        copy = self._ring.take()
        if value.flags.c_contiguous:
            # NumPy would let another thread run meanwhile, and then have to wait for it.
            copy.data.cast("B")[:] = value.data.cast("B")
        else:
            copy[...] = value
        return copy

    def release(self, frozen: Sequence[bytes | np.ndarray]) -> None:
        if self._is_large:
            self._ring.give_back(frozen)  # type: ignore[arg-type]  # large values are arrays

    def _as_array(self, value: Any) -> np.ndarray:
        try:
            array = np.asarray(value)
        except (TypeError, ValueError) as error:
            raise SpaceError(f"expected an array of shape {self.shape}, found {value!r}") from error
        if array.dtype.kind not in "biuf":
            raise SpaceError(f"expected numbers of {self.dtype}, found {array.dtype} {value!r}")
        if array.shape != self.shape:
            # Axes of length one come and go in practice, as in an action of 0.5 for shape (1,).
            if np.squeeze(array).shape != tuple(size for size in self.shape if size != 1):
                raise SpaceError(f"expected shape {self.shape}, found {array.shape}: {value!r}")
            array = array.reshape(self.shape)
        return array

    def pack(self, frozen: Sequence[Any] | np.ndarray) -> dict[str, np.ndarray]:
        if isinstance(frozen, np.ndarray):
            return {"": frozen}
        rows = np.frombuffer(bytearray().join(frozen), dtype=self.dtype)  # writable
        return {"": rows.reshape((len(frozen), *self.shape))}

    def pack_rows(self, frozen: Sequence[Any]) -> dict[str, Rows]:
        return {"": self._ring.join(frozen)} if self._is_large else dict(self.pack(frozen))

    def unpack(self, read: ReadArray, start: int, stop: int) -> np.ndarray:
        rows = read("", start, stop)
        if rows.shape[1:] != self.shape:
            raise DamagedFileError(f"expected rows of shape {self.shape}, found {rows.shape[1:]}")
        return rows

    def iterate(self, stack: np.ndarray) -> Iterator[np.ndarray]:
        # The ellipsis keeps a row of shape () an array.
        return iter(stack) if self.shape else (stack[row, ...] for row in range(len(stack)))

    def null(self) -> np.ndarray:
        return self._null.copy()

    @property
    def packing(self) -> Packing | None:
        size = ArraySpec(self.dtype, self.shape).row_bytes
        return Packing(f"{size}s", np.dtype((self.dtype, self.shape))) if size < LARGE_ROW_BYTES else None

    def observe(self, value: Any) -> dict[str, np.dtype[Any]]:
        array = self._as_array(value)
        is_typed = isinstance(value, np.ndarray | np.generic)
        if not is_typed or (array.dtype.kind in "biu" and self.dtype.kind == "f"):
            # A list of numbers says little of its dtype, and whole numbers may have fractions later.
            with np.errstate(all="ignore"):
                if _equal_numbers(array.astype(self.dtype), array):
                    return {"": self.dtype}
        return {"": array.dtype}

    def with_dtypes(self, dtypes: Mapping[str, np.dtype[Any]]) -> ArrayColumn:
        return type(self)(dtypes.get("", self.dtype), self.shape)


class NumberColumn(Column):
    """Single integers: Discrete. Frozen rows are Python or NumPy integers."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self.dtype = dtype
        limits = np.iinfo(dtype)
        self.smallest, self.largest = int(limits.min), int(limits.max)

    def arrays(self) -> dict[str, ArraySpec]:
        return {"": ArraySpec(self.dtype)}

    def freeze(self, value: Any) -> int:
        if type(value) is int and self.smallest <= value <= self.largest:
            return value
        try:
            number = operator.index(value)
        except TypeError:
            number = self._as_integer(value)
        if not self.smallest <= number <= self.largest:
            raise SpaceError(f"expected an integer that {self.dtype} holds, found {value!r}")
        return number

    def _as_integer(self, value: Any) -> int:
        try:
            array = np.asarray(value)
        except ValueError:  # nested unevenly
            array = np.empty(0)
        # Agents give an array of one, and floats without a fraction.
        if array.size == 1 and array.dtype.kind in "biuf" and float(array.item()).is_integer():
            return int(array.item())
        raise SpaceError(f"expected one integer, found {value!r}")

    def pack(self, frozen: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        return {"": np.array(frozen, dtype=self.dtype)}

    @property
    def packing(self) -> Packing | None:
        code = _INTEGERS[self.dtype.itemsize]
        is_native = self.dtype.isnative
        return Packing(code.upper() if self.dtype.kind == "u" else code, self.dtype) if is_native else None

    def unpack(self, read: ReadArray, start: int, stop: int) -> np.ndarray:
        return read("", start, stop)

    def iterate(self, stack: np.ndarray) -> Iterator[np.generic]:
        return iter(stack)

    def null(self) -> Any:
        return self.dtype.type(0)


class ScalarColumn(Column):
    """Plain numbers or bools of a fixed dtype, which belong to no space: rewards, times, flags."""

    def __init__(self, dtype: Any, cumulative: bool = False) -> None:
        self._spec = ArraySpec(np.dtype(dtype), (), cumulative)

    def arrays(self) -> dict[str, ArraySpec]:
        return {"": self._spec}

    def freeze(self, value: Any) -> Any:
        return value

    def pack(self, frozen: Sequence[Any]) -> dict[str, np.ndarray]:
        return {"": np.array(frozen, dtype=self._spec.dtype)}

    def unpack(self, read: ReadArray, start: int, stop: int) -> np.ndarray:
        return read("", start, stop)

    def iterate(self, stack: np.ndarray) -> Iterator[Any]:
        return iter(stack.tolist())

    def null(self) -> Any:
        return self._spec.dtype.type(0)


class SparseColumn(ArrayColumn):
    """Values of one dtype and shape, of which a row may have none: keys of infos. It packs arrays only."""

    @property
    def spec(self) -> ArraySpec:
        """What its array holds."""
        return ArraySpec(self.dtype, self.shape, sparse=True)

    def arrays(self) -> dict[str, ArraySpec]:
        return {"": self.spec}

    def pack_rows(self, frozen: Sequence[Any]) -> dict[str, Rows]:
        return dict(self.pack(frozen))

    def release(self, frozen: Sequence[Any]) -> None:
        """Do nothing, as the rows are no copies of large values."""


class BytesColumn(Column):
    """Values that are written as bytes, each of another length. Frozen rows are bytes."""

    def arrays(self) -> dict[str, ArraySpec]:
        return {
            "data": ArraySpec(np.dtype(np.uint8)),
            "ends": ArraySpec(np.dtype(np.int64), cumulative=True),
        }

    @abstractmethod
    def freeze(self, value: Any) -> bytes: ...

    @abstractmethod
    def from_bytes(self, data: bytes) -> Any:
        """Read what `freeze` wrote."""

    def pack(self, frozen: Sequence[bytes]) -> dict[str, np.ndarray]:
        if frozen.count(b"") == len(frozen):  # as is the rule for infos
            return {"data": np.empty(0, np.uint8), "ends": np.zeros(len(frozen), np.int64)}
        return {
            "data": np.frombuffer(bytearray().join(frozen), dtype=np.uint8),
            "ends": np.cumsum(np.fromiter(map(len, frozen), np.int64, len(frozen))),
        }

    @abstractmethod
    def empties(self, count: int) -> list[Any]:
        """Make what `from_bytes` makes of no bytes, a number of times."""

    def unpack(self, read: ReadArray, start: int, stop: int) -> tuple[Any, ...]:
        bounds = read_bounds(read, start, stop)
        data = read("data", int(bounds[0]), int(bounds[-1])).tobytes()
        # Most infos are empty, and so cost nothing.
        values = self.empties(stop - start)
        filled = np.flatnonzero(bounds[1:] > bounds[:-1])
        offsets = bounds - bounds[0]
        from_bytes = self.from_bytes
        for row, begin, end in zip(
            filled.tolist(), offsets[filled].tolist(), offsets[filled + 1].tolist(), strict=True
        ):
            values[row] = from_bytes(data[begin:end])
        return tuple(values)

    def iterate(self, stack: tuple[Any, ...]) -> Iterator[Any]:
        return iter(stack)


class DataColumn(BytesColumn):
    """Bytes as they are."""

    def freeze(self, value: bytes) -> bytes:
        return value

    def from_bytes(self, data: bytes) -> bytes:
        return data

    def empties(self, count: int) -> list[bytes]:
        return [b""] * count

    def null(self) -> bytes:
        return b""


class TextColumn(BytesColumn):
    """Strings, as UTF-8."""

    def freeze(self, value: Any) -> bytes:
        if not isinstance(value, str):
            raise SpaceError(f"expected a string, found {value!r}")
        return value.encode("utf-8", "surrogatepass")

    def from_bytes(self, data: bytes) -> str:
        try:
            return data.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"expected UTF-8, found {data[:80]!r}: {error}") from error

    def empties(self, count: int) -> list[str]:
        return [""] * count

    def null(self) -> str:
        return ""


class ValueColumn(BytesColumn):
    """Any value an info can hold, as JSON text (see `json_values`); no bytes at all mean an empty dict."""

    def freeze(self, value: Any) -> bytes:
        if type(value) is dict and not value:
            return b""
        try:
            return json_values.encode(value).encode("ascii")
        except json_values.UnstorableError as error:
            raise SpaceError(f"expected a value that an info can hold, found {value!r}") from error

    def from_bytes(self, data: bytes) -> Any:
        return json_values.decode(data) if data else {}

    def empties(self, count: int) -> list[Any]:
        return [{} for _ in range(count)]

    def null(self) -> None:
        return None


class StepInfoColumn(ValueColumn):
    """Infos as steps have them: None in place of an empty dict."""

    def from_bytes(self, data: bytes) -> Any:
        return super().from_bytes(data) or None

    def empties(self, count: int) -> list[Any]:
        return [None] * count


def read_bounds(read: ReadArray, start: int, stop: int) -> np.ndarray:
    """Read where rows start to stop of a ragged column begin: a bound more than rows, as the last one ends.

    Raises:
        DamagedFileError: They are no numbers that rise.
    """
    stored = read("ends", max(start - 1, 0), stop)
    if stored.dtype.kind not in "iu" or stored.shape != (stop - max(start - 1, 0),):
        raise DamagedFileError(
            f"expected ends of rows {start} to {stop}, found {stored.dtype} of shape {stored.shape}"
        )
    stored = stored.astype(np.int64, copy=False)
    bounds = stored if start else np.concatenate([[0], stored], dtype=np.int64)
    if bounds[0] < 0 or np.any(bounds[1:] < bounds[:-1]):
        raise DamagedFileError(f"expected rising ends of rows {start} to {stop}, found {stored}")
    return bounds


def _equal_numbers(cast: np.ndarray, original: np.ndarray) -> bool:
    """Tell whether a cast kept every number, the sign of zeros included."""
    if cast.dtype == original.dtype:
        return True
    with np.errstate(all="ignore"):
        back = cast.astype(original.dtype)
        if cast.dtype.kind != "f" and not np.all(np.isfinite(original)):
            return False
        # Back and forth alone would take -1 for 255 and back. The widest float tells those apart, and
        # where it is no wider than a double, the signs do.
        wide, original_wide = cast.astype(np.longdouble), original.astype(np.longdouble)
        same = (back == original) & (wide == original_wide) & (np.signbit(wide) == np.signbit(original_wide))
        return bool(np.all(same | (np.isnan(wide) & np.isnan(original_wide))))


def promote(
    left: Mapping[str, np.dtype[Any]], right: Mapping[str, np.dtype[Any]]
) -> dict[str, np.dtype[Any]]:
    """Merge observed dtypes so that each array can hold both."""
    promoted = {**right, **left}
    for path in left:
        # Promoting would give up a byte order that both have.
        if left[path] != right.get(path, left[path]):
            promoted[path] = np.promote_types(left[path], right[path])
            for dtype in (left[path], right[path]):
                if dtype.kind in "iu" and promoted[path].kind == "f":
                    _check_mantissa(promoted[path], dtype)
    return promoted


def _check_mantissa(floats: np.dtype[Any], integers: np.dtype[Any]) -> None:
    bits = 8 * integers.itemsize - (integers.kind == "i")
    if bits > np.finfo(floats).nmant + 1:
        raise SpaceError(f"expected values of one dtype, found {integers}, which {floats} does not hold")
