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

import functools
import os
import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from gymbag.columns import ArraySpec, Column, LossyCastError, ScalarColumn, ValueColumn, promote
from gymbag.compound_columns import below, column_of, join, under
from gymbag.dataset import FlatRecording
from gymbag.episode import Ending, Episode, Field
from gymbag.errors import DamagedFileError, RecordingError, SpaceError
from gymbag.infos import InfoEncoder
from gymbag.spaces import Description
from gymbag.storage.base import Header, Reader, Writer
from gymbag.uninterrupted import uninterrupted

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
    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        """Rewrite arrays with these dtypes, which hold all of their values exactly."""

    @abstractmethod
    def append(self, path: str, rows: np.ndarray) -> None:
        """Add rows to an array; the store may keep the array it is given."""


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


def check_arrays(source: ArraySource, header: Header) -> None:
    """Make sure that the arrays of each table are equally long, of the right shape, and cover each other.

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
        for path, spec in _array_specs(columns).items():
            shape = source.read(path, 0, 0).shape[1:]
            if shape != spec.shape:
                raise DamagedFileError(f"{path} has rows of shape {shape}, not {spec.shape}")
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

    A flat list that is split by slicing is the fastest way to collect rows that there is in Python, and
    `add`, its `extend`, is one instruction: a row is there or it is not, whatever interrupts.
    """

    def __init__(self, store: ArrayStore, columns: Mapping[str, Column]) -> None:
        self._store, self._columns = store, dict(columns)
        specs = _array_specs(columns)
        if not specs.keys() <= store.dtypes().keys():
            store.create(specs)
        self._ends = {path: self._last_end(path) for path, spec in specs.items() if spec.cumulative}
        self.width = len(columns)
        self.pending: list[Any] = []
        self.add = self.pending.extend

    def _last_end(self, path: str) -> int:
        length = self._store.length(path)
        return int(self._store.read(path, length - 1, length)[0]) if length else 0

    def take(self) -> list[Any]:
        """Remove the rows that are complete, and return them as one flat list."""
        taken = self.pending[: len(self.pending) // self.width * self.width]
        del self.pending[: len(taken)]
        return taken

    def write(self, rows: list[Any]) -> None:
        """Hand rows to the store."""
        if not rows:
            return
        for position, (name, column) in enumerate(self._columns.items()):
            for path, array in column.pack(rows[position :: self.width]).items():
                full_path = join(name, path)
                if full_path in self._ends and len(array):
                    array = array + self._ends[full_path]
                    self._ends[full_path] = int(array[-1])
                self._store.append(full_path, array)


class StreamWriter:
    """Writes episodes to a store; the `Writer` of a backend with flat arrays passes everything on to it.

    Where a space and the values disagree about a dtype, the first values decide: an env that declares
    float32 and returns float64 is recorded in float64. When later values need a wider dtype, the arrays are
    rewritten in it, so that every value is kept exactly.

    One thread records; any thread may call `flush`.

    Args:
        store: Where the arrays are.
        observations: The column of the observation space.
        actions: The column of the action space.
        facts: What the column of sessions is to say of this one, frozen.
    """

    def __init__(self, store: ArrayStore, observations: Column, actions: Column, facts: bytes) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._observation_column, self._action_column = observations, actions
        self._encode_info = InfoEncoder("info")
        self._encode_arguments = InfoEncoder("reset argument ")
        self._in_episode = False
        self._reset: tuple[bytes, float, bytes] = (b"", 0.0, b"")
        self._first_row = 0
        self._session = store.length("sessions/ends")
        sessions = _TableWriter(store, {"sessions": ValueColumn()})
        sessions.write([facts])
        existing = store.dtypes()
        self._open(under(existing, "observations"), under(existing, "actions"))
        self._dtypes_decided = self._rows() > 0

    def _open(self, observations: Mapping[str, np.dtype[Any]], actions: Mapping[str, np.dtype[Any]]) -> None:
        column = self._observation_column = self._observation_column.with_dtypes(observations)
        self._action_column = self._action_column.with_dtypes(actions)
        # The pending steps end with the latest observation, which waits for its action.
        self._steps = _TableWriter(self._store, step_columns(column, self._action_column))
        self._episodes = _TableWriter(self._store, episode_columns(column))
        block_rows = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // max(column.row_bytes, 1)))
        self._block_items = block_rows * self._steps.width
        self._most_episodes = block_rows * self._episodes.width

    def _rows(self) -> int:
        """Count the rows there are; the lock must be held, lest they are on their way to the store."""
        return self._store.length("rewards") + len(self._steps.pending) // self._steps.width

    def _make_room(self, observation: Any, action: Any = None) -> None:
        """Change the dtypes of the arrays so that they hold these values exactly, besides those they hold.

        Raises:
            SpaceError: There is no such dtype.
        """
        with uninterrupted(), self._lock:
            self._write_pending()
            columns = self._observation_column, self._action_column
            latest = [columns[0].thaw(frozen) for frozen in self._steps.pending]
            dtypes = [
                {} if value is None else promote(column.dtypes(), column.observe(value))
                for column, value in zip(columns, (observation, action), strict=True)
            ]
            wider = [column.with_dtypes(wanted) for column, wanted in zip(columns, dtypes, strict=True)]
            names = (("observations", "episodes/final_observation"), ("actions",))
            changed = {
                join(name, path): spec
                for before, after, tables in zip(columns, wider, names, strict=True)
                for path, spec in after.arrays().items()
                if spec != before.arrays()[path]
                for name in tables
            }
            if changed:
                self._store.widen(changed)
                self._open(*dtypes)
                self._steps.add(map(self._observation_column.freeze, latest))

    def write_reset(
        self,
        time: float,
        observation: Any,
        info: Mapping[str, Any],
        seed: Any,
        options: Mapping[str, Any] | None,
    ) -> None:
        """See `Writer.write_reset`."""
        if not self._dtypes_decided:
            self._make_room(observation)
        try:
            latest = self._observation_column.freeze(observation)
        except LossyCastError:
            self._make_room(observation)
            latest = self._observation_column.freeze(observation)
        arguments = {"seed": seed, "options": options}
        given = {name: value for name, value in arguments.items() if value is not None}
        reset = (self._encode_arguments(given), time, self._encode_info(info))
        with uninterrupted():
            self.end_episode()
            with self._lock:
                self._reset, self._first_row, self._in_episode = reset, self._rows(), True
                self._steps.add((latest,))

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
        if not self._in_episode:
            raise RecordingError("expected write_reset() before write_step(): no episode is under way")
        if not self._dtypes_decided:
            self._make_room(observation, action)
            self._dtypes_decided = True
        outcome = (
            reward if type(reward) is float else _as_float(reward),
            terminated,
            truncated,
            time,
            self._encode_info(info) if info else b"",
        )
        try:
            taken, latest = self._action_column.freeze(action), self._observation_column.freeze(observation)
        except LossyCastError:
            self._make_room(observation, action)
            taken, latest = self._action_column.freeze(action), self._observation_column.freeze(observation)
        # With the latest observation, which is there already, this is a row; the new one begins the next.
        row = (taken, *outcome, latest)
        if terminated or truncated:
            with uninterrupted():
                self._steps.add(row)
                self.end_episode(
                    Ending(Ending.TERMINATED * bool(terminated) | Ending.TRUNCATED * bool(truncated))
                )
        else:
            self._steps.add(row)
        if len(self._steps.pending) > self._block_items:
            self.flush()

    def end_episode(self, ending: Ending = Ending.UNFINISHED) -> None:
        """Add the open episode, if any, to the table of episodes."""
        with uninterrupted():
            if not self._in_episode:
                return
            self._in_episode = False
            with self._lock:
                length = self._rows() - self._first_row
                final = self._steps.pending.pop()
                self._episodes.add((self._first_row, length, int(ending), self._session, *self._reset, final))
            if len(self._episodes.pending) > self._most_episodes:
                self.flush()

    def flush(self) -> None:
        """Hand everything to the store but the latest observation of an open episode."""
        with uninterrupted(), self._lock:
            self._write_pending()

    def _write_pending(self) -> None:
        # Episodes are taken first, so that none is written before its steps are.
        episodes = self._episodes.take()
        self._steps.write(self._steps.take())
        self._episodes.write(episodes)


def _as_float(reward: Any) -> float:
    array = np.asarray(reward)
    if array.size == 1 and array.dtype.kind in "biuf":
        number = float(array.item())
        if number == array.item() or np.isnan(number):
            return number
    raise SpaceError(f"expected a reward that is one number, which float64 holds, found {reward!r}")


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
        facts = {"spec": header.spec, "versions": header.versions, "metadata": header.metadata}
        # All that may complain about the header comes before anything is written.
        frozen = ValueColumn().freeze(facts)
        columns = column_of(header.observation_space), column_of(header.action_space)
        with uninterrupted():
            store = self.open_store(header)
            try:
                stream = StreamWriter(store, *columns, frozen)
            except BaseException:
                store.close()
                raise
            self._stream = stream
            # Runs when it is called, when the writer is forgotten, or at the interpreter's exit; once.
            self._finish = weakref.finalize(self, _finish, stream, store, os.getpid())

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
    with uninterrupted():
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
        sessions = self.sessions
        return Header(*self._identity, **(sessions[-1] if sessions else {}))

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The env's spec, the versions and the metadata of each time the recording was taken up."""
        sessions = self._read(ValueColumn(), "sessions", 0, self.store.length("sessions/ends"))
        for session in sessions:
            if not isinstance(session, dict) or session.keys() != {"spec", "versions", "metadata"}:
                raise DamagedFileError(
                    f"{self._identity[0]!r}: expected the facts of a session, found {session!r}"
                )
        return list(sessions)

    def close(self) -> None:
        """Let go of the store. Closing again does nothing; reading again opens it again."""
        self.store.close()

    @functools.cached_property
    def observation_column(self) -> Column:
        """How observations lie in arrays, of the dtypes they were recorded in."""
        return super().observation_column.with_dtypes(under(self.store.dtypes(), "observations"))

    @functools.cached_property
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
        if first_row < 0 or length < 0 or not 0 <= ending <= 3:
            raise DamagedFileError(
                f"{self._identity[0]!r}: expected first row, length and ending of episode {index}, "
                f"found {first_row}, {length} and {ending}"
            )
        return StreamEpisode(self, index, first_row, length, Ending(ending))

    def read_flat(self, with_infos: bool) -> FlatRecording:
        """Read every step of every episode."""
        episodes, rows = len(self), self.nsteps
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
        return np.concatenate(parts, dtype=parts[0].dtype)  # keeps the byte order
    return sum(parts, ())
