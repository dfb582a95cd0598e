"""Recording: what is read back is what happened, and the env and its loop notice nothing."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import itertools
import os
import pickle
import signal
import subprocess
import sys
import time
import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from importlib import metadata as package_metadata
from pathlib import Path
from typing import Any

import gym
import gymnasium
import numpy as np
import pytest
from envs import (
    LIBRARIES,
    REAL_ENVS,
    RESETS,
    all_real_envs,
    assert_episode_is,
    assert_recorded,
    assert_same,
    both_libraries,
    checker_opinions,
    counting_env,
    make,
    play,
)
from gym.utils import env_checker as gym_checker
from gymnasium.utils import env_checker as gymnasium_checker

import gymbag
from gymbag import HDF5Reader, HDF5Writer, MemoryWriter, RecordingWrapper, record_hdf5
from gymbag.errors import (
    DamagedFileError,
    FileInUseError,
    GymbagError,
    RecordingError,
    SpaceError,
    StorageError,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


def record_in_memory(env: Any, **options: Any) -> tuple[Any, MemoryWriter]:
    writer = MemoryWriter()
    return RecordingWrapper(env, writer, **options), writer


def ticking_clock(start: float = 1_700_000_000.0) -> Any:
    """A clock that advances by 0.25 s each time it is looked at."""
    return itertools.count(start, 0.25).__next__


def dict_of(space: Any, library: str) -> Any:
    return LIBRARIES[library].spaces.Dict(a=space, b=space)


def pass_info(info: Any) -> dict[str, Any]:
    """Change a counting env to give this info."""
    return {"info": lambda env: info}


# ---- What is read back ----


@all_real_envs
def test_a_recording_equals_what_a_plain_loop_saw(library, env_id, path):
    seen = play(make(library, env_id))
    env = record_hdf5(make(library, env_id), path)
    played = play(env)
    env.close()
    with HDF5Reader(path) as reader:
        assert_recorded(reader, played)
        assert_recorded(reader, seen)
        assert reader.nsteps == sum(len(episode.actions) for episode in seen)


@all_real_envs
def test_memory_holds_the_same_as_a_file(library, env_id):
    env, writer = record_in_memory(make(library, env_id))
    seen = play(env)
    env.close()
    assert_recorded(writer.reader(), seen)


@pytest.mark.parametrize(("library", "env_id"), [pair for pair in REAL_ENVS if pair[0] == "gym"])
def test_gym_envs_with_their_checker_can_be_recorded(library, env_id, path):
    # The checker of gym 0.26 crashes on NumPy 2 at the first step, unless the wrapper spares it.
    env = record_hdf5(gym.make(env_id), path)
    seen = play(env)
    env.close()
    assert_recorded(HDF5Reader(path), seen)


@all_real_envs
def test_spaces_are_read_back_as_the_library_s_own(library, env_id, path):
    env = record_hdf5(make(library, env_id), path)
    play(env, RESETS[:1], steps=1)
    env.close()
    reader = HDF5Reader(path)
    assert reader.observation_space == env.observation_space
    assert reader.action_space == env.action_space
    assert type(reader.observation_space) is type(env.observation_space)


@both_libraries
def test_times_are_those_at_which_reset_and_step_returned(library, path):
    env = RecordingWrapper(counting_env(library), HDF5Writer(path), clock=ticking_clock())
    play(env, RESETS[:2], steps=3)
    env.close()
    first, second = HDF5Reader(path)
    assert_same(first.times, 1_700_000_000.0 + np.array([0.0, 0.25, 0.5, 0.75]))
    assert_same(second.times, 1_700_000_001.0 + np.array([0.0, 0.25, 0.5, 0.75]))


def test_times_are_unix_times_by_default(path):
    before = time.time()
    env = record_hdf5(counting_env(), path)
    play(env, RESETS[:1], steps=3)
    env.close()
    times = HDF5Reader(path)[0].times
    assert before <= times.min()
    assert times.max() <= time.time()


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63, 2**100, np.int64(7), np.uint32(9)])
def test_seeds_are_kept_with_their_type(seed):
    env, writer = record_in_memory(counting_env())
    env.reset(seed=seed)
    env.close()
    found = writer.reader()[0].seed
    assert found == seed
    assert type(found) is type(seed)


def test_options_are_kept_with_their_types(path):
    options = {
        "low": -0.5,
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "scalar": np.float32(0.1),
        "nested": {"tuple": (1, "two", None, True), "bytes": b"\x00\xff", 3: float("nan")},
    }
    env = record_hdf5(counting_env(), path)
    env.reset(options=options)
    env.reset(options={})
    env.reset()
    env.close()
    given, empty, absent = HDF5Reader(path)
    assert_same(given.options, options)
    assert empty.options == {}
    assert absent.options is None


@all_real_envs
def test_the_spec_is_kept_as_json_values(library, env_id, path):
    env = make(library, env_id)
    recorded = record_hdf5(env, path)
    play(recorded, RESETS[:1], steps=1)
    recorded.close()
    spec = HDF5Reader(path).header.spec
    assert spec["id"] == env_id
    assert spec["max_episode_steps"] == env.spec.max_episode_steps
    assert spec["kwargs"] == env.spec.kwargs
    assert set(spec) == {field.name for field in dataclasses.fields(env.spec)}


@both_libraries
def test_what_of_a_spec_cannot_be_stored_is_kept_in_words(library, path):
    env = make(library, "CartPole-v1")
    env.unwrapped.spec = copy.copy(env.unwrapped.spec)
    env.unwrapped.spec.kwargs = {"reward_function": len, "angle": 0.5}
    recorded = record_hdf5(env, path)
    recorded.reset()
    recorded.close()
    spec = HDF5Reader(path).header.spec
    assert spec["id"] == "CartPole-v1"
    assert spec["kwargs"] == {"reward_function": repr(len), "angle": 0.5}


@both_libraries
def test_an_env_without_a_spec_is_named_after_its_class(library, path):
    env = record_hdf5(counting_env(library), path)
    env.reset()
    env.close()
    reader = HDF5Reader(path)
    assert reader.name == "CountingEnv"
    assert reader.header.spec is None


@all_real_envs
def test_a_data_set_is_named_after_the_spec(library, env_id, path):
    env = record_hdf5(make(library, env_id), path)
    env.close()
    assert gymbag.list_datasets(path) == {env_id: ""}


def test_the_user_s_words_are_kept(path):
    metadata = {"policy": "random", "weights": np.eye(2), "nested": {"lr": 1e-3}}
    env = record_hdf5(counting_env(), path, "from the test — ünïcode", name="group/my env", metadata=metadata)
    env.reset()
    env.close()
    reader = HDF5Reader(path, "group/my env")
    assert (reader.name, reader.description) == ("group/my env", "from the test — ünïcode")
    assert_same(reader.header.metadata, metadata)


def test_versions_of_all_that_took_part_are_kept(path):
    env = record_hdf5(counting_env(), path)
    env.close()
    versions = HDF5Reader(path).header.versions
    assert versions["gymbag"] == gymbag.__version__
    for package in ("gymnasium", "gym", "numpy", "h5py", "ale-py"):
        assert versions[package] == package_metadata.version(package)


@both_libraries
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_floats_keep_every_bit(library, dtype, path):
    info = np.finfo(dtype)
    odd = np.array(
        [np.nan, np.inf, -np.inf, -0.0, 0.0, info.smallest_subnormal, -info.smallest_subnormal, info.max],
        dtype=dtype,
    )
    space = LIBRARIES[library].spaces.Box(-np.inf, np.inf, (8,), dtype)
    env = counting_env(
        library,
        observation_space=space,
        action_space=space,
        observe=lambda env: np.roll(odd, env.steps),
        reward=lambda env: float(odd[env.steps]),
    )
    recorded = record_hdf5(env, path)
    actions = iter([np.roll(odd, -shift) for shift in range(8)])
    seen = play(recorded, RESETS[:1], steps=7, choose=actions.__next__)
    recorded.close()
    assert_recorded(HDF5Reader(path), seen)


def test_a_nan_s_payload_is_kept(path):
    payload = np.array([0x7FC12345, 0xFFC00001], dtype=np.uint32).view(np.float32)
    env = record_hdf5(counting_env(observe=lambda env: payload.copy()), path)
    seen = play(env, RESETS[:1], steps=2)
    env.close()
    assert_recorded(HDF5Reader(path), seen)


# ---- What envs do, and should not or need not ----


@both_libraries
def test_an_env_may_reuse_its_observation_buffer(library, path):
    buffer = np.zeros(2, dtype=np.float32)

    def observe(env: Any) -> np.ndarray:
        buffer[:] = env.steps, env.resets
        return buffer

    env = record_hdf5(counting_env(library, observe=observe), path)
    play(env, RESETS[:2], steps=3)
    env.close()
    first, second = HDF5Reader(path)
    assert first.observations.tolist() == [[0, 1], [1, 1], [2, 1], [3, 1]]
    assert second.observations.tolist() == [[0, 2], [1, 2], [2, 2], [3, 2]]


def test_an_env_may_reuse_a_nested_buffer_and_its_info(path):
    space = gymnasium.spaces.Dict(x=gymnasium.spaces.Box(0, 9, (1,)))
    buffer: dict[str, Any] = {"x": np.zeros(1, dtype=np.float32)}
    info: dict[str, Any] = {"array": np.zeros(1), "list": []}

    def observe(env: Any) -> dict[str, Any]:
        buffer["x"][0] = env.steps
        return buffer

    def inform(env: Any) -> dict[str, Any]:
        info["array"][0] = env.steps
        info["list"].append(env.steps)
        return info

    env = record_hdf5(counting_env(observation_space=space, observe=observe, info=inform), path)
    play(env, RESETS[:1], steps=2)
    env.close()
    (episode,) = HDF5Reader(path)
    assert episode.observations["x"].tolist() == [[0], [1], [2]]
    assert [info["array"].tolist() for info in episode.infos] == [[0], [1], [2]]
    assert [info["list"] for info in episode.infos] == [[0], [0, 1], [0, 1, 2]]


@both_libraries
def test_an_env_may_change_the_action_it_is_given(library, path):
    space = LIBRARIES[library].spaces.Box(-1, 1, (2,))

    def clip(env: Any) -> None:
        env.action *= 0

    env = record_hdf5(counting_env(library, action_space=space, on_step=clip), path)
    env.reset()
    env.step(np.array([0.5, -0.25], dtype=np.float32))
    env.close()
    assert HDF5Reader(path)[0].actions.tolist() == [[0.5, -0.25]]


@both_libraries
def test_an_env_may_change_a_nested_action_it_is_given(library):
    space = dict_of(LIBRARIES[library].spaces.Box(-1, 1, (1,)), library)

    def spoil(env: Any) -> None:
        env.action["a"][0] = 9
        del env.action["b"]

    env, writer = record_in_memory(counting_env(library, action_space=space, on_step=spoil))
    env.reset()
    env.step({"a": np.array([0.5], np.float32), "b": np.array([0.25], np.float32)})
    env.close()
    assert_same(writer.reader()[0].actions, {"a": np.array([[0.5]], "f4"), "b": np.array([[0.25]], "f4")})


def test_an_env_may_change_the_options_it_is_given(path):
    def take(env: Any) -> None:
        env.options["bounds"][0] = 99
        env.options["list"].append(1)
        env.options.pop("gone")

    env = record_hdf5(counting_env(on_reset=take), path)
    env.reset(options={"bounds": np.zeros(2), "list": [], "gone": "here"})
    env.close()
    assert_same(HDF5Reader(path)[0].options, {"bounds": np.zeros(2), "list": [], "gone": "here"})


def test_a_loop_may_change_what_it_was_given_and_what_it_gave():
    env, writer = record_in_memory(counting_env(action_space=gymnasium.spaces.Box(-1, 1, (1,))))
    observation, info = env.reset()
    observation[:], info["new"] = 99, 1
    action = np.array([0.5], np.float32)
    observation, _, _, _, info = env.step(action)
    observation[:], info["new"], action[:] = 99, 1, 99
    env.close()
    (episode,) = writer.reader()
    assert episode.observations.tolist() == [[0, 1], [1, 1]]
    assert episode.actions.tolist() == [[0.5]]
    assert episode.infos == ({}, {})


@both_libraries
def test_float64_under_a_float32_space_stays_float64(library, path):
    env = record_hdf5(counting_env(library, observe=lambda env: np.array([0.1, env.steps])), path)
    seen = play(env, RESETS[:1], steps=3)
    env.close()
    assert_recorded(HDF5Reader(path), seen)
    assert HDF5Reader(path)[0].observations.dtype == np.float64


@both_libraries
def test_a_reset_in_float32_before_steps_in_float64_loses_nothing(library, path):
    def observe(env: Any) -> np.ndarray:
        return np.full(2, 0.1, dtype=np.float64 if env.steps else np.float32)

    env = record_hdf5(counting_env(library, observe=observe), path)
    play(env, RESETS[:2], steps=2)
    env.close()
    for episode in HDF5Reader(path):
        assert episode.observations[:, 0].tolist() == [float(np.float32(0.1)), 0.1, 0.1]


def test_resetting_twice_does_not_fix_the_dtype_of_the_steps(path):
    # Loops often reset once more before they begin, as vector envs and checkers do.
    def observe(env: Any) -> np.ndarray:
        return np.full(2, 0.1, dtype=np.float64 if env.steps else np.float32)

    env = record_hdf5(counting_env(observe=observe), path)
    env.reset()
    play(env, RESETS[:1], steps=2)
    env.close()
    _, episode = HDF5Reader(path)
    assert episode.observations[:, 0].tolist() == [float(np.float32(0.1)), 0.1, 0.1]


def test_whole_numbers_at_first_do_not_forbid_fractions_later(path):
    def observe(env: Any) -> np.ndarray:
        return np.array([0, 0]) if env.steps < 2 else np.array([0.5, 0.25], np.float32)

    env = record_hdf5(counting_env(observe=observe), path)
    play(env, RESETS[:1], steps=3)
    env.close()
    assert HDF5Reader(path)[0].observations.tolist() == [[0, 0], [0, 0], [0.5, 0.25], [0.5, 0.25]]


@pytest.mark.parametrize("first", [[0], np.array([0]), np.array([1], np.int8)], ids=repr)
def test_an_action_of_whole_numbers_does_not_forbid_fractions_later(first, path):
    env = record_hdf5(make("gymnasium", "Pendulum-v1"), path)
    env.reset()
    env.step(first)
    env.step(np.array([0.1], np.float32))
    env.close()
    assert HDF5Reader(path)[0].actions[:, 0].tolist() == [first[0], float(np.float32(0.1))]


@both_libraries
@pytest.mark.parametrize(
    "reward",
    [3, np.float32(0.1), np.float64(0.1), np.int64(-2), True, np.array(0.5), np.array(7, dtype=np.int8)],
    ids=repr,
)
def test_rewards_may_be_any_one_number(library, reward, path):
    env = record_hdf5(counting_env(library, reward=lambda env: reward), path)
    env.reset()
    result = env.step(0)
    env.close()
    assert result[1] is reward
    assert_same(HDF5Reader(path)[0].rewards, np.array([float(reward)]))


@pytest.mark.parametrize("reward", [np.ones(2), "1", None, {"a": 1.0}], ids=repr)
def test_a_reward_that_is_not_one_number_is_an_error_at_that_step(reward, path):
    env = record_hdf5(counting_env(reward=lambda env: reward if env.steps == 2 else 1.0), path)
    env.reset()
    env.step(0)
    with pytest.raises(SpaceError, match="expected a reward that is one number"):
        env.step(0)
    env.close()
    assert len(HDF5Reader(path)[0]) == 1


@pytest.mark.parametrize("flag", [np.bool_(True), 1, np.array(True)], ids=repr)
def test_flags_may_be_any_truth_value(flag, path):
    class Env(gymnasium.Wrapper):
        def step(self, action: Any) -> Any:
            observation, reward, _, _, info = self.env.step(action)
            return observation, reward, flag, np.bool_(False), info

    env = record_hdf5(Env(counting_env()), path)
    env.reset()
    assert env.step(0)[2] is flag
    env.close()
    (episode,) = HDF5Reader(path)
    assert (episode.terminated, episode.truncated) == (True, False)


@both_libraries
@pytest.mark.parametrize(
    "info",
    [
        {},
        {"none": None, "nan": float("nan"), "text": "ünï\udcff", "bytes": b"\x00", "big": 2**80},
        {"array": np.zeros((0, 3)), "text array": np.array(["a", "bc"]), "bool": np.bool_(True)},
        {"objects": np.array([None, "x", 1.5], dtype=object), "time": np.datetime64("2026-01-01")},
        {"nested": {"dict": {"list": [1, (2, [3])]}}, 5: "int key", (1, "a"): "tuple key"},
        {"$array": "a key that looks like gymbag's own", "": "an empty key", "a/b": 1, ".": 2},
        {"complex": 1 - 2j, "structured": np.zeros(2, dtype=[("x", "f4"), ("y", "i2", (3,))])},
    ],
    ids=lambda info: "+".join(map(str, info)) or "empty",
)
def test_infos_are_kept_with_their_types(library, info, path):
    env = record_hdf5(counting_env(library, **pass_info(info)), path)
    play(env, RESETS[:1], steps=2)
    env.close()
    for found in HDF5Reader(path)[0].infos:
        assert_same(found, info)


def test_an_info_may_be_none(path):
    # As old gym envs have it.
    env = record_hdf5(counting_env("gym", **pass_info(None)), path)
    seen = play(env, RESETS[:1], steps=2)
    env.close()
    assert seen[0].infos == [None, None, None]
    assert HDF5Reader(path)[0].infos == ({}, {}, {})


@pytest.mark.parametrize(
    "info", [types.MappingProxyType({"a": 1}), OrderedDict(a=1)], ids=lambda info: type(info).__name__
)
def test_an_info_may_be_any_mapping(info, path):
    env = record_hdf5(counting_env(**pass_info(info)), path)
    play(env, RESETS[:1], steps=3)  # from the second step on of a kind that is known
    env.close()
    assert HDF5Reader(path)[0].infos == ({"a": 1},) * 4


@pytest.mark.parametrize("info", ["text", [1, 2], 7, np.zeros(3)], ids=repr)
def test_an_info_that_is_no_mapping_is_a_clear_error(info, path):
    env = record_hdf5(counting_env(info=lambda env: info if env.steps == 2 else {}), path)
    env.reset()
    env.step(0)
    with pytest.raises(GymbagError, match="info"):
        env.step(0)
    env.reset()
    env.close()
    assert [len(episode) for episode in HDF5Reader(path)] == [1, 0]


def test_what_an_info_cannot_hold_is_left_out_with_a_warning_once_for_each_key(path):
    info = {"kept": 1, "function": len, "nested": {"kept": 2, "module": sys}}
    env = record_hdf5(counting_env(**pass_info(info)), path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        play(env, RESETS[:2], steps=3)
    env.close()
    assert [str(warning.message).partition(" is ")[0] for warning in caught] == [
        "info['function']",
        "info['nested']['module']",
    ]
    assert {warning.category for warning in caught} == {gymbag.UnstorableInfoWarning}
    for episode in HDF5Reader(path):
        assert episode.infos == ({"kept": 1, "nested": {"kept": 2}},) * 4


def test_options_that_cannot_be_stored_are_left_out_with_a_warning(path):
    env = record_hdf5(counting_env(), path)
    with pytest.warns(gymbag.UnstorableInfoWarning, match=r"options.*callback.*builtin"):
        env.reset(options={"callback": len, "kept": 1})
    env.close()
    assert HDF5Reader(path)[0].options == {"kept": 1}


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (True, ["lives", "frame", "image"]),
        (False, []),
        (["lives", "frame"], ["lives", "frame"]),
        (("frame",), ["frame"]),
        (["absent"], []),
        ([], []),
    ],
    ids=repr,
)
def test_infos_are_recorded_as_chosen(choice, kept, path):
    info = {"lives": 3, "frame": 7, "image": np.zeros(3)}
    env = record_hdf5(counting_env(**pass_info(info)), path, info=choice)
    seen = play(env, RESETS[:1], steps=2)
    env.close()
    assert all(given is info for given in seen[0].infos)  # the loop gets all of it
    assert [list(found) for found in HDF5Reader(path)[0].infos] == [kept] * 3


def test_infos_are_chosen_by_a_list_of_keys_not_by_a_string(path):
    with pytest.raises(TypeError, match="found the string 'lives'"):
        record_hdf5(counting_env(), path, info="lives")
    assert not path.exists()


def test_a_reset_that_accepts_no_arguments_can_be_recorded(path):
    class Env(gymnasium.Wrapper):
        def reset(self) -> Any:  # type: ignore[override]
            return self.env.reset()

    env = record_hdf5(Env(counting_env()), path)
    env.reset()
    env.step(0)
    env.reset()
    env.close()
    assert [len(episode) for episode in HDF5Reader(path)] == [1, 0]


@both_libraries
def test_an_error_in_step_passes_through_and_what_was_before_is_kept(library, path):
    def fail(env: Any) -> None:
        if env.steps == 3 and env.resets == 1:
            raise ZeroDivisionError("in the env")

    env = record_hdf5(counting_env(library, on_step=fail), path)
    env.reset()
    env.step(1)
    env.step(2)
    with pytest.raises(ZeroDivisionError, match="in the env"):
        env.step(3)
    env.reset()
    env.step(0)
    env.close()
    first, second = HDF5Reader(path)
    assert (first.actions.tolist(), first.finished) == ([1, 2], False)
    assert first.observations.tolist() == [[0, 1], [1, 1], [2, 1]]
    assert second.actions.tolist() == [0]


@both_libraries
def test_an_error_in_reset_passes_through_and_what_was_before_is_kept(library, path):
    def fail(env: Any) -> None:
        if env.resets == 2:
            raise ZeroDivisionError("in the env")

    env = record_hdf5(counting_env(library, on_reset=fail), path)
    env.reset(seed=1)
    env.step(1)
    with pytest.raises(ZeroDivisionError, match="in the env"):
        env.reset(seed=2)
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    env.reset(seed=3)
    env.step(2)
    env.close()
    first, second = HDF5Reader(path)
    assert (first.seed, first.actions.tolist(), first.finished) == (1, [1], False)
    assert (second.seed, second.actions.tolist()) == (3, [2])


@pytest.mark.parametrize("failing_step", [1, 2, 3])
@pytest.mark.parametrize(
    "bad",
    [np.zeros(3, np.float32), np.zeros((2, 2), np.float32), "text", None, {"a": 1}],
    ids=["longer", "square", "text", "None", "dict"],
)
def test_an_observation_of_the_wrong_form_is_an_error_at_that_step(bad, failing_step, path):
    def observe(env: Any) -> Any:
        if env.steps == failing_step and env.resets == 1:
            return bad
        return np.array([env.steps, env.resets], np.float32)

    env = record_hdf5(counting_env(observe=observe), path)
    env.reset()
    for _ in range(failing_step - 1):
        env.step(1)
    with pytest.raises(SpaceError, match="expected"):
        env.step(3)
    with pytest.raises(RecordingError, match="reset"):
        env.step(0)  # the step that is missing cut the episode
    seen = play(env, RESETS[:2], steps=2)
    env.close()
    cut, *after = HDF5Reader(path)
    assert (cut.actions.tolist(), cut.finished) == ([1] * (failing_step - 1), False)
    assert cut.observations.tolist() == [[step, 1] for step in range(failing_step)]
    assert_recorded(after, seen)


@pytest.mark.parametrize("failing_reset", [1, 2])
def test_an_observation_of_the_wrong_form_is_an_error_at_that_reset(failing_reset, path):
    def observe(env: Any) -> Any:
        wrong = env.resets == failing_reset and env.steps == 0
        return np.zeros(3 if wrong else 2, np.float32)

    env = record_hdf5(counting_env(observe=observe), path)
    for _ in range(failing_reset - 1):
        env.reset()
        env.step(1)
    with pytest.raises(SpaceError, match=r"shape \(2,\).*\(3,\)"):
        env.reset()
    with pytest.raises(RecordingError, match="reset"):
        env.step(0)
    env.reset()
    env.step(2)
    env.close()
    assert [episode.actions.tolist() for episode in HDF5Reader(path)] == [[1]] * (failing_reset - 1) + [[2]]


@pytest.mark.parametrize("bad", ["left", 0.5, None, 2**70, np.array([1, 2])], ids=repr)
def test_an_action_of_the_wrong_form_is_an_error_and_leaves_what_was_before(bad, path):
    env = record_hdf5(counting_env(), path)
    env.reset()
    env.step(1)
    with pytest.raises(SpaceError, match="expected"):
        env.step(bad)
    env.reset()
    env.step(2)
    env.close()
    assert [episode.actions.tolist() for episode in HDF5Reader(path)] == [[1], [2]]


def test_a_custom_space_nobody_registered_is_an_error_before_anything_is_written(path):
    class Angle(gymnasium.spaces.Box):
        pass

    env = counting_env(observation_space=Angle(-1, 1, (2,)))
    with pytest.raises(SpaceError, match=r"Angle.*register_space"):
        record_hdf5(env, path)
    assert not path.exists()
    assert env.resets == 0


def test_metadata_that_cannot_be_stored_is_an_error_before_anything_is_written(path):
    with pytest.raises(GymbagError):
        record_hdf5(counting_env(), path, metadata={"function": len})
    assert not path.exists()


def test_metadata_that_cannot_be_stored_leaves_an_existing_file_as_it_was(path):
    record_hdf5(counting_env(), path, name="before").close()
    before = path.read_bytes()
    with pytest.raises(GymbagError):
        record_hdf5(counting_env(), path, name="new", metadata={"function": len})
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "thing",
    ["CartPole-v1", None, 3, object(), np.zeros(3), gymnasium.spaces.Discrete(2), gym.spaces.Discrete(2)],
    ids=lambda thing: f"{type(thing).__module__}.{type(thing).__name__}",
)
def test_what_is_no_env_is_a_clear_error(thing, path):
    with pytest.raises((GymbagError, TypeError), match=r"(?i)expected .*\benv"):
        record_hdf5(thing, path)
    assert not path.exists()


def test_a_class_in_place_of_an_env_is_a_clear_error(path):
    with pytest.raises((GymbagError, TypeError), match=r"(?i)expected .*\benv"):
        record_hdf5(gymnasium.Env, path)
    assert not path.exists()


# ---- When which call is allowed ----


@both_libraries
def test_step_before_reset_is_an_error_and_the_env_is_not_touched(library):
    env, writer = record_in_memory(counting_env(library))
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    assert env.unwrapped.steps == 0
    env.close()
    assert len(writer.reader()) == 0


@both_libraries
def test_step_after_the_end_is_an_error_and_the_env_is_not_touched(library):
    env, writer = record_in_memory(counting_env(library, length=2))
    env.reset()
    env.step(0)
    env.step(0)
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    assert env.unwrapped.steps == 2
    env.reset()
    env.step(0)
    env.close()
    assert [len(episode) for episode in writer.reader()] == [2, 1]


@both_libraries
def test_after_close_the_recording_is_closed(library):
    env, writer = record_in_memory(counting_env(library))
    env.reset()
    env.close()
    with pytest.raises(RecordingError, match="closed"):
        env.step(0)
    with pytest.raises(RecordingError, match="closed"):
        env.reset()
    assert env.unwrapped.resets == 1
    env.close()
    assert len(writer.reader()) == 1


def test_close_closes_the_env(path):
    env = record_hdf5(counting_env(), path)
    env.close()
    assert env.unwrapped.closed


def test_a_with_block_closes_the_recording(path):
    with record_hdf5(make("gymnasium", "CartPole-v1"), path) as env:
        seen = play(env, RESETS[:1])
    assert_recorded(HDF5Reader(path), seen)


@both_libraries
def test_an_episode_cut_by_reset_or_close_is_unfinished(library, path):
    env = record_hdf5(counting_env(library, length=3), path)
    play(env, [(None, None)] * 3, steps=2)
    play(env, [(None, None)])
    env.reset()
    env.close()
    endings = [(len(episode), episode.ending, episode.finished) for episode in HDF5Reader(path)]
    assert endings == [(2, "unfinished", False)] * 3 + [(3, "terminated", True), (0, "unfinished", False)]


@both_libraries
def test_an_episode_cut_by_a_time_limit_is_truncated(library, path):
    inner = LIBRARIES[library].wrappers.TimeLimit(counting_env(library, length=3), max_episode_steps=2)
    env = record_hdf5(inner, path)
    play(env, RESETS[:1])
    env.close()
    assert HDF5Reader(path)[0].ending == "truncated"


def test_an_episode_may_be_terminated_and_truncated_at_once(path):
    inner = gymnasium.wrappers.TimeLimit(counting_env(length=2), max_episode_steps=2)
    env = record_hdf5(inner, path)
    play(env, RESETS[:1])
    env.close()
    (episode,) = HDF5Reader(path)
    assert (episode.terminated, episode.truncated, episode.ending) == (
        True,
        True,
        "terminated and truncated",
    )


# ---- The wrapper is a wrapper ----


@both_libraries
def test_the_wrapper_is_one_of_the_env_s_library_and_of_gymbag(library):
    env, _ = record_in_memory(make(library, "CartPole-v1"))
    other = "gym" if library == "gymnasium" else "gymnasium"
    assert isinstance(env, LIBRARIES[library].Env)
    assert isinstance(env, LIBRARIES[library].Wrapper)
    assert isinstance(env, gymbag.RecordingWrapper)
    assert not isinstance(env, LIBRARIES[other].Env)


def test_arguments_may_be_named(path):
    env = RecordingWrapper(writer=HDF5Writer(path), env=counting_env())
    assert isinstance(env, gymnasium.Wrapper)
    env.close()


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
@checker_opinions
def test_gymnasium_s_check_env_passes(env_id, path):
    env = record_hdf5(gymnasium.make(env_id), path)
    gymnasium_checker.check_env(env, skip_render_check=True)
    env.close()
    assert len(HDF5Reader(path)) > 5


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
@checker_opinions
def test_gym_s_check_env_passes(env_id, path, monkeypatch):
    # The checker itself needs the name that NumPy 2 has dropped.
    monkeypatch.setattr(np, "bool8", np.bool_, raising=False)
    env = record_hdf5(gym.make(env_id), path)
    gym_checker.check_env(env)
    env.close()
    assert len(HDF5Reader(path)) > 5


@both_libraries
def test_results_are_passed_through_as_they_are(library):
    class Env(LIBRARIES[library].Wrapper):
        def reset(self, **arguments: Any) -> Any:
            self.arguments = arguments
            self.result = self.env.reset(**arguments)
            return self.result

        def step(self, action: Any) -> Any:
            self.action, self.result = action, self.env.step(action)
            return self.result

    inner = Env(counting_env(library))
    env, _ = record_in_memory(inner)
    assert env.reset() is inner.result
    assert inner.arguments == {}
    options = {"a": 1}
    assert env.reset(seed=3, options=options) is inner.result
    assert inner.arguments == {"seed": 3, "options": options}
    action = np.int64(2)
    assert env.step(action) is inner.result
    assert inner.action is action


@both_libraries
def test_what_the_wrapper_does_not_have_is_the_env_s(library):
    inner = make(library, "CartPole-v1")
    env, _ = record_in_memory(inner)
    assert env.unwrapped is inner.unwrapped
    assert env.env is inner
    assert env.spec is inner.spec
    assert env.metadata is inner.metadata
    assert env.render_mode is None
    assert env.observation_space is inner.observation_space
    assert env.action_space is inner.action_space
    assert env.np_random is inner.unwrapped.np_random
    if library == "gym":  # gymnasium's wrappers hide the attributes of what they wrap
        assert env.theta_threshold_radians == inner.unwrapped.theta_threshold_radians
    with pytest.raises(AttributeError):
        env.no_such_attribute  # noqa: B018 - the look-up is the test
    with pytest.raises(AttributeError):
        env._private  # noqa: B018


@both_libraries
def test_attributes_of_the_env_are_to_be_had_from_the_wrapper(library):
    env, _ = record_in_memory(counting_env(library, length=5))
    assert env.length == 5
    env.reset()
    assert (env.steps, env.resets) == (0, 1)


def test_gymnasium_s_wrapper_attributes_reach_the_env():
    inner = make("gymnasium", "CartPole-v1")
    env, _ = record_in_memory(inner)
    assert env.get_wrapper_attr("theta_threshold_radians") == inner.unwrapped.theta_threshold_radians
    env.set_wrapper_attr("gravity", 1.5)
    assert inner.unwrapped.gravity == 1.5
    assert env.get_wrapper_attr("gravity") == 1.5
    env.reset()
    assert env.has_wrapper_attr("state")
    assert not env.has_wrapper_attr("no_such_attribute")


def test_a_wrapper_outside_sets_attributes_of_the_env_through_the_recording():
    inner = counting_env()
    recorded, writer = record_in_memory(inner)
    outer = gymnasium.wrappers.TimeLimit(recorded, 5)
    outer.set_wrapper_attr("length", 2)
    assert inner.length == 2
    play(outer, RESETS[:1])
    outer.close()
    assert writer.reader()[0].ending == "terminated"


def test_rendering_is_the_env_s():
    env, _ = record_in_memory(make("gymnasium", "ALE/Breakout-v5", render_mode="rgb_array"))
    observation, _ = env.reset(seed=1)
    assert env.render_mode == "rgb_array"
    assert_same(env.render(), observation)
    env.close()


@both_libraries
def test_text_rendering_is_the_env_s(library):
    env, _ = record_in_memory(make(library, "FrozenLake-v1", render_mode="ansi"))
    env.reset(seed=1)
    assert env.render() == env.unwrapped.render()
    assert "SFFF" in env.render().replace("\x1b[41m", "").replace("\x1b[0m", "")


def test_an_env_made_from_the_wrapper_s_spec_does_not_record(path):
    env = record_hdf5(make("gymnasium", "CartPole-v1"), path)
    env.reset()
    made = env.spec.make()
    assert not isinstance(made, RecordingWrapper)
    play(made, RESETS)
    made.close()
    env.close()
    assert len(HDF5Reader(path)) == 1


def test_a_recording_outside_a_wrapper_sees_what_it_does_and_one_inside_does_not(tmp_path):
    inside = record_hdf5(counting_env(), tmp_path / "inside.h5")
    limited = gymnasium.wrappers.TransformReward(gymnasium.wrappers.TimeLimit(inside, 3), lambda r: -r)
    outside = record_hdf5(limited, tmp_path / "outside.h5")
    play(outside, RESETS[:2])
    outside.close()
    for episode in HDF5Reader(tmp_path / "inside.h5"):
        assert (episode.rewards.tolist(), episode.ending) == ([1.0] * 3, "unfinished")
    for episode in HDF5Reader(tmp_path / "outside.h5"):
        assert (episode.rewards.tolist(), episode.ending) == ([-1.0] * 3, "truncated")


@both_libraries
def test_an_env_may_be_recorded_twice_at_once(library, tmp_path):
    env = record_hdf5(make(library, "CartPole-v1"), tmp_path / "one.h5")
    env, writer = record_in_memory(env)
    env = record_hdf5(env, tmp_path / "two.h5")
    seen = play(env)
    env.close()
    assert_recorded(HDF5Reader(tmp_path / "one.h5"), seen)
    assert_recorded(HDF5Reader(tmp_path / "two.h5"), seen)
    assert_recorded(writer.reader(), seen)
    assert HDF5Reader(tmp_path / "two.h5").name == "CartPole-v1"


@both_libraries
def test_two_envs_cannot_record_to_one_file_at_once(library, path):
    first = record_hdf5(make(library, "CartPole-v1"), path)
    seen = play(first, RESETS[:1])
    with pytest.raises(FileInUseError, match=r"recording.h5.*close that env first"):
        record_hdf5(make(library, "Pendulum-v1"), path)
    seen += play(first, RESETS[2:])
    first.close()
    second = record_hdf5(make(library, "Pendulum-v1"), path)
    second.close()
    assert_recorded(HDF5Reader(path, "CartPole-v1"), seen)


def test_two_envs_cannot_share_a_writer():
    writer = MemoryWriter()
    RecordingWrapper(counting_env(), writer)
    with pytest.raises(RecordingError, match="one writer for each env"):
        RecordingWrapper(counting_env(), writer)


@both_libraries
@pytest.mark.parametrize("duplicate", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_recording_env_refuses_to_be_copied(library, duplicate, path):
    env = record_hdf5(make(library, "CartPole-v1"), path)
    with pytest.raises(RecordingError, match="cannot be pickled or copied"):
        duplicate(env)
    seen = play(env, RESETS[:1])
    env.close()
    assert_recorded(HDF5Reader(path), seen)


# ---- Going on, and ending in other ways than by close ----


@all_real_envs
def test_a_second_run_appends(library, env_id, path):
    seen = []
    for run in range(2):
        env = record_hdf5(make(library, env_id), path, f"run {run}", metadata={"run": run})
        seen += play(env, [(run, None), (None, None)], steps=10)
        env.close()
    reader = HDF5Reader(path)
    assert_recorded(reader, seen)
    assert [session["metadata"] for session in reader.sessions] == [{"run": 0}, {"run": 1}]
    assert reader.description == "run 1"


def test_a_second_run_without_a_description_keeps_the_first_one_s(path):
    record_hdf5(counting_env(), path, "the first").close()
    record_hdf5(counting_env(), path).close()
    assert HDF5Reader(path).description == "the first"


def test_a_second_run_with_other_spaces_is_an_error_and_changes_nothing(path):
    env = record_hdf5(counting_env(), path)
    env.reset()
    env.close()
    before = path.read_bytes()
    other = counting_env(action_space=gymnasium.spaces.Discrete(5))
    with pytest.raises(StorageError, match=r"action space.*another name"):
        record_hdf5(other, path)
    assert path.read_bytes() == before


def test_several_envs_share_a_file_one_after_the_other(path):
    seen = {}
    for env_id in ("CartPole-v1", "Pendulum-v1", "Blackjack-v1"):
        env = record_hdf5(make("gymnasium", env_id), path, f"of {env_id}")
        seen[env_id] = play(env)
        env.close()
    assert gymbag.list_datasets(path) == {env_id: f"of {env_id}" for env_id in sorted(seen)}
    for env_id, episodes in seen.items():
        assert_recorded(HDF5Reader(path, env_id), episodes)


@pytest.mark.parametrize("content", [b"", b"not HDF5", b"\x89HDF\r\n\x1a\n" + bytes(100)], ids=repr)
def test_a_file_that_is_not_hdf5_is_left_as_it_is(content, path):
    path.write_bytes(content)
    with pytest.raises(DamagedFileError):
        record_hdf5(counting_env(), path)
    assert path.read_bytes() == content


def test_a_folder_that_does_not_exist_is_a_clear_error(tmp_path):
    with pytest.raises(StorageError, match="make it first"):
        record_hdf5(counting_env(), tmp_path / "absent" / "recording.h5")


def test_a_forgotten_env_is_complete_in_the_file(path):
    env = record_hdf5(counting_env(), path)
    seen = play(env, RESETS[:2], steps=3)
    del env
    assert_recorded(HDF5Reader(path), seen)


_SCRIPT = """
import sys
from envs import counting_env, make, play
import gymbag
env = gymbag.record_hdf5(make("gymnasium", "CartPole-v1"), sys.argv[1])
"""
_MANY_RESETS = [(seed, None) for seed in range(80)]  # more steps than are handed to the file at once


def start(script: str, path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _SCRIPT + script, str(path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(
    ("ending", "status"),
    [
        ("", 0),
        ("sys.exit(3)", 3),
        ("raise ZeroDivisionError", 1),
        ("cycle = [env]; cycle.append(cycle); del env, cycle", 0),
        ("import atexit; atexit.register(env.close)", 0),
    ],
    ids=["no close", "sys.exit", "error", "reference cycle", "close at exit"],
)
def test_the_recording_is_complete_however_the_interpreter_exits(ending, status, path):
    script = f"play(env, [(seed, None) for seed in range({len(_MANY_RESETS)})])\n{ending}\n"
    with start(script, path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert "Exception ignored" not in errors
    assert_recorded(HDF5Reader(path), play(make("gymnasium", "CartPole-v1"), _MANY_RESETS))


def test_sys_exit_inside_the_loop_keeps_the_steps_before_it(path):
    script = "env.reset(seed=1)\nwhile True:\n    env.step(0)\n    sys.exit(5)\n"
    with start(script, path) as process:
        process.communicate(timeout=60)
    assert process.returncode == 5
    (episode,) = HDF5Reader(path)
    assert (len(episode), episode.finished) == (1, False)


def test_ctrl_c_leaves_a_file_that_is_complete_up_to_there(path):
    script = """
