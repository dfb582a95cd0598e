"""The Atari env as that of Gym 0.26, and what its ids are registered as."""

from __future__ import annotations

from typing import Any, ClassVar

import gym
from gym.envs.registration import EnvSpec

from gymbag.atari import environment, registration


class RunSpec(EnvSpec):
    """The spec of an id; see `for_gymnasium.RunSpec`."""

    def __post_init__(self) -> None:
        """Tell the library what to know the id by."""
        self.namespace, self.name, self.version = None, registration.name_spec(self.id), None


class AtariEnv(environment.AtariMethods, gym.Env[Any, Any]):  # type: ignore[misc]  # render() is narrower
    """Plays an Atari game; see `for_gymnasium.AtariEnv`."""

    spaces: ClassVar[Any] = gym.spaces
