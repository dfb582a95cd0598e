"""Columns: values of any space in flat arrays, and back."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import numpy as np
import pytest
from cases import each_space, space_case
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import overwrite
from same import assert_same

from gymbag.columns import (
    ArrayColumn,
    ArraySpec,
    Column,
    NumberColumn,
    ScalarColumn,
    TextColumn,
    ValueColumn,
    join_rows,
)
from gymbag.errors import DamagedFileError, GymbagError, SpaceError
from gymbag.space_columns import column_of
from gymbag.spaces import describe_space

COUNT = 5
SLICES = [(start, stop) for start in range(COUNT + 1) for stop in range(start, COUNT + 1)]


def pack(column: Column, values: Sequence[Any], blocks: Sequence[int] = (COUNT,)) -> dict[str, np.ndarray]:
    """Freeze values and pack them, a block at a time as a writer does."""
    specs = column.arrays()
    arrays = {path: np.empty((0, *spec.shape), spec.dtype) for path, spec in specs.items()}
    left = iter([column.freeze(value) for value in values])
    for size in blocks:
        for path, rows in column.pack(list(itertools.islice(left, size))).items():
            before, spec = arrays[path], specs[path]
            if spec.cumulative and len(before):
                rows = rows + before[-1]
            arrays[path] = np.concatenate([before, rows], dtype=spec.dtype)
    return arrays


def reader_of(arrays: dict[str, np.ndarray]) -> Callable[[str, int, int], np.ndarray]:
    """Read as a file is read: rows that are not there are damage."""

    def read(path: str, start: int, stop: int) -> np.ndarray:
        if not 0 <= start <= stop <= len(arrays[path]):
            raise DamagedFileError(f"no rows {start} to {stop} of {path}")
        return arrays[path][start:stop]

    return read


def rows_of(column: Column, arrays: dict[str, np.ndarray], start: int, stop: int) -> list[Any]:
    stack = column.unpack(reader_of(arrays), start, stop)
    return list(itertools.islice(column.iterate(stack), stop - start))


def assert_same_samples(actual: Sequence[Any], expected: Sequence[Any]) -> None:
    """Compare values with samples; gym's plain ints and ordered dicts come back as the usual types."""
    assert len(actual) == len(expected)
    for ours, theirs in zip(actual, expected, strict=True):
        assert_same(ours, theirs, exact_types=False)


@each_space
def test_every_slice_of_the_samples_comes_back(case: Any) -> None:
    column, samples = case.column(), case.samples(COUNT)
    arrays = pack(column, samples)
    for start, stop in SLICES:
        assert_same_samples(rows_of(column, arrays, start, stop), samples[start:stop])


@each_space
def test_samples_packed_in_blocks_come_back(case: Any) -> None:
    column, samples = case.column(), case.samples(COUNT)
    arrays = pack(column, samples, blocks=(0, 2, 1, 0, 2))
    assert_same_samples(rows_of(column, arrays, 0, COUNT), samples)


@each_space
def test_a_value_that_came_back_is_in_its_space_and_of_the_type_of_a_sample(case: Any) -> None:
    column, samples = case.column(), case.samples(3)
    plain = {"OrderedDict": dict, "int": np.int64}  # gym mixes these with the types of NumPy
    for ours, theirs in zip(rows_of(column, pack(column, samples), 0, 3), samples, strict=True):
        assert isinstance(ours, plain.get(type(theirs).__name__, type(theirs)))
        if "special" not in case.name:
            assert ours in case.space()


@each_space
def test_packed_arrays_are_what_was_announced(case: Any) -> None:
    column = case.column()
    for name, rows in column.pack([column.freeze(sample) for sample in case.samples(3)]).items():
        spec = column.arrays()[name]
        assert (rows.dtype, rows.shape[1:]) == (spec.dtype, spec.shape)
    assert column.pack([]).keys() == column.arrays().keys()
    for name, rows in column.pack([]).items():
        assert rows.shape == (0, *column.arrays()[name].shape)


@each_space
def test_names_of_arrays_can_be_paths_in_a_file(case: Any) -> None:
    paths = list(case.column().arrays())
    assert len(set(paths)) == len(paths)
    parts = [part for path in paths if path for part in path.split("/")]
    assert all(part.isascii() and part.strip(".") for part in parts)
    # A name is an array or a group, not both.
    assert not any(other.startswith(f"{path}/") for path in paths if path for other in paths)


