"""Replaying a recording: an env that gives back, call by call, what was recorded."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from envs import (
    LIBRARIES,
    Seen,
    all_real_envs,
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
from gymbag import (
    HDF5Reader,
    MemoryWriter,
    PlaybackAgent,
    RecordingWrapper,
    compare,
    drive_env,
    for_gym,
    for_gymnasium,
    record_hdf5,
)
from gymbag.errors import PlaybackError, SpaceError

PLAYBACK_ENVS: dict[str, Any] = {"gymnasium": for_gymnasium.PlaybackEnv, "gym": for_gym.PlaybackEnv}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


def record(env: Any, path: Path, **options: Any) -> list[Seen]:
    """Record an env to a file, and return what the loop saw."""
    env = record_hdf5(env, path)
    seen = play(env, **options)
    env.close()
    return seen


def in_memory(env: Any, **options: Any) -> Any:
    """Record an env to memory, and return a reader."""
    writer = MemoryWriter()
    env = RecordingWrapper(env, writer)
    play(env, **options)
    env.close()
    return writer.reader()


def counted(library: str = "gymnasium", lengths: tuple[int, ...] = (2, 3, 1), **changes: Any) -> Any:
    """Record episodes of these lengths in memory, all of them terminated."""
    env = counting_env(library, **changes)
    writer = MemoryWriter()
    recorded = RecordingWrapper(env, writer)
    for length in lengths:
        env.length = length
        play(recorded, [(None, None)])
    recorded.close()
    return writer.reader()


def as_steps(reader: Any) -> list[list[Any]]:
    """A recording as plain lists of plain tuples, which know of no episode."""
    return [[tuple(step) for step in episode] for episode in reader]


def replay(env: Any) -> list[Seen]:
    """Play a replay to its end."""
    episodes = []
    while not env.played_out:
        observation, info = env.reset()
        seen = Seen(None, None, [observation], [info])
        while not env.episode_over:
            observation, reward, seen.terminated, seen.truncated, info = env.step(env.action_space.sample())
            seen.observations.append(observation)
            seen.rewards.append(reward)
            seen.infos.append(info)
        episodes.append(seen)
    return episodes


def assert_replayed(replayed: list[Seen], seen: list[Seen]) -> None:
    assert len(replayed) == len(seen)
    for found, expected in zip(replayed, seen, strict=True):
        assert_same(found.observations, expected.observations, "observations")
        assert_same(found.infos, [info or {} for info in expected.infos], "infos")
        assert_same(found.rewards, [float(reward) for reward in expected.rewards], "rewards")
        assert (found.terminated, found.truncated) == (bool(expected.terminated), bool(expected.truncated))


# ---- What reset and step return ----


@all_real_envs
@pytest.mark.parametrize("played_by", LIBRARIES)
def test_a_replay_gives_what_was_recorded_in_either_library(library, env_id, played_by, path):
    seen = record(make(library, env_id), path)
    env = PLAYBACK_ENVS[played_by](HDF5Reader(path))
    assert isinstance(env, LIBRARIES[played_by].Env)
    assert isinstance(env.observation_space, LIBRARIES[played_by].Space)
    assert isinstance(env.action_space, LIBRARIES[played_by].Space)
    assert_replayed(replay(env), seen)


@all_real_envs
def test_replayed_observations_lie_in_the_space(library, env_id):
    env = PLAYBACK_ENVS[library](in_memory(make(library, env_id)))
    for seen in replay(env):
        assert all(observation in env.observation_space for observation in seen.observations)


def test_the_default_replay_is_gymnasium_s():
    assert gymbag.PlaybackEnv is for_gymnasium.PlaybackEnv


def test_step_returns_plain_types():
    env = gymbag.PlaybackEnv(counted())
    env.reset()
    _, reward, terminated, truncated, info = env.step(0)
    assert [type(value) for value in (reward, terminated, truncated, info)] == [float, bool, bool, dict]


def test_the_actions_have_no_effect():
    reader = counted()
    one, other = gymbag.PlaybackEnv(reader), gymbag.PlaybackEnv(reader)
    one.reset()
    other.reset()
    assert_same(one.step(0), other.step("an action of no space"))


def test_the_seed_has_no_effect_on_what_is_replayed():
    env = gymbag.PlaybackEnv(counted())
    assert env.reset(seed=1)[0].tolist() == [0, 1]
    assert env.reset(seed=1)[0].tolist() == [0, 2]


def test_one_replay_does_not_disturb_another_of_the_same_reader(path):
    record(make("gymnasium", "CartPole-v1"), path)
    reader = HDF5Reader(path)
    alone = replay(gymbag.PlaybackEnv(reader))
    one, other = gymbag.PlaybackEnv(reader), gymbag.PlaybackEnv(reader)
    one.reset()
    one.step(0)
    assert_replayed(replay(other), alone)
    other.close()
    assert_same(one.step(0)[0], alone[0].observations[2])


# ---- Where in the recording it is ----


@both_libraries
def test_episodes_follow_one_another_to_the_last(library):
    env = PLAYBACK_ENVS[library](counted(library, (1, 2)))
    assert (env.episode, env.episode_over, env.played_out) == (-1, True, False)
    env.reset()
    assert (env.episode, env.episode_over, env.played_out) == (0, False, False)
    assert env.step(0)[2:4] == (True, False)
    assert (env.episode, env.episode_over, env.played_out) == (0, True, False)
    env.reset()
    env.step(0)
    assert (env.episode, env.episode_over, env.played_out) == (1, False, False)
    env.step(0)
    assert (env.episode, env.episode_over, env.played_out) == (1, True, True)


@both_libraries
def test_reset_in_the_middle_goes_to_the_next_episode(library):
    env = PLAYBACK_ENVS[library](counted(library, (3, 3)))
    env.reset()
    env.step(0)
    observation, _ = env.reset()
    assert observation.tolist() == [0, 2]
    assert env.episode == 1


@pytest.mark.parametrize("number", [0, 1, 2, -1, -3, np.int64(1)], ids=repr)
@both_libraries
def test_an_episode_may_be_chosen_by_its_number(library, number):
    env = PLAYBACK_ENVS[library](counted(library))
    env.reset()
    env.step(0)
    observation, _ = env.reset(options={"episode": number})
    assert observation.tolist() == [0, range(3)[number] + 1]
    assert env.episode == range(3)[number]


def test_after_a_chosen_episode_the_one_after_it_follows():
    env = gymbag.PlaybackEnv(counted())
    env.reset(options={"episode": 1})
    assert env.reset()[0].tolist() == [0, 3]
    env.step(0)
    assert env.played_out
    env.reset(options={"episode": 0})
    assert not env.played_out


@pytest.mark.parametrize("number", [3, -4, 10**9])
def test_an_episode_that_is_not_there_is_a_clear_error_and_changes_nothing(number):
    env = gymbag.PlaybackEnv(counted())
    env.reset()
    with pytest.raises(PlaybackError, match=f"expected an episode from 0 to 2, found {number}"):
        env.reset(options={"episode": number})
    assert env.step(0)[0].tolist() == [1, 1]


def test_other_options_have_no_effect():
    env = gymbag.PlaybackEnv(counted())
    assert env.reset(options={"low": 0.1})[0].tolist() == [0, 1]
    assert env.reset(options={})[0].tolist() == [0, 2]


@both_libraries
def test_after_the_last_episode_reset_is_a_clear_error(library):
    env = PLAYBACK_ENVS[library](counted(library, (1,)))
    env.reset()
    env.step(0)
    with pytest.raises(PlaybackError, match=r"all 1 episodes have been played.*played_out"):
        env.reset()
    env.reset(options={"episode": 0})
    assert env.step(0)[0].tolist() == [1, 1]


def test_step_without_an_episode_is_a_clear_error():
    env = gymbag.PlaybackEnv(counted(lengths=(1,)))
    with pytest.raises(PlaybackError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    env.reset()
    env.step(0)
    with pytest.raises(PlaybackError, match=r"episode 0 is over; call reset\(\)"):
        env.step(0)


def test_an_empty_recording_is_played_out_from_the_start():
    writer = MemoryWriter()
    RecordingWrapper(counting_env(), writer).close()
    env = gymbag.PlaybackEnv(writer.reader())
    assert env.played_out
    with pytest.raises(PlaybackError, match="all 0 episodes have been played"):
        env.reset()


# ---- Episodes that were cut ----


@both_libraries
def test_an_unfinished_episode_ends_with_neither_flag(library):
    env = PLAYBACK_ENVS[library](in_memory(counting_env(library), steps=2))
    env.reset()
    assert env.step(0)[2:4] == (False, False)
    assert not env.episode_over
    assert env.step(0)[2:4] == (False, False)
    assert env.episode_over
    with pytest.raises(PlaybackError, match=r"recorded unfinished.*truncate_unfinished=True"):
        env.step(0)
    assert env.reset()[0].tolist() == [0, 2]


@both_libraries
def test_an_unfinished_episode_may_be_replayed_as_truncated(library):
    env = PLAYBACK_ENVS[library](in_memory(counting_env(library), steps=2), truncate_unfinished=True)
    env.reset()
    assert env.step(0)[2:4] == (False, False)
    assert env.step(0)[2:4] == (False, True)


def test_truncating_leaves_finished_episodes_as_they_are():
    env = gymbag.PlaybackEnv(counted(lengths=(1,)), truncate_unfinished=True)
    env.reset()
    assert env.step(0)[2:4] == (True, False)


@pytest.mark.parametrize("truncate", [False, True])
def test_an_episode_without_steps_is_over_at_its_reset(truncate):
    env = gymbag.PlaybackEnv(in_memory(counting_env(), steps=0), truncate_unfinished=truncate)
    assert env.reset()[0].tolist() == [0, 1]
    assert env.episode_over
    with pytest.raises(PlaybackError, match="is over" if truncate else "has no more steps"):
        env.step(0)
    assert env.reset()[0].tolist() == [0, 2]
    assert not env.played_out
    env.reset()
    assert env.played_out


# ---- Sources that are no readers ----


@both_libraries
def test_lists_of_plain_tuples_can_be_replayed(library):
    reader = counted(library)
    env = PLAYBACK_ENVS[library](as_steps(reader), reader.observation_space, reader.action_space)
    assert_replayed(replay(env), replay(PLAYBACK_ENVS[library](reader)))


def test_some_of_the_episodes_of_a_reader_can_be_replayed():
    reader = counted()
    env = gymbag.PlaybackEnv(reader[1:], reader.observation_space, reader.action_space)
    assert env.reset()[0].tolist() == [0, 2]
    assert env.reset()[0].tolist() == [0, 3]
    assert env.step(0)[2:4] == (True, False)
    assert env.played_out


def test_plain_steps_without_an_end_may_be_truncated():
    episodes = as_steps(in_memory(counting_env(), steps=1))
    spaces = (gymnasium.spaces.Box(-np.inf, np.inf, (2,)), gymnasium.spaces.Discrete(4))
    for truncate in (False, True):
        env = gymbag.PlaybackEnv(episodes, *spaces, truncate_unfinished=truncate)
        env.reset()
        assert env.step(0)[2:4] == (False, truncate)


@both_libraries
@pytest.mark.parametrize("missing", ["observation_space", "action_space"])
def test_plain_episodes_need_spaces(library, missing):
    reader = counted(library)
    spaces = {name: getattr(reader, name) for name in ("observation_space", "action_space")}
    spaces.pop(missing)
    with pytest.raises(SpaceError, match="observation_space= and action_space="):
        PLAYBACK_ENVS[library](as_steps(reader), **spaces)


def test_of_plain_episodes_none_can_be_chosen():
    reader = counted()
    env = gymbag.PlaybackEnv(iter(as_steps(reader)), reader.observation_space, reader.action_space)
    with pytest.raises(PlaybackError, match="expected a reader"):
        env.reset(options={"episode": 0})


def test_plain_episodes_cannot_be_flattened():
    reader = counted()
    env = gymbag.PlaybackEnv(as_steps(reader), reader.observation_space, reader.action_space)
    with pytest.raises(PlaybackError, match="expected a reader"):
        env.get_dataset()
    env.close()


def test_a_space_may_be_given_in_place_of_the_recorded_one():
    space = gymnasium.spaces.Box(0, 9, (2,))
    env = gymbag.PlaybackEnv(counted(), observation_space=space)
    assert env.observation_space is space
    assert env.action_space == gymnasium.spaces.Discrete(4)


def test_a_given_space_without_items_counts_as_given():
    empty = gymnasium.spaces.Tuple(())
    env = gymbag.PlaybackEnv(counted(), action_space=empty)
    assert env.action_space is empty


class Source:
    """Makes episodes as they are asked for, and notes what was."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        self.lengths = lengths
        self.made: list[tuple[int, int]] = []

    def __iter__(self) -> Iterator[Iterator[Any]]:
        return (self.steps(*pair) for pair in enumerate(self.lengths))

    def steps(self, episode: int, length: int) -> Iterator[Any]:
        for step in range(length + 1):
            self.made.append((episode, step))
            observation = np.array([step, episode], np.float32)
            yield 0.0, observation, step, 1.0 if step else np.nan, step == length > 0, None


