"""Writing a stream: rows are collected, and handed to an `ArrayStore` a block at a time."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gymbag import nested
from gymbag.columns import Column, LossyCastError, Rows, ValueColumn, promote
from gymbag.compound_columns import join, under
from gymbag.episode import Ending
from gymbag.errors import RecordingError, SpaceError
from gymbag.infos import InfoEncoder
from gymbag.storage.base import RecordingState
from gymbag.storage.events import LARGE_ROW_BYTES, RESET, Block, ListedEvents, choose, events_of
from gymbag.storage.stream import ArrayStore, array_specs, episode_columns, step_columns
from gymbag.uninterrupted import Uninterrupted

# Rows of episodes are handed to the store when they are this many, or fill about this many bytes.
_EPISODES, _EPISODES_BYTES = 1024, 1 << 21

# At which age of a step who records keeps all of them, at the end of a block: a part of how old it may be.
_SOON = 0.25

_ndarray = np.ndarray  # found faster than by way of its module


# What is known of the episode that is under way: its first row; arguments, time and info of its reset.
_OpenEpisode = tuple[int, bytes, float, bytes]


class _TableWriter:
    """Hands the rows of a table to the store."""

    def __init__(self, store: ArrayStore, columns: Mapping[str, Column]) -> None:
        self._store, self._columns = store, dict(columns)
        specs = array_specs(columns)
        self._ends = {path: self._last_end(path) for path, spec in specs.items() if spec.cumulative}

    def _last_end(self, path: str) -> int:
        length = self._store.length(path)
        return int(self._store.read(path, length - 1, length)[0]) if length else 0

    def pack(self, rows: Sequence[Any]) -> dict[str, Rows]:
        """Make arrays of rows, given column by column, that go on from the last rows written."""
        packed = {}
        for (name, column), frozen in zip(self._columns.items(), rows, strict=True):
            for path, array in column.pack_rows(frozen).items():
                where = join(name, path)
                packed[where] = np.add(array, self._ends[where]) if where in self._ends else array
        return packed

    def write(self, rows: Sequence[Any]) -> None:
        """Hand rows, given column by column, to the store."""
        # All are packed before any is appended, lest an error leave the columns unequal.
        for path, array in self.pack(rows).items():
            if path in self._ends and len(array):
                self._ends[path] = int(array[-1])
            self._store.append(path, array)
        for column, frozen in zip(self._columns.values(), rows, strict=True):
            column.release(frozen)


class StreamWriter:
    """Writes episodes to a store; the `Writer` of a backend with flat arrays passes everything on to it.

    Where a space and the values disagree about a dtype, the first values decide if theirs is the wider: an
    env that declares float32 and returns float64 is recorded in float64. When later values need a wider
    dtype, the arrays are rewritten in it, so that every value is kept exactly.

    One thread records; any thread may call `flush`. If the store fails, on a full disk say, what comes is
    let go, so that the env goes on, and `finish` raises what went wrong.

    Args:
        store: Where the arrays are.
        observations: The column of the observation space.
        actions: The column of the action space.
        facts: What the column of sessions is to say of this one, frozen.
        flush_seconds: How old a step may become before the store keeps it. Where a block is soon full, this
            is seen to; else somebody has to call `flush` in time.
    """

    def __init__(
        self,
        store: ArrayStore,
        observations: Column,
        actions: Column,
        facts: bytes,
        flush_seconds: float = math.inf,
    ) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._observation_column, self._action_column = observations, actions
        self._encode_info = InfoEncoder("info")
        self._encode_arguments = InfoEncoder("reset argument ")
        self._in_episode = False
        self._in_steps = False  # and the dtypes are decided
        self._episode: _OpenEpisode | None = None  # as of the events that are written
        self._has_news = False  # since everything was last kept
        self._ended: list[tuple[Any, ...]] = []  # rows of the table of episodes, for the store
        self._latest: Any = None  # the observation of the last event written, which waits for its action
        self._flush_seconds = flush_seconds
        #: When everything collected so far was last kept, on the clock `time.monotonic`.
        self.kept_at = time.monotonic()
        self._parent: int | None = None  # who records, if this is a forked process
        #: What went wrong, after which nothing is written any more.
        self.failure: Exception | None = None
        #: Called when a block is full; `flush_block`, unless another thread is to do it.
        self.on_full_block: Callable[[], None] = self.flush_block
        self._session = store.length("sessions/ends")
        existing = store.dtypes()
        sessions = {"sessions": ValueColumn()}
        tables = (sessions, step_columns(observations, actions), episode_columns(observations))
        missing = {
            path: spec
            for columns in tables
            for path, spec in array_specs(columns).items()
            if path not in existing
        }
        if missing:
            store.create(missing)
        _TableWriter(store, sessions).write([[facts]])
        self._rows = store.length("rewards")
        self._open(under(existing, "observations"), under(existing, "actions"))
        self._dtypes_decided = self._rows > 0
        store.flush({})

    def _open(self, observations: Mapping[str, np.dtype[Any]], actions: Mapping[str, np.dtype[Any]]) -> None:
        column = self._observation_column = self._observation_column.with_dtypes(observations)
        self._action_column = self._action_column.with_dtypes(actions)
        self._freeze_observation, self._freeze_action = column.freeze, self._action_column.freeze
        self._steps = _TableWriter(self._store, step_columns(column, self._action_column))
        self._episodes = _TableWriter(self._store, episode_columns(column))
        self._most_ended = max(1, min(_EPISODES, _EPISODES_BYTES // max(column.row_bytes, 1)))
        is_large = self.row_bytes >= LARGE_ROW_BYTES
        # Of large rows, whole chunks are handed to the store, which need not be copied then.
        whole_rows = self._store.block_rows if is_large else 1
        self._events = events_of(column, self._action_column, self._rows, whole_rows)
        # Keeping large rows takes who records too long: it is left to the heartbeat.
        self._soon = math.inf if is_large else _SOON * self._flush_seconds
        self._due: float = self.kept_at + self._soon

    @property
    def row_bytes(self) -> int:
        """Bytes of a row, of ragged columns only the part that is the same for all."""
        return self._observation_column.row_bytes + self._action_column.row_bytes

    def _make_room(self, observation: Any, action: Any = None) -> None:
        """Change the dtypes of the arrays so that they hold these values exactly, besides those they hold.

        Raises:
            SpaceError: There is no such dtype.
        """
        columns = self._observation_column, self._action_column
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
        if not changed:
            return
        with Uninterrupted(), self._lock:
            self._keep()
            if self.failure is not None:
                return
            try:
                self._store.widen(changed)
                latest = None if self._latest is None else columns[0].thaw(self._latest)
                self._open(*dtypes)
                self._latest = None if latest is None else self._freeze_observation(latest)
            except Exception as error:
                self._fail(error)

    def write_reset(
        self,
        time: float,
        observation: Any,
        info: Mapping[str, Any],
        seed: Any,
        options: Mapping[str, Any] | None,
    ) -> None:
        """See `Writer.write_reset`."""
        self._check_process()
        arguments = b""
        if seed is not None or options is not None:
            given = {"seed": seed, "options": options}
            arguments = self._encode_arguments(
                {name: value for name, value in given.items() if value is not None}
            )
        encoded = self._encode_info(info) if info else b""
        if not self._dtypes_decided:
            self._make_room(observation)
        try:
            frozen = self._freeze_observation(observation)
        except LossyCastError:
            self._make_room(observation)
            frozen = self._freeze_observation(observation)
        self._in_episode, self._in_steps = True, self._dtypes_decided
        self._events.add_reset(frozen, arguments, time, encoded)
        if self._events.is_full:
            self.on_full_block()

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
        if not self._in_steps:
            self._begin_steps(observation, action)
        outcome = 0 if terminated is False and truncated is False else _as_outcome(terminated, truncated)
        if type(reward) is not float:
            reward = _as_float(reward)
        encoded = self._encode_info(info) if info else b""
        try:
            frozen = self._freeze_observation(observation), self._freeze_action(action)
        except LossyCastError:
            self._make_room(observation, action)
            frozen = self._freeze_observation(observation), self._freeze_action(action)
        self._events.add_step(*frozen, reward, outcome, time, encoded)
        if outcome:
            self._in_episode = self._in_steps = False
        if self._events.is_full:
            self.on_full_block()

    def recorded_step(
        self,
        env: Any,
        clock: Callable[[], float],
        choose_info: Callable[[Any], Mapping[str, Any]],
        state: RecordingState,
    ) -> Callable[[Any], Any]:
        """See `Writer.recorded_step`."""
        write_step = self.write_step

        def step_and_write(action: Any) -> Any:
            if not state.in_episode:
                state.refuse()
            events: Any = self._events
            kind = type(action)
            if kind is events.number_type or (kind is int and events.smallest <= action <= events.largest):
                given, is_plain = action, self._in_steps
            elif (
                kind is _ndarray
                and action.dtype is events.action_dtype
                and action.shape == events.action_shape
            ):
                given, is_plain = action.tobytes(), self._in_steps  # the env may change an array
            else:
                given, is_plain = nested.copy(action), False
            try:
                observation, reward, terminated, truncated, info = result = env.step(action)
                # Most steps are of this kind. They do without the calls that others take.
                if (
                    is_plain
                    and type(observation) is _ndarray
                    and observation.dtype is events.plain_dtype
                    and observation.shape == events.plain_shape
                    and type(reward) is float
                    and type(info) is dict
                    and not info
                ):
                    if terminated is False and truncated is False:
                        outcome = 0
                    else:
                        outcome = _as_outcome(terminated, truncated)
                    end = events.end
                    events.pack(events.buffer, end, observation.tobytes(), given, reward, outcome, clock())
                    events.end = end = end + events.size
                    if outcome:
                        self._in_episode = self._in_steps = state.in_episode = False
                    if end >= events.limit:
                        self.on_full_block()
                    return result
                chosen = choose_info(info)
                if kind is _ndarray and type(given) is bytes:
                    given = np.frombuffer(given, action.dtype).reshape(action.shape)
                write_step(clock(), observation, given, reward, terminated, truncated, chosen)
            except BaseException:
                # A step that fails, or cannot be recorded, cuts the episode, as no other may take its place.
                state.in_episode = False
                raise
            if terminated or truncated:
                state.in_episode = False
            return result

        return step_and_write

    def leave_to_parent(self) -> None:
        """Record no more, in a process that was forked from the one that records."""
        self._parent = os.getppid()
        self._in_episode = self._in_steps = False
        self._lock = threading.Lock()  # another thread of the parent may have held it

    @property
    def is_left_to_parent(self) -> bool:
        """Whether this is a forked process, and its parent records."""
        return self._parent is not None

    def _check_process(self) -> None:
        if self._parent is not None:
            raise RecordingError(
                f"this env is recorded by process {self._parent}, from which this one was forked; wrap the "
                "env in the process that steps it, to record to a file of its own"
            )

    def _begin_steps(self, observation: Any, action: Any) -> None:
        self._check_process()
        if not self._in_episode:
            raise RecordingError("expected write_reset() before write_step(): no episode is under way")
        self._make_room(observation, action)
        self._dtypes_decided = self._in_steps = True

    def finish(self) -> None:
        """Keep the open episode, if any, unfinished, and everything else.

        Raises:
            RecordingError: The store had failed, or fails now.
        """
        with Uninterrupted(), self._lock:
            self._take_events()
            if self._episode is not None:
                self._ended.append(self._episode_row(Ending.UNFINISHED, self._latest, self._rows))
                self._episode, self._has_news = None, True
            self._keep()
        if self.failure is not None:
            raise RecordingError(
                f"recording stopped, and what came after is not recorded: {self.failure}"
            ) from self.failure

    @property
    def has_block(self) -> bool:
        """Whether a block waits to be written."""
        return self._events.is_full

    @property
    def is_behind(self) -> bool:
        """Whether several blocks wait to be written."""
        return isinstance(self._events, ListedEvents) and self._events.is_overfull

    def flush_block(self) -> None:
        """Hand what was collected to the store."""
        with Uninterrupted(), self._lock:
            self._write_events(self._events.take_block())
            if self._store.is_full or time.monotonic() >= self._due:
                self._keep()

    def flush(self) -> None:
        """Hand everything to the store, and have it keep it, even if the process should be killed.

        A failure is noted in `failure`.
        """
        with Uninterrupted(), self._lock:
            self._keep()

    def _keep(self) -> None:
        self.kept_at = time.monotonic()
        self._due = self.kept_at + self._soon
        self._take_events()
        if self._has_news and self.failure is None:
            try:
                self._write_episodes()
                self._store.flush(self._open_rows())
                self._has_news = False
            except Exception as error:
                self._fail(error)

    def stop(self, error: Exception) -> None:
        """Write nothing any more, as the store has failed; see `failure`."""
        with Uninterrupted(), self._lock:
            if self.failure is None:
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        self.failure = error
        # What comes is let go, also if there is no room for its dtype.
        self._freeze_observation = self._freeze_action = _let_go
        self._events = ListedEvents(1)
        self._ended.clear()

    def _open_rows(self) -> dict[str, Rows]:
        """Return the row of the episode that is under way, as if it were cut now."""
        if self._episode is None:
            return {}
        row = self._episode_row(Ending.UNFINISHED, self._latest, self._rows)
        return self._episodes.pack([[value] for value in row])

    def _episode_row(self, ending: int, final: Any, rows: int) -> tuple[Any, ...]:
        """Return the row of the episode that is under way, should it end before that row of the steps."""
        assert self._episode is not None
        first_row, arguments, time, info = self._episode
        return first_row, rows - first_row, ending, self._session, arguments, time, info, final

    def _write_episodes(self) -> None:
        if self._ended:
            self._episodes.write(list(zip(*self._ended, strict=True)))
            self._ended.clear()

    def _take_events(self) -> None:
        """Hand all events to the store as rows of the tables."""
        self._write_events(self._events.take())

    def _write_events(self, block: Block | None) -> None:
        if block is None:
            return
        self._has_news = True
        if self.failure is None:
            try:
                self._write_block(block)
            except Exception as error:
                self._fail(error)

    def _write_block(self, block: Block) -> None:
        is_step = block.outcomes != RESET
        # Row t has the observation before action t, which came with the event before.
        before = block.observations_before(self._latest)
        self._note_episodes(block, is_step)
        actions, rewards, outcomes, times, infos = (
            block.actions,
            block.rewards,
            block.outcomes,
            block.times,
            block.infos,
        )
        if not is_step.all():
            before, actions, rewards, outcomes, times = (
                choose(values, is_step) for values in (before, actions, rewards, outcomes, times)
            )
            infos = infos and choose(infos, is_step)
        if len(before):
            flags = (outcomes & Ending.TERMINATED).astype(bool), (outcomes & Ending.TRUNCATED).astype(bool)
            self._steps.write([before, actions, rewards, *flags, times, infos or [b""] * len(before)])
            self._rows += len(before)
        # Those of many blocks together, as it takes as long to write a few as to write many.
        if len(self._ended) >= self._most_ended:
            self._write_episodes()

    def _note_episodes(self, block: Block, is_step: np.ndarray) -> None:
        """Take note of the episodes that begin or end in a block, and of its last observation."""
        marked = np.flatnonzero(block.outcomes)
        *observations, latest = block.frozen_observations(np.append(marked, -1))
        rows_after = self._rows + np.cumsum(is_step)[marked]
        columns = (marked, block.outcomes[marked], rows_after, block.times[marked])
        values = (column.tolist() for column in columns)
        for event, outcome, rows, moment, observation in zip(*values, observations, strict=True):
            if outcome == RESET:
                if self._episode is not None:
                    before = block.frozen_observations(np.array([event - 1]))[0] if event else self._latest
                    self._ended.append(self._episode_row(Ending.UNFINISHED, before, rows))
                arguments, info = block.resets[event]
                self._episode = rows, arguments, moment, info
            elif self._episode is not None:
                self._ended.append(self._episode_row(outcome, observation, rows))
                self._episode = None
        self._latest = latest


def _let_go(value: Any) -> None:
    """Return nothing of a value."""


def _as_float(reward: Any) -> float:
    array = np.asarray(reward)
    if array.size == 1 and array.dtype.kind in "biuf":
        number = float(array.item())
        if number == array.item() or np.isnan(number):
            return number
    raise SpaceError(f"expected a reward that is one number, which float64 holds, found {reward!r}")


def _as_outcome(terminated: Any, truncated: Any) -> int:
    """Return the `Ending` of an episode that ends so, or 0 if it goes on."""
    return int(_as_bool(terminated, "terminated")) + 2 * int(_as_bool(truncated, "truncated"))


def _as_bool(flag: Any, name: str) -> bool:
    if type(flag) is bool:
        return flag
    array = np.asarray(flag)
    if array.size == 1 and array.dtype.kind in "biu" and array.item() in (0, 1):
        return bool(array.item())
    raise SpaceError(f"expected {name} to be True or False, found {flag!r}")