@each_space
def test_changing_a_value_after_it_was_frozen_has_no_effect(case: Any) -> None:
    column, values = case.column(), case.samples(3)
    frozen = [column.freeze(value) for value in values]
    for value in values:
        overwrite(value)
    arrays = column.pack(frozen)
    assert_same_samples(rows_of(column, arrays, 0, 3), case.samples(3))


@each_space
def test_a_stack_holds_the_values(case: Any) -> None:
    column, samples = case.column(), case.samples(4)
    stack = column.stack(samples)
    assert_same_samples(list(itertools.islice(column.iterate(stack), 4)), samples)
    if isinstance(stack, np.ndarray):
        assert len(stack) == 4
    empty = column.stack([])
    if case.name not in ("Dict-empty", "Tuple-empty"):
        assert list(column.iterate(empty)) == []


@each_space
def test_null_can_be_stored_and_comes_back(case: Any) -> None:
    column = case.column()
    assert_same(next(iter(column.iterate(column.stack([column.null()])))), column.null())


@pytest.mark.parametrize(
    ("name", "null"),
    [
        ("Box-float32", np.full((2, 3), np.nan, np.float32)),
        ("Box-longdouble", np.full((2, 3), np.nan, np.longdouble)),
        ("Box-0d", np.array(np.nan, np.float32)),
        ("Box-int8", np.zeros((2, 3), np.int8)),
        ("Box-bool", np.zeros((2, 3), bool)),
        ("Discrete-start", np.int64(0)),
        ("Discrete-int8", np.int8(0)),
        ("MultiBinary", np.zeros(3, np.int8)),
        ("MultiDiscrete", np.zeros(2, np.int64)),
        ("Text", ""),
        ("Dict", {"b": np.full(2, np.nan, np.float32), "a": np.int64(0)}),
        ("Tuple", (np.int64(0), np.full(2, np.nan, np.float32))),
        ("Tuple-empty", ()),
        ("Sequence-Box", ()),
        ("Sequence-stacked", np.zeros((0, 2), np.float32)),
        ("OneOf", (np.int64(0), np.int64(0))),
    ],
)
def test_null_is_nan_for_floats_and_zeros_or_nothing_elsewhere(name: str, null: Any) -> None:
    assert_same(space_case(name).column().null(), null)


@pytest.mark.parametrize("library", ["gymnasium", "gym"])
def test_the_null_of_a_graph_has_no_nodes(library: str) -> None:
    nodes, edges, links = space_case("Graph", library).column().null()
    assert (nodes.shape, edges, links) == ((0, 2), None, None)


LOSSY = [
    ("Box-float32", np.full((2, 3), 0.1)),
    ("Box-float16", np.full((2, 3), 0.1, np.float32)),
    ("Box-float32", np.full((2, 3), 2**24 + 1)),
    ("Box-float64", np.full((2, 3), 2**53 + 1)),
    ("Box-float64", np.full((2, 3), 2**64 - 1, np.uint64)),
    ("Box-float64", np.full((2, 3), 2**63 - 1)),
    ("Box-float32", np.full((2, 3), 1e300)),
    ("Box-float64", np.full((2, 3), 1, np.longdouble) / np.longdouble(3)),
    ("Box-int8", np.full((2, 3), 0.5)),
    ("Box-int8", np.full((2, 3), 128)),
    ("Box-int8", np.full((2, 3), np.nan)),
    ("Box-int64", np.full((2, 3), np.inf)),
    ("Box-int64", np.full((2, 3), 2.0**63)),
    ("Box-int8", np.full((2, 3), -0.0)),
    ("Box-uint8", np.full((2, 3), -1)),
    ("Box-uint64", np.full((2, 3), -1)),
    ("Box-uint8", np.full((2, 3), -1, np.int8)),
    ("Box-int8", np.full((2, 3), 200, np.uint8)),
    ("Box-int64", np.full((2, 3), 2**63, np.uint64)),
    ("Box-bool", np.full((2, 3), 2)),
    ("Discrete", 0.5),
    ("Discrete", 2**63),
    ("Discrete", float("nan")),
    ("Discrete", float("inf")),
    ("Discrete-int8", 128),
    ("Discrete-uint64", -1),
    ("MultiBinary", [0, 1, 300]),
    ("MultiDiscrete", [0.5, 1]),
]


