"""Envs to record, and the plain loop that recordings are compared with.

The loop is the yardstick: `play` notes what an env gave, with no gymbag between; `assert_same` then holds
what was read back against it, to the bit and the type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ale_py
import gym
import gymnasium
import numpy as np
import pytest

gymnasium.register_envs(ale_py)

LIBRARIES: dict[str, Any] = {"gymnasium": gymnasium, "gym": gym}
both_libraries = pytest.mark.parametrize("library", LIBRARIES)

# The libraries' checkers prefer bounded spaces and bare envs, which says nothing about a wrapper or a replay.
checker_opinions = pytest.mark.filterwarnings(
    "ignore:.*A Box .* space m(in|ax)imum value is -?infinity:UserWarning",
    "ignore:.*is different from the unwrapped version:UserWarning",
    "ignore:.*we recommend using a symmetric and normalized space:UserWarning",
    "ignore:.*Not able to test alternative render modes:UserWarning",
)

REAL_ENVS = [
    (library, env_id)
    for library in LIBRARIES
    for env_id in (
        "CartPole-v1",  # an agent that does not try soon ends it: terminated
        "Pendulum-v1",  # float actions, NumPy rewards
        "FrozenLake-v1",  # Discrete observations, an info at every step
        "Blackjack-v1",  # a Tuple of observations
        "MountainCarContinuous-v0",
        "ALE/Breakout-v5",  # images
    )
    if not (library == "gym" and env_id.startswith("ALE/"))  # ale-py registers with gymnasium only
]
all_real_envs = pytest.mark.parametrize(("library", "env_id"), REAL_ENVS)


def make(library: str, env_id: str, **options: Any) -> Any:
    """Make an env that can be stepped bare: gym's checker crashes on NumPy 2."""
    return LIBRARIES[library].make(env_id, disable_env_checker=True, **options)


@dataclass
class Seen:
    """One episode, as a plain loop saw it."""

    seed: int | None
    options: dict[str, Any] | None
    observations: list[Any]
    infos: list[Any]
    actions: list[Any] = field(default_factory=list)
    rewards: list[Any] = field(default_factory=list)
    terminated: bool = False
    truncated: bool = False

    @property
    def ended(self) -> bool:
        return bool(self.terminated or self.truncated)


#: Arguments of reset: what is played by default. The second goes on with the random numbers of the first.
RESETS: tuple[tuple[int | None, dict[str, Any] | None], ...] = (
    (3, None),
    (None, None),
    (2**31, {"low": 0.01, "high": 0.02}),
)


def play(
    env: Any,
    resets: Iterable[tuple[int | None, dict[str, Any] | None]] = RESETS,
    steps: int = 40,
    choose: Callable[[], Any] | None = None,
) -> list[Seen]:
    """Play an episode for each pair of seed and options, of so many steps at most; the env stays open."""
    if choose is None:
        env.action_space.seed(11)
        choose = env.action_space.sample
    episodes = []
    for seed, options in resets:
        observation, info = env.reset(seed=seed, options=options)
        seen = Seen(seed, options, [observation], [info])
        episodes.append(seen)
        while not seen.ended and len(seen.actions) < steps:
            action = choose()
            observation, reward, seen.terminated, seen.truncated, info = env.step(action)
            seen.observations.append(observation)
            seen.actions.append(action)
            seen.rewards.append(reward)
            seen.infos.append(info)
    return episodes


def assert_same(found: Any, expected: Any, path: str = "value") -> None:
    """Hold a value against another: containers, dtypes, shapes and bits.

    Only in place of a Python number may there be a NumPy scalar, as a space knows no Python numbers.
    """
    if isinstance(expected, dict):
        assert isinstance(found, dict), path
        assert list(found) == list(expected), path
        for key in expected:
            assert_same(found[key], expected[key], f"{path}[{key!r}]")
    elif isinstance(expected, tuple | list):
        assert isinstance(found, type(expected)), path
        assert len(found) == len(expected), path
        for index, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same(one, other, f"{path}[{index}]")
    elif isinstance(expected, np.ndarray):
        assert isinstance(found, np.ndarray), path
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape), path
        if expected.dtype.hasobject:
            assert_same(found.tolist(), expected.tolist(), path)
        else:
            assert found.tobytes() == expected.tobytes(), f"{path}: {found!r} is not {expected!r}"
    elif isinstance(expected, np.generic):
        assert isinstance(found, np.generic), path
        assert_same(np.asarray(found), np.asarray(expected), path)
    elif isinstance(expected, float):
        assert isinstance(found, float), path
        assert np.float64(found).tobytes() == np.float64(expected).tobytes(), f"{path}: {found} {expected}"
    else:
        assert found == expected, f"{path}: {found!r} is not {expected!r}"


