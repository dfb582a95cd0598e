"""What is recorded: envs, the actions they are given, and how much of each is measured."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

SEED = 1
# Actions are made beforehand, so that making them is not timed. Long runs use them over and over; short ones
# must not, as compression would find out.
DISTINCT_ACTIONS = 100_000


@dataclass(frozen=True)
class Scale:
    """How many steps and repetitions to measure; slow recorders get fewer."""

    pairs: int
    cartpole_steps: int
    frames: int
    ant_steps: int
    slow_pairs: int
    slow_steps: int
    step_times: int  # frames to time one by one
    memory_steps: tuple[int, ...]
    size_steps: int
    dataset_steps: int
    dataset_frames: int
    long_episodes: int  # of the long file, each of LONG_EPISODE_STEPS
    random_episodes: int
    openings: int
    atari_rows: int  # of an epoch
    atari_sample_rows: int  # that are played, and repeated
    atari_batches: int
    atari_lazy_batches: int
    atari_games: int  # whose ids are registered


FULL = Scale(
    pairs=7,
    cartpole_steps=100_000,
    frames=2_240,
    ant_steps=50_000,
    slow_pairs=3,
    slow_steps=20_000,
    step_times=20_000,
    memory_steps=(1_000_000,),
    size_steps=20_000,
    dataset_steps=1_000_000,
    dataset_frames=20_000,
    long_episodes=100_000,
    random_episodes=200,
    openings=20,
    atari_rows=1_000_000,
    atari_sample_rows=20_000,
    atari_batches=2_000,
    atari_lazy_batches=10_000,
    atari_games=62,
)
# Checks that everything runs; its figures mean little.
QUICK = Scale(
    pairs=1,
    cartpole_steps=500,
    frames=40,
    ant_steps=500,
    slow_pairs=1,
    slow_steps=200,
    step_times=40,
    memory_steps=(1_000,),
    size_steps=500,
    dataset_steps=1_000,
    dataset_frames=40,
    long_episodes=100,
    random_episodes=10,
    openings=2,
    atari_rows=1_000,
    atari_sample_rows=300,
    atari_batches=5,
    atari_lazy_batches=5,
    atari_games=1,
)


@dataclass(frozen=True)
class Workload:
    """An env to record.

    Attributes:
        name: What tables call it.
        make: Makes the env.
        packages: What it needs beyond gymnasium.
    """

    name: str
    make: Callable[[], Any]
    packages: tuple[str, ...] = ()

    def make_seeded(self) -> Any:
        """Make the env and seed it, which takes ALE a tenth of a second and is not to be timed."""
        env = self.make()
        env.reset(seed=SEED)
        return env


@functools.cache
def _distinct_actions(workload: Workload, count: int) -> list[Any]:
    env = workload.make()
    env.action_space.seed(SEED)
    actions = [env.action_space.sample() for _ in range(count)]
    env.close()
    return actions


def actions_of(workload: Workload, steps: int) -> Iterator[Any]:
    """Return as many actions, the same ones every time."""
    return itertools.islice(itertools.cycle(_distinct_actions(workload, min(steps, DISTINCT_ACTIONS))), steps)


def play(env: Any, actions: Iterable[Any], reset_options: dict[str, Any] | None = None) -> None:
    """Run an env on these actions, and reset it when an episode has ended and there are more."""
    env.reset(options=reset_options)
    done = False
    for action in actions:
        if done:
            env.reset(options=reset_options)
        _, _, terminated, truncated, _ = env.step(action)
        done = terminated or truncated


class AntLike(gymnasium.Env[Any, Any]):
    """Steps that take as long, and give as much, as those of MuJoCo's Ant.

    Args:
        as_dict: Whether observations are dicts of four arrays rather than one array.
        with_infos: Whether infos hold ten numbers, like those of Ant.
    """

    STEP_SECONDS = 20e-6
    EPISODE_STEPS = 1_000
    PARTS = (("positions", 13), ("velocities", 14), ("forces", 48), ("torques", 30))
    INFO_KEYS = (
        *("x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"),
        *("reward_forward", "reward_ctrl", "reward_contact", "reward_survive", "reward_total"),
    )

    def __init__(self, as_dict: bool = False, with_infos: bool = False) -> None:
        self.action_space = Box(-1.0, 1.0, (8,), np.float32)
        parts = {name: Box(-np.inf, np.inf, (size,), np.float64) for name, size in self.PARTS}
        size = sum(size for _, size in self.PARTS)
        self.observation_space = Dict(parts) if as_dict else Box(-np.inf, np.inf, (size,), np.float64)
        self._as_dict, self._with_infos = as_dict, with_infos
        self._states = np.random.default_rng(SEED).normal(size=(4_096, size))
        self._steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._steps = 0
        return self._observe(), self._inform()

    def step(self, action: Any) -> Any:
        end = time.perf_counter() + self.STEP_SECONDS
        self._steps += 1
        observation, info = self._observe(), self._inform()
        while time.perf_counter() < end:
            pass
        return observation, 1.0, False, self._steps == self.EPISODE_STEPS, info

    def _observe(self) -> Any:
        state = self._states[self._steps].copy()
        if not self._as_dict:
            return state
        ends = itertools.accumulate(size for _, size in self.PARTS)
        return {name: state[end - size : end] for (name, size), end in zip(self.PARTS, ends, strict=True)}

    def _inform(self) -> dict[str, Any]:
        return dict(zip(self.INFO_KEYS, self._states[self._steps], strict=False)) if self._with_infos else {}


class Instant(gymnasium.Env[Any, Any]):
    """Steps that take no time, to make long files."""

    EPISODE_STEPS = 100

    def __init__(self) -> None:
        self.action_space = Discrete(2)
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float32)
        self._observations = list(np.random.default_rng(SEED).normal(size=(1_000, 4)).astype(np.float32))
        self._steps = self._total = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._steps = 0
        return self._observations[0], {}

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._total += 1
        ends = self._steps == self.EPISODE_STEPS
        return self._observations[self._total % 1_000], 1.0, ends, False, {}


def _make_breakout() -> Any:
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
    return gymnasium.make("ALE/Breakout-v5", obs_type="rgb")


CARTPOLE = Workload("CartPole-v1", functools.partial(gymnasium.make, "CartPole-v1"))
BREAKOUT = Workload("ALE/Breakout-v5", _make_breakout, ("ale_py",))
ANT = Workload("Ant-like", AntLike)
ANT_DICT = Workload("Ant-like, observations are dicts", functools.partial(AntLike, as_dict=True))
ANT_INFOS = Workload("Ant-like, infos of ten numbers", functools.partial(AntLike, with_infos=True))
INSTANT = Workload("Instant", Instant)