returned = 0
try:
    for seed in range(10**9):
        env.action_space.seed(seed)
        env.reset(seed=seed)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            returned += 1
            over = terminated or truncated
        if seed % 100 == 0:
            print(seed, flush=True)
finally:
    print("returned", returned, flush=True)
"""
    with start(script, path) as process:
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    assert errors.count("Traceback") == 1
    assert "KeyboardInterrupt" in errors
    returned = int(output.split()[-1])
    *finished, last = HDF5Reader(path)
    # The one step more is one that was recorded and interrupted before the loop got to see it.
    assert sum(map(len, finished)) + len(last) in (returned, returned + 1)
    assert len(finished) > 800
    assert [episode.seed for episode in finished] == list(range(len(finished)))
    twin = make("gymnasium", "CartPole-v1")
    for episode in finished[-20:]:
        twin.action_space.seed(episode.seed)
        (seen,) = play(twin, [(episode.seed, None)], steps=500, choose=twin.action_space.sample)
        assert_episode_is(episode, seen)


def trace_gymbag(call: Callable[[], Any], on_line: Callable[[], None]) -> None:
    """Make a call, and one of `on_line` before each line that gymbag runs in it."""
    package = str(Path(gymbag.__file__).parent)

    def trace(frame: Any, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(package):
            return None
        if event == "line":
            on_line()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)


def interrupt_at_each_line(
    begin: Callable[[Path], Any], call: Callable[[Any], Any], check: Callable[[Any, Path], None], folder: Path
) -> None:
    """Press Ctrl-C within a call to a recording env, begun anew for each place, and check what it leaves.

    Where the call runs very many lines, some dozens of them are chosen.
    """
    lines: list[None] = []
    counted = begin(folder / "counted.h5")
    trace_gymbag(lambda: call(counted), lambda: lines.append(None))
    counted.close()
    count, broken = len(lines), {}
    for number in range(0, count, 1 + count // 100):
        path = folder / f"{number}.h5"
        env, upcoming = begin(path), itertools.count()
        press = functools.partial(
            _interrupt_if, lambda upcoming=upcoming, number=number: next(upcoming) == number
        )
        with contextlib.suppress(KeyboardInterrupt):
            trace_gymbag(lambda env=env: call(env), press)
        try:
            check(env, path)
        except Exception as error:
            broken[number] = repr(error)[:100]
    assert count > 20
    assert not broken, f"{len(broken)} of {count} lines"


def _interrupt_if(condition: Callable[[], bool]) -> None:
    if condition():
        signal.raise_signal(signal.SIGINT)


def image_env(length: int | None = None) -> Any:
    """An env of images, of which a few fill a block, so that every few steps the file is written to."""
    return counting_env(
        length=length,
        observation_space=gymnasium.spaces.Box(0, 255, (210, 160, 3), np.uint8),
        observe=lambda env: np.full((210, 160, 3), env.steps, np.uint8),
    )


@pytest.mark.parametrize(
    ("steps_before", "length"),
    [(0, None), (1, None), (9, None), (10, None), (1, 2), (9, 10)],
    ids=["first", "later", "fills a block", "begins a block", "last", "last, fills a block"],
)
def test_ctrl_c_anywhere_in_a_step_leaves_a_file_that_is_whole(steps_before, length, tmp_path):
    def begin(path: Path) -> Any:
        env = record_hdf5(image_env(length), path)
        env.reset()
        for _ in range(steps_before):
            env.step(1)
        return env

    def check(env: Any, path: Path) -> None:
        env.close()
        again = record_hdf5(image_env(length), path)
        again.reset()
        again.step(3)
        again.close()
        interrupted, after = HDF5Reader(path)
        actions = [1] * steps_before
        assert interrupted.actions.tolist() in (actions, [*actions, 2])
        assert interrupted.observations[:, 0, 0, 0].tolist() == list(range(len(interrupted) + 1))
        assert after.actions.tolist() == [3]
        assert after.observations[:, 0, 0, 0].tolist() == [0, 1]

    interrupt_at_each_line(begin, lambda env: env.step(2), check, tmp_path)


@pytest.mark.parametrize("steps_before", [0, 1], ids=["twice in a row", "after a step"])
def test_ctrl_c_anywhere_in_a_reset_leaves_a_file_that_is_whole(steps_before, tmp_path):
    def begin(path: Path) -> Any:
        env = record_hdf5(counting_env(), path)
        env.reset(seed=1)
        for _ in range(steps_before):
            env.step(1)
        return env

    def check(env: Any, path: Path) -> None:
        env.reset(seed=3)
        env.step(2)
        env.close()
        record_hdf5(counting_env(), path).close()
        episodes = [(episode.seed, episode.actions.tolist()) for episode in HDF5Reader(path)]
        before, after = (1, [1] * steps_before), (3, [2])
        assert episodes in ([before, after], [before, (2, []), after])

    interrupt_at_each_line(begin, lambda env: env.reset(seed=2), check, tmp_path)


# ---- Flags, names, classes ----


@pytest.mark.parametrize("flag", [np.array([False]), np.bool_(False), np.array(0), [False]], ids=repr)
def test_a_flag_may_be_an_array_of_one(flag, path):
    env = record_hdf5(counting_env(length=3), path)
    inner = env.unwrapped
    step = inner.step
    inner.step = lambda action: (*step(action)[:2], flag, flag, {})
    env.reset()
    env.step(0)
    env.reset()
    env.close()
    assert [(len(episode), episode.finished) for episode in HDF5Reader(path)] == [(1, False), (0, False)]


@pytest.mark.parametrize("flag", [None, "no", np.array([False, True]), 0.5], ids=repr)
def test_a_flag_that_is_none_is_refused_at_its_step(flag, path):
    env = record_hdf5(counting_env(), path)
    inner = env.unwrapped
    inner.step = lambda action: (np.array([0, 0], np.float32), 1.0, False, flag, {})
    env.reset()
    with pytest.raises(GymbagError, match="truncated"):
        env.step(0)
    env.close()
    assert [len(episode) for episode in HDF5Reader(path)] == [0]


def test_an_attribute_of_an_env_does_not_name_the_data_set(path):
    env = counting_env()
    env.dataset_name = "mine"
    record_hdf5(env, path).close()
    assert HDF5Reader(path).name == "CountingEnv"


@pytest.mark.parametrize("library", ["gymnasium", "gym"])
def test_the_wrapper_can_be_derived_from(library):
    class Counting(gymbag.RecordingWrapper):
        steps = 0

        def step(self, action):
            self.steps += 1
            return super().step(action)

    writer = gymbag.MemoryWriter()
    env = Counting(make(library, "CartPole-v1"), writer)
    assert isinstance(env, (Counting, {"gymnasium": gymnasium, "gym": gym}[library].Wrapper))
    env.reset(seed=1)
    env.step(0)
    env.close()
    assert (env.steps, writer.reader().nsteps) == (1, 1)


def test_a_vector_env_is_refused_with_a_hint(path):
    vector = gymnasium.make_vec("CartPole-v1", 2)
    with pytest.raises(GymbagError, match="wrap each env inside"):
        record_hdf5(vector, path)
    vector.close()


_FORKS = """
import os, time
read, write = os.pipe()
play(env, [(seed, None) for seed in range(40)])
child = os.fork()
if child == 0:
    os.read(read, 1)  # until the parent has closed the file
    sys.exit(0)  # and so ends the copy of HDF5, and of the wrapper
play(env, [(seed, None) for seed in range(40, 80)])
env.close()
os.write(write, b"x")
os.waitpid(child, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_that_ends_after_the_recording_leaves_it_alone(path):
    with start(_FORKS, path) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors
    twin = make("gymnasium", "CartPole-v1")
    assert_recorded(HDF5Reader(path), [*play(twin, _MANY_RESETS[:40]), *play(twin, _MANY_RESETS[40:])])
