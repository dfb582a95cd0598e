"""get_dataset: a recording as flat arrays, against arrays that a plain loop collects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from envs import RESETS, Seen, all_real_envs, assert_same, both_libraries, counting_env, make, play, stack

import gymbag
from gymbag import HDF5Reader, MemoryWriter, PlaybackEnv, RecordingWrapper, get_dataset, record_hdf5
from gymbag.errors import DataSetNotFoundError, StorageError

KEYS = ["observations", "actions", "rewards", "terminals", "timeouts", "next_observations"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


def record(env: Any, path: Path, **options: Any) -> list[Seen]:
    env = record_hdf5(env, path)
    seen = play(env, **options)
    env.close()
    return seen


def in_memory(env: Any, **options: Any) -> Any:
    writer = MemoryWriter()
    env = RecordingWrapper(env, writer)
    play(env, **options)
    env.close()
    return writer.reader()


def collect(episodes: list[Seen]) -> dict[str, Any]:
    """Collect what a plain loop saw as D4RL does: a row for each step, cut episodes marked as timeouts."""
    rows: dict[str, list[Any]] = {key: [] for key in KEYS}
    for seen in episodes:
        for step, action in enumerate(seen.actions):
            last = step == len(seen.actions) - 1
            rows["observations"].append(seen.observations[step])
            rows["actions"].append(action)
            rows["rewards"].append(float(seen.rewards[step]))
            rows["terminals"].append(bool(last and seen.terminated))
            rows["timeouts"].append(bool(last and not seen.terminated))
            rows["next_observations"].append(seen.observations[step + 1])
    return {
        key: np.array(values) if key in ("rewards", "terminals", "timeouts") else stack(values)
        for key, values in rows.items()
    }


@all_real_envs
def test_the_arrays_are_those_a_plain_loop_collects(library, env_id, path):
    expected = collect(record(make(library, env_id), path))
    dataset = get_dataset(path)
    assert list(dataset) == KEYS
    assert_same(dataset, expected)


@all_real_envs
def test_file_reader_memory_and_replay_give_the_same(library, env_id, path):
    record(make(library, env_id), path)
    expected = get_dataset(path)
    reader = HDF5Reader(path)
    assert_same(get_dataset(str(path)), expected)
    assert_same(get_dataset(path, table=env_id), expected)
    assert_same(get_dataset(reader), expected)
    assert_same(reader.get_dataset(), expected)
    assert_same(PlaybackEnv(reader).get_dataset(), expected)
    assert_same(gymbag.for_gym.PlaybackEnv(reader).get_dataset(), expected)
    assert_same(in_memory(make(library, env_id)).get_dataset(), expected)


def test_numbers_may_be_asked_for_in_float32(path):
    expected = collect(record(make("gymnasium", "Pendulum-v1"), path))
    dataset = get_dataset(path, np.float32)
    for key, values in expected.items():
        as_float32 = values.astype(np.float32) if values.dtype.kind == "f" else values
        assert_same(dataset[key], as_float32)


def test_a_dtype_is_not_for_whole_numbers(path):
    record(make("gymnasium", "FrozenLake-v1"), path)
    dataset = get_dataset(path, np.float32)
    assert {key: dataset[key].dtype.name for key in KEYS} == {
        "observations": "int64",
        "actions": "int64",
        "rewards": "float32",
        "terminals": "bool",
        "timeouts": "bool",
        "next_observations": "int64",
    }


def test_images_stay_bytes(path):
    record(make("gymnasium", "ALE/Breakout-v5"), path, resets=RESETS[:1], steps=3)
    assert get_dataset(path, np.float32)["observations"].dtype == np.uint8


@pytest.mark.parametrize(
    ("length", "limit", "steps", "terminals", "timeouts"),
    [
        (2, 99, 99, [False, True], [False, False]),
        (99, 2, 99, [False, False], [False, True]),
        (2, 2, 99, [False, True], [False, False]),
        (99, 99, 2, [False, False], [False, True]),
    ],
    ids=["terminated", "truncated", "both", "unfinished"],
)
def test_how_an_episode_ended_shows_in_its_last_row(length, limit, steps, terminals, timeouts):
    env = gymnasium.wrappers.TimeLimit(counting_env(length=length), limit)
    dataset = in_memory(env, resets=[(None, None)] * 2, steps=steps).get_dataset()
    assert dataset["terminals"].tolist() == terminals * 2
    assert dataset["timeouts"].tolist() == timeouts * 2
    assert dataset["next_observations"].tolist() == [[1, 1], [2, 1], [1, 2], [2, 2]]


def test_episodes_without_steps_have_no_rows():
    writer = MemoryWriter()
    inner = counting_env()
    env = RecordingWrapper(inner, writer)
    for length in (0, 2, 0, 0, 1, 0):
        inner.length = length
        play(env, [(None, None)], steps=length)
    env.close()
    dataset = writer.reader().get_dataset()
    assert dataset["observations"].tolist() == [[0, 2], [1, 2], [0, 5]]
    assert dataset["next_observations"].tolist() == [[1, 2], [2, 2], [1, 5]]


@pytest.mark.parametrize("resets", [[], [(None, None)]], ids=["no reset", "no step"])
def test_an_empty_recording_gives_arrays_without_rows(resets, path):
    record(counting_env(), path, resets=resets, steps=0)
    dataset = get_dataset(path)
    assert list(dataset) == KEYS
    assert {key: values.shape for key, values in dataset.items()} == {
        "observations": (0, 2),
        "actions": (0,),
        "rewards": (0,),
        "terminals": (0,),
        "timeouts": (0,),
        "next_observations": (0, 2),
    }


def test_spaces_of_several_parts_give_arrays_of_the_same_form():
    box = gymnasium.spaces.Box(-9, 9, (2,))
    env = counting_env(
        length=2,
        observation_space=gymnasium.spaces.Dict(
            a=gymnasium.spaces.Tuple([box, gymnasium.spaces.Discrete(9)])
        ),
        observe=lambda env: {"a": (np.full(2, env.steps, "f4"), env.steps)},
    )
    dataset = in_memory(env, resets=[(None, None)] * 2).get_dataset(np.float64)
    assert_same(dataset["observations"], {"a": (np.array([[0, 0], [1, 1]] * 2, "f8"), np.array([0, 1] * 2))})
    assert_same(
        dataset["next_observations"], {"a": (np.array([[1, 1], [2, 2]] * 2, "f8"), np.array([1, 2] * 2))}
    )


def test_values_of_no_fixed_size_give_tuples():
    env = counting_env(
        length=2, observation_space=gymnasium.spaces.Text(9), observe=lambda env: "x" * (env.steps + 1)
    )
    dataset = in_memory(env, resets=[(None, None)] * 2).get_dataset()
    assert dataset["observations"] == ("x", "xx") * 2
    assert dataset["next_observations"] == ("xx", "xxx") * 2


# ---- Infos ----


def with_infos(*infos: dict[str, Any]) -> Any:
    """A recording of one episode with these infos, the reset's first."""
    env = counting_env(info=lambda env: infos[env.steps])
    return in_memory(env, resets=[(None, None)], steps=len(infos) - 1)