@pytest.mark.parametrize(("name", "value"), LOSSY, ids=str)
def test_a_cast_that_loses_something_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SpaceError, match="expected"):
        space_case(name).column().freeze(value)


LOSSLESS = [
    ("Box-float32", np.full((2, 3), 0.5), np.full((2, 3), 0.5, np.float32)),
    ("Box-float32", [[1, 2, 3], [4, 5, 6]], np.arange(1, 7, dtype=np.float32).reshape(2, 3)),
    ("Box-float32", np.full((2, 3), np.nan), np.full((2, 3), np.nan, np.float32)),
    ("Box-float32", np.full((2, 3), -np.inf), np.full((2, 3), -np.inf, np.float32)),
    ("Box-float32", np.full((2, 3), -0.0), np.full((2, 3), -0.0, np.float32)),
    ("Box-uint8", np.full((2, 3), 255.0), np.full((2, 3), 255, np.uint8)),
    ("Box-bool", np.full((2, 3), 1), np.ones((2, 3), bool)),
    ("Box-big-endian", np.ones(3, "<f4"), np.ones(3, ">f4")),
    ("Box-unbounded", np.ones((3, 1), np.float32), np.ones(3, np.float32)),
    ("Box-unbounded", np.ones((1, 3), np.float32), np.ones(3, np.float32)),
    ("Box-0d", 0.5, np.array(0.5, np.float32)),
    ("Box-0d", np.array([0.5]), np.array(0.5, np.float32)),
    ("Discrete", 2, np.int64(2)),
    ("Discrete", np.uint8(2), np.int64(2)),
    ("Discrete", np.array(2), np.int64(2)),
    ("Discrete", np.array([2]), np.int64(2)),
    ("Discrete", 2.0, np.int64(2)),
    ("Discrete", True, np.int64(1)),
    ("Discrete-uint64", 2**64 - 1, np.uint64(2**64 - 1)),
    ("MultiBinary", [True, False, 1], np.array([1, 0, 1], np.int8)),
    ("Tuple", [1, np.zeros(2, np.float32)], (np.int64(1), np.zeros(2, np.float32))),
    ("Sequence-Discrete", [1, 2], (np.int64(1), np.int64(2))),
    ("Sequence-Discrete", np.array([1, 2]), (np.int64(1), np.int64(2))),
    ("OneOf", [0, 1], (np.int64(0), np.int64(1))),
]


@pytest.mark.parametrize(("name", "value", "stored"), LOSSLESS, ids=str)
def test_a_value_that_fits_exactly_is_taken(name: str, value: Any, stored: Any) -> None:
    column = space_case(name).column()
    assert_same(rows_of(column, pack(column, [value]), 0, 1)[0], stored)


