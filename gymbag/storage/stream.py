"""A stream of episodes in flat arrays, wherever those arrays are kept.

A stream owns two tables, each a set of columns (see `columns`) whose rows belong together:

    steps      row t of an episode: the observation before action t, action t, and what came of it:
               reward t, terminated t, truncated t, time t+1, info t+1
    episodes   where its steps begin, how many there are, how it ended; its reset: arguments, time,
               info; the final observation, which no action followed; the session that recorded it

and a column of sessions, a row for each time a writer was opened. An `ArraySource` to read from and
an `ArrayStore` to write to are all that a backend with flat arrays has to offer.
"""

from __future__ import annotations

import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from gymbag import nested
from gymbag.columns import ArraySpec, Column, ScalarColumn, ValueColumn, promote
from gymbag.compound_columns import below, column_of, join, under
from gymbag.dataset import FlatRecording
from gymbag.episode import Ending, Episode, Field
from gymbag.errors import DamagedFileError, RecordingError, SpaceError
from gymbag.infos import InfoEncoder
from gymbag.spaces import Description
from gymbag.storage.base import Header, Reader, Writer

# Rows are handed to the store when they are this many, or fill about this many bytes.
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 1 << 20


class ArraySource(ABC):
    """A set of arrays, each under a path such as `observations/position`, to read from."""

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array, as a new array."""

    @abstractmethod
    def length(self, path: str) -> int:
        """Count the rows of an array; an array that was not made has none."""

    @abstractmethod
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""

    def close(self) -> None:
        """Let go of what is held; whatever was appended is kept for good first."""
        return


class ArrayStore(ArraySource):
    """A set of arrays that grow."""

    @abstractmethod
    def create(self, specs: Mapping[str, ArraySpec]) -> None:
        """Make these arrays, without rows."""

    @abstractmethod
    def append(self, path: str, rows: np.ndarray) -> None:
        """Add rows to an array; the store may keep the array it is given."""


_SESSIONS: Mapping[str, Column] = {"sessions": ValueColumn()}


def step_columns(observations: Column, actions: Column) -> dict[str, Column]:
    """List the columns of the table of steps."""
    return {
        "observations": observations,
        "actions": actions,
        "rewards": ScalarColumn(np.float64),
        "terminated": ScalarColumn(np.bool_),
        "truncated": ScalarColumn(np.bool_),
        "times": ScalarColumn(np.float64),
        "infos": ValueColumn(),
    }


def episode_columns(observations: Column) -> dict[str, Column]:
    """List the columns of the table of episodes."""
    return {
        "episodes/first_row": ScalarColumn(np.int64),
        "episodes/length": ScalarColumn(np.int64),
        "episodes/ending": ScalarColumn(np.uint8),
        "episodes/session": ScalarColumn(np.int64),
        "episodes/reset_arguments": ValueColumn(),
        "episodes/reset_time": ScalarColumn(np.float64),
        "episodes/reset_info": ValueColumn(),
        "episodes/final_observation": observations,
    }


def _array_specs(columns: Mapping[str, Column]) -> dict[str, ArraySpec]:
    return {
        join(name, path): spec for name, column in columns.items() for path, spec in column.arrays().items()
    }


def check_lengths(source: ArraySource, header: Header) -> None:
    """Make sure that the arrays of each table are equally long, and that the episodes cover the steps.

    Raises:
        DamagedFileError: They are not, or do not.
    """
    observations = column_of(header.observation_space)
    tables = (
        ("rewards", step_columns(observations, column_of(header.action_space))),
        ("episodes/length", episode_columns(observations)),
    )
    for name, columns in tables:
        rows = source.length(name)
        for path in _array_specs(columns):
            parts = path.split("/")
            # Below these there is a row for each item, or for each byte.
            if "items" not in parts and "data" not in parts and source.length(path) != rows:
                raise DamagedFileError(f"{name} has {rows} rows, and {path} {source.length(path)}")
    count = source.length("episodes/length")
    covered = 0
    if count:
        names = ("episodes/first_row", "episodes/length")
        covered = int(sum(source.read(name, count - 1, count)[0] for name in names))
    if covered != source.length("rewards"):
        raise DamagedFileError(f"the episodes have {covered} steps, and there are {source.length('rewards')}")


class _TableWriter:
    """Collects frozen rows in one flat list, and hands them to the store a block at a time.

    A flat list that is split by slicing is the fastest way to collect rows that there is in Python.
    """

    def __init__(self, store: ArrayStore, columns: Mapping[str, Column]) -> None:
        self._store, self._columns = store, dict(columns)
        specs = _array_specs(columns)
        if not specs.keys() <= store.dtypes().keys():
            store.create(specs)
        self._ends = {path: self._last_end(path) for path, spec in specs.items() if spec.cumulative}
        self._pending: list[Any] = []
        self.add_row = self._pending.extend

    def _last_end(self, path: str) -> int:
        length = self._store.length(path)
        return int(self._store.read(path, length - 1, length)[0]) if length else 0

    def flush(self) -> None:
        """Hand over all rows."""
        if not self._pending:
            return
        width = len(self._columns)
        for position, (name, column) in enumerate(self._columns.items()):
            for path, rows in column.pack(self._pending[position::width]).items():
                full_path = join(name, path)
                if full_path in self._ends and len(rows):
                    rows = rows + self._ends[full_path]
                    self._ends[full_path] = int(rows[-1])
                self._store.append(full_path, rows)
        self._pending.clear()


class StreamWriter:
    """Writes episodes to a store; the `Writer` of a backend with flat arrays passes everything on to it.

    Where a space and the values disagree about a dtype, the first values decide: an env that
    declares float32 and returns float64 is recorded in float64. The arrays are therefore made at
    the first step.
    """

    def __init__(self, store: ArrayStore, header: Header) -> None:
        self._store = store
        self._observation_column = column_of(header.observation_space)
        self._action_column = column_of(header.action_space)
        self._encode_info = InfoEncoder("info")
        self._encode_arguments = InfoEncoder("reset argument ")
        self._opened = False  # whether the arrays of steps and episodes are there
        self._rows = 0
        self._pending_rows = 0
        self._in_episode = False
        self._reset: tuple[bytes, float, bytes] = (b"", 0.0, b"")
        self._first_row = 0
        self._observation: Any = None  # the latest: frozen, or a copy as long as there are no arrays
        self._ending = Ending.UNFINISHED
        existing = store.dtypes()
        if "rewards" in existing:
            self._open(under(existing, "observations"), under(existing, "actions"))
        self._session = store.length("sessions/ends")
        facts = {"spec": header.spec, "versions": header.versions, "metadata": header.metadata}
        sessions = _TableWriter(store, _SESSIONS)
        sessions.add_row((ValueColumn().freeze(facts),))
        sessions.flush()

    def _open(self, observations: Mapping[str, np.dtype[Any]], actions: Mapping[str, np.dtype[Any]]) -> None:
        column = self._observation_column = self._observation_column.with_dtypes(observations)
        self._action_column = self._action_column.with_dtypes(actions)
        self._steps = _TableWriter(self._store, step_columns(column, self._action_column))
        self._episodes = _TableWriter(self._store, episode_columns(column))
        self._rows = self._store.length("rewards")
        self._block_rows = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(column.row_bytes, 1)))
        self._opened = True

    def write_reset(
        self,
        time: float,
        observation: Any,
        info: Mapping[str, Any],
        seed: Any,
        options: Mapping[str, Any] | None,
    ) -> None:
        """See `Writer.write_reset`."""
        if self._opened:
            latest = self._observation_column.freeze(observation)
        else:
            self._observation_column.observe(observation)  # complains if it does not fit
            latest = nested.copy(observation)
        self.end_episode()
        arguments = {"seed": seed, "options": options}
        given = {name: value for name, value in arguments.items() if value is not None}
        self._reset = (self._encode_arguments(given), time, self._encode_info(info))
        self._observation = latest
        self._first_row = self._rows
        self._ending = Ending.UNFINISHED
        self._in_episode = True

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
        """See `Writer.write_step`."""
        if not self._opened:
            first, column = self._observation, self._observation_column
            self._open(
                promote(column.observe(first), column.observe(observation)),
                self._action_column.observe(action),
            )
            self._observation = self._observation_column.freeze(first)
        latest = self._observation_column.freeze(observation)
        self._steps.add_row(
            (
                self._observation,
                self._action_column.freeze(action),
                reward if type(reward) is float else _as_float(reward),
                terminated,
                truncated,
                time,
                self._encode_info(info) if info else b"",
            )
        )
        self._observation = latest
        self._rows += 1
        self._pending_rows += 1
        if terminated or truncated:
            self._ending = Ending(Ending.TERMINATED * bool(terminated) | Ending.TRUNCATED * bool(truncated))
        if self._pending_rows >= self._block_rows:
            self._steps.flush()
            self._pending_rows = 0

    def end_episode(self) -> None:
        """Add the open episode, if any, to the table of episodes."""
        if not self._in_episode:
            return
        self._in_episode = False
        if not self._opened:
            first = self._observation
            self._open(self._observation_column.observe(first), {})
            self._observation = self._observation_column.freeze(first)
        self._episodes.add_row(
            (
                self._first_row,
                self._rows - self._first_row,
                int(self._ending),
                self._session,
                *self._reset,
                self._observation,
            )
        )

    def flush(self) -> None:
        """Hand everything but the open episode's ending to the store."""
        if self._opened:
            self._steps.flush()
            self._episodes.flush()
            self._pending_rows = 0


