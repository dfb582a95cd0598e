"""The envs and wrappers of gymbag as Gymnasium's: recording, replay, and random data."""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
from gymnasium.envs.registration import EnvSpec

from gymbag import playback, random_env, recording


class RecordingWrapper(recording.RecordingWrapper, gymnasium.Wrapper[Any, Any, Any, Any]):  # type: ignore[override]  # its spec is read-only
    """Records a gymnasium env; see `gymbag.RecordingWrapper`."""


class PlaybackEnv(playback.PlaybackMethods, gymnasium.Env[Any, Any]):
    """Replays recorded episodes: `reset` and `step` return what was recorded, whatever the actions.

    Gymnasium's `check_env` passes, given ten finished episodes, for that is how often it resets; without
    images, tell it to skip its check of rendering. The replay declares itself nondeterministic, as a seed
    changes nothing.

    Args:
        source: A reader, or an iterable of episodes, each an iterable of
            `(time, observation, action, reward, done, info)`, the reset first; of the latter, done means
            terminated.
        observation_space: The space to declare, if not the source's.
        action_space: The space to declare, if not the source's.
        render_mode: "rgb_array" to have `render` return image observations.
        truncate_unfinished: Whether the last step of an unfinished episode returns truncated, so that loops
            that wait for the end of an episode find it. By default it returns what was recorded.
        annotations: Whether `step` puts what was said of the recorded step with `env.annotate`, a dict, into
            the info that it returns, under the key "annotation".

    >>> from gymnasium.spaces import Box, Discrete
    >>> from gymbag import generate_monotonic
    >>> env = PlaybackEnv(generate_monotonic(2), Box(0, 2, (2,)), Discrete(2))
    >>> env.reset()
    (array([0., 0.], dtype=float32), {})
    >>> env.reset()
    (array([1., 0.], dtype=float32), {})
    >>> env.step(env.action_space.sample())
    (array([1., 1.], dtype=float32), 10.0, True, False, {})
    >>> env.played_out
    True
    """

    library = "gymnasium"
    spec_class = EnvSpec


class RandomEnv(random_env.RandomMethods, gymnasium.Env[Any, Any]):
    """Makes random observations and rewards, to try things out with.

    Observations are sampled from their space, and rewards from [0, 1).

    Args:
        observation_space: Where observations are sampled from; seeded by `reset(seed=...)`.
        action_space: The space to declare, by default `Discrete(2)`; actions have no effect.
        episode_steps: Steps of each episode, the last of which terminates it.
    """

    spaces: ClassVar[Any] = gymnasium.spaces
