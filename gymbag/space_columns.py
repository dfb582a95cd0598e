"""Which column the values of a described space take; see `columns`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gymbag.columns import ArrayColumn, Column, NumberColumn, TextColumn, ValueColumn
from gymbag.compound_columns import (
    DictColumn,
    GraphColumn,
    OneOfColumn,
    OptionalColumn,
    SequenceColumn,
    TupleColumn,
    encode_key,
)
from gymbag.errors import DamagedFileError, SpaceError
from gymbag.spaces import Description, check_description


def column_of(description: Description) -> Column:
    """Build the column for a described space.

    >>> import gymnasium
    >>> from gymbag.spaces import describe_space
    >>> space = gymnasium.spaces.Dict(position=gymnasium.spaces.Box(-1, 1, (2,)))
    >>> column_of(describe_space(space)).arrays()
    {'position': ArraySpec(dtype=dtype('float32'), shape=(2,), cumulative=False, sparse=False)}
    """
    check_description(description)
    try:
        return _column_of(description["space"], description["library"])
    except (LookupError, TypeError, ValueError) as error:
        raise DamagedFileError(
            f"expected a description of a space, found {description}: {error!r}"
        ) from error


def _child_names(keys: Sequence[Any]) -> list[str]:
    """Name the items of a Dict in a file: as they are, where an array or group may be called so."""
    return [
        encode_key(key) if isinstance(key, str) and key else f"%{index}" for index, key in enumerate(keys)
    ]


def _column_of(description: Description, library: str) -> Column:
    kind = description["type"]
    builder = _BUILDERS.get(kind)
    if builder is None:
        raise DamagedFileError(f"expected a known type of space, found {kind!r}")
    return builder(description, library)


def _box(description: Description, library: str) -> Column:
    return ArrayColumn(np.dtype(description["dtype"]), tuple(description["shape"]))


def _discrete(description: Description, library: str) -> Column:
    return NumberColumn(np.dtype(description["dtype"]))


def _multi_binary(description: Description, library: str) -> Column:
    shape = description["n"]
    return ArrayColumn(np.dtype(np.int8), tuple(shape) if isinstance(shape, list) else (shape,))


def _multi_discrete(description: Description, library: str) -> Column:
    return ArrayColumn(np.dtype(description["dtype"]), np.shape(description["nvec"]))


def _dict(description: Description, library: str) -> Column:
    keys = [key for key, _ in description["spaces"]]
    children = [_column_of(child, library) for _, child in description["spaces"]]
    return DictColumn(keys, dict(zip(_child_names(keys), children, strict=True)))


def _tuple(description: Description, library: str) -> Column:
    children = [_column_of(child, library) for child in description["spaces"]]
    return TupleColumn({str(index): child for index, child in enumerate(children)})


def _sequence(description: Description, library: str) -> Column:
    items = _column_of(description["space"], library)
    if description["stack"] and not items.arrays():
        raise SpaceError("a stack of items that hold nothing has no length; use Sequence(stack=False)")
    return SequenceColumn(items, description["stack"])


def _graph(description: Description, library: str) -> Column:
    # The libraries sample links of different dtypes.
    links: Column = ArrayColumn(np.dtype(np.int32 if library == "gymnasium" else np.int64), (2,))
    parts = {"nodes": _column_of(description["node_space"], library)}
    edges = description["edge_space"]
    # Without a space of edges there is nothing to store for them: None has no items.
    parts["edges"] = ArrayColumn(np.dtype(np.float32), (0,)) if edges is None else _column_of(edges, library)
    parts["edge_links"] = links
    return GraphColumn(
        {name: OptionalColumn(SequenceColumn(part, stacked=True)) for name, part in parts.items()},
        library,
    )


def _one_of(description: Description, library: str) -> Column:
    return OneOfColumn([_column_of(child, library) for child in description["spaces"]])


def _custom(description: Description, library: str) -> Column:
    like = description["like"]
    return ValueColumn() if like is None else _column_of(like, library)


_BUILDERS: dict[str, Callable[[Description, str], Column]] = {
    "Box": _box,
    "Discrete": _discrete,
    "MultiBinary": _multi_binary,
    "MultiDiscrete": _multi_discrete,
    "Text": lambda description, library: TextColumn(),
    "Dict": _dict,
    "Tuple": _tuple,
    "Sequence": _sequence,
    "Graph": _graph,
    "OneOf": _one_of,
    "Custom": _custom,
}
