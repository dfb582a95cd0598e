"""Python and NumPy values as JSON text that gives back the same values, types included.

Infos, reset options, metadata and the descriptions of spaces are stored this way. The text is
standard JSON. Whatever JSON has no word for is an object with a single key that starts with a
dollar sign:

====================  =====================================================================
``$tuple``            list of the items
``$dict``             list of [key, value] pairs: a dict whose keys are not all plain strings
``$float``            ``"nan"``, ``"inf"`` or ``"-inf"``
``$complex``          [real, imaginary]
``$bytes``            base64
``$scalar``           [dtype, base64]: a NumPy scalar
``$typed``            [dict, list]: a dict, some of whose values are NumPy scalars: the list has the
                      dtype of each of these, and null for each other value
``$array``            [dtype, shape, base64]: a NumPy array in C order
``$objects``          [shape, items]: a NumPy array of objects
====================  =====================================================================

A dtype is written as in the header of a ``.npy`` file.
"""

from __future__ import annotations

import binascii
import json
import math
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from gymbag.errors import DamagedFileError

#: Called with the path of keys to a value that cannot be stored, and the value.
OnUnstorable = Callable[[tuple[Any, ...], Any], None]


def _import_orjson() -> Any:
    """Return orjson, which writes numbers several times faster than the standard library, if installed."""
    try:
        import orjson
    except ImportError:
        return None
    return orjson


_orjson = _import_orjson()

# ASCII output keeps lone surrogates intact, and refusing NaN keeps the text standard JSON.
_to_text = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode
_PLAIN_TYPES = frozenset((str, int, float, bool, type(None)))
# Python refuses to read integers of more than 4,300 digits, so they must not be written either.
_LARGEST_INTEGER_BITS = 14_000
# Deeper nesting is most likely a mistake, and costs the stack that the env needs, too.
_DEEPEST = 100
# The long double of x86 is 80 bits in a room of 96 or 128; elsewhere it fills its room.
_LONG_DOUBLE_BYTES = 10 if np.finfo(np.longdouble).nmant == 63 else np.dtype(np.longdouble).itemsize
# A plain dtype as NumPy writes it: byte order, kind, bytes, and the unit of times.
_PLAIN_DTYPE = re.compile(r"[<>|][biufcmMSUV]\d+(\[\w+\])?")


class UnstorableError(TypeError):
    """A value has no JSON form.

    Attributes:
        path: The keys that lead to it.
        value: The value.
    """

    def __init__(self, path: tuple[Any, ...], value: Any) -> None:
        kind = f"{type(value).__module__}.{type(value).__qualname__}"
        super().__init__(f"no JSON form for a value of class {kind}, at {path!r}")
        self.path, self.value = path, value


def encode(value: Any, on_unstorable: OnUnstorable | None = None) -> str:
    """Write a value as JSON text.

    Args:
        value: Any nesting of dicts, lists, tuples, strings, bytes, numbers, bools, None, NumPy
            scalars and NumPy arrays.
        on_unstorable: Called for each value inside a dict that has no JSON form; its key is then
            left out. Without it such a value raises.

    Raises:
        UnstorableError: The value, or one inside it that is not in a dict, has no JSON form.

    >>> encode({"lives": 3, "position": (0.5, float("nan"))})
    '{"lives":3,"position":{"$tuple":[0.5,{"$float":"nan"}]}}'
    """
    if type(value) is dict and _PLAIN_TYPES.issuperset(map(type, value.values())):
        # The common info, a flat dict of plain values, needs no walk through Python code.
        try:
            if "$" not in "".join(value):
                return _to_text(value)
        except (TypeError, ValueError):
            pass
    return _to_text(_Plain(on_unstorable).convert(value, ()))