def source_env(source: Any, **options: Any) -> Any:
    spaces = (gymnasium.spaces.Box(-np.inf, np.inf, (2,)), gymnasium.spaces.Discrete(9))
    return gymbag.PlaybackEnv(source, *spaces, **options)


def test_a_generator_is_run_no_further_than_is_needed():
    source = Source((3, 3))
    env = source_env(source)
    assert source.made == []
    env.reset()
    assert max(source.made) <= (0, 1)  # one step is read ahead, to know where the episode ends
    env.step(0)
    assert max(source.made) <= (0, 2)
    env.step(0)
    env.step(0)
    assert max(source.made) == (0, 3)
    env.reset()
    assert max(source.made) <= (1, 1)


def test_what_is_left_of_an_episode_is_used_up_before_the_next_is_asked_for():
    # As one env makes both.
    source = Source((3, 2))
    env = source_env(source)
    env.reset()
    env.step(0)
    env.reset()
    assert source.made[:4] == [(0, 0), (0, 1), (0, 2), (0, 3)]
    assert env.step(0)[0].tolist() == [1, 1]


def test_an_env_that_is_driven_can_be_replayed_as_it_runs():
    live = counting_env(length=3)
    env = source_env(drive_env(live, [0] * 9))
    seen = replay(env)
    assert [[observation.tolist() for observation in episode.observations] for episode in seen] == [
        [[step, number] for step in range(4)] for number in (1, 2, 3)
    ]
    assert live.closed


