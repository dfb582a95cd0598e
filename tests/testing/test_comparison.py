"""Comparing recordings: every kind of difference is found, and named."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from envs import assert_same, counting_env, make, play

from gymbag import (
    HDF5Reader,
    HDF5Writer,
    Header,
    MemoryWriter,
    Reader,
    RecordingWrapper,
    Writer,
    compare,
    nested,
    record_from_iter,
    record_hdf5,
    salvage,
)
from gymbag.errors import RecordingError, StorageError
from gymbag.spaces import describe_space
from gymbag.testing.comparison import FIELDS, Comparison

BOX = gymnasium.spaces.Box(-np.inf, np.inf, (2,))
NESTED = gymnasium.spaces.Dict(a=gymnasium.spaces.Tuple([BOX, gymnasium.spaces.Discrete(9)]), b=BOX)


def recorded(
    writer: Any = None,
    *,
    lengths: tuple[int, ...] = (2, 3),
    resets: tuple[Any, ...] = ((5, {"low": 1}), (None, None)),
    start: float = 0.0,
    limit: int = 99,
    env: Any = None,
    name: str | None = None,
    **changes: Any,
) -> Any:
    """Record a few episodes; whatever is changed sets the recording apart from the others."""
    writer = MemoryWriter() if writer is None else writer
    env = counting_env(**changes) if env is None else env
    clock = itertools.count(start).__next__
    recording = RecordingWrapper(env, writer, clock=clock, name=name)
    for length, reset in zip(lengths, resets, strict=False):
        env.length = length
        play(recording, [reset], steps=limit)
    recording.close()
    return writer.reader() if isinstance(writer, MemoryWriter) else None


def at(step: int, value: Any, otherwise: Any) -> Any:
    """Give the value at that step of the second episode, and otherwise the other."""

    def choose(env: Any) -> Any:
        return value if (env.resets, env.steps) == (2, step) else otherwise

    return choose


def nested_observation(env: Any) -> Any:
    array = np.array([env.steps, 0], np.float32)
    return {"a": (array, env.steps), "b": array}


def nested_but(change: Any) -> Any:
    """A nested observation that is changed at step 1 of the second episode."""

    def observe(env: Any) -> Any:
        observation = nested_observation(env)
        if (env.resets, env.steps) == (2, 1):
            change(observation)
        return observation

    return {"observation_space": NESTED, "observe": observe}


def change_leaf(observation: Any) -> None:
    observation["a"][0][1] = 7


def change_number(observation: Any) -> None:
    observation["a"] = (observation["a"][0], 8)


OBSERVATION = np.array([1, 2], np.float32)

# How the second recording is made, and where it differs: episode, step, field, path, both values.
DIFFERENCES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[Any, ...]]] = {
    "more episodes": (
        {},
        {"lengths": (2, 3, 1), "resets": ((5, {"low": 1}), (None, None), (None, None))},
        (None, None, "episodes", (), 2, 3),
    ),
    "a longer episode": (
        {},
        {"lengths": (2, 4)},
        # The episodes are equal as far as the shorter one goes, but that its last step is not the end.
        (1, None, "length", (), 3, 4),
    ),
    "another ending": (
        {"limit": 3},
        {"lengths": (2, 99), "limit": 3},
        (1, None, "ending", (), "terminated", "unfinished"),
    ),
    "another seed": ({}, {"resets": ((6, {"low": 1}), (None, None))}, (0, None, "seed", (), 5, 6)),
    "no seed": ({}, {"resets": ((None, {"low": 1}), (None, None))}, (0, None, "seed", (), 5, None)),
    "another option": (
        {},
        {"resets": ((5, {"low": 2}), (None, None))},
        (0, None, "options", ("low",), 1, 2),
    ),
    "an option more": (
        {},
        {"resets": ((5, {"low": 1, "high": 2}), (None, None))},
        (0, None, "options", ("high",), nested.MISSING, 2),
    ),
    "no options and empty ones": (
        {},
        {"resets": ((5, {"low": 1}), (None, {}))},
        (1, None, "options", (), None, {}),
    ),
    "an observation": (
        {"observe": lambda env: OBSERVATION},
        {"observe": at(2, OBSERVATION + 1, OBSERVATION)},
        (1, 2, "observations", (), OBSERVATION, OBSERVATION + 1),
    ),
    "a first observation": (
        {"observe": lambda env: OBSERVATION},
        {"observe": at(0, OBSERVATION + 1, OBSERVATION)},
        (1, 0, "observations", (), OBSERVATION, OBSERVATION + 1),
    ),
    "a final observation": (
        {"observe": lambda env: OBSERVATION},
        {"observe": at(3, OBSERVATION + 1, OBSERVATION)},
        (1, 3, "observations", (), OBSERVATION, OBSERVATION + 1),
    ),
    "the sign of zero": (
        {"observe": lambda env: np.zeros(2, np.float32)},
        {"observe": at(1, -np.zeros(2, np.float32), np.zeros(2, np.float32))},
        (1, 1, "observations", (), np.zeros(2, np.float32), -np.zeros(2, np.float32)),
    ),
    "the dtype of observations": (
        {"observe": lambda env: OBSERVATION},
        {"observe": lambda env: OBSERVATION.astype(np.float64)},
        (0, 0, "observations", (), OBSERVATION, OBSERVATION.astype(np.float64)),
    ),
    "the dtype of observations of shape ()": (
        {"observation_space": gymnasium.spaces.Box(0, 9, ()), "observe": lambda env: np.array(1, np.float32)},
        {"observation_space": gymnasium.spaces.Box(0, 9, ()), "observe": lambda env: np.array(1, np.float64)},
        (0, 0, "observations", (), np.array(1, np.float32), np.array(1, np.float64)),
    ),
    "a leaf of a nested observation": (
        nested_but(lambda observation: None),
        nested_but(change_leaf),
        (1, 1, "observations", ("a", 0), np.array([1, 0], np.float32), np.array([1, 7], np.float32)),
    ),
    "a number in a nested observation": (
        nested_but(lambda observation: None),
        nested_but(change_number),
        (1, 1, "observations", ("a", 1), np.int64(1), np.int64(8)),
    ),
    "a reward": (
        {"reward": lambda env: 0.5},
        {"reward": at(2, 0.25, 0.5)},
        (1, 2, "rewards", (), 0.5, 0.25),
    ),
    "a reward that is not a number": (
        {"reward": lambda env: 0.5},
        {"reward": at(2, np.nan, 0.5)},
        (1, 2, "rewards", (), 0.5, float("nan")),
    ),
    "an info": (
        {"info": lambda env: {"lives": 3}},
        {"info": at(1, {"lives": 2}, {"lives": 3})},
        (1, 1, "infos", ("lives",), 3, 2),
    ),
    "the info of a reset": (
        {"info": lambda env: {"lives": 3}},
        {"info": at(0, {"lives": 2}, {"lives": 3})},
        (1, 0, "infos", ("lives",), 3, 2),
    ),
    "deep in an info": (
        {"info": lambda env: {"a": [1, {"b": (1, "x")}]}},
        {"info": at(1, {"a": [1, {"b": (1, "y")}]}, {"a": [1, {"b": (1, "x")}]})},
        (1, 1, "infos", ("a", 1, "b", 1), "x", "y"),
    ),
    "a key of an info": (
        {"info": lambda env: {"a": 1}},
        {"info": at(1, {"a": 1, "b": 2}, {"a": 1})},
        (1, 1, "infos", ("b",), nested.MISSING, 2),
    ),
    "no info": (
        {"info": lambda env: {"a": 1}},
        {"info": at(1, {}, {"a": 1})},
        (1, 1, "infos", (), {"a": 1}, None),
    ),
    "an info's type": (
        {"info": lambda env: {"a": 1}},
        {"info": at(1, {"a": 1.0}, {"a": 1})},
        (1, 1, "infos", ("a",), 1, 1.0),
    ),
    "an info's dtype": (
        {"info": lambda env: {"a": np.zeros(2, np.float32)}},
        {"info": at(1, {"a": np.zeros(2)}, {"a": np.zeros(2, np.float32)})},
        (1, 1, "infos", ("a",), np.zeros(2, np.float32), np.zeros(2)),
    ),
    "an info's dtype, of a scalar": (
        {"info": lambda env: {"a": np.float32(1)}},
        {"info": at(1, {"a": np.float64(1)}, {"a": np.float32(1)})},
        (1, 1, "infos", ("a",), np.float32(1), np.float64(1)),
    ),
    "a list and a tuple": (
        {"info": lambda env: {"a": [1]}},
        {"info": at(1, {"a": (1,)}, {"a": [1]})},
        (1, 1, "infos", ("a",), [1], (1,)),
    ),
    "a string of an info": (
        {"info": lambda env: {"a": "x"}},
        {"info": at(1, {"a": b"x"}, {"a": "x"})},
        (1, 1, "infos", ("a",), "x", b"x"),
    ),
}


def assert_found(outcome: Comparison, expected: tuple[Any, ...], data_set: str = "CountingEnv") -> None:
    assert not outcome
    assert outcome.data_set == data_set
    assert (outcome.episode, outcome.step, outcome.field, outcome.path) == expected[:4]
    assert_same((outcome.left, outcome.right), expected[4:])


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_difference_is_found_and_named(case):
    one, other, expected = DIFFERENCES[case]
    left, right = recorded(**one), recorded(**other)
    assert_found(compare(left, right), expected)
    assert_found(compare(right, left), (*expected[:4], expected[5], expected[4]))


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_recording_equals_itself_and_another_of_the_same(case):
    changes = DIFFERENCES[case][1]
    reader = recorded(**changes)
    assert compare(reader, reader) == Comparison(True)
    outcome = compare(reader, recorded(**changes))
    assert outcome, outcome


@pytest.mark.parametrize("case", DIFFERENCES)
def test_a_difference_in_a_field_that_is_ignored_does_not_count(case):
    one, other, expected = DIFFERENCES[case]
    follows = {"another ending": ["ending"]}.get(case, [])
    ignored = {expected[2], "times", *follows}
    if case == "a longer episode":
        ignored |= {"ending"}
    outcome = compare(recorded(**one), recorded(**other), ignore=ignored)
    assert outcome, outcome


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (
            "observation_space",
            {"observation_space": BOX},
            {"observation_space": gymnasium.spaces.Box(-9, 9, (2,))},
        ),
        ("action_space", {}, {"action_space": gymnasium.spaces.Discrete(5)}),
    ],
)
def test_other_spaces_are_found(kind, one, other):
    outcome = compare(recorded(**one), recorded(**other))
    assert (outcome.equal, outcome.field, outcome.episode, outcome.step) == (False, kind, None, None)
    assert kind in str(outcome)


def test_actions_that_differ_are_found():
    def with_actions(*actions: int) -> Any:
        writer = MemoryWriter()
        env = RecordingWrapper(counting_env(), writer)
        play(env, [(None, None)], steps=len(actions), choose=iter(actions).__next__)
        env.close()
        return writer.reader()

    outcome = compare(with_actions(1, 2, 3), with_actions(1, 2, 0))
    assert_found(outcome, (0, 3, "actions", (), np.int64(3), np.int64(0)))
    # Of a step, the action comes before what it led to.
    assert compare(with_actions(1, 2, 3), with_actions(1, 2, 0), ignore=["actions", "times"])


def test_the_first_of_several_differences_is_named():
    other = recorded(reward=at(1, 9.0, 1.0), info=at(2, {"a": 1}, {}))
    assert_found(compare(recorded(), other), (1, 1, "rewards", (), 1.0, 9.0))


def test_times_are_compared_only_when_asked():
    one, other = recorded(), recorded(start=1000.0)
    assert compare(one, other)
    assert_found(compare(one, other, ignore=()), (0, 0, "times", (), 0.0, 1000.0))
    assert compare(one, recorded(), ignore=())


# ---- Tolerance ----


@pytest.mark.parametrize(
    ("tolerance", "equal"), [(0.0, False), (0.2, False), (0.25, True), (0.3, True)], ids=str
)
def test_floating_point_numbers_may_differ_by_the_tolerance(tolerance, equal):
    def compared(field: str, one: Any, other: Any) -> bool:
        left, right = recorded(**{field: lambda env: one}), recorded(**{field: lambda env: other})
        return bool(compare(left, right, tolerance))

    assert compared("observe", OBSERVATION, OBSERVATION + np.float32(0.25)) is equal
    assert compared("reward", 1.0, 1.25) is equal
    assert compared("info", {"a": 1.0}, {"a": 1.25}) is equal
    assert compared("info", {"a": np.ones(2)}, {"a": np.ones(2) + 0.25}) is equal


def test_a_tolerance_is_not_for_whole_numbers_nor_types():
    left = recorded(info=lambda env: {"a": 1})
    assert not compare(left, recorded(info=lambda env: {"a": 2}), tolerance=10)
    assert not compare(left, recorded(info=lambda env: {"a": 1.0}), tolerance=10)


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_nan_equals_nan_and_an_infinity_itself_only(tolerance):
    def of(*values: float) -> Any:
        return recorded(observe=lambda env: np.array(values, np.float32))

    nan, inf = float("nan"), float("inf")
    assert compare(of(nan, inf), of(nan, inf), tolerance)
    assert not compare(of(nan, 1), of(1, 1), tolerance)
    assert not compare(of(inf, 1), of(-inf, 1), tolerance)
    assert not compare(of(inf, 1), of(1e30, 1), tolerance)


@pytest.mark.parametrize(
    "info",
    [
        {"time": np.datetime64("NaT", "s")},
        {"times": np.array(["NaT", "2026-01-01"], "M8[s]")},
        {"objects": np.array([float("nan"), None], dtype=object)},
        {"objects": np.array([[1, 2], None, "x"], dtype=object)},
        {"structured": np.array([(np.nan, 1)], dtype=[("x", "f4"), ("y", "i4")])},
        {"complex": complex(float("nan"), 1)},
        {"text": np.array(["a", "b"])},
        {"empty": np.zeros((0, 3))},
        {"nan key": {float("inf"): float("nan")}},
    ],
    ids=str,
)
@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_a_recording_of_odd_infos_equals_one_of_the_same(info, tolerance):
    outcome = compare(recorded(info=lambda env: info), recorded(info=lambda env: info), tolerance)
    assert outcome, outcome


# ---- Arguments ----


def test_names_to_ignore_that_are_no_fields_are_an_error():
    with pytest.raises(ValueError, match=r"expected fields to ignore from .*found \['reward'\]"):
        compare(recorded(), recorded(), ignore=["reward"])


def test_a_single_name_to_ignore_is_not_taken_letter_by_letter():
    assert compare(recorded(), recorded(reward=lambda env: 9.0), ignore=["rewards", "times"])
    with pytest.raises((ValueError, TypeError), match="rewards"):
        compare(recorded(), recorded(), ignore="rewards")


def test_every_field_can_be_ignored():
    outcome = compare(recorded(), recorded(reward=lambda env: 9.0, start=5.0), ignore=FIELDS)
    assert outcome, outcome


def test_a_comparison_says_where_it_found_the_difference():
    outcome = compare(
        recorded(info=lambda env: {"a": [1]}), recorded(info=at(2, {"a": [7]}, {"a": [1]})), ignore=()
    )
    assert (
        str(outcome)
        == "data_set 'CountingEnv', episode 1, step 2: infos['a'][0] is 1 in the first and 7 in the second"
    )
    assert str(compare(recorded(), recorded())) == "equal"


# ---- Files, readers, and both ----


@pytest.fixture
def two_files(tmp_path: Path) -> tuple[Path, Path]:
    """Two files of the same two data sets."""
    paths = (tmp_path / "left.h5", tmp_path / "right.h5")
    for path in paths:
        for env_id in ("CartPole-v1", "FrozenLake-v1"):
            env = record_hdf5(make("gymnasium", env_id), path)
            play(env)
            env.close()
    return paths


def test_files_with_equal_data_sets_are_equal(two_files):
    outcome = compare(*two_files)
    assert outcome, outcome
    assert compare(str(two_files[0]), two_files[1])


def test_in_which_data_set_files_differ_is_named(two_files):
    env = record_hdf5(make("gymnasium", "FrozenLake-v1"), two_files[1])
    play(env, [(1, None)])
    env.close()
    assert_found(compare(*two_files), (None, None, "episodes", (), 3, 4), "FrozenLake-v1")


def test_a_data_set_that_one_file_lacks_is_named(two_files):
    env = record_hdf5(counting_env(), two_files[1])
    play(env, [(1, None)], steps=1)
    env.close()
    left, right = two_files
    expected = (None, None, "data_set", (), nested.MISSING, "CountingEnv")
    assert_found(compare(left, right), expected)
    assert_found(compare(right, left), (*expected[:4], "CountingEnv", nested.MISSING))


def test_a_reader_can_be_compared_with_a_file(tmp_path):
    path = tmp_path / "recording.h5"
    recorded(HDF5Writer(path))
    assert compare(recorded(), path)
    assert compare(path, recorded())
    assert compare(HDF5Reader(path), path)
    assert not compare(path, recorded(reward=lambda env: 7.0))


def test_names_of_data_sets_do_not_matter_between_readers():
    assert compare(recorded(name="one"), recorded(name="other"))


def annotated(writer: Any, *values: float | None) -> Any:
    """Record an episode whose steps have these annotations."""
    env = RecordingWrapper(counting_env(length=len(values)), writer)
    env.reset()
    for value in values:
        if value is not None:
            env.annotate(value=value)
        env.step(0)
    env.close()
    return writer.reader() if isinstance(writer, MemoryWriter) else None


def test_annotations_are_compared_unless_they_are_ignored():
    left, right = annotated(MemoryWriter(), 0.5, None, 1.5), annotated(MemoryWriter(), 0.5, None, 2.5)
    assert compare(left, left)
    assert_found(compare(left, right), (0, 3, "annotations", ("value",), 1.5, 2.5))
    assert compare(left, right, ignore=("times", "annotations"))
    assert compare(left, right, tolerance=1.0)
    missing = annotated(MemoryWriter(), 0.5, 1.0, 1.5)
    assert_found(compare(left, missing), (0, 2, "annotations", (), None, {"value": 1.0}))


def test_copies_have_the_annotations(tmp_path):
    paths = [tmp_path / f"{number}.h5" for number in range(3)]
    annotated(HDF5Writer(paths[0]), 0.5, None, 1.5)
    memory = MemoryWriter()
    record_from_iter(memory, HDF5Reader(paths[0]))
    record_from_iter(HDF5Writer(paths[1]), memory.reader())
    assert salvage(paths[0], paths[2]).lost == {}
    for path in paths[1:]:
        assert compare(paths[0], path, ignore=())
        assert HDF5Reader(path)[0].annotations == ({"value": 0.5}, {}, {"value": 1.5})


class Forgetful(MemoryWriter):
    """A writer that keeps no annotations."""

    annotate = Writer.annotate


def test_annotations_are_not_lost_by_copying_to_who_keeps_none():
    with pytest.raises(RecordingError, match="Forgetful keeps no annotations"):
        record_from_iter(Forgetful(), annotated(MemoryWriter(), 0.5))
    record_from_iter(Forgetful(), recorded())


def test_what_was_not_recorded_by_the_env_is_not_compared(tmp_path):
    one = recorded()
    writer = MemoryWriter()
    record_from_iter(
        writer,
        one,
        Header(
            "other name", describe_space(BOX), describe_space(gymnasium.spaces.Discrete(4)), "other words"
        ),
    )
    outcome = compare(one, writer.reader(), ignore=())
    assert outcome, outcome


def test_readers_can_be_used_after_they_were_compared(tmp_path):
    path = tmp_path / "recording.h5"
    recorded(HDF5Writer(path))
    reader: Reader = HDF5Reader(path)
    assert compare(reader, reader)
    assert len(list(reader)) == 2


def test_a_file_that_is_not_there_is_a_clear_error(tmp_path):
    with pytest.raises(StorageError, match=r"absent.h5"):
        compare(tmp_path / "absent.h5", recorded())
