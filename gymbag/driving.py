"""Running an env: agents, and the loops that let them act.

An agent has `act(observation) -> action`. It may also have `next_episode() -> bool`, called before
each episode (False: there is none), `done`, true when it has no more actions for this episode, and
`seed` and `options`, which are passed to `reset`.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from gymbag import nested
from gymbag.episode import RecordedOptions, Step
from gymbag.errors import PlaybackError
from gymbag.space_columns import column_of
from gymbag.spaces import describe_space


class RandomAgent:
    """Samples actions from a space, ignoring observations.

    Args:
        action_space: The space.
        seed: Seeds the space, if given.
    """

    def __init__(self, action_space: Any, seed: int | None = None) -> None:
        self.action_space = action_space
        if seed is not None:
            action_space.seed(seed)

    def act(self, observation: Any = None) -> Any:
        """Return a random action."""
        return self.action_space.sample()


class PlaybackAgent:
    """Gives back recorded actions, ignoring observations.

    Call `next_episode` before each episode, then `act` until `done`. An env that is deterministic
    and is reset with `seed` and `options` then does again what it did.

    Args:
        source: A reader, or an iterable of episodes, each an iterable of steps.
    """

    def __init__(self, source: Iterable[Iterable[Any]]) -> None:
        self._episodes = iter(source)
        self._actions: Iterator[Any] = iter(())
        self._upcoming: list[Any] = []  # the next action, if there is one
        self.seed: Any = None
        self.options: dict[str, Any] | None = None

    def next_episode(self) -> bool:
        """Go to the next episode; False if there is none."""
        collections.deque(self._actions, maxlen=0)  # an iterator of episodes may need them used up
        episode = next(self._episodes, None)
        if episode is None:
            self._upcoming = []
            return False
        self.seed, options = getattr(episode, "seed", None), getattr(episode, "options", None)
        self.options = None if options is None else RecordedOptions(options)
        self._actions = _actions_of(episode)
        self._take()
        return True

    def _take(self) -> None:
        # A copy, because what makes the actions may use one buffer for all, and is an action ahead.
        self._upcoming = [nested.copy(action) for action in itertools.islice(self._actions, 1)]

    @property
    def done(self) -> bool:
        """Whether there are no more actions for this episode."""
        return not self._upcoming

    def act(self, observation: Any = None) -> Any:
        """Return the next recorded action.

        Raises:
            PlaybackError: There is none.
        """
        if not self._upcoming:
            raise PlaybackError("this episode has no more actions; call next_episode() before act()")
        (action,) = self._upcoming
        self._take()
        return action


class _ActionsAgent(PlaybackAgent):
    """Gives back actions of one iterable, whatever the episodes they fall into."""

    def __init__(self, actions: Iterable[Any]) -> None:
        super().__init__(())
        self._actions = iter(actions)
        self._take()

    def next_episode(self) -> bool:
        return not self.done


def get_actions(episodes: Iterable[Iterable[Any]]) -> Iterator[Iterator[Any]]:
    """Yield for each episode an iterator of its actions, without the null action of the reset.

    >>> reset, step = (0.0, "first", 0, float("nan"), False, None), (0.1, "second", 7, 1.0, True, None)
    >>> [list(actions) for actions in get_actions([[reset, step]])]
    [[7]]
    """
    return map(_actions_of, episodes)


def _actions_of(episode: Iterable[Any]) -> Iterator[Any]:
    return (Step(*step).action for step in itertools.islice(episode, 1, None))


def run_episode(
    env: Any,
    actions: Any = None,
    max_steps: int | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Step]:
    """Run an env for one episode and yield its steps, the reset first.

    Nothing happens before the first step is asked for. The episode ends when the env says so, when
    the actions are used up, or after `max_steps`.

    Args:
        env: The env.
        actions: An agent (see the module), or an iterable of actions; by default random ones.
        max_steps: How many steps to run at most.
        clock: Returns the time, in Unix seconds.
    """
    agent = _as_agent(env, actions)
    if hasattr(agent, "next_episode") and not agent.next_episode():
        return
    arguments = {name: getattr(agent, name, None) for name in ("seed", "options")}
    observation, info = env.reset(**{name: value for name, value in arguments.items() if value is not None})
    null = column_of(describe_space(env.action_space)).null()
    # Copies, as the env may use the same buffers for every step.
    yield Step(clock(), nested.copy(observation), null, np.nan, False, nested.copy(info) or None)
    done, count = False, 0
    while not done and not getattr(agent, "done", False) and (max_steps is None or count < max_steps):
        action = agent.act(observation)
        given = nested.copy(action)
        observation, reward, terminated, truncated, info = env.step(action)
        done, count = bool(terminated or truncated), count + 1
        yield Step(clock(), nested.copy(observation), given, float(reward), done, nested.copy(info) or None)


def drive_env(
    env: Any,
    actions: Any = None,
    episodes: int | None = None,
    steps_per_episode: int | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[Iterator[Step]]:
    """Run an env and yield its episodes, each an iterator of steps; at the end the env is closed.

    The env runs as the steps are asked for. Those of an episode that are left over are run when the
    next episode is asked for, so `for episode in drive_env(env, agent, 10): pass` runs ten whole
    episodes.

    Args:
        env: The env.
        actions: An agent (see the module), or one iterable of actions for all episodes; by default
            random ones.
        episodes: How many episodes to run at most; by default until the actions are used up.
        steps_per_episode: How many steps to run at most in each.
        clock: Returns the time, in Unix seconds.

    >>> import gymnasium
    >>> env = gymnasium.make("CartPole-v1")
    >>> [len(list(episode)) for episode in drive_env(env, [0, 1, 0, 1], steps_per_episode=3)]
    [4, 2]
    """
    agent = _as_agent(env, actions)
    for _ in itertools.count() if episodes is None else range(episodes):
        episode = run_episode(env, agent, steps_per_episode, clock)
        reset = next(episode, None)
        if reset is None:
            break
        yield itertools.chain([reset], episode)
        collections.deque(episode, maxlen=0)
    env.close()


def _as_agent(env: Any, actions: Any) -> Any:
    if actions is None:
        return RandomAgent(env.action_space)
    return actions if hasattr(actions, "act") else _ActionsAgent(actions)