MISFITS = [
    ("Box-float32", np.zeros((2, 2))),
    ("Box-float32", np.zeros((3, 2), np.float32)),
    ("Box-float32", np.zeros(6, np.float32)),
    ("Box-float32", 0.5),
    ("Box-float32", None),
    ("Box-float32", "text"),
    ("Box-float32", {}),
    ("Box-float32", [[1, 2, 3], [4, 5]]),
    ("Box-float32", np.zeros((2, 3), complex)),
    ("Box-float32", np.zeros((2, 3), object)),
    ("Box-float32", np.zeros((2, 3), "datetime64[s]")),
    ("Box-no-elements", np.zeros((2, 1, 3), np.float32)),
    ("Discrete", None),
    ("Discrete", "1"),
    ("Discrete", [1, 2]),
    ("Discrete", [[1], [1, 2]]),
    ("Discrete", np.zeros(2, np.int64)),
    ("Discrete", {}),
    ("Text", 5),
    ("Text", b"bytes"),
    ("Text", None),
    ("Dict", {"a": 0}),
    ("Dict", {"a": 0, "c": np.zeros(2, np.float32)}),
    ("Dict", {"a": 0, "b": np.zeros(2, np.float32), "c": 0}),
    ("Dict", (0, np.zeros(2, np.float32))),
    ("Dict", None),
    ("Dict-empty", {"a": 0}),
    ("Dict-empty", None),
    ("Tuple", (0,)),
    ("Tuple", (0, np.zeros(2, np.float32), 0)),
    ("Tuple", {"a": 0, "b": 1}),
    ("Tuple", None),
    ("Tuple-empty", (0,)),
    ("Sequence-Discrete", 5),
    ("Sequence-Discrete", (0.5,)),
    ("Sequence-Discrete", None),
    ("Sequence-stacked", 5),
    ("Sequence-stacked", np.zeros((4, 3), np.float32)),
    ("Sequence-stacked-Dict", {"a": np.zeros(2, np.int64), "b": ("x", "y", "z")}),
    ("Sequence-stacked-Dict", {"a": np.zeros(2, np.int64)}),
    ("Graph", None),
    ("Graph", (np.zeros((2, 2), np.float32), None)),
    ("Graph", (np.zeros((2, 5), np.float32), None, None)),
    ("Graph-no-edges", (np.zeros(2, np.int64), np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32))),
    ("OneOf", (3, 0)),
    ("OneOf", (-1, 0)),
    ("OneOf", (0, "text")),
    ("OneOf", 0),
    ("OneOf", (0, 1, 2)),
    ("OneOf", None),
]


@pytest.mark.parametrize(("name", "value"), MISFITS, ids=str)
def test_a_value_of_another_form_is_refused(name: str, value: Any) -> None:
    with pytest.raises(SpaceError, match="expected"):
        space_case(name).column().freeze(value)


@pytest.mark.parametrize(("name", "value"), MISFITS, ids=str)
def test_a_value_of_another_form_can_be_observed_or_is_refused(name: str, value: Any) -> None:
    with contextlib.suppress(SpaceError):
        space_case(name).column().observe(value)


@each_space
def test_samples_are_observed_to_have_the_dtypes_of_their_space(case: Any) -> None:
    column = case.column()
    for sample in case.samples(3):
        assert column.with_dtypes(column.observe(sample)).arrays() == column.arrays()


OBSERVED = [
    ("Box-float32", np.full((2, 3), 0.1)),
    ("Box-uint8", np.full((2, 3), 0.5, np.float32)),
    ("Box-unbounded", [0.1, 0.2, 0.3]),
    ("MultiBinary", np.array([True, False, True])),
    ("MultiDiscrete", np.array([1, 2], np.int32)),
    ("Dict", {"b": np.full(2, 0.1), "a": np.int64(1)}),
    ("Tuple", (np.int64(1), np.full(2, 0.1))),
    ("Sequence-Box", (np.full(2, 0.1), np.full(2, 0.2))),
    ("Sequence-stacked", np.full((4, 2), 0.1)),
    ("OneOf", (np.int64(1), np.full(2, 0.1))),
]


@pytest.mark.parametrize(("name", "value"), OBSERVED, ids=str)
def test_with_the_dtypes_of_a_value_the_value_fits(name: str, value: Any) -> None:
    column = space_case(name).column()
    column = column.with_dtypes(column.observe(value))
    expected = np.array(value) if isinstance(value, list) else value
    assert_same(rows_of(column, pack(column, [value, value]), 0, 2), [expected, expected])


@pytest.mark.parametrize("library", ["gymnasium", "gym"])
def test_with_the_dtypes_of_a_graph_the_graph_fits(library: str) -> None:
    case = space_case("Graph", library)
    links = np.array([[0, 1]], np.int16)
    graph = type(case.samples(1)[0])(np.full((2, 2), 0.1), np.array([1]), links)
    column = case.column().with_dtypes(case.column().observe(graph))
    assert_same(rows_of(column, pack(column, [graph]), 0, 1)[0], graph)


def test_a_stack_takes_the_dtype_that_holds_all_values() -> None:
    column = space_case("Box-unbounded").column()
    stack = column.stack([np.zeros(3, np.float32), np.full(3, 0.1), np.ones(3, np.int8)])
    assert_same(stack, np.array([[0, 0, 0], [0.1, 0.1, 0.1], [1, 1, 1]]))