def test_an_env_that_reuses_its_buffer_can_be_replayed_as_it_runs():
    buffer = np.zeros(2, np.float32)

    def observe(env: Any) -> np.ndarray:
        buffer[:] = env.steps, env.resets
        return buffer

    env = source_env(drive_env(counting_env(length=2, observe=observe), [0] * 4))
    seen = replay(env)
    assert [[observation.tolist() for observation in episode.observations] for episode in seen] == [
        [[0, 1], [1, 1], [2, 1]],
        [[0, 2], [1, 2], [2, 2]],
    ]


def test_an_episode_without_even_a_reset_is_a_clear_error():
    env = source_env([[]])
    with pytest.raises(PlaybackError, match="episode 0 has no steps, not even a reset"):
        env.reset()


# ---- What is returned belongs to the caller ----


def nested_env(**changes: Any) -> Any:
    box = gymnasium.spaces.Box(-9, 9, (2,))
    return counting_env(
        length=2,
        observation_space=gymnasium.spaces.Dict(a=box, b=gymnasium.spaces.Tuple([box])),
        observe=lambda env: {"a": np.full(2, env.steps, "f4"), "b": (np.full(2, env.steps, "f4"),)},
        info=lambda env: {"array": np.zeros(2), "list": [1], "dict": {"deep": np.zeros(1)}},
        **changes,
    )


