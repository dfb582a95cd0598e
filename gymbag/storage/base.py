"""What every backend offers: a `Writer` takes what an env does, a `Reader` gives it back as episodes.

A recorder calls a writer in this order, and in no other:

    begin(header)  { write_reset(...)  write_step(...) * }  close()

The next `write_reset` or `close` ends an episode. If its last step was neither terminated nor
truncated, the episode was cut: the writer keeps it, unfinished.
"""

from __future__ import annotations

import copy
import html
import itertools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NoReturn, TypeVar, overload

import numpy as np

from gymbag import json_values, nested
from gymbag.columns import Column
from gymbag.dataset import FlatRecording, check_choice, flatten
from gymbag.episode import Episode
from gymbag.errors import RecordingError
from gymbag.info_arrays import InfoArrays, leaves_of, name_paths, parts_of
from gymbag.space_columns import column_of
from gymbag.spaces import Description, Library, build_space

_AnyReader = TypeVar("_AnyReader", bound="Reader")


@dataclass(frozen=True)
class Header:
    """What is known of a recording before its first step.

    Attributes:
        name: Name of the data set.
        observation_space: Description of the space (see `spaces`).
        action_space: Description of the space.
        description: The user's words on where the data comes from.
        spec: The env's spec as JSON values, or None if it has none.
        versions: Versions of Python and of the libraries that took part, by name.
        metadata: Whatever else the user wants to keep: any value an info can hold.
    """

    name: str
    observation_space: Description
    action_space: Description
    description: str = ""
    spec: dict[str, Any] | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def spaces_as_json(self) -> tuple[str, str]:
        """Return both spaces as JSON text, in which equal spaces are equal."""
        return json_values.encode(self.observation_space), json_values.encode(self.action_space)


class RecordingState:
    """Which of its states a recording is in.

    Attributes:
        in_episode: Whether an episode is under way, so that there may be steps.
        closed: Whether the recording is closed for good.
    """

    in_episode = False
    closed = False

    def refuse(self, call: str = "step") -> NoReturn:
        """Raise the error for a call that needs an episode.

        Raises:
            RecordingError: Always.
        """
        raise RecordingError(
            "this recording is closed; wrap a new env to record more"
            if self.closed
            else f"expected reset() before {call}(): no episode is under way"
        )


