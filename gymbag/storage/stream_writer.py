"""Writing a stream: rows are collected, and handed to an `ArrayStore` a block at a time."""

from __future__ import annotations

import os
import threading
import weakref
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from gymbag.columns import Column, LossyCastError, ValueColumn, promote
from gymbag.compound_columns import join, under
from gymbag.episode import Ending
from gymbag.errors import RecordingError, SpaceError
from gymbag.infos import InfoEncoder
from gymbag.space_columns import column_of
from gymbag.storage.base import Header, Writer
from gymbag.storage.stream import ArrayStore, array_specs, episode_columns, step_columns
from gymbag.uninterrupted import Uninterrupted

# Rows are handed to the store when they are this many, or fill about this many bytes.
_BLOCK_ROWS = 1024
_BLOCK_BYTES = 1 << 20


class _TableWriter:
    """Collects frozen rows in one flat list, and hands them to the store a block at a time.

    A flat list that is split by slicing is the fastest way to collect rows that there is in Python, and
    `add`, its `extend`, is one instruction: a row is there or it is not, whatever interrupts.
    """

    def __init__(self, store: ArrayStore, columns: Mapping[str, Column]) -> None:
        self._store, self._columns = store, dict(columns)
        specs = array_specs(columns)
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
        # All are packed before any is appended, lest an error leave the columns unequal.
        packed = {
            join(name, path): array
            for position, (name, column) in enumerate(self._columns.items())
            for path, array in column.pack(rows[position :: self.width]).items()
        }
        for path, array in packed.items():
            if path in self._ends and len(array):
                array = array + self._ends[path]
                self._ends[path] = int(array[-1])
            self._store.append(path, array)


class StreamWriter:
    """Writes episodes to a store; the `Writer` of a backend with flat arrays passes everything on to it.

    Where a space and the values disagree about a dtype, the first values decide if theirs is the wider: an
    env that declares float32 and returns float64 is recorded in float64. When later values need a wider
    dtype, the arrays are rewritten in it, so that every value is kept exactly.

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
        self._info_bytes = 0  # of the pending steps
        self._broken = False  # whether a write failed half-way
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
        with Uninterrupted(), self._lock:
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
        self._check_whole()
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
        with Uninterrupted():
            self._end_episode(Ending.UNFINISHED)
            with self._lock:
                self._reset, self._first_row, self._in_episode = reset, self._rows(), True
                self._steps.add((latest,))

    def write_step(
        self,
        time: float,
        observation: Any,
        action: Any,
        reward: Any,
        terminated: Any,
        truncated: Any,
        info: Mapping[str, Any],
    ) -> None:
        """See `Writer.write_step`."""
        self._check_whole()
        if not self._in_episode:
            raise RecordingError("expected write_reset() before write_step(): no episode is under way")
        if not self._dtypes_decided:
            self._make_room(observation, action)
            self._dtypes_decided = True
        if type(terminated) is not bool or type(truncated) is not bool:
            terminated, truncated = _as_bool(terminated, "terminated"), _as_bool(truncated, "truncated")
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
        self._info_bytes += len(outcome[-1])
        # With the latest observation, which is there already, this is a row; the new one begins the next.
        row = (taken, *outcome, latest)
        if terminated or truncated:
            with Uninterrupted():
                self._steps.add(row)
                self._end_episode(Ending(Ending.TERMINATED * terminated | Ending.TRUNCATED * truncated))
        else:
            self._steps.add(row)
        if len(self._steps.pending) > self._block_items or self._info_bytes > _BLOCK_BYTES:
            self.flush()

    def _end_episode(self, ending: Ending) -> None:
        """Add the open episode, if any, to the table of episodes; must not be interrupted."""
        if not self._in_episode:
            return
        self._in_episode = False
        with self._lock:
            length = self._rows() - self._first_row
            final = self._steps.pending.pop()
            self._episodes.add((self._first_row, length, int(ending), self._session, *self._reset, final))
        if len(self._episodes.pending) > self._most_episodes:
            self.flush()

    def finish(self) -> None:
        """Keep the open episode, if any, unfinished, and hand everything to the store."""
        with Uninterrupted():
            self._end_episode(Ending.UNFINISHED)
            self.flush()

    def flush(self) -> None:
        """Hand everything to the store but the latest observation of an open episode."""
        with Uninterrupted(), self._lock:
            self._write_pending()

    def _check_whole(self) -> None:
        if self._broken:
            raise RecordingError(
                "an earlier write failed, so nothing more is recorded; close the env, and use a new file"
            )

    def _write_pending(self) -> None:
        if self._broken:
            return  # columns of which some lack rows must not get more
        try:
            self._info_bytes = 0
            # Episodes are taken first, so that none is written before its steps are.
            episodes = self._episodes.take()
            self._steps.write(self._steps.take())
            self._episodes.write(episodes)
        except BaseException:
            self._broken = True
            raise


def _as_float(reward: Any) -> float:
    array = np.asarray(reward)
    if array.size == 1 and array.dtype.kind in "biuf":
        number = float(array.item())
        if number == array.item() or np.isnan(number):
            return number
    raise SpaceError(f"expected a reward that is one number, which float64 holds, found {reward!r}")


def _as_bool(flag: Any, name: str) -> bool:
    array = np.asarray(flag)
    if array.size == 1 and array.dtype.kind in "biu" and array.item() in (0, 1):
        return bool(array.item())
    raise SpaceError(f"expected {name} to be True or False, found {flag!r}")


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
        with Uninterrupted():
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
    with Uninterrupted():
        try:
            stream.finish()
        finally:
            store.close()