def spoil(observation: Any, info: Any) -> None:
    observation["a"][:] = 99
    observation["b"][0][:] = 99
    observation.pop("b")
    info["array"][:] = 99
    info["list"].append(99)
    info["dict"]["deep"][:] = 99


@pytest.mark.parametrize("kind", ["memory", "file", "lists", "episodes"])
def test_changing_what_was_returned_changes_nothing_else(kind, path):
    if kind == "file":
        record(nested_env(), path, resets=[(None, None)] * 2)
        reader: Any = HDF5Reader(path)
    else:
        reader = in_memory(nested_env(), resets=[(None, None)] * 2)
    pristine = replay(gymbag.PlaybackEnv(reader))
    source = {"lists": as_steps, "episodes": list}.get(kind, lambda source: source)(reader)
    spaces = (reader.observation_space, reader.action_space)
    env = gymbag.PlaybackEnv(source, *spaces)
    returned = []
    while not env.played_out:
        observation, info = env.reset()
        returned.append(copy.deepcopy((observation, info)))
        spoil(observation, info)
        while not env.episode_over:
            observation, _, _, _, info = env.step(0)
            returned.append(copy.deepcopy((observation, info)))
            spoil(observation, info)
    expected = [pair for seen in pristine for pair in zip(seen.observations, seen.infos, strict=True)]
    assert_same(returned, expected)
    assert_replayed(replay(gymbag.PlaybackEnv(source, *spaces)), pristine)