def test_infos_are_left_out_by_default():
    assert list(with_infos({"a": 1}, {"a": 2}).get_dataset()) == KEYS


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 2, 3], np.array([1, 2, 3])),
        ([True, False, True], np.array([True, False, True])),
        ([0.5, 1.5, float("nan")], np.array([0.5, 1.5, np.nan])),
        ([np.float32(1), np.float32(2), np.float32(3)], np.array([1, 2, 3], np.float32)),
        ([np.zeros(2), np.ones(2), np.ones(2)], np.array([[0, 0], [1, 1], [1, 1]], float)),
        (["a", "b", "c"], np.array(["a", "b", "c"], dtype=object)),
        ([1, None, "x"], np.array([1, None, "x"], dtype=object)),
    ],
    ids=["ints", "bools", "floats", "float32", "arrays", "strings", "mixed"],
)
def test_an_info_becomes_an_array_with_a_row_for_each_step(values, expected):
    reader = with_infos({"value": "of the reset"}, *({"value": value} for value in values))
    dataset = reader.get_dataset(infos=True)
    assert list(dataset) == [*KEYS, "infos/value"]
    assert_same(dataset["infos/value"], expected)


def test_where_an_info_is_missing_floats_are_nan_and_others_none():
    dataset = with_infos({}, {"float": 1.5, "array": np.ones(2)}, {"int": 3}, {}).get_dataset(infos=True)
    assert_same(dataset["infos/float"], np.array([1.5, np.nan, np.nan]))
    assert_same(dataset["infos/array"], np.array([[1, 1], [np.nan, np.nan], [np.nan, np.nan]]))
    assert_same(dataset["infos/int"], np.array([None, 3, None], dtype=object))


