"""Made-up episodes: iterables of steps, as readers give them and `record_from_iter` takes them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from gymbag.episode import Step

_random = np.random.default_rng()


def generate_random(
    sample_observation: Callable[[], Any],
    sample_action: Callable[[], Any],
    sample_reward: Callable[[], float] = _random.random,
    episodes: int = 10,
    steps_per_episode: Callable[[], int] = lambda: int(_random.integers(1, 11)),
) -> Iterator[Iterator[Step]]:
    """Yield episodes of what the given functions return.

    They are called in the order observation, action, reward, and as the steps are asked for; so use
    up each episode before asking for the next, if what they return depends on that.

    Args:
        sample_observation: Returns an observation.
        sample_action: Returns an action.
        sample_reward: Returns a reward; by default uniform in [0, 1).
        episodes: How many episodes.
        steps_per_episode: Returns how many steps follow the reset; by default 1 to 10.
    """

    def steps(count: int) -> Iterator[Step]:
        for number in range(count + 1):
            observation, action, reward = sample_observation(), sample_action(), sample_reward()
            reward = reward if number else np.nan
            yield Step(time.time(), observation, action, reward, number == count > 0, None)

    return (steps(steps_per_episode()) for _ in range(episodes))


def generate_monotonic(episodes: int = 10) -> Iterator[Iterator[Step]]:
    """Yield episodes whose numbers tell where they belong.

    Episode i has i steps after the reset. At each, the observation is (episode, step), float32; the
    action is the number of the step, and the reward ten times that; the first reward is NaN.
    Spaces: `Box(0, episodes, (2,))` and `Discrete(episodes)`.

    >>> [[(step.action, step.reward) for step in episode] for episode in generate_monotonic(3)]
    [[(0, nan)], [(0, nan), (1, 10.0)], [(0, nan), (1, 10.0), (2, 20.0)]]
    """

    def steps(episode: int) -> Iterator[Step]:
        for number in range(episode + 1):
            observation = np.array([episode, number], dtype=np.float32)
            reward = number * 10.0 if number else np.nan
            yield Step(time.time(), observation, number, reward, number == episode > 0, None)

    return map(steps, range(episodes))
