"""The envs and wrappers of gymbag as those of Gym 0.26: recording, replay, and random data."""

from __future__ import annotations

from typing import Any, ClassVar

import gym
import numpy as np
from gym.envs.registration import EnvSpec
from gym.wrappers.env_checker import PassiveEnvChecker

from gymbag import playback, random_env, recording


class RecordingWrapper(recording.RecordingWrapper, gym.Wrapper[Any, Any]):  # type: ignore[override, misc]  # its spec is read-only
    """Records a gym env; see `gymbag.RecordingWrapper`."""

    def __init__(self, env: gym.Env[Any, Any], *args: Any, **options: Any) -> None:
        _spare_checker(env)
        super().__init__(env, *args, **options)


def _spare_checker(env: Any) -> None:
    """Have gym's checker skip its check of the first step, which crashes on NumPy 2 (it uses `np.bool8`)."""
    while isinstance(env, gym.Wrapper):
        if isinstance(env, PassiveEnvChecker) and not hasattr(np, "bool8"):
            env.checked_step = True
        env = env.env


class PlaybackEnv(playback.PlaybackMethods, gym.Env[Any, Any]):  # type: ignore[misc]  # render() is narrower
    """Replays recorded episodes; see `for_gymnasium.PlaybackEnv`."""

    library = "gym"
    spec_class = EnvSpec


class RandomEnv(random_env.RandomMethods, gym.Env[Any, Any]):
    """Makes random observations and rewards; see `for_gymnasium.RandomEnv`."""

    spaces: ClassVar[Any] = gym.spaces