def test_a_frame_is_not_changed_by_changing_the_observation_or_another_frame():
    env = gymbag.PlaybackEnv(in_memory(image_env((4, 5, 3))), render_mode="rgb_array")
    observation, _ = env.reset()
    expected = observation.copy()
    env.render()[:] = 99
    assert_same(env.render(), expected)
    observation[:] = 99
    assert_same(env.render(), expected)


# ---- Rendering ----


def image_env(shape: tuple[int, ...], **changes: Any) -> Any:
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    space = gymnasium.spaces.Box(0, 255, shape, np.uint8)
    return counting_env(
        **{"observation_space": space, "observe": lambda env: pixels + np.uint8(env.steps), **changes}
    )


def grey(image: np.ndarray) -> np.ndarray:
    return np.stack([image] * 3, axis=-1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((4, 5, 3), lambda image: image),
        ((4, 5), grey),
        ((4, 5, 1), lambda image: grey(image[..., 0])),
        ((4, 6, 5), lambda image: grey(image[-1])),
        ((2, 84, 84), lambda image: grey(image[-1])),
    ],
    ids=["RGB", "grey", "grey with an axis", "stacked", "two stacked"],
)
@both_libraries
def test_image_observations_can_be_rendered(library, shape, expected):
    reader = in_memory(image_env(shape), steps=1)
    env = PLAYBACK_ENVS[library](reader, render_mode="rgb_array")
    observation, _ = env.reset()
    assert_same(env.render(), expected(observation))
    observation = env.step(0)[0]
    assert_same(env.render(), expected(observation))
    assert env.render().shape[-1] == 3


def test_the_first_image_in_a_dict_is_rendered():
    space = gymnasium.spaces.Dict(
        {
            "1 position": gymnasium.spaces.Box(0, 1, (3,)),
            "2 view": gymnasium.spaces.Box(0, 255, (4, 5, 3), np.uint8),
        }
    )
    view = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    inner = counting_env(
        observation_space=space, observe=lambda env: {"1 position": np.zeros(3, "f4"), "2 view": view}
    )
    env = gymbag.PlaybackEnv(in_memory(inner), render_mode="rgb_array")
    env.reset()
    assert_same(env.render(), view)


def test_without_a_render_mode_nothing_is_rendered():
    env = gymbag.PlaybackEnv(in_memory(image_env((4, 5, 3))))
    env.reset()
    assert env.render_mode is None
    assert env.render() is None


def test_rendering_before_reset_is_a_clear_error():
    env = gymbag.PlaybackEnv(in_memory(image_env((4, 5, 3))), render_mode="rgb_array")
    with pytest.raises(PlaybackError, match=r"none yet; call reset\(\) first"):
        env.render()


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_observations_that_are_no_images_cannot_be_rendered(dtype):
    inner = counting_env(
        observation_space=gymnasium.spaces.Box(0, 9, (4, 5, 3), dtype),
        observe=lambda env: np.zeros((4, 5, 3), dtype),
    )
    env = gymbag.PlaybackEnv(in_memory(inner), render_mode="rgb_array")
    env.reset()
    with pytest.raises(PlaybackError, match="expected image observations"):
        env.render()


def test_other_render_modes_are_refused():
    with pytest.raises(PlaybackError, match="expected render_mode None or 'rgb_array', found 'human'"):
        gymbag.PlaybackEnv(counted(), render_mode="human")


def test_atari_frames_are_rendered_as_they_were_observed():
    env = gymbag.PlaybackEnv(
        in_memory(make("gymnasium", "ALE/Breakout-v5"), steps=2), render_mode="rgb_array"
    )
    observation, _ = env.reset()
    assert_same(env.render(), observation)


