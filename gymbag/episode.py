"""An episode, whole and step by step, and what its words and indices mean.

    reset()             -> observations[0],                infos[0], times[0]
    step(actions[0])    -> observations[1], rewards[0],    infos[1], times[1]
    step(actions[1])    -> observations[2], rewards[1],    infos[2], times[2]
    ...
    step(actions[T-1])  -> observations[T], rewards[T-1],  infos[T], times[T]; terminated, truncated

An episode of length T has T actions and rewards, and T+1 observations, infos and times. Step by step it is
T+1 tuples `(time, observation, action, reward, done, info)`: the first is the reset, with the null action,
the reward NaN and done False; the one after it carries `actions[0]`, `rewards[0]` and what they led to.
`done` is `terminated or truncated`. What was said of a step with `env.annotate` before `step(actions[t])` is
annotations[t], of T. An episode that was cut by `reset()`, by `close()` or by a crash is
neither: it is unfinished.
"""

from __future__ import annotations

import functools
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import IntFlag
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from gymbag.columns import Column
from gymbag.info_arrays import InfoArrays, parts_of

# Steps are read ahead in blocks of at most this many rows, and of about this many bytes.
_BLOCK_ROWS = 4096
_BLOCK_BYTES = 1 << 20

Field = Literal["observations", "actions", "rewards", "times", "infos"]


class Step(NamedTuple):
    """What one call of `reset` or `step` gave, and the action that was passed to it.

    Attributes:
        time: When the call returned, in Unix seconds.
        observation: What the env returned.
        action: What it was given; at the reset the null action (0 for Discrete, NaN for a float
            Box, zeros or nothing elsewhere).
        reward: What it returned; NaN at the reset.
        done: Whether the episode ended here by termination or truncation.
        info: What the env returned, or None in place of an empty dict.
    """

    time: float
    observation: Any
    action: Any
    reward: float
    done: bool
    info: dict[str, Any] | None

    @property
    def annotation(self) -> dict[str, Any] | None:
        """What was said of the step with `env.annotate`, or None if nothing was."""
        return None


class AnnotatedStep(Step):
    """A step of which something was said with `env.annotate`; as a tuple it is like any other.

    Attributes:
        annotation: What was said.

    >>> step = annotate_step(Step(0.5, 3, 1, 1.0, False, None), {"policy_value": 0.25})
    >>> len(step), step.annotation
    (6, {'policy_value': 0.25})
    """

    annotation: dict[str, Any] | None = None


#: Makes a step of a tuple. `Step._make` would do the same, and `Step` too, at twice the time.
make_step: Callable[[tuple[Any, ...]], Step] = functools.partial(tuple.__new__, Step)


def join_steps(
    times: Iterable[float],
    observations: Iterable[Any],
    actions: Iterable[Any],
    rewards: Iterable[float],
    dones: Iterable[bool],
    infos: Iterable[dict[str, Any] | None],
) -> Iterator[Step]:
    """Make steps of their parts, as many as the shortest holds."""
    parts = zip(times, observations, actions, rewards, dones, infos, strict=False)
    return map(tuple.__new__, itertools.repeat(Step), parts)  # yet faster than `make_step`


def annotate_step(step: Step, annotation: dict[str, Any] | None) -> Step:
    """Return a step with an annotation, if there is one."""
    if not annotation:
        return step
    annotated = tuple.__new__(AnnotatedStep, step)
    annotated.annotation = annotation
    return annotated


class RecordedOptions(dict[str, Any]):
    """Options of a reset that were recorded and are given again, so they mean what they meant then."""


class Ending(IntFlag):
    """How an episode ended; the value is what files hold."""

    UNFINISHED = 0
    TERMINATED = 1
    TRUNCATED = 2


# Whether each ending, by its value, is termination, truncation, or either: asking an enum takes a while.
_MEANINGS = tuple(
    (Ending.TERMINATED in ending, Ending.TRUNCATED in ending, ending is not Ending.UNFINISHED)
    for ending in map(Ending, range(4))
)