def _as_float(reward: Any) -> float:
    array = np.asarray(reward)
    if array.size != 1 or array.dtype.kind not in "biuf":
        raise SpaceError(f"expected a reward that is one number, found {reward!r}")
    return float(array.item())


class StoreWriter(Writer):
    """A writer of a backend with flat arrays: what is left to a subclass is to open and close the store."""

    _stream: StreamWriter | None = None

    @abstractmethod
    def open_store(self, header: Header) -> ArrayStore:
        """Return the store to write to."""

    def begin(self, header: Header) -> None:
        """See `Writer.begin`. A writer that was closed may begin again, and goes on with its data.

        Raises:
            RecordingError: The writer is recording already.
        """
        if self._stream is not None:
            raise RecordingError(
                f"this {type(self).__name__} is recording already; use one writer for each env"
            )
        store = self.open_store(header)
        try:
            self._stream = StreamWriter(store, header)
        except BaseException:
            store.close()
            raise
        # Runs when it is called, when the writer is forgotten, or at the interpreter's exit; once.
        self._finish = weakref.finalize(self, _finish, self._stream, store, os.getpid())

    @property
    def stream(self) -> StreamWriter:
        """The stream that is being written.

        Raises:
            RecordingError: The writer has not begun, or is closed.
        """
        if self._stream is None:
            raise RecordingError(f"this {type(self).__name__} is not recording; call begin() first")
        return self._stream

    def write_reset(
        self,
        time: float,
        observation: Any,
        info: Mapping[str, Any],
        seed: Any,
        options: Mapping[str, Any] | None,
    ) -> None:
        """See `Writer.write_reset`."""
        self.stream.write_reset(time, observation, info, seed, options)

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
        """See `Writer.write_step`."""
        self.stream.write_step(time, observation, action, reward, terminated, truncated, info)

    def close(self) -> None:
        """Keep everything for good; an open episode is kept unfinished. Closing again does nothing."""
        if self._stream is not None:
            self._stream = None
            self._finish()


