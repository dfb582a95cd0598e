"""Comparing values bit for bit and type for type, independently of the package's own comparison."""

from __future__ import annotations

from typing import Any

import numpy as np


def assert_same(actual: Any, expected: Any, exact_types: bool = True, where: str = "") -> None:
    """Assert that two nested values are the same, NaN being the same as NaN, and 0.0 not as -0.0.

    Args:
        actual: What came back.
        expected: What it should be.
        exact_types: Whether types must be the same. If not, dicts of any kind are alike, and a
            number is like the NumPy scalar of its value, as gym's own samples mix them.
        where: Path to the values, for the message.
    """
    if type(actual) is type(expected) is np.ndarray and _same_bytes(actual, expected):
        return  # the quick way, for most
    message = f"at {where or 'the top'}: {actual!r} is not {expected!r}"
    if exact_types:
        assert type(actual) is type(expected), message
    if isinstance(expected, dict):
        assert isinstance(actual, dict), message
        assert list(actual) == list(expected), message
        for ours, theirs in zip(actual, expected, strict=True):
            assert_same(ours, theirs, exact_types, f"key {theirs!r}")
            assert_same(actual[ours], expected[theirs], exact_types, f"{where}[{theirs!r}]")
    elif isinstance(expected, tuple | list):
        assert type(actual) is type(expected), message
        assert len(actual) == len(expected), message
        for index, (ours, theirs) in enumerate(zip(actual, expected, strict=True)):
            assert_same(ours, theirs, exact_types, f"{where}[{index}]")
    elif isinstance(expected, np.ndarray | np.generic | float | complex | int):
        assert isinstance(actual, np.ndarray) == isinstance(expected, np.ndarray), message
        _assert_same_numbers(np.asarray(actual), np.asarray(expected), message, where)
    else:
        assert type(actual) is type(expected), message
        assert actual == expected, message


def _assert_same_numbers(actual: np.ndarray, expected: np.ndarray, message: str, where: str) -> None:
    assert (actual.dtype, actual.shape) == (expected.dtype, expected.shape), message
    if expected.dtype.names:
        for name in expected.dtype.names:
            _assert_same_numbers(actual[name], expected[name], message, f"{where}.{name}")
    elif expected.dtype.hasobject:
        for ours, theirs in zip(actual.flat, expected.flat, strict=True):
            if isinstance(theirs, int):
                assert ours == theirs, message  # an integer too large for NumPy
            else:
                assert_same(ours, theirs, where=where)
    elif expected.dtype.kind in "fc":
        assert np.array_equal(actual, expected, equal_nan=True), message
        for part in ("real", "imag"):
            ours, theirs = getattr(actual, part), getattr(expected, part)
            assert np.array_equal(np.signbit(ours) | np.isnan(ours), np.signbit(theirs) | np.isnan(theirs)), (
                message
            )
    else:
        assert actual.tobytes() == expected.tobytes(), message


def _same_bytes(actual: np.ndarray, expected: np.ndarray) -> bool:
    same_form = (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    return same_form and not expected.dtype.hasobject and actual.tobytes() == expected.tobytes()