def test_arrays_of_different_shapes_are_kept_as_objects():
    dataset = with_infos({}, {"array": np.zeros(2)}, {"array": np.zeros(3)}).get_dataset(infos=True)
    assert dataset["infos/array"].dtype == object
    assert [array.shape for array in dataset["infos/array"]] == [(2,), (3,)]


def test_nested_infos_are_named_by_their_path():
    dataset = with_infos({}, {"a": {"b": 1, "c": {"d": 2}}}, {"a": {"b": 3, "c": {"d": 4}}}).get_dataset(
        infos=True
    )
    assert dataset["infos/a/b"].tolist() == [1, 3]
    assert dataset["infos/a/c/d"].tolist() == [2, 4]


@pytest.mark.parametrize("infos", [["b"], ("b",), {"b"}], ids=repr)
def test_infos_may_be_chosen_by_their_keys(infos):
    dataset = with_infos({}, {"a": 1, "b": 2}, {"a": 3, "b": 4}).get_dataset(infos=infos)
    assert list(dataset) == [*KEYS, "infos/b"]
    assert dataset["infos/b"].tolist() == [2, 4]


def test_a_nested_info_may_be_chosen_by_its_path():
    dataset = with_infos({}, {"a": {"b": 1, "c": 2}}).get_dataset(infos=["a/b"])
    assert list(dataset) == [*KEYS, "infos/a/b"]


def test_a_single_key_is_not_taken_letter_by_letter():
    reader = with_infos({}, {"lives": 3, "l": 1})
    with pytest.raises(TypeError, match="'lives'"):
        reader.get_dataset(infos="lives")


@both_libraries
def test_the_infos_of_a_real_env_are_those_a_loop_saw(library, path):
    seen = record(make(library, "FrozenLake-v1"), path)
    expected = [info["prob"] for episode in seen for info in episode.infos[1:]]
    assert_same(get_dataset(path, infos=True)["infos/prob"], np.array(expected))
    assert_same(get_dataset(path, infos=["prob"])["infos/prob"], np.array(expected))


# ---- Which recording ----


def test_of_several_data_sets_one_has_to_be_named(path):
    record(make("gymnasium", "CartPole-v1"), path)
    seen = record(make("gymnasium", "FrozenLake-v1"), path)
    with pytest.raises(DataSetNotFoundError, match="table="):
        get_dataset(path)
    assert_same(get_dataset(path, table="FrozenLake-v1"), collect(seen))


def test_a_file_that_is_not_there_is_a_clear_error(path):
    with pytest.raises(StorageError, match=r"recording\.h5"):
        get_dataset(path)


def test_the_arrays_are_the_caller_s_own(path):
    record(make("gymnasium", "CartPole-v1"), path)
    reader = HDF5Reader(path)
    before, changed = reader.get_dataset(), reader.get_dataset()
    for values in changed.values():
        values[:] = 0
    assert_same(reader.get_dataset(), before)
    assert_same(in_memory(make("gymnasium", "CartPole-v1")).get_dataset(), before)


def test_the_arrays_of_a_recording_in_memory_are_the_caller_s_own():
    reader = in_memory(make("gymnasium", "CartPole-v1"))
    before, changed = reader.get_dataset(), reader.get_dataset()
    for values in changed.values():
        values[:] = 0
    assert_same(reader.get_dataset(), before)
