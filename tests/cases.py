"""The table of cases that all tests share: spaces of both libraries, and infos.

Nothing here imports a gym library before a case is asked for its space.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Any

import numpy as np
import pytest

from gymbag.space_columns import column_of
from gymbag.spaces import Description, describe_space


@dataclass(frozen=True)
class SpaceCase:
    """A space of one of the libraries, built from that library's module `spaces`."""

    name: str
    library: str
    build: Callable[[Any], Any]
    draw: Callable[[np.random.Generator], Any] | None = None

    def __str__(self) -> str:
        return f"{self.library}:{self.name}"

    def space(self) -> Any:
        return self.build(importlib.import_module(f"{self.library}.spaces"))

    def describe(self) -> Description:
        return describe_space(self.space())

    def column(self) -> Any:
        return column_of(self.describe())

    def samples(self, count: int, seed: int = 1) -> list[Any]:
        """Draw values of the space; by hand where the library itself cannot."""
        if self.draw is not None:
            random = np.random.default_rng(seed)
            return [self.draw(random) for _ in range(count)]
        space = self.space()
        space.seed(seed)
        return [space.sample() for _ in range(count)]


def _box_over(dtype: str) -> Callable[[Any], Any]:
    """Build a box over all of an integer type, or over [-1, 1]."""
    kind = np.dtype(dtype)
    low, high = (-1, 1) if kind.kind == "f" else (0, 1)
    if kind.kind in "iu":
        low, high = np.iinfo(kind).min, np.iinfo(kind).max
    return lambda s: s.Box(np.full((2, 3), low, kind), np.full((2, 3), high, kind), dtype=kind.type)


def _draw_any(dtype: str) -> Callable[[np.random.Generator], Any]:
    """Draw any bits at all, where a library's own samples do not go far."""
    kind = np.dtype(dtype)
    return lambda random: random.integers(0, 256, (2, 3, kind.itemsize), np.uint8).view(kind)[..., 0]


def _draw_third(random: np.random.Generator) -> Any:
    return np.asarray(random.normal(size=(2, 3)), np.longdouble) / np.longdouble(3)


def _draw_special(random: np.random.Generator) -> Any:
    return random.choice(np.array([np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45], np.float32), 3)


def _uneven(s: Any) -> Any:
    low = np.array([[-np.inf, -1.5, 0.1], [-3, -np.inf, -0.0]], np.float32)
    return s.Box(low, np.array([[1 / 3, np.inf, 0.1], [4, np.inf, 9]], np.float32))


def _uneven_image(s: Any) -> Any:
    low = np.arange(40 * 50 * 3, dtype=np.float64).reshape(40, 50, 3) / 3
    return s.Box(low, low + 1, dtype=np.float64)


_KEYS = (
    "a/b",
    ".",
    "..",
    "...",
    "",
    "é😀",
    "%0",
    "%2E",
    "a b",
    "items",
    "ends",
    "data",
    "choice",
    "$n",
    "A",
    "a",
)


def _robot(s: Any) -> Any:
    camera = s.Box(0, 255, (4, 5, 3), np.uint8)
    arms = s.Tuple([s.Box(-1, 1, (2,)), s.Dict(grip=s.MultiBinary(2), words=s.Text(4))])
    return s.Dict(camera=camera, arms=arms, mode=s.Discrete(5, start=-2), seen=s.Sequence(s.Discrete(3)))


_BOTH = ("gymnasium", "gym")
_GYMNASIUM = ("gymnasium",)
_DTYPES = (
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)

