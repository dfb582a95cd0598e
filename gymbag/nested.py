"""Nested dicts, tuples and lists of arrays and plain values: copying and comparing them.

Actions, observations and infos all take this form. A leaf is anything that is not a dict, tuple or
list.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

#: Where two values part: the path of keys to the leaf, and what stands there on each side.
Difference = tuple[tuple[Any, ...], Any, Any]

#: Stands for a value that only the other side has.
MISSING = type("Missing", (), {"__repr__": lambda self: "<missing>"})()


def copy(value: Any) -> Any:
    """Copy every container, array and bytearray of a nested value; subclasses of dict and list become plain.

    Other leaves are shared, which is safe for numbers and strings.

    >>> original = {"position": np.zeros(2)}
    >>> kept = copy(original)
    >>> original["position"][0] = 7
    >>> kept
    {'position': array([0., 0.])}
    """
    if isinstance(value, np.ndarray):
        array = value.copy()
        if array.dtype.kind == "O":
            flat = array.reshape(-1)
            for index, item in enumerate(flat.tolist()):
                flat[index] = copy(item)
        return array
    if isinstance(value, bytearray):
        return bytearray(value)
    if isinstance(value, dict):
        return {key: copy(item) for key, item in value.items()}
    if isinstance(value, tuple):
        items = [copy(item) for item in value]
        # A named tuple, such as a graph, takes its fields one by one.
        return type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    if isinstance(value, list):
        return [copy(item) for item in value]
    return value


def difference(
    left: Any, right: Any, tolerance: float = 0.0, path: tuple[Any, ...] = ()
) -> Difference | None:
    """Find the first place where two nested values differ, or None.

    Leaves are equal when their types, dtypes, shapes and values are; NaN equals NaN, and 0.0
    differs from -0.0 only in sign, which `tolerance=0` does not overlook.

    Args:
        left: One value.
        right: The other.
        tolerance: How far two floating-point numbers may be apart, absolutely; 0 compares their
            bits (any NaN equals any other).
        path: The keys that led here, put in front of the path that is returned.

    >>> difference({"a": (1, 2.0)}, {"a": (1, 2.5)})
    (('a', 1), 2.0, 2.5)
    """
    if isinstance(left, dict) and isinstance(right, dict):
        for key in [*left, *(key for key in right if key not in left)]:
            here = (*path, key)
            if key not in left or key not in right:
                return here, left.get(key, MISSING), right.get(key, MISSING)
            found = difference(left[key], right[key], tolerance, here)
            if found:
                return found
        return None
    for kind in (tuple, list):
        if isinstance(left, kind) and isinstance(right, kind):
            if len(left) != len(right):
                return path, left, right
            pairs = zip(left, right, strict=True)
            found_items = (difference(*pair, tolerance, (*path, index)) for index, pair in enumerate(pairs))
            return next((found for found in found_items if found), None)
    return None if _leaves_equal(left, right, tolerance) else (path, left, right)


def _leaves_equal(left: Any, right: Any, tolerance: float) -> bool:
    if isinstance(left, int) and isinstance(right, int):
        return left == right and isinstance(left, bool) == isinstance(right, bool)
    numeric = (int, float, complex, np.generic, np.ndarray)
    if not isinstance(left, numeric) or not isinstance(right, numeric):
        return type(left) is type(right) and bool(left == right)
    if isinstance(left, np.ndarray) != isinstance(right, np.ndarray):
        return False
    # A Python number stands for the NumPy scalar of the same value: infos keep the two apart when
    # they are stored, while observations of a discrete space do not.
    both_typed = hasattr(left, "dtype") and hasattr(right, "dtype")
    left, right = np.asarray(left), np.asarray(right)
    if left.shape != right.shape:
        return False
    if left.dtype != right.dtype and (both_typed or left.dtype.kind != right.dtype.kind):
        return False
    if left.dtype.kind == "c":
        parts = ((left.real, right.real), (left.imag, right.imag))
        return all(_floats_equal(one, other, tolerance) for one, other in parts)
    if left.dtype.kind == "f":
        return _floats_equal(left, right, tolerance)
    if left.dtype.kind == "O":
        return difference(left.ravel().tolist(), right.ravel().tolist(), tolerance) is None
    # By their bytes, because NaT does not equal itself.
    return left.tobytes() == right.tobytes() or bool(np.array_equal(left, right))


def _floats_equal(left: np.ndarray, right: np.ndarray, tolerance: float) -> bool:
    with np.errstate(invalid="ignore"):
        if tolerance:
            same = (left == right) | (np.abs(left - right) <= tolerance)
        else:
            same = (left == right) & (np.signbit(left) == np.signbit(right))
    return bool(np.all(same | (np.isnan(left) & np.isnan(right))))


def leaves(value: Any) -> Iterator[Any]:
    """Yield the leaves of a nested value, in order.

    >>> list(leaves({"a": (1, [2]), "b": 3}))
    [1, 2, 3]
    """
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, tuple | list):
        yield value
        return
    for item in value:
        yield from leaves(item)