def _finish(stream: StreamWriter, store: ArrayStore, process: int) -> None:
    if os.getpid() != process:
        return  # a forked child must leave its parent's recording alone
    try:
        stream.end_episode()
        stream.flush()
    finally:
        store.close()


class StreamReader(Reader):
    """Reads a stream from a store.

    Args:
        store: Where the arrays are.
        name: Name of the data set.
        observation_space: Description of the space.
        action_space: Description of the space.
        description: The user's words on where the data comes from.
    """

    def __init__(
        self,
        store: ArraySource,
        name: str,
        observation_space: Description,
        action_space: Description,
        description: str,
    ) -> None:
        self.store = store
        self._identity = (name, observation_space, action_space, description)

    @property
    def header(self) -> Header:
        """What is known of the recording as a whole; of the latest session, if there were several."""
        latest = self.store.length("sessions/ends") - 1
        facts = self._read(ValueColumn(), "sessions", latest, latest + 1)[0] if latest >= 0 else {}
        return Header(*self._identity, **facts)

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The env's spec, the versions and the metadata of each time the recording was taken up."""
        return list(self._read(ValueColumn(), "sessions", 0, self.store.length("sessions/ends")))

    def close(self) -> None:
        """Let go of the store. Closing again does nothing; reading again opens it again."""
        self.store.close()

    @cached_property
    def observation_column(self) -> Column:
        """How observations lie in arrays, of the dtypes they were recorded in."""
        return super().observation_column.with_dtypes(under(self.store.dtypes(), "observations"))

    @cached_property
    def action_column(self) -> Column:
        """How actions lie in arrays, of the dtypes they were recorded in."""
        return super().action_column.with_dtypes(under(self.store.dtypes(), "actions"))

    def _read(self, column: Column, name: str, start: int, stop: int) -> Any:
        return column.unpack(below(self.store.read, name), start, stop)

    @property
    def nsteps(self) -> int:
        """How many steps all episodes have together, resets not included."""
        last = len(self) - 1
        if last < 0:
            return 0
        # Not the length of the columns, to which an open episode may have added rows.
        return sum(
            int(self.store.read(f"episodes/{name}", last, last + 1)[0]) for name in ("first_row", "length")
        )

    def __len__(self) -> int:
        """Count the episodes."""
        return self.store.length("episodes/length")

    def read_episode(self, index: int) -> Episode:
        """Return an episode by its number, from 0 to len(self) - 1."""
        first_row, length, ending = (
            int(self.store.read(f"episodes/{name}", index, index + 1)[0])
            for name in ("first_row", "length", "ending")
        )
        return StreamEpisode(self, index, first_row, length, Ending(ending))

    def read_flat(self, with_infos: bool) -> FlatRecording:
        """Read every step of every episode."""
        episodes, rows = len(self), self.nsteps
        if not episodes:  # there may be no arrays yet
            return super().read_flat(with_infos)
        infos = self._read(ValueColumn(), "infos", 0, rows) if with_infos else ()
        return FlatRecording(
            self._read(self.observation_column, "observations", 0, rows),
            self._read(self.action_column, "actions", 0, rows),
            self.store.read("rewards", 0, rows),
            self.store.read("terminated", 0, rows),
            self.store.read("truncated", 0, rows),
            infos,
            self.store.read("episodes/length", 0, episodes),
            self._read(self.observation_column, "episodes/final_observation", 0, episodes),
        )