class Writer(ABC):
    """Takes what an env does and keeps it. Subclass it to record to another format.

    Values belong to the env, which may change them as soon as a call returns: a writer copies what
    it keeps. `gymbag.testing.BackendContract` checks a writer and its reader.
    """

    @abstractmethod
    def begin(self, header: Header) -> None:
        """Get ready to write; called once, before the env's first reset.

        Raises:
            StorageError: The data cannot go there: the file is damaged, say, or its data set of
                that name has other spaces. Nothing has been changed then.
        """

    @abstractmethod
    def write_reset(
        self,
        time: float,
        observation: Any,
        info: Mapping[str, Any],
        seed: Any,
        options: Mapping[str, Any] | None,
    ) -> None:
        """Begin an episode with what `reset` was given and returned.

        Args:
            time: When it returned, in Unix seconds.
            observation: What it returned.
            info: What it returned of info, as far as it is to be kept.
            seed: What it was given, or None.
            options: What it was given, or None.
        """

    @abstractmethod
    def write_step(
        self,
        time: float,
        observation: Any,
        action: Any,
        reward: Any,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        """Go on with what `step` was given and returned."""

    @abstractmethod
    def close(self) -> None:
        """Keep everything for good. Closing again does nothing."""

    def annotate(self, values: Mapping[str, Any]) -> None:
        """Keep values with the next step that is written, besides what the env gives.

        Values of the same key replace those given before. Without a next step, as the episode is cut, they
        are dropped.

        Args:
            values: Any values an info can hold, by name.

        Raises:
            RecordingError: This backend keeps no annotations.
        """
        raise RecordingError(f"{type(self).__name__} keeps no annotations; record with HDF5Writer")

    def recorded_step(
        self,
        env: Any,
        clock: Callable[[], float],
        choose_info: Callable[[Any], Mapping[str, Any]],
        state: RecordingState,
    ) -> Callable[[Any], Any]:
        """Return a function that steps an env, writes what happened, and returns what the env returned.

        A writer may have a faster one, as nothing is done more often.

        Args:
            env: The env.
            clock: Returns the time, in Unix seconds.
            choose_info: Picks what to write of an info.
            state: Asked before the env is stepped, and told when an episode has ended.
        """

        def step_and_write(action: Any) -> Any:
            if not state.in_episode:
                state.refuse()
            given = nested.copy(action)  # the env may change it
            # A step that fails, or cannot be recorded, cuts the episode, as no other may take its place.
            state.in_episode = False
            observation, reward, terminated, truncated, info = result = env.step(action)
            chosen = choose_info(info)
            self.write_step(clock(), observation, given, reward, terminated, truncated, chosen)
            state.in_episode = not (terminated or truncated)
            return result

        return step_and_write


class Reader(ABC):
    """The episodes of one recording: iterate it, index it, slice it, or flatten it.

    Each iteration starts anew and reads by itself, so loops may be nested and threads may share a
    reader.
    """

    #: Whose spaces (and graphs) to build, if not those of the library that was recorded.
    library: Library | None = None

    @property
    @abstractmethod
    def header(self) -> Header:
        """What is known of the recording as a whole; of the latest session, if there were several."""

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The env's spec, the versions and the metadata of each time the recording was taken up."""
        header = self.header
        facts = {"spec": header.spec, "versions": header.versions, "metadata": header.metadata}
        return [facts]

    @property
    @abstractmethod
    def nsteps(self) -> int:
        """How many steps all episodes have together, resets not included."""

    @abstractmethod
    def __len__(self) -> int:
        """Count the episodes."""

    @abstractmethod
    def read_episode(self, index: int) -> Episode:
        """Return an episode by its number, from 0 to len(self) - 1."""

    def close(self) -> None:
        """Let go of what the reader holds. Closing again does nothing."""
        return

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.header.name

    @property
    def description(self) -> str:
        """The user's words on where the data comes from."""
        return self.header.description

    @property
    def observation_space(self) -> Any:
        """The env's observation space, built anew; it equals (`==`) the recorded one."""
        return build_space(self.header.observation_space, self.library)

    @property
    def action_space(self) -> Any:
        """The env's action space, built anew; it equals (`==`) the recorded one."""
        return build_space(self.header.action_space, self.library)

    @cached_property
    def observation_column(self) -> Column:
        """How observations lie in arrays."""
        return column_of(self._in_library(self.header.observation_space))

    @cached_property
    def action_column(self) -> Column:
        """How actions lie in arrays."""
        return column_of(self._in_library(self.header.action_space))

    def _in_library(self, description: Description) -> Description:
        return {**description, "library": self.library or description["library"]}

    def in_library(self: _AnyReader, library: Library) -> _AnyReader:
        """Return a reader of the same recording that builds the spaces and graphs of that library."""
        reader = copy.copy(self)
        reader.library = library
        for cached in ("observation_column", "action_column"):
            vars(reader).pop(cached, None)
        return reader

    def __iter__(self) -> Iterator[Episode]:
        """Yield the episodes in the order in which they were recorded."""
        return map(self.read_episode, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> Episode: ...
    @overload
    def __getitem__(self, index: slice) -> list[Episode]: ...
    def __getitem__(self, index: int | slice) -> Episode | list[Episode]:
        """Return an episode, counted from the end if negative, or a list of episodes for a slice.

        Raises:
            IndexError: There is no such episode.
        """
        count = len(self)
        if isinstance(index, slice):
            return [self.read_episode(number) for number in range(*index.indices(count))]
        number = operator.index(index)
        if not -count <= number < count:
            raise IndexError(f"{self.name} has {count} episodes, so there is no episode {number}")
        return self.read_episode(number % count)

    @property
    def info_keys(self) -> list[str]:
        """The keys of the infos of steps, as `get_dataset` names them; those of resets are not among them."""
        return _name_keys(info for episode in self for info in episode.infos[1:])

    @property
    def annotation_keys(self) -> list[str]:
        """The keys of the annotations, as `get_dataset` names them."""
        return _name_keys(annotation for episode in self for annotation in episode.annotations)

    def get_dataset(
        self,
        dtype: Any = None,
        infos: bool | Collection[str] = False,
        annotations: bool | Collection[str] = False,
    ) -> dict[str, Any]:
        """Flatten all steps of all episodes into a D4RL-style dict of arrays of N rows.

        Args:
            dtype: A dtype to convert floating-point observations, actions and rewards to. D4RL has
                them in float32; by default they keep the dtype they were recorded in.
            infos: Whether to add what came with each reward as `infos/KEY`, or of which keys.
                Nested dicts give `infos/KEY/KEY`. Numbers and arrays that are alike in all rows
                become one array, with NaN where a float is missing; anything else becomes an array
                of objects, None where missing. Where two names would be equal, a slash inside of a
                key becomes `%2F`, and a key that is not a string gets its type, as in `int(1)`.
            annotations: Whether to add what was said of each step as `annotations/KEY`, likewise.

        Returns:
            `observations`, `actions`, `rewards`, `terminals` (only true termination), `timeouts`
            (the last row of an episode that ended in any other way), and `next_observations` (at an
            episode's end its true final observation). Dict and Tuple spaces give dicts and tuples
            of arrays; values of no fixed size give a tuple of N values.
        """
        for name, choice in (("infos", infos), ("annotations", annotations)):
            check_choice(name, choice)
        flat = self.read_flat(infos is not False, annotations is not False)
        return flatten(flat, self.observation_column, self.action_column, dtype, infos, annotations)

    def read_flat(self, with_infos: bool = False, with_annotations: bool = False) -> FlatRecording:
        """Read every step of every episode; backends with flat arrays do it faster than this."""
        steps: dict[str, list[Any]] = {
            name: [] for name in ("observations", "finals", "actions", "rewards", "infos", "annotations")
        }
        lengths, terminated, truncated = [], [], []
        for episode in self:
            length = len(episode)
            observations = itertools.islice(self.observation_column.iterate(episode.observations), length + 1)
            *before, final = observations
            steps["observations"] += before
            steps["finals"].append(final)
            steps["actions"] += itertools.islice(self.action_column.iterate(episode.actions), length)
            steps["rewards"] += episode.rewards.tolist()
            steps["infos"] += episode.infos[1:] if with_infos else ()
            steps["annotations"] += episode.annotations if with_annotations else ()
            lengths.append(length)
            terminated += [episode.terminated and step == length - 1 for step in range(length)]
            truncated += [episode.truncated and step == length - 1 for step in range(length)]
        return FlatRecording(
            self.observation_column.stack(steps["observations"]),
            self.action_column.stack(steps["actions"]),
            np.array(steps["rewards"], dtype=np.float64),
            np.array(terminated, dtype=bool),
            np.array(truncated, dtype=bool),
            np.array(lengths, dtype=np.int64),
            self.observation_column.stack(steps["finals"]),
            InfoArrays(len(terminated), parts_of(steps["infos"])),
            InfoArrays(len(terminated), parts_of(steps["annotations"])),
        )

    def __enter__(self: _AnyReader) -> _AnyReader:
        """Return the reader, to be closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the reader."""
        self.close()

    def _facts(self) -> dict[str, Any]:
        header = self.header
        return {
            "description": header.description,
            "episodes": len(self),
            "steps": self.nsteps,
            "observations": _summarize_space(header.observation_space["space"]),
            "actions": _summarize_space(header.action_space["space"]),
        }

    def __repr__(self) -> str:
        """Tell the name, the spaces and how much there is."""
        facts = ", ".join(f"{key}: {value}" for key, value in self._facts().items() if value != "")
        return f"<{type(self).__name__} {self.name!r}, {facts}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{key}</th><td>{html.escape(str(value))}</td></tr>"
            for key, value in self._facts().items()
        )
        title = f"{type(self).__name__} {self.name}"
        return f"<table><caption>{html.escape(title)}</caption>{rows}</table>"


def _name_keys(infos: Iterable[dict[str, Any]]) -> list[str]:
    paths = (path for info in infos for path, _ in leaves_of(info))
    return list(name_paths(dict.fromkeys(paths)))


def _summarize_space(space: Description) -> str:
    kind = space["type"]
    if kind == "Box":
        return f"Box{tuple(space['shape'])} {np.dtype(space['dtype']).name}"
    if kind == "Discrete":
        return f"Discrete({space['n']})"
    if kind == "Dict":
        items = (f"{key}: {_summarize_space(child)}" for key, child in space["spaces"])
        return f"Dict({', '.join(items)})"
    if kind in ("Tuple", "OneOf"):
        return f"{kind}({', '.join(map(_summarize_space, space['spaces']))})"
    return str(space.get("name", kind))
