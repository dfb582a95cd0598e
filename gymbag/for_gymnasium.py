"""The envs and wrappers of gymbag as Gymnasium's: recording, replay, and random data."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec

from gymbag import playback, recording
from gymbag.random_env import RandomMethods


class RecordingWrapper(recording.RecordingWrapper, gymnasium.Wrapper[Any, Any, Any, Any]):  # type: ignore[override]  # spec is read-only
    """Records a gymnasium env; see `gymbag.RecordingWrapper`."""


class PlaybackEnv(playback.PlaybackMethods, gymnasium.Env[Any, Any]):
    """Replays recorded episodes: `reset` and `step` return what was recorded, whatever the actions.

    Gymnasium's `check_env` passes, given enough episodes (it resets a dozen times); the replay
    declares itself nondeterministic, as a seed cannot change what is replayed.

    Args:
        source: A reader, or an iterable of episodes, each an iterable of
            `(time, observation, action, reward, done, info)`, the reset first; of the latter, done
            means terminated.
        observation_space: The space to declare, if not the source's.
        action_space: The space to declare, if not the source's.
        render_mode: "rgb_array" to have `render` return image observations.
        truncate_unfinished: Whether the last step of an unfinished episode returns truncated, so
            that loops that wait for the end of an episode find it. By default it returns what was
            recorded: neither flag.

    >>> from gymnasium.spaces import Box, Discrete
    >>> from gymbag import generate_monotonic
    >>> env = PlaybackEnv(generate_monotonic(2), Box(0, 2, (2,)), Discrete(2))
    >>> env.reset(options=None)
    (array([0., 0.], dtype=float32), {})
    >>> env.reset()
    (array([1., 0.], dtype=float32), {})
    >>> env.step(env.action_space.sample())
    (array([1., 1.], dtype=float32), 10.0, True, False, {})
    >>> env.played_out
    True
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
        self._begin("gymnasium", source, observation_space, action_space, render_mode, truncate_unfinished)
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


class RandomEnv(RandomMethods, gymnasium.Env[Any, Any]):
    """Makes random observations and rewards, to try things out with; see `RandomMethods`."""

    def __init__(self, observation_space: Any, action_space: Any = None, episode_steps: int = 10) -> None:
        self._begin(
            observation_space,
            gymnasium.spaces.Discrete(2) if action_space is None else action_space,
            episode_steps,
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with a random observation."""
        super().reset(seed=seed)
        return self._random_reset(seed)