_TABLE: list[
    tuple[str, tuple[str, ...], Callable[[Any], Any], Callable[[np.random.Generator], Any] | None]
] = [
    *((f"Box-{dtype}", _BOTH, _box_over(dtype), _draw_any(dtype)) for dtype in _DTYPES if "int" in dtype),
    *((f"Box-{dtype}", _BOTH, _box_over(dtype), None) for dtype in _DTYPES if "float" in dtype),
    ("Box-bool", _BOTH, _box_over("bool"), None),
    ("Box-longdouble", _BOTH, _box_over("longdouble"), _draw_third),
    ("Box-big-endian", _BOTH, lambda s: s.Box(-1, 1, (3,), np.dtype(">f4")), None),
    ("Box-unbounded", _BOTH, lambda s: s.Box(-np.inf, np.inf, (3,)), None),
    ("Box-special-values", _BOTH, lambda s: s.Box(-np.inf, np.inf, (3,)), _draw_special),
    ("Box-bounded-below", _BOTH, lambda s: s.Box(0.1, np.inf, (3,), np.float64), None),
    ("Box-uneven", _BOTH, _uneven, None),
    ("Box-uneven-image", _BOTH, _uneven_image, None),
    ("Box-unbounded-integers", _BOTH, lambda s: s.Box(-np.inf, np.inf, (3,), np.int32), None),
    ("Box-integers-bounded-below", _BOTH, lambda s: s.Box(-3, np.inf, (3,), np.int64), None),
    ("Box-0d", _BOTH, lambda s: s.Box(-1, 1, ()), None),
    ("Box-no-elements", _BOTH, lambda s: s.Box(-1, 1, (2, 0, 3)), None),
    ("Box-image", _BOTH, lambda s: s.Box(0, 255, (210, 160, 3), np.uint8), None),
    ("Discrete", _BOTH, lambda s: s.Discrete(3), None),
    ("Discrete-start", _BOTH, lambda s: s.Discrete(3, start=-5), None),
    ("Discrete-int8", _GYMNASIUM, lambda s: s.Discrete(3, dtype=np.int8), None),
    ("Discrete-uint64", _GYMNASIUM, lambda s: s.Discrete(3, start=2**63, dtype=np.uint64), None),
    ("MultiBinary", _BOTH, lambda s: s.MultiBinary(3), None),
    ("MultiBinary-2d", _BOTH, lambda s: s.MultiBinary([2, 3]), None),
    ("MultiBinary-tuple", _BOTH, lambda s: s.MultiBinary((3,)), None),
    ("MultiDiscrete", _BOTH, lambda s: s.MultiDiscrete([3, 4]), None),
    ("MultiDiscrete-2d-uint8", _BOTH, lambda s: s.MultiDiscrete([[3, 4], [1, 2]], dtype=np.uint8), None),
    ("MultiDiscrete-start", _GYMNASIUM, lambda s: s.MultiDiscrete([3, 4], start=[5, -6]), None),
    (
        "MultiDiscrete-start-int16",
        _GYMNASIUM,
        lambda s: s.MultiDiscrete([3], dtype=np.int16, start=[7]),
        None,
    ),
    ("Text", _BOTH, lambda s: s.Text(5), None),
    ("Text-odd", _BOTH, lambda s: s.Text(6, min_length=0, charset="é😀\0\n\"'\\\ud800$"), None),
    ("Dict", _BOTH, lambda s: s.Dict(b=s.Box(-1, 1, (2,)), a=s.Discrete(3)), None),
    ("Dict-in-order", _BOTH, lambda s: s.Dict([("b", s.Discrete(2)), ("a", s.Discrete(3))]), None),
    ("Dict-odd-keys", _BOTH, lambda s: s.Dict({key: s.Box(-1, 1, (1,)) for key in _KEYS}), None),
    (
        "Dict-integer-keys",
        _BOTH,
        lambda s: s.Dict({1: s.Discrete(2), 0: s.Text(3), "1": s.Discrete(9)}),
        None,
    ),
    ("Dict-empty", _BOTH, lambda s: s.Dict({}), None),
    ("Dict-nested", _BOTH, _robot, None),
    ("Dict-of-empty", _BOTH, lambda s: s.Dict(nothing=s.Dict({}), none=s.Tuple([]), x=s.Discrete(2)), None),
    ("Tuple", _BOTH, lambda s: s.Tuple([s.Discrete(3), s.Box(-1, 1, (2,))]), None),
    ("Tuple-empty", _BOTH, lambda s: s.Tuple([]), None),
    ("Tuple-nested", _BOTH, lambda s: s.Tuple([s.Tuple([s.Tuple([s.Discrete(3)])]), s.Text(2)]), None),
    ("Sequence-Box", _BOTH, lambda s: s.Sequence(s.Box(-1, 1, (2,))), None),
    ("Sequence-Discrete", _BOTH, lambda s: s.Sequence(s.Discrete(3)), None),
    ("Sequence-Dict", _BOTH, lambda s: s.Sequence(s.Dict(a=s.Text(3), b=s.Discrete(3))), None),
    ("Sequence-Sequence", _BOTH, lambda s: s.Sequence(s.Sequence(s.Discrete(3))), None),
    ("Sequence-empty-Dict", _BOTH, lambda s: s.Sequence(s.Dict({})), None),
    ("Sequence-stacked", _GYMNASIUM, lambda s: s.Sequence(s.Box(-1, 1, (2,)), stack=True), None),
    ("Sequence-stacked-Discrete", _GYMNASIUM, lambda s: s.Sequence(s.Discrete(3), stack=True), None),
    (
        "Sequence-stacked-Dict",
        _GYMNASIUM,
        lambda s: s.Sequence(s.Dict(a=s.Discrete(3), b=s.Text(3)), stack=True),
        None,
    ),
    (
        "Sequence-stacked-twice",
        _GYMNASIUM,
        lambda s: s.Sequence(s.Sequence(s.Discrete(3), stack=True), stack=True),
        None,
    ),
    ("Graph", _BOTH, lambda s: s.Graph(s.Box(-1, 1, (2,)), s.Discrete(3)), None),
    ("Graph-Box-edges", _BOTH, lambda s: s.Graph(s.Discrete(3), s.Box(-1, 1, (2,), np.float64)), None),
    ("Graph-no-edges", _BOTH, lambda s: s.Graph(s.Discrete(3), None), None),
    ("Tuple-of-Graph", _BOTH, lambda s: s.Tuple([s.Graph(s.Discrete(3), None), s.Discrete(2)]), None),
    ("OneOf", _GYMNASIUM, lambda s: s.OneOf([s.Discrete(3), s.Box(-1, 1, (2,)), s.Text(3)]), None),
    (
        "OneOf-nested",
        _GYMNASIUM,
        lambda s: s.OneOf(
            [s.Dict(a=s.Discrete(3)), s.Sequence(s.Discrete(3)), s.OneOf([s.Text(2), s.Dict({})])]
        ),
        None,
    ),
]

