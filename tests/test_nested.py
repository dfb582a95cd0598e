"""Copying and comparing nested values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from cases import PLAINER, VALUES, Point, each_space
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from same import assert_same

from gymbag import nested

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=3)
    | hnp.arrays(np.float32, (2,))
)
VALUE = st.recursive(
    LEAVES,
    lambda inner: (
        st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_a_copy_is_the_same(value: Any) -> None:
    assert_same(nested.copy(value), value)


def test_a_copy_shares_no_container_and_no_array() -> None:
    original = {"list": [np.zeros(2)], "tuple": (np.zeros(2), {"inner": np.zeros(2)})}
    copied = nested.copy(original)
    original["list"][0][:] = 7
    original["list"].append(1)
    original["tuple"][0][:] = 7
    original["tuple"][1]["inner"][:] = 7
    assert_same(copied, {"list": [np.zeros(2)], "tuple": (np.zeros(2), {"inner": np.zeros(2)})})


def test_a_copy_shares_nothing_that_can_change_inside() -> None:
    objects = np.empty(2, object)
    objects[:] = [[1], {"x": np.zeros(1)}]
    original = {"bytes": bytearray(b"abc"), "objects": objects}
    copied = nested.copy(original)
    original["bytes"][0] = 0
    objects[0].append(2)
    objects[1]["x"][0] = 7
    assert copied["bytes"] == bytearray(b"abc")
    assert_same(copied["objects"].tolist(), [[1], {"x": np.zeros(1)}])


def test_a_copy_of_a_named_tuple_keeps_its_fields() -> None:
    assert nested.copy(Point(1, [2])).y == [2]


@each_space
def test_samples_of_every_space_can_be_copied(case: Any) -> None:
    for sample in case.samples(3):
        assert_same(nested.copy(sample), sample, exact_types=False)
        assert nested.difference(nested.copy(sample), sample) is None


@given(VALUE)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert nested.difference(value, nested.copy(value)) is None


@given(VALUE)
def test_leaves_are_all_that_is_no_container(value: Any) -> None:
    assert not any(isinstance(leaf, dict | list | tuple) for leaf in nested.leaves(value))


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_of_every_kind_do_not_differ_from_themselves(value: Any) -> None:
    assert nested.difference(value, nested.copy(value)) is None


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        pytest.param({"a": 1}, {"a": 2}, (("a",), 1, 2), id="value"),
        pytest.param({"a": 1}, {}, (("a",), 1, nested.MISSING), id="missing on the right"),
        pytest.param({}, {"a": 1}, (("a",), nested.MISSING, 1), id="missing on the left"),
        pytest.param({"a": [0, (1, 2)]}, {"a": [0, (1, 3)]}, (("a", 1, 1), 2, 3), id="deep"),
        pytest.param([1], [1, 2], ((), [1], [1, 2]), id="length"),
        pytest.param([1], (1,), ((), [1], (1,)), id="list or tuple"),
        pytest.param(1, 1.0, ((), 1, 1.0), id="kind of number"),
        pytest.param(1, True, ((), 1, True), id="number or bool"),
        pytest.param(0.0, -0.0, ((), 0.0, -0.0), id="sign of zero"),
        pytest.param(1, "1", ((), 1, "1"), id="number or text"),
        pytest.param({}, None, ((), {}, None), id="dict or nothing"),
        pytest.param("a", b"a", ((), "a", b"a"), id="text or bytes"),
    ],
)
def test_the_first_difference_is_found(left: Any, right: Any, found: Any) -> None:
    assert nested.difference(left, right) == found


@pytest.mark.parametrize(
    ("left", "right"),
    [
        pytest.param(np.zeros(2), np.zeros(3), id="shape"),
        pytest.param(np.zeros(2), np.zeros(2, np.float32), id="dtype"),
        pytest.param(np.zeros(2), np.array([0, 1.0]), id="element"),
        pytest.param(np.zeros(()), 0.0, id="array or scalar"),
        pytest.param(np.array([np.nan, 1]), np.array([np.nan, 2]), id="beside NaN"),
        pytest.param(np.array([1j]), np.array([complex(-0.0, 1)]), id="sign of a complex zero"),
        pytest.param(
            np.array([complex(1, 0.0)]), np.array([complex(1, -0.0)]), id="sign of an imaginary zero"
        ),
        pytest.param(np.array([None, 1]), np.array([None, 2]), id="object"),
    ],
)
def test_arrays_differ_by_shape_dtype_and_bits(left: Any, right: Any) -> None:
    assert nested.difference(left, left) is None
    assert nested.difference(left, right) is not None
    assert nested.difference(right, left) is not None


def test_tolerance_is_absolute_and_takes_nan_and_infinity_for_equal() -> None:
    left, right = np.array([1.0, np.nan, np.inf]), np.array([1.25, np.nan, np.inf])
    assert nested.difference(left, right, tolerance=0.25) is None
    assert nested.difference(left, right, tolerance=0.2) is not None
    assert nested.difference(left, -left, tolerance=10) is not None
    assert nested.difference(1, 2, tolerance=5) is not None  # integers are compared as they are


@pytest.mark.parametrize(("value", "plainer"), PLAINER.values(), ids=PLAINER)
def test_copies_of_subclasses_compare_like_the_original(value: Any, plainer: Any) -> None:
    assert nested.copy(value) == plainer