def encode_bytes(value: dict[Any, Any], on_unstorable: OnUnstorable | None = None) -> bytes:
    """Write a dict as JSON text in UTF-8, as fast as may be; see `encode`.

    >>> encode_bytes({"lives": 3, "distance": np.float64(0.5)})
    b'{"$typed":[{"lives":3,"distance":0.5},[null,"<f8"]]}'
    """
    if type(value) is dict:
        try:
            types = _TYPES_TEXTS[tuple(map(type, value.values()))]
        except KeyError:
            types = _describe_types(value)
        if types is not None:
            text = _dump_flat(value)
            # A dollar sign may be that of a key, and null may stand for NaN. Both are rare, and both are no
            # trouble to what takes longer.
            if text is not None and b"$" not in text and b"null" not in text:
                return b'{"$typed":[%b,%b]}' % (text, types) if types else text
    return encode(value, on_unstorable).encode("ascii")


# The classes of the values of flat dicts met so far, and the text of the list of their dtypes: none at all if
# no value has one, and None if such dicts are not to be written the fast way.
_TYPES_TEXTS: dict[tuple[type, ...], bytes | None] = {}
_MOST_TYPES_TEXTS = 1000
# Those whose text is that of a Python number, and says it exactly.
_TYPED: dict[type, str] = {kind: np.dtype(kind).str for kind in (np.float64, np.int64, np.int32, np.bool_)}


def _describe_types(value: dict[Any, Any]) -> bytes | None:
    types = tuple(map(type, value.values()))
    text = None
    if all(kind in _PLAIN_TYPES or kind in _TYPED for kind in types):
        dtypes = [_TYPED.get(kind) for kind in types]
        text = _to_text(dtypes).encode() if any(dtypes) else b""
    if len(_TYPES_TEXTS) >= _MOST_TYPES_TEXTS:
        _TYPES_TEXTS.clear()
    _TYPES_TEXTS[types] = text
    return text


def _dump_flat(value: dict[Any, Any]) -> bytes | None:
    """Write a dict of plain values and NumPy scalars; None if that fails."""
    try:
        if _orjson is not None:
            data: bytes = _orjson.dumps(value, option=_orjson.OPT_SERIALIZE_NUMPY)
            return data
        if not all(type(key) is str for key in value):
            return None
        return _to_text(
            {key: item.item() if isinstance(item, np.generic) else item for key, item in value.items()}
        ).encode()
    except (TypeError, ValueError):
        return None


def decode(text: str | bytes) -> Any:
    """Read what `encode` wrote.

    Raises:
        DamagedFileError: The text is not such JSON.

    >>> decode('{"$tuple":[1,{"$array":["<f4",[1],"AACAPw=="]}]}')
    (1, array([1.], dtype=float32))
    """
    try:
        text = (text if isinstance(text, str) else text.decode("utf-8", "surrogatepass")).strip(" \t\n\r")
        value, end = _DECODER.raw_decode(text)  # `decode` would look for spaces, at as much time again
        if end < len(text):
            raise ValueError(f"more follows: {text[end : end + 80]!r}")
        return value
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError) as error:
        shown = text[:80]
        raise DamagedFileError(f"expected a JSON value, found {shown!r}: {error}") from error


