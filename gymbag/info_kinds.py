"""Infos as columns: how a dict that comes with a step lies in one array for each key.

Infos are dicts, and most are alike: the same keys, in the same order, with values of the same types. What
one of them looks like is its *kind*, a list of leaves:

    {"x": np.float64(0.5), "names": {"winner": "a"}, "moves": [1, 2]}

    path                 type      array            where the value is
    ("x",)               scalar    x                row t of the array infos/x
    ("names", "winner")  str       names/winner     row t of the ragged column infos/names/winner
    ("moves",)           json                       item 0 of the JSON list in row t of infos/data

A column of numbers says which kind each row is of, and a table has the kinds, as JSON. So a value comes back
with its type, in its place, whatever other rows have. Kind 0 stands for no kind: the info is JSON as a whole.

Annotations, the user's own values for a step, are stored in the same way; see `docs/format.md`, "Infos".
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from gymbag import json_values
from gymbag.compound_columns import encode_key
from gymbag.errors import DamagedFileError

#: Number of the kind of a row whose info is JSON as a whole.
NO_KIND = 0
#: At most so many arrays of keys, and so many kinds, has a data set; what is beyond is JSON.
MOST_COLUMNS, MOST_KINDS = 512, 1024

#: Nested deeper than this, a dict is JSON.
DEEPEST = 8
# HDF5 takes names of 64 KiB; a key as long as this is data rather than a name.
_LONGEST_NAME = 255
# Parts of names that say what lies there; a key of that name has its first letter percent-encoded.
_RESERVED = frozenset(("data", "ends", "items", "kind"))

_PYTHON_DTYPES = {bool: np.dtype(np.bool_), int: np.dtype(np.int64), float: np.dtype(np.float64)}
_SCALARS = frozenset(
    (
        *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
        *(np.float16, np.float32, np.float64),
    )
)
_NAMES = {bool: "bool", int: "int", float: "float", str: "str", bytes: "bytes", type(None): "none"}
#: The limits of the integers that have columns.
INT64 = np.iinfo(np.int64)

#: The types of leaves whose values are numbers of an array, bytes of a ragged column, or in no array at all.
NUMERIC, RAGGED = frozenset(("bool", "int", "float", "scalar", "array")), frozenset(("str", "bytes"))
UNSTORED = frozenset(("none", "dict", "json"))


class Form(NamedTuple):
    """What a leaf of an info looks like, before it is decided where its values go.

    Attributes:
        path: The keys that lead to it.
        type: Its type; see `docs/format.md`, "Infos".
        dtype: Of its values, if they are numbers.
        shape: Of its values, likewise.
    """

    path: tuple[str, ...]
    type: str
    dtype: np.dtype[Any] | None = None
    shape: tuple[int, ...] = ()


class Leaf(NamedTuple):
    """One leaf of the infos of a kind.

    Attributes:
        path: The keys that lead to it.
        type: Its type; see `docs/format.md`, "Infos".
        array: The path of its array, or of its ragged column, below the group of infos; None if it has none.
    """

    path: tuple[str, ...]
    type: str
    array: str | None = None


#: What infos of one kind look like.
Kind = tuple[Leaf, ...]


def describe(info: Mapping[Any, Any]) -> tuple[Form, ...] | None:
    """List the forms of the leaves of an info; None if it can only be JSON, because of a key.

    >>> [(form.path, form.type) for form in describe({"x": 0.5, "names": {"winner": "a"}, "moves": [1, 2]})]
    [(('x',), 'float'), (('names', 'winner'), 'str'), (('moves',), 'json')]
    """
    if not all(map(_can_lead, info)):
        return None
    return tuple(_forms_of(info, ()))


def _forms_of(info: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[Form]:
    for key, value in info.items():
        path = (*above, key)
        if isinstance(value, dict) and value and len(path) < DEEPEST and all(map(_can_lead, value)):
            yield from _forms_of(value, path)
        else:
            yield form_of(value, path)


def _can_lead(key: Any) -> bool:
    """Tell whether a key is a string, and not mistaken for another one in JSON.

    There the two surrogates of a character, as two characters, are the character.
    """
    if type(key) is not str:
        return False
    return (
        key.isascii() or key.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass") == key
    )


def form_of(value: Any, path: tuple[str, ...]) -> Form:
    """Return the form of a leaf."""
    kind = type(value)
    if kind in _PYTHON_DTYPES:
        if kind is int and not INT64.min <= value <= INT64.max:
            return Form(path, "json")
        return Form(path, _NAMES[kind], _PYTHON_DTYPES[kind])
    if kind in _SCALARS:
        return Form(path, "scalar", value.dtype)
    if kind is np.ndarray and value.size and is_plain(value.dtype):
        return Form(path, "array", value.dtype, value.shape)
    if isinstance(value, dict) and not value:
        return Form(path, "dict")
    return Form(path, _NAMES.get(kind, "json"))


def is_plain(dtype: np.dtype[Any]) -> bool:
    """Tell whether values of a dtype are numbers that every HDF5 library knows, and all their bits count."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def array_name(path: Sequence[str]) -> str | None:
    """Name the array of a key below the group of infos; None if it had better have none.

    >>> array_name(["a/b", "data"])
    'a%2Fb/%64ata'
    """
    names = []
    for key in path:
        name = encode_key(key)
        if name in _RESERVED:
            name = f"%{ord(name[0]):X}{name[1:]}"
        names.append(name)
    joined = "/".join(names)
    return joined if all(names) and len(joined) <= _LONGEST_NAME else None


