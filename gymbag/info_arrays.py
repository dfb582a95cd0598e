"""Infos key by key: for each key one array, with a row for each info.

    {"x": 0.5, "at": {"room": 3}}        x          [0.5, nan, 1.5]
    {"at": {"room": 4}}                  at/room    [3, 4, None]
    {"x": 1.5}

Where the values of a key come from does not matter here: a *part* has those of some rows, and says how to
read them. Backends that keep infos as dicts have one part for each key, those with columns may have several.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

#: The keys that lead to a value; one that is not a string is given by its type and its text.
Path = tuple[str | tuple[str, str], ...]

#: The numbers of some rows, rising, or a slice for all of them.
RowNumbers = np.ndarray | slice


class Part(NamedTuple):
    """The values that a key has in some rows.

    Attributes:
        type: "bool", "int" or "float" for Python's own, "scalar" or "array" for NumPy's, "any" for a list of
            whatever there may be; see `info_kinds`.
        read: Returns the numbers of the rows and their values: an array, a row for each, or for "any" a list.
    """

    type: str
    read: Callable[[], tuple[RowNumbers, Any]]


#: The parts of each key, in the order in which the keys came.
Parts = dict[Path, list[Part]]


def group_rows(numbers: np.ndarray) -> Iterator[tuple[int, RowNumbers]]:
    """Yield each number that occurs in an array, which is not empty, and the rows that have it.

    >>> list(group_rows(np.array([7, 7]))), list(group_rows(np.array([2, 1, 2])))
    ([(7, slice(None, None, None))], [(1, array([1])), (2, array([0, 2]))])
    """
    if numbers[0] == numbers[-1] and (numbers == numbers[0]).all():
        yield int(numbers[0]), slice(None)
        return
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    for rows in np.split(order, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1):
        yield int(numbers[rows[0]]), rows


def iterate_values(type: str, array: np.ndarray) -> Iterator[Any]:
    """Yield the values of an array as an info has them.

    >>> list(iterate_values("int", np.array([1, 2])))
    [1, 2]
    >>> [type(value).__name__ for value in iterate_values("scalar", np.array([1.5]))]
    ['float64']
    """
    if type in ("bool", "int", "float"):
        return iter(array.tolist())
    if type == "array" and array.ndim == 1:
        return (array[row, ...] for row in range(len(array)))  # the ellipsis keeps it an array
    return iter(array)


def leaves_of(info: Mapping[Any, Any], above: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield the values of an info that are not dicts, each with its path.

    >>> list(leaves_of({"a": {"b": 1, 2: 3}}))
    [(('a', 'b'), 1), (('a', ('int', '2')), 3)]
    """
    for key, value in info.items():
        here = (*above, key if isinstance(key, str) else (type(key).__name__, str(key)))
        if isinstance(value, dict):
            yield from leaves_of(value, here)
        else:
            yield here, value


class ListedValues:
    """Values of keys that are noted one by one.

    Attributes:
        found: The rows and the values of each key.
    """

    def __init__(self) -> None:
        self.found: dict[Path, tuple[list[int], list[Any]]] = {}

    def add(self, row: int, path: Path, value: Any) -> None:
        """Note a value; rows come in rising order."""
        if path not in self.found:
            self.found[path] = [], []
        rows, values = self.found[path]
        rows.append(row)
        values.append(value)

    def part(self, path: Path) -> Part:
        """Return the values of a key as a part."""
        return Part("any", functools.partial(_read_listed, *self.found[path]))


def _read_listed(rows: list[int], values: list[Any]) -> tuple[np.ndarray, list[Any]]:
    return np.array(rows, np.intp), values


def parts_of(infos: Iterable[Mapping[Any, Any]]) -> Parts:
    """Take infos apart that are there as dicts."""
    listed = ListedValues()
    for row, info in enumerate(infos):
        for path, value in leaves_of(info):
            listed.add(row, path, value)
    return {path: [listed.part(path)] for path in listed.found}


def name_paths(paths: Iterable[Path]) -> dict[str, Path]:
    """Name keys, nested ones with slashes between.

    Those of equal names are told apart: in keys a slash becomes `%2F`, and keys that are not strings get
    their type.

    >>> list(name_paths([("a", "b"), ("c/d",), ("c", "d"), ("1",), (("int", "1"),), (("int", "2"),)]))
    ['a/b', 'c%2Fd', 'c/d', '1', 'int(1)', '2']
    """
    names = {path: "/".join(key if isinstance(key, str) else key[1] for key in path) for path in paths}
    uses = Counter(names.values())
    return {name if uses[name] == 1 else _name_apart(path): path for path, name in names.items()}