def test_rows_of_shape_nothing_are_arrays() -> None:
    column = space_case("Box-0d").column()
    assert_same(list(column.iterate(np.zeros(2, np.float32))), [np.zeros((), np.float32)] * 2)


def test_a_mapped_stack_keeps_its_form() -> None:
    column = space_case("Dict-nested").column()
    stack = column.stack(space_case("Dict-nested").samples(3))
    lengths = column.map(lambda left, right: (len(left), len(right)), stack, stack)
    pair = (3, 3)
    assert lengths == {
        "camera": pair,
        "arms": (pair, {"grip": pair, "words": pair}),
        "mode": pair,
        "seen": pair,
    }


@pytest.mark.parametrize(
    ("column", "row_bytes"),
    [
        (ArrayColumn(np.dtype(np.uint8), (210, 160, 3)), 100_800),
        (NumberColumn(np.dtype(np.int64)), 8),
        (ScalarColumn(bool), 1),
        (TextColumn(), 9),
        (ValueColumn(), 9),
    ],
)
def test_the_size_of_a_row_is_known(column: Column, row_bytes: int) -> None:
    assert column.row_bytes == row_bytes


def test_only_ends_are_cumulative() -> None:
    for path, spec in space_case("Dict-nested").column().arrays().items():
        assert spec.cumulative == path.endswith("ends")
    assert TextColumn().arrays() == {
        "data": ArraySpec(np.dtype("u1")),
        "ends": ArraySpec(np.dtype("i8"), (), True),
    }


@pytest.mark.parametrize("stack_of_nothing", ["Dict-empty", "Tuple-empty"])
def test_a_stack_of_items_that_hold_nothing_is_refused(stack_of_nothing: str) -> None:
    description = space_case("Sequence-stacked").describe()
    description["space"]["space"] = space_case(stack_of_nothing).describe()["space"]
    with pytest.raises(SpaceError, match="stack=False"):
        column_of(description)


@pytest.mark.parametrize("key", ["\ud800", "a\0b", "/", "a" * 300])
def test_a_column_has_a_name_for_any_key(key: str) -> None:
    space = gymnasium.spaces.Dict({key: gymnasium.spaces.Discrete(2)})
    column = column_of(describe_space(space))
    values = [{key: np.int64(1)}]
    assert_same(rows_of(column, pack(column, values), 0, 1), values)


@pytest.mark.parametrize("ends", [[-1, 3], [5, 3], [1, 99], [2, 1]], ids=str)
def test_damaged_ends_are_reported(ends: list[int]) -> None:
    arrays = {"data": np.frombuffer(b"abc", np.uint8), "ends": np.array(ends)}
    with pytest.raises(DamagedFileError):
        TextColumn().unpack(reader_of(arrays), 0, 2)


@pytest.mark.parametrize("choice", [-1, 3, 99])
def test_a_damaged_choice_is_reported(choice: int) -> None:
    column = space_case("OneOf").column()
    arrays = pack(column, [(0, 1), (2, "x")])
    arrays["choice"][0] = choice
    with pytest.raises(DamagedFileError):
        column.unpack(reader_of(arrays), 0, 2)


def test_damaged_text_in_a_column_is_reported() -> None:
    arrays = {"data": np.frombuffer(b"\xff\xfe", np.uint8), "ends": np.array([2])}
    for column in (TextColumn(), ValueColumn()):
        with pytest.raises(DamagedFileError):
            column.unpack(reader_of(arrays), 0, 1)