def is_free(path: str, taken: Collection[str], above: str) -> bool:
    """Tell whether an array may have that path: none may lie where another needs a group, nor the reverse.

    Args:
        path: The path.
        taken: The paths that are taken.
        above: The group that all of them lie in.

    >>> is_free("infos/a/b", ["infos/a"], "infos")
    False
    """
    parts = path.removeprefix(f"{above}/").split("/")
    groups = (f"{above}/{'/'.join(parts[:count])}" for count in range(1, len(parts)))
    return not any(group in taken for group in groups) and not any(
        other.startswith(f"{path}/") for other in taken
    )


def to_json(kind: Kind) -> bytes:
    """Write a kind as a row of the table of kinds.

    >>> to_json((Leaf(("x",), "float", "x"), Leaf(("moves",), "json")))
    b'[[["x"],"float","x"],[["moves"],"json"]]'
    """
    rows = [[list(leaf.path), leaf.type, *([] if leaf.array is None else [leaf.array])] for leaf in kind]
    return json_values.encode(rows).encode("ascii")


def from_json(text: bytes) -> Kind:
    """Read what `to_json` wrote.

    Raises:
        DamagedFileError: The text is no kind.
    """
    rows = json_values.decode(text)
    try:
        kind = tuple(Leaf(tuple(path), *rest) for path, *rest in rows)
        is_sound = all(map(_is_sound, kind)) and _is_tree([leaf.path for leaf in kind])
    except (TypeError, ValueError):
        is_sound = False
    if not is_sound:
        raise DamagedFileError(f"expected a kind of info, a list of leaves, found {text[:200]!r}")
    return kind


def _is_sound(leaf: Leaf) -> bool:
    return (
        all(type(key) is str for key in leaf.path)
        and 0 < len(leaf.path) <= DEEPEST
        and (isinstance(leaf.array, str) if leaf.type in NUMERIC | RAGGED else leaf.array is None)
        and leaf.type in NUMERIC | RAGGED | UNSTORED
    )


def _is_tree(paths: Sequence[tuple[str, ...]]) -> bool:
    """Tell whether each path leads to a leaf of its own, and none to a dict with leaves."""
    inner = {path[:count] for path in paths for count in range(1, len(path))}
    return len({*paths}) == len(paths) > 0 and not inner & {*paths}


def build_infos(kind: Kind, values: Sequence[Iterator[Any]]) -> Iterator[dict[str, Any]]:
    """Yield the infos of rows of one kind.

    Args:
        kind: The kind.
        values: For each of its leaves the values of the rows.

    >>> kind = Leaf(("x",), "float", "x"), Leaf(("names", "winner"), "str", "names/winner")
    >>> list(build_infos(kind, [iter([0.5, 1.0]), iter(["a", "b"])]))
    [{'x': 0.5, 'names': {'winner': 'a'}}, {'x': 1.0, 'names': {'winner': 'b'}}]
    """
    rows = zip(*values, strict=True)
    if all(len(leaf.path) == 1 for leaf in kind):
        keys = [leaf.path[0] for leaf in kind]
        return map(dict, map(zip, itertools.repeat(keys), rows))
    return (_nest(kind, row) for row in rows)


def _nest(kind: Kind, row: Sequence[Any]) -> dict[str, Any]:
    info: dict[str, Any] = {}
    for leaf, value in zip(kind, row, strict=True):
        *above, key = leaf.path
        node = info
        for name in above:
            node = node.setdefault(name, {})
        node[key] = value
    return info


def arrays_of(leaf: Leaf) -> list[str]:
    """List the arrays that have the values of a leaf, by their paths below the group of infos.

    >>> arrays_of(Leaf(("x",), "float", "x")), arrays_of(Leaf(("name",), "str", "name"))
    (['x'], ['name/data', 'name/ends'])
    """
    if leaf.array is None:
        return []
    return [f"{leaf.array}/data", f"{leaf.array}/ends"] if leaf.type in RAGGED else [leaf.array]


# The kinds of dtypes that the arrays of leaves have.
_DTYPE_KINDS = {"bool": "b", "int": "iu", "float": "f", "scalar": "biuf", "array": "biuf"}


def check_rows(leaf: Leaf, rows: np.ndarray, count: int) -> None:
    """Make sure that rows of the array of a leaf of numbers are as many as they should be, and of its type.

    Raises:
        DamagedFileError: They are not.
    """
    shape = (count, *rows.shape[1:]) if leaf.type == "array" else (count,)
    if rows.shape != shape or rows.dtype.kind not in _DTYPE_KINDS[leaf.type] or not is_plain(rows.dtype):
        raise DamagedFileError(
            f"expected {count} rows of {leaf}, found an array of {rows.dtype} of shape {rows.shape}"
        )