def _name_apart(path: Path) -> str:
    return "/".join(
        (key if isinstance(key, str) else f"{key[0]}({key[1]})").replace("/", "%2F") for key in path
    )


class InfoArrays(Mapping[str, np.ndarray]):
    """Arrays of the values of infos by the names of their keys, each read when it is asked for, and once.

    Args:
        count: How many infos there are.
        parts: Where the values of each key are.

    >>> arrays = InfoArrays(2, parts_of([{"x": 0.5, "at": {"room": 3}}, {"at": {"room": 4}}]))
    >>> arrays
    <InfoArrays of 2 rows: x, at/room>
    >>> arrays["x"], arrays["at/room"]
    (array([0.5, nan]), array([3, 4]))
    """

    def __init__(self, count: int, parts: Parts) -> None:
        self._count, self._parts = count, parts
        self._paths = name_paths(parts)
        self._arrays: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the array of a key.

        Raises:
            KeyError: None of the infos has it.
            DamagedFileError: It cannot be read.
        """
        if name not in self._arrays:
            if name not in self._paths:
                raise KeyError(f"expected a key of these infos, one of {list(self)}, found {name!r}")
            self._arrays[name] = _stack(self._parts[self._paths[name]], self._count)
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        """Yield the names of the keys, in the order in which they came."""
        return iter(self._paths)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self._paths)

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a key of that name; nothing is read."""
        return name in self._paths

    def __repr__(self) -> str:
        """Tell the number of rows and the names, which need no reading."""
        return f"<InfoArrays of {self._count} rows: {', '.join(self)}>"

    def choose(self, names: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the arrays of some keys; the name of a dict stands for all that is in it.

        A key that none of the infos has is None in all rows.
        """
        chosen: dict[str, np.ndarray] = {}
        for choice in names:
            found = [name for name in self if name == choice or name.startswith(f"{choice}/")]
            if not found:
                chosen[choice] = _stack((), self._count)
            for name in found:
                chosen[name] = self[name]
        return chosen


def _stack(parts: Sequence[Part], count: int) -> np.ndarray:
    """Stack values by row: a typed array if they are alike and none is missing (NaN fills in for floats)."""
    found = [(part.type, *part.read()) for part in parts]
    arrays = [values if isinstance(values, np.ndarray) else _join(values) for _, _, values in found]
    forms = {None if array is None else (array.dtype, array.shape[1:]) for array in arrays}
    if len(forms) == 1 and (form := forms.pop()) is not None:
        dtype, shape = form
        is_whole = sum(len(values) for _, _, values in found) == count
        if is_whole and len(arrays) == 1 and arrays[0] is not None:
            return arrays[0]
        if is_whole or dtype.kind == "f":
            stacked = np.full((count, *shape), np.nan if dtype.kind == "f" else 0, dtype)
            for (_, rows, _), array in zip(found, arrays, strict=True):
                stacked[rows] = array
            return stacked
    stacked = np.full(count, None, dtype=object)
    for type, rows, values in found:
        numbers = range(count)[rows] if isinstance(rows, slice) else rows.tolist()
        objects = iterate_values(type, values) if isinstance(values, np.ndarray) else values
        # One by one, or NumPy would look inside arrays and lists.
        for number, value in zip(numbers, objects, strict=True):
            stacked[number] = value
    return stacked


def _join(values: list[Any]) -> np.ndarray | None:
    """Make an array of values if they are numbers, or arrays of numbers, of one dtype and shape."""
    types = {*map(type, values)}
    if len(types) == 1:  # the common case, in a tenth of the time
        (kind,) = types
        if kind in (bool, float) or issubclass(kind, np.number | np.bool_):
            return np.array(values, kind)
    if not all(isinstance(value, int | float | complex | np.generic | np.ndarray) for value in values):
        return None
    arrays = [np.asarray(value) for value in values]
    forms = {(array.dtype, array.shape) for array in arrays}
    if len(forms) != 1:
        return None
    ((dtype, shape),) = forms
    if dtype.kind not in "biufc":
        return None
    joined = np.empty((len(arrays), *shape), dtype)
    for row, array in enumerate(arrays):
        joined[row] = array
    return joined