def _spaces(gym_spaces: Any) -> st.SearchStrategy[Any]:
    """Any space, nested at will; samples of Box are small, so that examples stay quick."""
    s = gym_spaces
    sizes = st.lists(st.integers(0, 3), min_size=1, max_size=2).map(tuple)
    box = st.builds(
        lambda shape, dtype: s.Box(0, 1, shape, dtype),
        sizes,
        st.sampled_from([np.float32, np.float64, np.uint8, np.int16, np.bool_]),
    )
    leaf = st.one_of(
        box,
        st.builds(s.Discrete, st.integers(1, 5), start=st.integers(-3, 3)),
        st.builds(s.MultiBinary, st.integers(1, 3)),
        st.builds(s.MultiDiscrete, st.lists(st.integers(1, 4), min_size=1, max_size=3)),
        st.builds(s.Text, st.integers(1, 3)),
        st.builds(s.Graph, box, st.none() | box),
    )
    keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(
        ["items", "ends", "0", "."]
    )

    def grow(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        several = st.lists(inner, max_size=3)
        grown = [
            st.builds(lambda items: s.Dict(items), st.dictionaries(keys, inner, max_size=3)),
            st.builds(s.Tuple, several),
            st.builds(s.Sequence, inner),
        ]
        if hasattr(s, "OneOf"):
            grown.append(st.builds(s.OneOf, several.filter(bool)))
        return st.one_of(grown)

    return st.recursive(leaf, grow, max_leaves=5)


@pytest.mark.parametrize("library", ["gymnasium", "gym"])
@given(data=st.data())
@settings(max_examples=25)
def test_samples_of_any_nested_space_come_back(library: str, data: st.DataObject) -> None:
    space = data.draw(_spaces(importlib.import_module(f"{library}.spaces")))
    space.seed(3)
    samples = [space.sample() for _ in range(COUNT)]
    column = column_of(describe_space(space))
    start, stop = data.draw(st.sampled_from(SLICES))
    arrays = pack(column, samples, blocks=(start, stop - start, COUNT - stop))
    assert_same_samples(rows_of(column, arrays, start, stop), samples[start:stop])


@given(
    st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "g"]),
    st.floats() | st.integers(-(2**64), 2**64) | st.booleans(),
    st.sampled_from(["f2", "f4", "f8", "i1", "i4", "i8", "u1", "u8", "?", "g", None]),
)
@settings(max_examples=300)
def test_a_number_of_any_dtype_comes_back_equal_or_is_refused(
    dtype: str, number: Any, given_as: str | None
) -> None:
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy 1, which casts what NumPy 2 refuses
            value = np.array(number, given_as)
    except (OverflowError, ValueError):
        return  # no such value to give
    column = ArrayColumn(np.dtype(dtype), ())
    try:
        frozen = column.freeze(value)
    except SpaceError:
        return
    (stored,) = column.iterate(column.pack([frozen])[""])
    if value != value:
        assert stored != stored
    else:
        assert stored.item() == value.item() or np.longdouble(stored) == np.longdouble(value)
        assert np.signbit(np.float64(stored)) == np.signbit(np.float64(value))


def test_every_refusal_is_a_gymbag_error() -> None:
    assert issubclass(SpaceError, GymbagError)


FRAME = 84, 84, 4


def frame(number: int) -> np.ndarray:
    return np.full(FRAME, number % 251, np.uint8)


@pytest.mark.parametrize("count", [1, 100, 2_000], ids=["one", "many", "more than are kept"])
def test_large_values_stay_as_they_are_until_they_are_released(count: int) -> None:
    column = ArrayColumn(np.dtype(np.uint8), FRAME)
    first = [column.freeze(frame(number)) for number in range(count)]
    column.release(first[1::2])
    second = [column.freeze(frame(number + 7)) for number in range(count)]
    for rows, numbers in ((first[::2], range(0, count, 2)), (second, range(7, count + 7))):
        assert_same(join_rows(column.pack_rows(rows)[""]), np.stack([frame(number) for number in numbers]))


def test_large_values_lie_together_once_others_are_released() -> None:
    column = ArrayColumn(np.dtype(np.uint8), FRAME)
    kept = column.freeze(frame(1))
    for _ in range(100):
        frozen = [column.freeze(frame(number)) for number in range(50)]
        parts = column.pack_rows(frozen)[""]
        assert len(parts) <= 3  # parted by where the memory ends, and by the one that is kept
        assert_same(join_rows(parts), np.stack([frame(number) for number in range(50)]))
        column.release(frozen)
    assert_same(kept, frame(1))


def test_large_values_of_another_column_can_be_packed_and_released() -> None:
    column, other = (ArrayColumn(np.dtype(np.uint8), FRAME) for _ in range(2))
    rows = [column.freeze(frame(0)), other.freeze(frame(1)), column.freeze(frame(2))]
    assert_same(join_rows(column.pack_rows(rows)[""]), np.stack([frame(number) for number in range(3)]))
    column.release(rows)
    column.freeze(frame(3))
    assert_same(rows[1], frame(1))