def assert_episode_is(episode: Any, seen: Seen) -> None:
    """Hold a recorded episode against one that was seen, step by step and as arrays."""
    assert len(episode) == len(seen.actions)
    assert_same((episode.seed, episode.options), (seen.seed, seen.options))
    assert (episode.terminated, episode.truncated) == (bool(seen.terminated), bool(seen.truncated))
    assert episode.finished == seen.ended
    reset, *steps = episode
    assert_same([step.observation for step in episode], seen.observations, "observations")
    assert_same([step.action for step in steps], seen.actions, "actions")
    assert_same([step.reward for step in steps], [float(reward) for reward in seen.rewards], "rewards")
    assert_same([step.info or {} for step in episode], [info or {} for info in seen.infos], "infos")
    assert_same(list(episode.infos), [info or {} for info in seen.infos], "infos")
    assert np.isnan(reset.reward)
    assert [step.done for step in episode] == [False] * len(seen.actions) + (
        [seen.ended] if seen.actions else [False]
    )
    assert_same(episode.rewards, np.array(seen.rewards, dtype=np.float64), "rewards")
    assert_same(episode.observations, stack(seen.observations), "observations")
    if seen.actions:
        assert_same(episode.actions, stack(seen.actions), "actions")


def assert_recorded(reader: Iterable[Any], seen: Sequence[Seen]) -> None:
    """Hold a whole recording against the episodes that were seen."""
    recorded = list(reader)
    assert len(recorded) == len(seen)
    for episode, expected in zip(recorded, seen, strict=True):
        assert_episode_is(episode, expected)


def stack(values: Sequence[Any]) -> Any:
    """Stack values of one form: leaf by leaf, those in tuples and dicts, too."""
    if isinstance(values[0], dict):
        return {key: stack([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], tuple):
        return tuple(stack(list(items)) for items in zip(*values, strict=True))
    if isinstance(values[0], int):  # or a bool: a Discrete space knows but integers
        return np.array(values, dtype=np.int64)
    return np.stack(values)


class _CountingMethods:
    """An env whose observation is (steps since the reset, resets), for tests to change in one respect."""

    def __init__(self, library: str, length: int | None, **changes: Any) -> None:
        spaces = LIBRARIES[library].spaces
        self.observation_space = changes.pop("observation_space", None) or spaces.Box(-np.inf, np.inf, (2,))
        self.action_space = changes.pop("action_space", None) or spaces.Discrete(4)
        self.length, self.changes = length, changes
        self.steps, self.resets, self.closed = 0, 0, False

    def _give(self, name: str, default: Any) -> Any:
        return self.changes[name](self) if name in self.changes else default

    def _observe(self) -> Any:
        return self._give("observe", np.array([self.steps, self.resets], dtype=np.float32))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        self.options = options
        self.steps, self.resets = 0, self.resets + 1
        self._give("on_reset", None)
        return self._observe(), self._give("info", {})

    def step(self, action: Any) -> Any:
        self.action = action
        self.steps += 1
        self._give("on_step", None)
        terminated = self.steps == self.length
        return self._observe(), self._give("reward", 1.0), terminated, False, self._give("info", {})

    def close(self) -> None:
        self.closed = True


_COUNTING_CLASSES = {
    name: type("CountingEnv", (_CountingMethods, library.Env), {}) for name, library in LIBRARIES.items()
}


def counting_env(library: str = "gymnasium", length: int | None = None, **changes: Any) -> Any:
    """Make an env that counts; of `length` steps an episode, or without end.

    Changes: `observation_space`, `action_space`, and functions of the env that return an observation
    (`observe`), `reward` or `info`, or are called in `step` (`on_step`) or `reset` (`on_reset`).
    """
    return _COUNTING_CLASSES[library](library, length, **changes)
