"""RandomEnv: an env of random data, to try things out with."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
from envs import LIBRARIES, assert_recorded, assert_same, both_libraries, checker_opinions, play
from gym.utils import env_checker as gym_checker
from gymnasium.utils import env_checker as gymnasium_checker

import gymbag
from gymbag import MemoryWriter, RecordingWrapper, for_gym, for_gymnasium
from gymbag.errors import RecordingError

RANDOM_ENVS: dict[str, Any] = {"gymnasium": for_gymnasium.RandomEnv, "gym": for_gym.RandomEnv}


def spaces_of(library: str) -> dict[str, Any]:
    spaces = LIBRARIES[library].spaces
    return {
        "Box": spaces.Box(-1, 1, (3,)),
        "image": spaces.Box(0, 255, (4, 5, 3), np.uint8),
        "Discrete": spaces.Discrete(5),
        "MultiBinary": spaces.MultiBinary(4),
        "MultiDiscrete": spaces.MultiDiscrete([2, 3]),
        "Text": spaces.Text(6),
        "Dict": spaces.Dict(a=spaces.Discrete(2), b=spaces.Box(0, 1, ())),
        "Tuple": spaces.Tuple([spaces.Discrete(2), spaces.Box(0, 1, (2,))]),
        "Sequence": spaces.Sequence(spaces.Discrete(3)),
    }


each_space = pytest.mark.parametrize("name", spaces_of("gymnasium"))


def test_the_default_is_gymnasium_s():
    assert gymbag.RandomEnv is for_gymnasium.RandomEnv


@both_libraries
@each_space
def test_observations_lie_in_the_space_and_rewards_from_0_to_1(library, name):
    env = RANDOM_ENVS[library](spaces_of(library)[name])
    assert isinstance(env, LIBRARIES[library].Env)
    (episode,) = play(env, [(1, None)])
    assert all(observation in env.observation_space for observation in episode.observations)
    assert all(type(reward) is float and 0 <= reward < 1 for reward in episode.rewards)
    assert len(set(episode.rewards)) > 1


@both_libraries
@each_space
def test_a_seed_fixes_observations_and_rewards(library, name):
    one, other = (RANDOM_ENVS[library](spaces_of(library)[name]) for _ in range(2))
    first, second = play(one, [(7, None), (None, None)]), play(other, [(7, None), (None, None)])
    (third,) = play(one, [(8, None)])
    for left, right in zip(first, second, strict=True):
        assert_same((left.observations, left.rewards), (right.observations, right.rewards))
    assert third.rewards != first[0].rewards
    assert first[0].rewards != first[1].rewards


@both_libraries
@pytest.mark.parametrize("steps", [1, 2, 25])
def test_episodes_are_terminated_after_their_steps(library, steps):
    env = RANDOM_ENVS[library](spaces_of(library)["Box"], episode_steps=steps)
    for episode in play(env, [(1, None)] * 2, steps=100):
        assert (len(episode.actions), episode.terminated, episode.truncated) == (steps, True, False)


def test_episodes_have_ten_steps_by_default():
    (episode,) = play(gymbag.RandomEnv(gymnasium.spaces.Discrete(2)), [(1, None)])
    assert len(episode.actions) == 10


@both_libraries
def test_step_without_an_episode_is_a_clear_error(library):
    env = RANDOM_ENVS[library](spaces_of(library)["Box"], episode_steps=1)
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)
    play(env, [(1, None)])
    with pytest.raises(RecordingError, match=r"expected reset\(\) before step\(\)"):
        env.step(0)


@both_libraries
def test_actions_are_of_two_kinds_by_default(library):
    env = RANDOM_ENVS[library](spaces_of(library)["Box"])
    assert env.action_space == LIBRARIES[library].spaces.Discrete(2)


@both_libraries
@each_space
def test_any_action_space_can_be_declared(library, name):
    space = spaces_of(library)[name]
    assert RANDOM_ENVS[library](spaces_of(library)["Box"], space).action_space is space


@both_libraries
def test_an_action_space_without_items_counts_as_declared(library):
    empty = LIBRARIES[library].spaces.Tuple(())
    assert RANDOM_ENVS[library](spaces_of(library)["Box"], empty).action_space is empty


@both_libraries
@each_space
def test_a_random_env_can_be_recorded(library, name):
    spaces = spaces_of(library)
    writer = MemoryWriter()
    env = RecordingWrapper(RANDOM_ENVS[library](spaces[name], spaces["Discrete"]), writer)
    seen = play(env)
    env.close()
    assert writer.reader().name == "RandomEnv"
    if name in ("Text", "Sequence"):  # values of no fixed size come as tuples
        found = [[step.observation for step in episode] for episode in writer.reader()]
        assert_same(found, [episode.observations for episode in seen])
    else:
        assert_recorded(writer.reader(), seen)


@each_space
@checker_opinions
def test_gymnasium_s_check_env_passes(name):
    gymnasium_checker.check_env(gymbag.RandomEnv(spaces_of("gymnasium")[name]))


@pytest.mark.parametrize("name", ["Box", "Discrete", "MultiDiscrete", "Tuple"])
@checker_opinions
def test_gym_s_check_env_passes(name, monkeypatch):
    # The checker itself needs the name that NumPy 2 has dropped.
    monkeypatch.setattr(np, "bool8", np.bool_, raising=False)
    gym_checker.check_env(for_gym.RandomEnv(spaces_of("gym")[name]))
