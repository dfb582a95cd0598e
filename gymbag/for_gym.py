"""The envs and wrappers of gymbag as those of Gym 0.26: recording, replay, and random data."""

from __future__ import annotations

from typing import Any

import gym
import numpy as np
from gym.envs.registration import EnvSpec
from gym.wrappers.env_checker import PassiveEnvChecker

from gymbag import playback, recording
from gymbag.random_env import RandomMethods


class RecordingWrapper(recording.RecordingWrapper, gym.Wrapper[Any, Any]):  # type: ignore[override, misc]  # same
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
    """Replays recorded episodes: `reset` and `step` return what was recorded, whatever the actions.

    What the arguments mean, and an example, are with `for_gymnasium.PlaybackEnv`.
    """

    def __init__(
        self,
        source: playback.Source,
        observation_space: Any = None,
        action_space: Any = None,
        *,
        render_mode: str | None = None,
        truncate_unfinished: bool = False,
    ) -> None:
        self._begin("gym", source, observation_space, action_space, render_mode, truncate_unfinished)
        # Whoever makes an env from this spec gets a replay of the same source, from its beginning.
        self.spec = EnvSpec(
            id="gymbag/Playback-v0",
            entry_point=lambda **options: PlaybackEnv(
                source,
                observation_space,
                action_space,
                truncate_unfinished=truncate_unfinished,
                **options,
            ),
            nondeterministic=True,
            order_enforce=False,
            disable_env_checker=True,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin the next episode, or the one given by `options={"episode": number}`; the seed has no effect.

        Raises:
            PlaybackError: There is no such episode.
        """
        super().reset(seed=seed)
        return self._replay_reset(options)


class RandomEnv(RandomMethods, gym.Env[Any, Any]):
    """Makes random observations and rewards, to try things out with; see `RandomMethods`."""

    def __init__(self, observation_space: Any, action_space: Any = None, episode_steps: int = 10) -> None:
        self._begin(
            observation_space,
            gym.spaces.Discrete(2) if action_space is None else action_space,
            episode_steps,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with a random observation."""
        super().reset(seed=seed)
        return self._random_reset(seed)
