"""Spaces of Gymnasium and of Gym 0.26 as plain JSON, and back.

A description is a dict of JSON values; `docs/format.md`, "Descriptions of spaces", lists the fields of
each type. Describing a space needs neither library (it is told from the classes the space is made of),
and building one imports just the library asked for. No environment is ever built.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from gymbag.errors import DamagedFileError, SpaceError

Library = Literal["gymnasium", "gym"]
Description = dict[str, Any]

LIBRARIES: tuple[Library, ...] = ("gymnasium", "gym")
#: Version of the description; readers refuse a newer one.
VERSION = 1

# Larger bounds that are not uniform are stored as one array instead of a list of numbers.
_LARGEST_BOUND_LIST = 4096


def library_of(thing: object) -> Library:
    """Tell which library the class of an env or a space descends from.

    Raises:
        SpaceError: From neither.
    """
    for parent in type(thing).__mro__:
        root = parent.__module__.partition(".")[0]
        if root in LIBRARIES:
            return root
    raise SpaceError(
        f"expected an env or a space of gymnasium or gym, found {thing!r} of class "
        f"{type(thing).__module__}.{type(thing).__qualname__}; derive it from one of theirs"
    )


def describe_space(space: Any) -> Description:
    """Describe a space as JSON values.

    Args:
        space: A space of Gymnasium or of Gym 0.26, or one made known with `register_space`.

    Raises:
        SpaceError: Its class is unknown, or it has no library.

    >>> import gymnasium
    >>> describe_space(gymnasium.spaces.Discrete(2))["space"]
    {'type': 'Discrete', 'n': 2, 'start': 0, 'dtype': '<i8'}
    """
    return {"version": VERSION, "library": library_of(space), "space": _describe(space)}


def build_space(description: Description, library: Library | None = None) -> Any:
    """Build the space that was described; it equals (`==`) the original.

    Args:
        description: What `describe_space` returned.
        library: The library whose space to build; by default the one it was recorded with.

    Raises:
        SpaceError: The library has no such space, or a custom space is not registered.
        DamagedFileError: The description is not one, or of a newer version.
    """
    check_description(description)
    library = library or description["library"]
    spaces = importlib.import_module(f"{library}.spaces")
    try:
        return _build(description["space"], spaces)
    except (LookupError, TypeError, ValueError, AssertionError, AttributeError) as error:
        problem = f"cannot build a space of {library} from {description!r}: {error!r}"
        if library != description["library"]:
            raise SpaceError(f"{problem}; build it with the library it was recorded with") from error
        raise DamagedFileError(problem) from error


def check_description(description: Any) -> None:
    """Refuse what is no description of a space, whatever file it comes from.

    Raises:
        DamagedFileError: It is none, or of a newer version.
    """
    if not isinstance(description, dict) or description.get("library") not in LIBRARIES:
        raise DamagedFileError(f"expected the description of a space, found {description!r}")
    if not isinstance(description.get("version"), int) or description["version"] > VERSION:
        raise DamagedFileError(
            f"expected the description of a space of version {VERSION}, found {description!r}; "
            "a newer gymbag may read it"
        )


@dataclass(frozen=True)
class _CustomSpace:
    space_class: type
    describe: Callable[[Any], Any]
    build: Callable[[Any], Any]
    like: Callable[[Any], Any] | None


_custom_spaces: dict[str, _CustomSpace] = {}


def register_space(
    space_class: type,
    name: str,
    describe: Callable[[Any], Any],
    build: Callable[[Any], Any],
    like: Callable[[Any], Any] | None = None,
) -> None:
    """Make a custom space storable.

    Args:
        space_class: The class. Instances of exactly this class are meant, not of classes derived
            from it.
        name: What the file calls it. Registering a name again replaces what it stood for.
        describe: Takes a space, returns what `build` needs: any value an info could hold.
        build: Takes that value, returns an equal space.
        like: Takes a space, returns a built-in space whose values take the same form; the values
            are then stored in columns just as that space's are. Without it they are stored as infos
            are: any value an info can hold, but slower.

    >>> import gymnasium
    >>> class Angle(gymnasium.spaces.Box):
    ...     def __init__(self, unit):
    ...         super().__init__(-1.0, 1.0, shape=())
    ...         self.unit = unit
    >>> register_space(Angle, "Angle", describe=lambda space: space.unit, build=Angle,
    ...                like=lambda space: gymnasium.spaces.Box(-1.0, 1.0, shape=()))
    >>> build_space(describe_space(Angle("radian"))).unit
    'radian'
    """
    _custom_spaces[name] = _CustomSpace(space_class, describe, build, like)


def _describe(space: Any) -> Description:
    for name, custom in _custom_spaces.items():
        if type(space) is custom.space_class:
            like = None if custom.like is None else _describe(custom.like(space))
            return {"type": "Custom", "name": name, "data": custom.describe(space), "like": like}
    module, kind = type(space).__module__.split("."), type(space).__name__
    if module[:2] not in (["gymnasium", "spaces"], ["gym", "spaces"]) or kind not in _DESCRIBERS:
        raise SpaceError(
            f"expected a space of gymnasium or gym, found {type(space).__module__}.{kind}; "
            "make it known with gymbag.register_space"
        )
    return {"type": kind, **_DESCRIBERS[kind](space)}


def _describe_box(space: Any) -> Description:
    description = {
        "dtype": space.dtype.str,
        "shape": list(space.shape),
        "low": _describe_bound(space.low),
        "high": _describe_bound(space.high),
    }
    # An integer box built with infinite bounds looks bounded by its dtype, yet samples otherwise.
    for side, unbounded in (("below", space.low == -np.inf), ("above", space.high == np.inf)):
        bounded = getattr(space, f"bounded_{side}")
        if not np.array_equal(bounded, ~unbounded):
            description[f"bounded_{side}"] = bounded
    return description


def _describe_bound(bound: np.ndarray) -> Any:
    if bound.dtype.itemsize > 8:  # a long double does not fit a Python float
        return bound
    if bound.size == 0:
        return 0
    if np.all(bound == bound.flat[0]):
        return _describe_numbers(bound.flat[0].item())
    return bound if bound.size > _LARGEST_BOUND_LIST else _describe_numbers(bound.tolist())


def _describe_numbers(numbers: Any) -> Any:
    if isinstance(numbers, list):
        return [_describe_numbers(number) for number in numbers]
    return str(numbers) if numbers in (np.inf, -np.inf) else numbers


def _build_box(description: Description, spaces: Any) -> Any:
    dtype, shape = np.dtype(description["dtype"]), tuple(description["shape"])
    low, high = (
        np.broadcast_to(np.asarray(description[side], dtype=dtype), shape).copy() for side in ("low", "high")
    )
    space = spaces.Box(low, high, shape, dtype)
    for side in ("bounded_below", "bounded_above"):
        if side in description:
            setattr(space, side, np.asarray(description[side]))
    return space


def _describe_discrete(space: Any) -> Description:
    return {"n": int(space.n), "start": int(space.start), "dtype": space.dtype.str}


def _build_discrete(description: Description, spaces: Any) -> Any:
    dtype = np.dtype(description["dtype"])
    # Only recent versions of Gymnasium know the dtype, and those recorded another one than the default.
    options = {} if dtype == np.int64 else {"dtype": dtype.type}
    return spaces.Discrete(description["n"], start=description["start"], **options)


def _describe_multi_binary(space: Any) -> Description:
    return {"n": list(space.shape) if np.ndim(space.n) else int(space.n)}


def _build_multi_binary(description: Description, spaces: Any) -> Any:
    return spaces.MultiBinary(description["n"])


def _describe_multi_discrete(space: Any) -> Description:
    description = {"nvec": space.nvec.tolist(), "dtype": space.dtype.str}
    start = np.asarray(getattr(space, "start", 0))  # Gym 0.26 has none
    return {**description, "start": start.tolist()} if start.any() else description


def _build_multi_discrete(description: Description, spaces: Any) -> Any:
    dtype = np.dtype(description["dtype"])
    start = np.array(description.get("start", 0), dtype=dtype)
    options = {"start": start} if start.any() else {}
    return spaces.MultiDiscrete(np.array(description["nvec"], dtype=dtype), dtype=dtype.type, **options)


def _describe_text(space: Any) -> Description:
    return {
        "min_length": int(space.min_length),
        "max_length": int(space.max_length),
        "characters": "".join(space.character_list),
    }


def _build_text(description: Description, spaces: Any) -> Any:
    lengths = {"min_length": description["min_length"], "max_length": description["max_length"]}
    return spaces.Text(charset=description["characters"], **lengths)


def _describe_dict(space: Any) -> Description:
    # Pairs, because keys need not be strings and their order matters.
    return {"spaces": [[key, _describe(child)] for key, child in space.spaces.items()]}


def _build_dict(description: Description, spaces: Any) -> Any:
    # An ordered dict, because of a plain one the library would sort the keys.
    pairs = ((key, _build(child, spaces)) for key, child in description["spaces"])
    return spaces.Dict(OrderedDict(pairs))


def _describe_tuple(space: Any) -> Description:
    return {"spaces": [_describe(child) for child in space.spaces]}


def _build_tuple(description: Description, spaces: Any) -> Any:
    return spaces.Tuple([_build(child, spaces) for child in description["spaces"]])


def _build_one_of(description: Description, spaces: Any) -> Any:
    return spaces.OneOf([_build(child, spaces) for child in description["spaces"]])


def _describe_sequence(space: Any) -> Description:
    stack = bool(getattr(space, "stack", False))  # Gym 0.26 has none
    return {"space": _describe(space.feature_space), "stack": stack}


def _build_sequence(description: Description, spaces: Any) -> Any:
    options = {"stack": True} if description["stack"] else {}
    return spaces.Sequence(_build(description["space"], spaces), **options)


def _describe_graph(space: Any) -> Description:
    edge_space = None if space.edge_space is None else _describe(space.edge_space)
    return {"node_space": _describe(space.node_space), "edge_space": edge_space}


def _build_graph(description: Description, spaces: Any) -> Any:
    edge_space = description["edge_space"]
    return spaces.Graph(
        _build(description["node_space"], spaces),
        None if edge_space is None else _build(edge_space, spaces),
    )


_DESCRIBERS: dict[str, Callable[[Any], Description]] = {
    "Box": _describe_box,
    "Discrete": _describe_discrete,
    "MultiBinary": _describe_multi_binary,
    "MultiDiscrete": _describe_multi_discrete,
    "Text": _describe_text,
    "Dict": _describe_dict,
    "Tuple": _describe_tuple,
    "OneOf": _describe_tuple,
    "Sequence": _describe_sequence,
    "Graph": _describe_graph,
}
_BUILDERS: dict[str, Callable[[Description, Any], Any]] = {
    "Box": _build_box,
    "Discrete": _build_discrete,
    "MultiBinary": _build_multi_binary,
    "MultiDiscrete": _build_multi_discrete,
    "Text": _build_text,
    "Dict": _build_dict,
    "Tuple": _build_tuple,
    "OneOf": _build_one_of,
    "Sequence": _build_sequence,
    "Graph": _build_graph,
}


def _build(description: Description, spaces: Any) -> Any:
    kind = description["type"]
    if kind == "Custom":
        name = description["name"]
        if name not in _custom_spaces:
            raise SpaceError(
                f"the recording has a custom space named {name!r}, and no such space is registered; "
                f"call gymbag.register_space(..., name={name!r}, ...) first"
            )
        return _custom_spaces[name].build(description["data"])
    if kind not in _BUILDERS or not hasattr(spaces, kind):
        raise SpaceError(f"{spaces.__name__} has no space named {kind}; read it with the other library")
    if kind == "Sequence" and description["stack"] and spaces.__name__ == "gym.spaces":
        raise SpaceError("gym.spaces.Sequence cannot stack; read it with library='gymnasium'")
    return _BUILDERS[kind](description, spaces)