class Episode(ABC):
    """One recorded episode, of T steps.

    `observations[0]`, `infos[0]` and `times[0]` are what `reset` returned. `step(actions[t])`
    returned `observations[t+1]`, `rewards[t]`, `infos[t+1]`, at `times[t+1]`. Iterated, it yields
    T+1 `Step` tuples, the reset first.

    `annotations[t]` is what was said of step t with `env.annotate`, before `step(actions[t])`.

    Nothing is read before it is asked for. Arrays are read once, are writable, and belong to this
    object: changing them changes neither the recording nor another `Episode` of it.

    Attributes:
        index: Its number in the recording, from 0.
        terminated: Whether the last step returned terminated.
        truncated: Whether the last step returned truncated.
        finished: Whether it ended either way, rather than being cut.
    """

    def __init__(
        self, index: int, length: int, ending: Ending, observations: Column, actions: Column
    ) -> None:
        self.index = index
        self.terminated, self.truncated, self.finished = _MEANINGS[ending]
        self._length = length
        self._observation_column = observations
        self._action_column = actions

    @abstractmethod
    def read(self, field: Field, start: int, stop: int) -> Any:
        """Read elements start to stop of one of the fields, as a stack (see `columns`)."""

    @property
    @abstractmethod
    def seed(self) -> Any:
        """The seed that `reset` was given, or None."""

    @property
    @abstractmethod
    def options(self) -> dict[str, Any] | None:
        """The options that `reset` was given, or None."""

    def __len__(self) -> int:
        """Count the steps, the reset not included."""
        return self._length

    @cached_property
    def observations(self) -> Any:
        """T+1 observations, as an array (T+1, ...), or as a dict or tuple of such for Dict and Tuple spaces.

        Observations of no fixed size (Text, Sequence, Graph, OneOf) are a tuple of T+1 values.
        """
        return self.read("observations", 0, self._length + 1)

    @cached_property
    def actions(self) -> Any:
        """T actions, formed like `observations`."""
        return self.read("actions", 0, self._length)

    @cached_property
    def rewards(self) -> np.ndarray:
        """T rewards, float64."""
        rewards: np.ndarray = self.read("rewards", 0, self._length)
        return rewards

    @cached_property
    def times(self) -> np.ndarray:
        """T+1 times at which `reset` and `step` returned, float64 Unix seconds."""
        times: np.ndarray = self.read("times", 0, self._length + 1)
        return times

    @cached_property
    def infos(self) -> tuple[dict[str, Any], ...]:
        """T+1 infos."""
        infos: tuple[dict[str, Any], ...] = self.read("infos", 0, self._length + 1)
        return infos

    def read_annotations(self, start: int, stop: int) -> tuple[dict[str, Any], ...]:
        """Read annotations start to stop; backends that do not keep any need not override this."""
        return tuple({} for _ in range(start, stop))

    @cached_property
    def annotations(self) -> tuple[dict[str, Any], ...]:
        """T annotations, empty where nothing was said."""
        return self.read_annotations(0, self._length)

    @cached_property
    def info_arrays(self) -> Mapping[str, np.ndarray]:
        """The infos of the steps key by key: T rows, of which row t came with `rewards[t]`.

        The keys are those that any step of the episode has; a nested one is `"KEY/KEY"`. Arrays are formed
        and named as `Reader.get_dataset` does it, and each is read when it is asked for.
        """
        return InfoArrays(self._length, parts_of(self.infos[1:]))

    @cached_property
    def annotation_arrays(self) -> Mapping[str, np.ndarray]:
        """The annotations key by key, formed like `info_arrays`."""
        return InfoArrays(self._length, parts_of(self.annotations))

    @property
    def total_reward(self) -> float:
        """The sum of the rewards."""
        return float(np.sum(self.rewards))

    @property
    def row_bytes(self) -> int:
        """About how many bytes a step takes, to know how many to read at once."""
        return self._observation_column.row_bytes

    def __iter__(self) -> Iterator[Step]:
        """Yield T+1 steps, reading ahead a bounded number of rows."""
        return itertools.chain.from_iterable(self._blocks_of_steps())

    def _blocks_of_steps(self) -> Iterator[Iterable[Step]]:
        length = self._length
        block = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(self.row_bytes, 1)))
        for start in range(0, length + 1, block):
            stop = min(start + block, length + 1)
            first = max(start - 1, 0)  # the action that led to observation t is number t - 1
            actions = self._action_column.iterate(self.read("actions", first, stop - 1))
            rewards = self.read("rewards", first, stop - 1).tolist()
            steps = join_steps(
                self.read("times", start, stop).tolist(),
                self._observation_column.iterate(self.read("observations", start, stop)),
                actions if start else itertools.chain([self._action_column.null()], actions),
                rewards if start else [np.nan, *rewards],
                [False] * (stop - 1 - start) + [stop > length and self.finished],
                [info or None for info in self.read("infos", start, stop)],
            )
            annotations = self.read_annotations(first, stop - 1)
            if any(annotations):
                steps = map(annotate_step, steps, annotations if start else [None, *annotations])
            yield steps

    def __repr__(self) -> str:
        """Say number, length and ending, which need no reading."""
        return f"<Episode {self.index}: {self._length} steps, {self.ending}>"

    @property
    def ending(self) -> str:
        """How it ended, in words such as "terminated", "terminated and truncated", or "unfinished"."""
        words = [word for word in ("terminated", "truncated") if getattr(self, word)]
        return " and ".join(words) or "unfinished"


class ListEpisode(Episode):
    """An episode made of a list of steps, for backends that keep steps rather than columns.

    Args:
        index: Its number in the recording.
        steps: T+1 steps, the reset first; the action and the reward of the reset are not looked at.
        ending: How it ended.
        observations: The column of the observation space.
        actions: The column of the action space.
        seed: What `reset` was given, or None.
        options: What `reset` was given, or None.
    """

    def __init__(
        self,
        index: int,
        steps: Sequence[Step],
        ending: Ending,
        observations: Column,
        actions: Column,
        seed: Any = None,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(index, len(steps) - 1, ending, observations, actions)
        self._steps = steps
        self._seed, self._options = seed, options

    def read(self, field: Field, start: int, stop: int) -> Any:
        """Read elements start to stop of one of the fields, as a stack."""
        if field == "actions":
            return self._action_column.stack([step.action for step in self._steps[1 + start : 1 + stop]])
        if field == "rewards":
            return np.array([step.reward for step in self._steps[1 + start : 1 + stop]], dtype=np.float64)
        steps = self._steps[start:stop]
        if field == "observations":
            return self._observation_column.stack([step.observation for step in steps])
        if field == "times":
            return np.array([step.time for step in steps], dtype=np.float64)
        return tuple({} if step.info is None else step.info for step in steps)

    def read_annotations(self, start: int, stop: int) -> tuple[dict[str, Any], ...]:
        """Read annotations start to stop, those that the steps carry."""
        return tuple(step.annotation or {} for step in self._steps[1 + start : 1 + stop])

    @property
    def seed(self) -> Any:
        """The seed that `reset` was given, or None."""
        return self._seed

    @property
    def options(self) -> dict[str, Any] | None:
        """The options that `reset` was given, or None."""
        return self._options