# ---- With the libraries ----


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
@checker_opinions
def test_gymnasium_s_check_env_passes(env_id, path):
    record(make("gymnasium", env_id), path, resets=[(seed, None) for seed in range(20)])
    env = gymbag.PlaybackEnv(HDF5Reader(path))
    # Rendering is checked with images, below.
    gymnasium_checker.check_env(env, skip_render_check=True)


@checker_opinions
def test_gymnasium_s_check_env_passes_in_full_with_images(path):
    record(image_env((8, 9, 3)), path, resets=[(seed, None) for seed in range(20)], steps=3)
    gymnasium_checker.check_env(gymbag.PlaybackEnv(HDF5Reader(path), render_mode="rgb_array"))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "FrozenLake-v1", "Blackjack-v1"])
@checker_opinions
def test_gym_s_check_env_passes(env_id, path, monkeypatch):
    # The checker itself needs the name that NumPy 2 has dropped.
    monkeypatch.setattr(np, "bool8", np.bool_, raising=False)
    record(make("gym", env_id), path, resets=[(seed, None) for seed in range(20)])
    gym_checker.check_env(for_gym.PlaybackEnv(HDF5Reader(path)))


@both_libraries
def test_the_spec_makes_a_replay_from_the_beginning(library):
    env = PLAYBACK_ENVS[library](counted(library))
    env.reset()
    env.reset()
    made = env.spec.make() if library == "gymnasium" else LIBRARIES["gym"].make(env.spec)
    assert made.reset()[0].tolist() == [0, 1]
    assert made.unwrapped is not env


@both_libraries
def test_recording_a_replay_gives_an_equal_recording(library, tmp_path):
    original, again = tmp_path / "original.h5", tmp_path / "again.h5"
    for env_id in ("CartPole-v1", "FrozenLake-v1", "Blackjack-v1", "MountainCarContinuous-v0"):
        record(make(library, env_id), original)
        replayed = record_hdf5(PLAYBACK_ENVS[library](HDF5Reader(original, env_id)), again)
        for _ in drive_env(replayed, PlaybackAgent(HDF5Reader(original, env_id))):
            pass
    outcome = compare(original, again)
    assert outcome, outcome
    assert gymbag.list_datasets(again).keys() == gymbag.list_datasets(original).keys()


def test_recording_a_replay_keeps_cut_episodes_cut():
    reader = in_memory(counting_env(length=3), resets=[(1, None), (2, None)], steps=2)
    writer = MemoryWriter()
    env = RecordingWrapper(gymbag.PlaybackEnv(reader), writer)
    for _ in drive_env(env, PlaybackAgent(reader)):
        pass
    assert [(len(episode), episode.ending) for episode in writer.reader()] == [(2, "unfinished")] * 2
    outcome = compare(reader, writer.reader())
    assert outcome, outcome


def test_recorded_options_of_the_same_name_do_not_choose_an_episode():
    # Another env may have an option "episode" of its own.
    reader = in_memory(counting_env(length=1), resets=[(None, {"episode": 1}), (None, {"episode": 1})])
    writer = MemoryWriter()
    env = RecordingWrapper(gymbag.PlaybackEnv(reader), writer)
    for _ in drive_env(env, PlaybackAgent(reader)):
        pass
    outcome = compare(reader, writer.reader())
    assert outcome, outcome


def test_in_a_recording_of_chosen_episodes_any_can_be_chosen():
    writer = MemoryWriter()
    chosen = RecordingWrapper(gymbag.PlaybackEnv(counted(lengths=(1,) * 6)), writer)
    for number in (3, 1, 5, 2):
        chosen.reset(options={"episode": number})
        chosen.step(0)
    chosen.close()
    env = gymbag.PlaybackEnv(writer.reader())
    # The first one was recorded with the very same options.
    observation, _ = env.reset(options={"episode": 3})
    assert (env.episode, observation.tolist()) == (3, [0, 3])


@both_libraries
def test_a_replay_can_be_wrapped(library):
    reader = counted(library, (5, 5, 5))
    wrappers = LIBRARIES[library].wrappers
    env = wrappers.RecordEpisodeStatistics(wrappers.TimeLimit(PLAYBACK_ENVS[library](reader), 3))
    for _ in range(2):
        env.reset()
        ends = [env.step(0)[2:4] for _ in range(2)]
        _, _, terminated, truncated, info = env.step(0)
        assert ends == [(False, False)] * 2
        assert (terminated, truncated) == (False, True)
        assert (float(info["episode"]["r"]), int(info["episode"]["l"])) == (3.0, 3)


