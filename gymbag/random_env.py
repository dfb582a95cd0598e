"""An env of random data: the part that does not depend on a gym library."""

from __future__ import annotations

from typing import Any

from gymbag.errors import RecordingError


class RandomMethods:
    """Samples observations from a space and rewards from [0, 1); episodes end after a set number of steps.

    Args:
        observation_space: Where observations are sampled from; seeded by `reset(seed=...)`.
        action_space: The space to declare; actions have no effect.
        episode_steps: Steps of each episode.
    """

    np_random: Any

    def _begin(self, observation_space: Any, action_space: Any, episode_steps: int) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.episode_steps = episode_steps
        self._steps_left = 0

    def _random_reset(self, seed: int | None) -> tuple[Any, dict[str, Any]]:
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
