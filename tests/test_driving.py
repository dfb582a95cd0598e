"""Agents, and the loops that let them act on an env."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from envs import LIBRARIES, assert_same, both_libraries, counting_env, make, play

import gymbag
from gymbag import (
    HDF5Reader,
    MemoryWriter,
    PlaybackAgent,
    RandomAgent,
    RecordingWrapper,
    compare,
    drive_env,
    get_actions,
    record_hdf5,
    run_episode,
)
from gymbag.errors import PlaybackError


def ticking_clock() -> Any:
    return itertools.count(100.0).__next__


def numbers(steps: Any) -> list[int]:
    """The numbers of the steps that a counting env gave."""
    return [int(step.observation[0]) for step in steps]


def recorded(env: Any, **options: Any) -> Any:
    """Record an env to memory, and return a reader."""
    writer = MemoryWriter()
    env = RecordingWrapper(env, writer)
    play(env, **options)
    env.close()
    return writer.reader()


def plain(step: Any) -> tuple[Any, ...]:
    return tuple(step)


class Agent:
    """Acts as told, for so many episodes."""

    def __init__(self, episodes: int, **attributes: Any) -> None:
        self.left = episodes
        self.observed: list[Any] = []
        vars(self).update(attributes)

    def next_episode(self) -> bool:
        self.left -= 1
        return self.left >= 0

    def act(self, observation: Any) -> int:
        self.observed.append(observation)
        return 3


# ---- RandomAgent ----


@both_libraries
def test_a_random_agent_samples_from_the_space(library):
    space = LIBRARIES[library].spaces.Box(-1, 1, (2,))
    agent = RandomAgent(space, seed=5)
    actions = [agent.act() for _ in range(10)]
    assert all(action in space for action in actions)
    space.seed(5)
    assert_same(actions, [space.sample() for _ in range(10)])
    assert_same(RandomAgent(space, seed=5).act("any observation"), actions[0])


@both_libraries
def test_without_a_seed_a_random_agent_leaves_the_space_s_random_numbers_alone(library):
    space = LIBRARIES[library].spaces.Discrete(1000)
    space.seed(5)
    expected = [space.sample() for _ in range(5)]
    space.seed(5)
    agent = RandomAgent(space)
    assert [agent.act() for _ in range(5)] == expected


# ---- PlaybackAgent ----


@pytest.mark.parametrize("kind", ["reader", "plain", "generators"])
def test_a_playback_agent_gives_the_recorded_actions(kind):
    env = counting_env(length=3)
    reader = recorded(env)
    expected = [episode.actions.tolist() for episode in reader]
    source = {
        "reader": reader,
        "plain": [list(map(plain, episode)) for episode in reader],
        "generators": (map(plain, episode) for episode in reader),
    }[kind]
    agent = PlaybackAgent(source)
    found = []
    while agent.next_episode():
        found.append([])
        while not agent.done:
            found[-1].append(int(agent.act("any observation")))
    assert found == expected
    assert not agent.next_episode()


def test_a_playback_agent_has_no_action_before_and_after_an_episode():
    agent = PlaybackAgent(recorded(counting_env(length=1), resets=[(None, None)]))
    assert agent.done
    with pytest.raises(PlaybackError, match=r"call next_episode\(\) before act\(\)"):
        agent.act()
    assert agent.next_episode()
    agent.act()
    assert agent.done
    with pytest.raises(PlaybackError, match="no more actions"):
        agent.act()


def test_a_playback_agent_may_leave_an_episode():
    reader = recorded(counting_env(length=3), resets=[(None, None)] * 2)
    agent = PlaybackAgent(map(iter, reader))
    agent.next_episode()
    agent.act()
    agent.next_episode()
    assert [agent.act() for _ in range(3)] == reader[1].actions.tolist()
    assert agent.done


def test_a_playback_agent_has_the_seed_and_the_options_of_its_episode():
    resets = [(7, {"low": -0.01}), (None, None), (8, {})]
    agent = PlaybackAgent(recorded(counting_env(length=1), resets=resets))
    assert (agent.seed, agent.options) == (None, None)
    found = []
    while agent.next_episode():
        found.append((agent.seed, agent.options))
    assert found == resets


def test_plain_episodes_have_no_seed():
    agent = PlaybackAgent([[(0.0, 0, 0, np.nan, False, None)]])
    assert agent.next_episode()
    assert (agent.seed, agent.options, agent.done) == (None, None, True)


# ---- run_episode ----


@both_libraries
def test_an_episode_is_its_reset_and_its_steps(library):
    infos = iter([{"at": "reset"}, {}, {"at": "end"}])
    env = counting_env(library, length=2, info=lambda env: next(infos), reward=lambda env: env.steps)
    steps = list(run_episode(env, [3, 1], clock=ticking_clock()))
    expected = [
        (100.0, np.array([0, 1], "f4"), np.int64(0), np.nan, False, {"at": "reset"}),
        (101.0, np.array([1, 1], "f4"), 3, 1.0, False, None),
        (102.0, np.array([2, 1], "f4"), 1, 2.0, True, {"at": "end"}),
    ]
    assert_same([tuple(step) for step in steps], expected)
    assert all(isinstance(step, gymbag.Step) for step in steps)


def test_the_reset_carries_the_null_action_of_the_space():
    space = LIBRARIES["gymnasium"].spaces.Box(-1, 1, (2,))
    reset = next(run_episode(counting_env(action_space=space)))
    assert_same(reset.action, np.full(2, np.nan, "f4"))


def test_nothing_happens_before_the_first_step_is_asked_for():
    env = counting_env(length=3)
    steps = run_episode(env)
    assert env.resets == 0
    next(steps)
    assert (env.resets, env.steps) == (1, 0)
    next(steps)
    assert env.steps == 1


@pytest.mark.parametrize(
    ("length", "actions", "max_steps", "expected"),
    [
        (3, [0] * 9, None, 3),
        (None, [0] * 4, None, 4),
        (None, [0] * 9, 2, 2),
        (None, [0] * 9, 0, 0),
        (1, [0] * 9, 5, 1),
        (None, [], None, None),
    ],
    ids=["the env ends", "the actions end", "max_steps", "max_steps=0", "the env before", "no actions"],
)
def test_an_episode_ends_when(length, actions, max_steps, expected):
    env = counting_env(length=length)
    steps = list(run_episode(env, actions, max_steps))
    assert numbers(steps) == ([] if expected is None else list(range(expected + 1)))
    assert [step.done for step in steps] == [number == length for number in numbers(steps)]
    assert not env.closed


def test_actions_are_random_by_default():
    env = counting_env()
    env.action_space.seed(3)
    steps = list(run_episode(env, max_steps=20))
    env.action_space.seed(3)
    assert [step.action for step in steps[1:]] == [env.action_space.sample() for _ in range(20)]


def test_an_agent_is_shown_every_observation_but_the_last():
    agent = Agent(1)
    steps = list(run_episode(counting_env(length=3), agent))
    assert_same(agent.observed, [step.observation for step in steps[:-1]])


def test_an_agent_s_seed_and_options_are_passed_to_reset():
    def resets(agent: Any) -> tuple[Any, Any]:
        writer = MemoryWriter()
        env = RecordingWrapper(counting_env(length=1), writer)
        list(run_episode(env, agent))
        env.close()
        return writer.reader()[0].seed, writer.reader()[0].options

    assert resets(Agent(1, seed=5, options={"low": 1})) == (5, {"low": 1})
    assert resets(Agent(1, seed=None, options=None)) == (None, None)
    assert resets(Agent(1)) == (None, None)
    assert resets(Agent(1, seed=0, options={})) == (0, {})


def test_without_another_episode_of_the_agent_nothing_runs():
    env = counting_env()
    assert list(run_episode(env, Agent(0))) == []
    assert env.resets == 0


@pytest.mark.parametrize("reward", [1, np.float32(0.5), np.array(2.0)], ids=repr)
def test_rewards_become_plain_numbers(reward):
    _, step = run_episode(counting_env(reward=lambda env: reward), [0])
    assert type(step.reward) is float
    assert step.reward == reward


def test_steps_that_are_kept_do_not_change_with_the_env_s_buffer():
    buffer = np.zeros(2, np.float32)

    def observe(env: Any) -> np.ndarray:
        buffer[:] = env.steps, env.resets
        return buffer

    assert numbers(list(run_episode(counting_env(length=3, observe=observe)))) == [0, 1, 2, 3]


# ---- drive_env ----


@both_libraries
def test_driving_runs_the_episodes_and_closes_the_env(library):
    env = counting_env(library, length=2)
    episodes = [numbers(episode) for episode in drive_env(env, episodes=3)]
    assert episodes == [[0, 1, 2]] * 3
    assert env.resets == 3
    assert env.closed


def test_one_iterable_of_actions_is_for_all_episodes():
    env = counting_env(length=3)
    episodes = [[step.action for step in episode][1:] for episode in drive_env(env, range(8))]
    assert episodes == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert env.resets == 3


def test_actions_that_end_with_an_episode_begin_no_other():
    env = counting_env(length=2)
    assert [numbers(episode) for episode in drive_env(env, [0] * 4)] == [[0, 1, 2]] * 2
    assert env.resets == 2


def test_no_actions_run_nothing_and_close_the_env():
    env = counting_env()
    assert list(drive_env(env, [])) == []
    assert (env.resets, env.closed) == (0, True)


def test_no_episodes_run_nothing_and_close_the_env():
    env = counting_env()
    assert list(drive_env(env, episodes=0)) == []
    assert (env.resets, env.closed) == (0, True)


def test_an_agent_decides_how_many_episodes_there_are():
    assert len(list(drive_env(counting_env(length=1), Agent(3)))) == 3
    assert len(list(drive_env(counting_env(length=1), Agent(3), episodes=2))) == 2


def test_steps_of_each_episode_can_be_limited():
    episodes = drive_env(counting_env(), episodes=2, steps_per_episode=3)
    assert [numbers(episode) for episode in episodes] == [[0, 1, 2, 3]] * 2


def test_the_env_runs_as_the_steps_are_asked_for():
    env = counting_env(length=3)
    episodes = drive_env(env, episodes=2)
    assert env.resets == 0
    episode = next(episodes)
    assert env.steps == 0
    next(episode)
    next(episode)
    assert (env.resets, env.steps) == (1, 1)
    assert not env.closed


def test_what_is_left_of_an_episode_runs_when_the_next_is_asked_for():
    steps = []
    env = counting_env(length=3, on_step=lambda env: steps.append((env.resets, env.steps)))
    for episode in drive_env(env, episodes=2):
        next(episode)
    assert steps == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3)]


def test_a_bare_loop_runs_and_records_everything(tmp_path: Path):
    path = tmp_path / "recording.h5"
    for _ in drive_env(record_hdf5(counting_env(length=3), path), episodes=4):
        pass
    assert [(len(episode), episode.ending) for episode in HDF5Reader(path)] == [(3, "terminated")] * 4


def test_the_clock_is_the_steps():
    clock = ticking_clock()
    first, second = (list(episode) for episode in drive_env(counting_env(), [0] * 2, 2, 1, clock))
    assert [step.time for step in first + second] == [100.0, 101.0, 102.0, 103.0]


# ---- get_actions ----


def test_actions_are_those_of_the_steps_without_the_reset():
    reader = recorded(counting_env(length=3))
    found = [[int(action) for action in actions] for actions in get_actions(reader)]
    assert found == [episode.actions.tolist() for episode in reader]
    assert [list(actions) for actions in get_actions([[(0.0, 0, 9, np.nan, False, None)]])] == [[]]


def test_actions_are_got_as_they_are_asked_for():
    env = counting_env(length=3)
    actions = next(get_actions(drive_env(env, [3, 1, 2])))
    assert env.steps == 0
    assert next(actions) == 3
    assert env.steps == 1


def test_recorded_actions_drive_an_env_again():
    reader = recorded(counting_env(length=3))
    actions = itertools.chain.from_iterable(get_actions(reader))
    driven = [[step.action for step in episode][1:] for episode in drive_env(counting_env(length=3), actions)]
    assert driven == [episode.actions.tolist() for episode in reader]


# ---- Doing it again ----


@both_libraries
@pytest.mark.parametrize("env_id", ["CartPole-v1", "FrozenLake-v1", "Pendulum-v1"])
def test_running_a_seeded_env_again_gives_an_equal_recording(library, env_id, tmp_path: Path):
    first, again = tmp_path / "first.h5", tmp_path / "again.h5"
    env = record_hdf5(make(library, env_id), first)
    play(env)
    env.close()
    env = record_hdf5(make(library, env_id), again)
    for _ in drive_env(env, PlaybackAgent(HDF5Reader(first))):
        pass
    outcome = compare(first, again)
    assert outcome, outcome
    assert len(HDF5Reader(again)) == 3


def test_actions_that_share_a_buffer_are_given_as_they_were():
    def noise():
        buffer = np.zeros(1, np.float32)
        for number in range(4):
            buffer[0] = number / 10
            yield buffer

    _, *steps = run_episode(make("gymnasium", "Pendulum-v1"), noise())
    assert [float(step.action[0]) for step in steps] == [float(np.float32(n / 10)) for n in range(4)]
