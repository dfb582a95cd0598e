"""What is recorded: envs, the actions they are given, and how much of each is measured."""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import gymnasium
from gymnasium.envs.registration import find_highest_version
from made_up_envs import SEED, AntLike, Instant

# Actions are made beforehand, so that making them is not timed. Long runs use them over and over; short ones
# must not, as compression would find out.
DISTINCT_ACTIONS = 100_000


@dataclass(frozen=True)
class Scale:
    """How many steps and repetitions to measure; slow recorders get fewer."""

    pairs: int
    recording_share: float  # of the steps that the table of recording has for each env
    cartpole_steps: int
    frames: int
    slow_pairs: int
    slow_steps: int
    step_times: int  # frames to time one by one
    memory_steps: tuple[int, ...]
    size_steps: int
    dataset_steps: int
    dataset_frames: int
    info_steps: int  # of envs that give infos
    many_info_steps: int  # with many keys each
    long_episodes: int  # of the long file, each of `Instant.EPISODE_STEPS`
    random_episodes: int
    openings: int
    atari_rows: int  # of an epoch
    atari_sample_rows: int  # that are played, and repeated
    atari_batches: int
    atari_lazy_batches: int
    atari_games: int  # whose ids are registered


FULL = Scale(
    pairs=5,
    recording_share=1,
    cartpole_steps=100_000,
    frames=2_240,
    slow_pairs=3,
    slow_steps=20_000,
    step_times=20_000,
    memory_steps=(1_000_000,),
    size_steps=20_000,
    dataset_steps=1_000_000,
    dataset_frames=20_000,
    info_steps=20_000,
    many_info_steps=20_000,
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
    recording_share=1 / 200,
    cartpole_steps=500,
    frames=40,
    slow_pairs=1,
    slow_steps=200,
    step_times=40,
    memory_steps=(1_000,),
    size_steps=500,
    dataset_steps=1_000,
    dataset_frames=40,
    info_steps=200,
    many_info_steps=100,
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


def _plain(name: str) -> Workload:
    return Workload(name, functools.partial(gymnasium.make, name))


def _newest(name: str) -> Workload:
    """Return an env whose version differs between the releases of gymnasium."""
    return _plain(f"{name}-v{find_highest_version(None, name)}")


def _make_mujoco(name: str) -> Any:
    import mujoco

    # Else MuJoCo writes to a file in the working folder, too.
    mujoco.set_mju_user_warning(_warn_of_mujoco)
    return gymnasium.make(name)


def _warn_of_mujoco(message: str) -> None:
    if "is deprecated" not in message:  # as some words in gymnasium's models are
        warnings.warn(message, RuntimeWarning, stacklevel=1)


def _mujoco(name: str) -> Workload:
    return Workload(name, functools.partial(_make_mujoco, name), ("mujoco",))


def _make_breakout(observation_type: str) -> Any:
    import ale_py

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
    return gymnasium.make("ALE/Breakout-v5", obs_type=observation_type)


CARTPOLE = _plain("CartPole-v1")
MOUNTAIN_CAR = _plain("MountainCar-v0")
ACROBOT = _plain("Acrobot-v1")
MOUNTAIN_CAR_CONTINUOUS = _plain("MountainCarContinuous-v0")
PENDULUM = _plain("Pendulum-v1")
FROZEN_LAKE = _plain("FrozenLake-v1")
CLIFF_WALKING = _newest("CliffWalking")
TAXI = _newest("Taxi")
BLACKJACK = _plain("Blackjack-v1")
HALF_CHEETAH = _mujoco("HalfCheetah-v5")
HOPPER = _mujoco("Hopper-v5")
WALKER = _mujoco("Walker2d-v5")
SWIMMER = _mujoco("Swimmer-v5")
REACHER = _mujoco("Reacher-v5")
INVERTED_PENDULUM = _mujoco("InvertedPendulum-v5")
ANT = _mujoco("Ant-v5")
HUMANOID = _mujoco("Humanoid-v5")
BREAKOUT = Workload("ALE/Breakout-v5", functools.partial(_make_breakout, "rgb"), ("ale_py",))
BREAKOUT_RAM = Workload("ALE/Breakout-v5, RAM", functools.partial(_make_breakout, "ram"), ("ale_py",))
ANT_LIKE = Workload("Ant-like", AntLike)
ANT_LIKE_DICT = Workload("Ant-like, observations are dicts", functools.partial(AntLike, as_dict=True))
ANT_LIKE_INFOS = Workload("Ant-like, infos of ten numbers", functools.partial(AntLike, with_infos=True))
INSTANT = Workload("Instant", Instant)
TEN_INFOS = Workload("Instant, infos of ten floats", functools.partial(Instant, info_keys=10))
MANY_INFOS = Workload("Instant, infos of 200 floats", functools.partial(Instant, info_keys=200))
