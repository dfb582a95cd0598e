"""An env of random data: the part that does not depend on a gym library."""

from __future__ import annotations

from typing import Any, ClassVar

from gymbag.errors import RecordingError


class RandomMethods:
    """An env of random data but for its library, which `for_gymnasium` and `for_gym` add.

    Observations are sampled from their space, and rewards from [0, 1).

    Args:
        observation_space: Where observations are sampled from; seeded by `reset(seed=...)`.
        action_space: The space to declare, by default `Discrete(2)`; actions have no effect.
        episode_steps: Steps of each episode, the last of which terminates it.
    """

    #: The spaces of the library.
    spaces: ClassVar[Any]
    np_random: Any

    def __init__(self, observation_space: Any, action_space: Any = None, episode_steps: int = 10) -> None:
        self.observation_space = observation_space
        self.action_space = self.spaces.Discrete(2) if action_space is None else action_space
        self.episode_steps = episode_steps
        self._steps_left = 0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode with a random observation."""
        super().reset(seed=seed)  # type: ignore[misc]  # of the library's Env, the second base
        if seed is not None:
            self.observation_space.seed(seed)
        self._steps_left = self.episode_steps
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return a random observation and reward.

        Raises:
            RecordingError: No episode is under way.
        """
        if not self._steps_left:
            raise RecordingError("expected reset() before step(): no episode is under way")
        self._steps_left -= 1
        observation, reward = self.observation_space.sample(), float(self.np_random.random())
        return observation, reward, not self._steps_left, False, {}