class StreamEpisode(Episode):
    """An episode of a stream: its rows in the table of steps, and its row in the table of episodes."""

    def __init__(self, reader: StreamReader, index: int, first_row: int, length: int, ending: Ending) -> None:
        super().__init__(index, length, ending, reader.observation_column, reader.action_column)
        self._read_array = reader.store.read
        self._first_row = first_row

    def read(self, field: Field, start: int, stop: int) -> Any:
        """Read elements start to stop of one of the fields, as a stack."""
        if field == "actions":
            return self._rows(self._action_column, field, start, stop)
        if field == "rewards":
            return self._rows(ScalarColumn(np.float64), field, start, stop)
        if field == "observations":
            # Element T is the final observation.
            column, end = self._observation_column, len(self)
            parts = [self._rows(column, field, start, min(stop, end))]
            if stop > end:
                parts.append(self._own(column, "final_observation"))
        else:
            # Element 0 is the reset's, and element t stands in row t - 1.
            column = ScalarColumn(np.float64) if field == "times" else ValueColumn()
            parts = [self._own(column, f"reset_{field[:-1]}")] if start == 0 else []
            parts.append(self._rows(column, field, max(start - 1, 0), stop - 1))
        return parts[0] if len(parts) == 1 else column.map(_concatenate, *parts)

    def _rows(self, column: Column, name: str, start: int, stop: int) -> Any:
        first = self._first_row
        return column.unpack(below(self._read_array, name), first + start, first + stop)

    def _own(self, column: Column, name: str) -> Any:
        return column.unpack(below(self._read_array, f"episodes/{name}"), self.index, self.index + 1)

    def _reset_argument(self, name: str) -> Any:
        return self._own(ValueColumn(), "reset_arguments")[0].get(name)

    @property
    def seed(self) -> Any:
        """The seed that `reset` was given, or None."""
        return self._reset_argument("seed")

    @property
    def options(self) -> dict[str, Any] | None:
        """The options that `reset` was given, or None."""
        options: dict[str, Any] | None = self._reset_argument("options")
        return options


def _concatenate(*parts: Any) -> Any:
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return sum(parts, ())