SPACES = [
    SpaceCase(name, library, build, draw) for name, libraries, build, draw in _TABLE for library in libraries
]

#: Runs a test for each space of each library.
each_space = pytest.mark.parametrize("case", SPACES, ids=str)


def space_case(name: str, library: str = "gymnasium") -> SpaceCase:
    return next(case for case in SPACES if (case.name, case.library) == (name, library))


class Colour(IntEnum):
    RED = 3


class Mood(str, Enum):
    CALM = "calm"


Point = namedtuple("Point", "x y")  # the kind that old code returns


def _objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


_STRUCTURED = np.dtype([("name", "<U3"), ("at", "<f4", (2, 3)), ("inner", [("b", "<i2"), ("c", "S2")])])

#: Infos, and whatever else is kept as JSON text. All come back equal, and of the same types.
VALUES: dict[str, Any] = {
    "empty": {},
    "plain": {"lives": 3, "score": 0.5, "name": "x", "alive": True, "nothing": None},
    "floats": {"nan": float("nan"), "inf": float("inf"), "-inf": -float("inf"), "zero": -0.0, "tiny": 5e-324},
    "integers": {"small": -1, "large": 2**64, "huge": -(10**4000)},
    "nested": {"a": {"b": {"c": [1, [2, (3, (4,))], {}]}}, "t": (), "l": []},
    "strings": {"empty": "", "unicode": 'é😀\0\n"\\', "lone surrogate": "\ud800", "é": 1, "": 2, "\udfff": 3},
    "dollar keys": {"$tuple": [1, 2], "$": 1, "$float": "nan", "inner": {"$array": 1}, "price$": 2},
    "other keys": {1: "one", (1, 2): "tuple", None: "none", False: "false", 2.5: "float", b"k": "bytes"},
    "bytes": {"empty": b"", "all": bytes(range(256))},
    "complex": {"c": 1 - 2j, "nan": complex(-0.0, float("nan"))},
    "list": [1, "a", None],
    "number": 7,
    "scalars": {
        dtype: np.ones(1, dtype)[0]
        for dtype in ("bool", *_DTYPES, "longdouble", "complex64", "complex128", "clongdouble")
    },
    "float scalars": {"nan": np.float32("nan"), "inf": np.float16("-inf"), "zero": np.float64(-0.0)},
    "scalars of text": {"str": np.str_("é"), "bytes": np.bytes_(b"ab"), "void": np.void(b"\0\1")},
    "empty scalars of text": {"str": np.str_(""), "bytes": np.bytes_(b"")},
    "arrays": {
        dtype: np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in ("bool", *_DTYPES, "longdouble", "complex64", "complex128", ">i4", ">f8", ">c8")
    },
    "arrays of floats": {"special": np.array([np.nan, np.inf, -np.inf, -0.0, 5e-324])},
    "shapes": {"0d": np.array(5), "empty": np.zeros((0, 3)), "deep": np.zeros((1, 2, 1, 0), np.int8)},
    "layouts": {
        "Fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "strided": np.arange(10)[::-3],
        "broadcast": np.broadcast_to(np.float32(2), (2, 2)),
    },
    "times": {
        "moment": np.datetime64("2020-02-29T12:00:00.000000001"),
        "NaT": np.datetime64("NaT", "s"),
        "span": np.timedelta64(-3, "h"),
        "days": np.array(["1970-01-01", "NaT"], "datetime64[D]"),
        "spans": np.array([1, 2], "timedelta64[ms]"),
    },
    "arrays of text": {
        "U": np.array(["é", "abc", ""]),
        "S": np.array([b"a", b"bc"]),
        ">U": np.array(["a"], ">U2"),
    },
    "structured": {
        "array": np.zeros(2, _STRUCTURED),
        "scalar": np.ones(1, [("a", "<i4"), ("b", ">f8")])[0],
        "padded": np.ones(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)),
    },
    "objects": {
        "mixed": _objects(1, "a", None, [1, 2], {"x": (3,)}, np.arange(3)),
        "0d": np.array(None, object),
        "empty": np.empty((0, 2), object),
        "2d": _objects(1, 2.0, "three", 4j).reshape(2, 2),
    },
}

#: Values that come back as a plainer type: value, and what it comes back as.
PLAINER: dict[str, tuple[Any, Any]] = {
    "IntEnum": ({"c": Colour.RED}, {"c": 3}),
    "str Enum": ({"m": Mood.CALM}, {"m": "calm"}),
    "namedtuple": ({"p": Point(1, 2)}, {"p": (1, 2)}),
    "OrderedDict": (OrderedDict(b=1, a=OrderedDict(c=2)), {"b": 1, "a": {"c": 2}}),
    "bytearray": ({"b": bytearray(b"ab")}, {"b": b"ab"}),
    "IntEnum key": ({Colour.RED: 1}, {3: 1}),
}
