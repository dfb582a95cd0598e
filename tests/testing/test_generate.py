"""Made-up episodes: what they hold, and that they can be recorded, replayed and compared."""

from __future__ import annotations

import itertools

import gymnasium
import numpy as np
import pytest
from envs import assert_same

from gymbag import (
    Header,
    MemoryWriter,
    PlaybackEnv,
    Step,
    generate_monotonic,
    generate_random,
    record_from_iter,
)
from gymbag.spaces import describe_space


def header(observation_space, action_space):
    return Header("made up", describe_space(observation_space), describe_space(action_space))


# ---- generate_random ----


def test_random_episodes_hold_what_the_functions_return():
    numbers = itertools.count().__next__
    observations = iter("abcdefgh").__next__
    episodes = generate_random(observations, numbers, lambda: 0.5, episodes=2, steps_per_episode=lambda: 2)
    found = [[tuple(step)[1:] for step in episode] for episode in episodes]
    nan = float("nan")
    assert_same(
        found,
        [
            [("a", 0, nan, False, None), ("b", 1, 0.5, False, None), ("c", 2, 0.5, True, None)],
            [("d", 3, nan, False, None), ("e", 4, 0.5, False, None), ("f", 5, 0.5, True, None)],
        ],
    )


def test_steps_are_made_as_they_are_asked_for():
    made = []
    episodes = generate_random(lambda: made.append("observation"), lambda: made.append("action"))
    assert made == []
    next(next(episodes))
    assert made == ["observation", "action"]


def test_random_episodes_have_1_to_10_steps_and_rewards_from_0_to_1():
    episodes = [list(episode) for episode in generate_random(int, int, episodes=300)]
    assert {len(episode) - 1 for episode in episodes} == set(range(1, 11))
    rewards = [step.reward for episode in episodes for step in episode[1:]]
    assert all(0 <= reward < 1 for reward in rewards)
    assert len(set(rewards)) == len(rewards)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_there_are_as_many_random_episodes_as_asked_for(count):
    assert len(list(generate_random(int, int, episodes=count))) == count


def test_a_random_episode_without_steps_is_only_a_reset():
    (episode,) = generate_random(int, int, episodes=1, steps_per_episode=lambda: 0)
    (reset,) = episode
    assert (reset.done, reset.info) == (False, None)
    assert np.isnan(reset.reward)


# ---- generate_monotonic ----


def test_monotonic_numbers_tell_where_they_belong():
    for number, episode in enumerate(generate_monotonic(5)):
        reset, *steps = episode
        assert_same(reset.observation, np.array([number, 0], np.float32))
        assert (reset.action, reset.done, np.isnan(reset.reward)) == (0, False, True)
        assert len(steps) == number
        for index, step in enumerate(steps, start=1):
            assert isinstance(step, Step)
            assert_same(step.observation, np.array([number, index], np.float32))
            assert (step.action, step.reward, step.info) == (index, 10.0 * index, None)
            assert step.done == (index == number)


def test_monotonic_values_lie_in_the_spaces_that_are_promised():
    count = 12
    observations, actions = gymnasium.spaces.Box(0, count, (2,)), gymnasium.spaces.Discrete(count)
    for episode in generate_monotonic(count):
        for step in episode:
            assert step.observation in observations
            assert step.action in actions


def test_times_do_not_go_back():
    times = [step.time for episode in generate_monotonic(5) for step in episode]
    assert times == sorted(times)


# ---- What they are for ----


def test_made_up_episodes_can_be_recorded_and_replayed():
    observations, actions = gymnasium.spaces.Box(0, 6, (2,)), gymnasium.spaces.Discrete(6)
    writer = MemoryWriter()
    record_from_iter(writer, generate_monotonic(6), header(observations, actions))
    reader = writer.reader()
    assert [len(episode) for episode in reader] == list(range(6))
    assert [episode.ending for episode in reader] == ["unfinished", *["terminated"] * 5]
    replayed = PlaybackEnv(reader)
    live = PlaybackEnv(generate_monotonic(6), observations, actions)
    while not live.played_out:
        assert_same(live.reset(), replayed.reset())
        while not live.episode_over:
            assert_same(live.step(0), replayed.step(0))
    assert replayed.played_out