class _Plain:
    """Turns values into what the JSON encoder of the standard library takes."""

    def __init__(self, on_unstorable: OnUnstorable | None) -> None:
        self._on_unstorable = on_unstorable
        self._containers: set[int] = set()  # those being converted, to notice one inside itself

    def convert(self, value: Any, path: tuple[Any, ...]) -> Any:
        if len(path) > _DEEPEST:
            raise UnstorableError(path, value)
        converter = _CONVERTERS.get(type(value))
        if converter is None:
            converter = next((convert for kind, convert in _BY_BASE if isinstance(value, kind)), None)
            if converter is None:
                raise UnstorableError(path, value)
        return converter(self, value, path)

    def from_plain(self, value: Any, path: tuple[Any, ...]) -> Any:
        return value

    def from_string(self, value: str, path: tuple[Any, ...]) -> Any:
        return str.__str__(value)

    def from_integer(self, value: int, path: tuple[Any, ...]) -> Any:
        if value.bit_length() > _LARGEST_INTEGER_BITS:
            raise UnstorableError(path, value)
        return int(value)

    def from_float(self, value: float, path: tuple[Any, ...]) -> Any:
        return float(value) if math.isfinite(value) else {"$float": repr(float(value))}

    def from_complex(self, value: complex, path: tuple[Any, ...]) -> Any:
        return {"$complex": [self.from_float(value.real, path), self.from_float(value.imag, path)]}

    def from_bytes(self, value: Any, path: tuple[Any, ...]) -> Any:
        return {"$bytes": _to_base64(bytes(value))}

    def from_scalar(self, value: np.generic, path: tuple[Any, ...]) -> Any:
        if value.dtype.itemsize == 0 and value.dtype.kind in "SU":
            return {"$scalar": [value.dtype.str, ""]}  # an empty string
        return {"$scalar": [self.dtype(value, path), _to_base64(_value_bytes(value))]}

    def from_array(self, value: np.ndarray, path: tuple[Any, ...]) -> Any:
        if isinstance(value, np.ma.MaskedArray):
            raise UnstorableError(path, value)
        if value.dtype.kind == "O":
            with _Once(self._containers, value, path):
                return {"$objects": [list(value.shape), self.from_items(list(value.flat), path)]}
        dtype = self.dtype(value, path)
        return {"$array": [dtype, list(value.shape), _to_base64(_value_bytes(value))]}

    def dtype(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Describe the dtype of an array or scalar, if the description says all of it."""
        dtype = value.dtype
        try:
            description = dtype.str if dtype.fields is None else json.loads(_to_text(dtype.descr))
            if dtype.itemsize and _build_dtype(description) == dtype:
                return description
        except (ValueError, TypeError):
            pass
        raise UnstorableError(path, value)

    def from_items(self, value: Any, path: tuple[Any, ...]) -> list[Any]:
        with _Once(self._containers, value, path):
            return [self.convert(item, (*path, index)) for index, item in enumerate(value)]

    def from_tuple(self, value: Any, path: tuple[Any, ...]) -> Any:
        return {"$tuple": self.from_items(value, path)}

    def from_dict(self, value: dict[Any, Any], path: tuple[Any, ...]) -> Any:
        pairs = []
        with _Once(self._containers, value, path):
            for key, item in value.items():
                here = (*path, key)
                try:
                    pairs.append((self.convert(key, here), self.convert(item, here)))
                except UnstorableError as error:
                    if self._on_unstorable is None:
                        raise
                    self._on_unstorable(here, error.value)
        if all(type(key) is str and not key.startswith("$") for key, _ in pairs):
            return dict(pairs)
        return {"$dict": [list(pair) for pair in pairs]}


class _Once:
    """Refuses to enter a container that is being converted already, so that a cycle ends."""

    def __init__(self, containers: set[int], value: Any, path: tuple[Any, ...]) -> None:
        if id(value) in containers:
            raise UnstorableError(path, value)
        self._containers, self._id = containers, id(value)

    def __enter__(self) -> None:
        self._containers.add(self._id)

    def __exit__(self, *_: object) -> None:
        self._containers.discard(self._id)


_CONVERTERS: dict[type, Callable[[_Plain, Any, tuple[Any, ...]], Any]] = {
    type(None): _Plain.from_plain,
    bool: _Plain.from_plain,
    str: _Plain.from_plain,
    int: _Plain.from_integer,
    float: _Plain.from_float,
    list: _Plain.from_items,
    tuple: _Plain.from_tuple,
    dict: _Plain.from_dict,
    np.ndarray: _Plain.from_array,
}
# Subclasses, in the order in which they are tried: np.float64 is also a float, and np.str_ a str.
_BY_BASE: tuple[tuple[Any, Callable[[_Plain, Any, tuple[Any, ...]], Any]], ...] = (
    (np.generic, _Plain.from_scalar),
    (np.ndarray, _Plain.from_array),
    (str, _Plain.from_string),
    (int, _Plain.from_integer),
    (float, _Plain.from_float),
    (complex, _Plain.from_complex),
    ((bytes, bytearray), _Plain.from_bytes),
    (tuple, _Plain.from_tuple),
    (list, _Plain.from_items),
    (dict, _Plain.from_dict),
)


def _to_base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode("ascii")


def _value_bytes(value: Any) -> bytes:
    """Give the bytes of an array or scalar, with zeros where its long doubles hold nothing.

    Those bytes are whatever the memory held before, and equal values are to have equal texts.
    """
    data: bytes = value.tobytes()
    item = value.dtype.itemsize // (2 if value.dtype.kind == "c" else 1)
    if value.dtype.kind in "fc" and item == np.dtype(np.longdouble).itemsize > _LONG_DOUBLE_BYTES:
        rows = np.frombuffer(bytearray(data), np.uint8).reshape(-1, item)
        rows[:, slice(_LONG_DOUBLE_BYTES, None) if value.dtype.isnative else slice(-_LONG_DOUBLE_BYTES)] = 0
        return rows.tobytes()
    return data


def _build_dtype(description: Any) -> np.dtype[Any]:
    return np.lib.format.descr_to_dtype(_as_numpy_describes(description))


def _as_numpy_describes(description: Any) -> Any:
    if isinstance(description, list) and description:
        # A field is a tuple (name, dtype, shape) in NumPy's form; JSON made a list of it.
        return [(name, _as_numpy_describes(dtype), *map(tuple, shape)) for name, dtype, *shape in description]
    if isinstance(description, str) and _PLAIN_DTYPE.fullmatch(description):
        return description
    raise ValueError(f"expected a dtype of plain values, found {description!r}")


def _build_array(dtype: Any, shape: list[int], data: str) -> np.ndarray:
    # A byte array, because an array over bytes is read-only.
    array = np.frombuffer(bytearray(binascii.a2b_base64(data)), dtype=_build_dtype(dtype)).reshape(shape)
    _check_text(array)
    return array


def _check_text(array: np.ndarray) -> None:
    """Refuse numbers beyond Unicode, which NumPy would take and Python crash on."""
    for name in array.dtype.names or ():
        _check_text(array[name])
    if array.dtype.kind == "U" and array.size:
        points = np.ascontiguousarray(array).reshape(-1).view(f"{array.dtype.str[0]}u4")
        if points.max() > sys.maxunicode:
            raise ValueError(f"expected text, found the code point {points.max()}")


def _build_scalar(dtype: Any, data: str) -> Any:
    # NumPy would cut zeros off the ends of strings when it takes them out of an array.
    if dtype[1:2] == "S":
        return np.bytes_(binascii.a2b_base64(data))
    if dtype[1:2] == "U":
        order = "utf-32-be" if dtype[0] == ">" else "utf-32-le"
        return np.str_(binascii.a2b_base64(data).decode(order, "surrogatepass"))
    return _build_array(dtype, [], data)[()]


def _build_typed(values: dict[str, Any], dtypes: list[str | None]) -> dict[str, Any]:
    pairs = zip(values.items(), dtypes, strict=True)
    return {key: item if dtype is None else _TYPE_OF[dtype](item) for (key, item), dtype in pairs}


_TYPE_OF = {dtype: kind for kind, dtype in _TYPED.items()}


def _build_objects(shape: list[int], items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    for index, item in enumerate(items):
        array[index] = item  # one by one, or NumPy would look inside lists
    return array.reshape(shape)


_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "$tuple": tuple,
    "$dict": dict,
    "$float": float,
    "$complex": lambda parts: complex(*parts),
    "$bytes": binascii.a2b_base64,
    "$scalar": lambda parts: _build_scalar(*parts),
    "$typed": lambda parts: _build_typed(*parts),
    "$array": lambda parts: _build_array(*parts),
    "$objects": lambda parts: _build_objects(*parts),
}


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no standard JSON")


def _untag(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        ((key, value),) = found.items()
        if key.startswith("$"):
            return _BUILDERS[key](value)
    return found


# `json.loads` would make a new one for every text, at as much time again.
_DECODER = json.JSONDecoder(object_hook=_untag, parse_constant=_refuse_constant)