def test_replayed_frames_can_be_stacked():
    env = gymnasium.wrappers.FrameStackObservation(gymbag.PlaybackEnv(counted(lengths=(3,))), 2)
    env.reset()
    assert env.step(0)[0].tolist() == [[0, 1], [1, 1]]
    assert env.step(0)[0].tolist() == [[1, 1], [2, 1]]


def test_replays_can_be_run_as_a_vector_env():
    reader = counted(lengths=(2, 2, 2, 2))
    envs = gymnasium.vector.SyncVectorEnv([lambda: gymbag.PlaybackEnv(reader)] * 2)
    observations, _ = envs.reset(options=None)
    assert observations.tolist() == [[0, 1], [0, 1]]
    envs.step(envs.action_space.sample())
    observations, rewards, terminated, truncated, _ = envs.step(envs.action_space.sample())
    assert observations.tolist() == [[2, 1], [2, 1]]
    assert (rewards.tolist(), terminated.tolist(), truncated.tolist()) == ([1, 1], [True] * 2, [False] * 2)
    observations, *_ = envs.step(envs.action_space.sample())  # resets by itself
    assert observations.tolist() == [[0, 2], [0, 2]]
    envs.close()


def annotated() -> Any:
    """A recording of two episodes, in which something was said of every other step."""
    writer = MemoryWriter()
    env = RecordingWrapper(counting_env(length=3, info=lambda env: {"steps": env.steps}), writer)
    for _ in range(2):
        env.reset()
        for step in range(3):
            if step % 2 == 0:
                env.annotate(value=step / 2, logits=np.array([step, 1.0]))
            env.step(0)
    env.close()
    return writer.reader()


SAID = [{"value": 0.0, "logits": np.array([0, 1.0])}, {}, {"value": 1.0, "logits": np.array([2, 1.0])}]


@pytest.mark.parametrize("as_reader", [True, False])
@both_libraries
def test_annotations_are_replayed_if_asked_for(library, as_reader):
    reader = annotated()
    source = reader if as_reader else iter(reader)
    spaces = reader.in_library(library).observation_space, reader.in_library(library).action_space
    env = PLAYBACK_ENVS[library](source, *spaces, annotations=True)
    for _ in range(2):
        assert env.reset()[1] == {"steps": 0}
        infos = [env.step(0)[4] for _ in range(3)]
        assert_same([info.pop("annotation") for info in infos], SAID)
        assert infos == [{"steps": 1}, {"steps": 2}, {"steps": 3}]


@both_libraries
def test_annotations_are_not_replayed_by_default(library):
    env = PLAYBACK_ENVS[library](annotated())
    env.reset()
    assert [env.step(0)[4] for _ in range(3)] == [{"steps": 1}, {"steps": 2}, {"steps": 3}]


def test_a_replay_made_from_the_spec_of_another_has_annotations_too():
    env = gymnasium.make(gymbag.PlaybackEnv(annotated(), annotations=True).spec)
    env.reset()
    assert_same([env.step(0)[4]["annotation"] for _ in range(3)], SAID)


def test_the_env_gives_the_annotations_as_arrays():
    reader = annotated()
    assert_same(
        gymbag.PlaybackEnv(reader).get_dataset(annotations=["value"]),
        reader.get_dataset(annotations=["value"]),
    )


def test_the_env_gives_the_recording_as_arrays():
    reader = counted()
    assert_same(gymbag.PlaybackEnv(reader).get_dataset(), reader.get_dataset())
    assert_same(gymbag.PlaybackEnv(reader).get_dataset(np.float32), reader.get_dataset(np.float32))


def test_closing_the_env_lets_go_of_the_file_and_closing_again_does_nothing(path):
    seen = record(make("gymnasium", "CartPole-v1"), path)
    reader = HDF5Reader(path)
    env = gymbag.PlaybackEnv(reader)
    env.reset()
    env.close()
    env.close()
    assert_recorded(reader, seen)  # it opens again when it is asked
