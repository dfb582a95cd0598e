"""Writing a stream: rows are collected, and handed to an `ArrayStore` a block at a time."""

from __future__ import annotations

import math
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from gymbag import nested
from gymbag.columns import (
    LARGE_ROW_BYTES,
    BytesColumn,
    Column,
    DataColumn,
    LossyCastError,
    Rows,
    ValueColumn,
    promote,
)
from gymbag.compound_columns import join, under
from gymbag.episode import Ending
from gymbag.errors import RecordingError, SpaceError
from gymbag.infos import InfoEncoder
from gymbag.storage.base import RecordingState
from gymbag.storage.events import RESET, Block, Events, choose
from gymbag.storage.info_table import InfoTable
from gymbag.storage.planner import Planner
from gymbag.storage.plans import UnfitError
from gymbag.storage.step_values import PLAIN_REWARDS, as_outcome, as_reward
from gymbag.storage.stream import EPISODE_COLUMNS, ArrayStore, array_specs, episode_columns, step_columns
from gymbag.storage.table_writer import TableWriter
from gymbag.uninterrupted import Uninterrupted

# Rows of episodes are handed to the store when they are this many, or fill about this many bytes.
_EPISODES, _EPISODES_BYTES = 1024, 1 << 21

# At which age of a step who records keeps all of them, at the end of a block: a part of how old it may be.
_SOON = 0.25

# What is known of the episode that is under way: its first row; arguments, time and info of its reset.
_OpenEpisode = tuple[int, bytes, float, bytes]


class StreamWriter:
    """Writes episodes to a store; the `Writer` of a backend with flat arrays passes everything on to it.

    Where a space and the values disagree about a dtype, the first values decide if theirs is the wider: an
    env that declares float32 and returns float64 is recorded in float64. When later values need a wider
    dtype, the arrays are rewritten in it, so that every value is kept exactly.

    One thread records; any thread may call `flush`. If the store fails, on a full disk say, later
    events are dropped, so that the env goes on, and `finish` raises what went wrong.

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
        self._encode_annotation = InfoEncoder("annotation")
        self._encode_arguments = InfoEncoder("reset argument ")
        self._annotation: dict[str, Any] = {}  # of the step to come
        self._in_episode = False
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
        TableWriter(store, sessions).write({"sessions": [facts]})
        self._rows = store.length("rewards")
        self._kinds: dict[str, TableWriter] = {}  # of the tables of kinds, by name
        self._info_tables = InfoTable(store, "infos"), InfoTable(store, "annotations")
        self._open(under(existing, "observations"), under(existing, "actions"))
        self._dtypes_decided = self._rows > 0
        store.flush({})

    def _open(self, observations: Mapping[str, np.dtype[Any]], actions: Mapping[str, np.dtype[Any]]) -> None:
        column = self._observation_column = self._observation_column.with_dtypes(observations)
        self._action_column = self._action_column.with_dtypes(actions)
        columns = step_columns(column, self._action_column)
        for table in self._info_tables:
            columns.update(table.columns)
        self._steps = TableWriter(self._store, columns)
        self._episodes = TableWriter(self._store, episode_columns(column))
        self._most_ended = max(1, min(_EPISODES, _EPISODES_BYTES // max(column.row_bytes, 1)))
        is_large = self.row_bytes >= LARGE_ROW_BYTES
        # Of large rows, whole chunks are handed to the store, which need not be copied then.
        whole_rows = self._store.block_rows if is_large else 1
        self._events = Events(column, self._action_column, self._rows, whole_rows)
        encoders = self._encode_info, self._encode_annotation
        self._planner = Planner(self._events, self._info_tables, encoders, self._alone)
        self._events.limit_block(sum(table.row_bytes for table in self._info_tables))
        self._soon = _SOON * self._flush_seconds
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
                self._latest = None if latest is None else self._events.freeze_observation(latest)
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
        frozen = None
        try:
            frozen = self._events.freeze_observation(observation)
        except LossyCastError:
            self._make_room(observation)
            if self.failure is None:
                frozen = self._events.freeze_observation(observation)
        self._in_episode, self._annotation = True, {}
        self._find_out_if_ready()
        if self.failure is not None:
            return  # later events are dropped
        self._events.add_reset(frozen, time, arguments, encoded)
        if self._events.is_full:
            self.flush_block()

    def _freeze(self, observation: Any, action: Any) -> tuple[Any, Any]:
        return self._events.freeze_observation(observation), self._events.freeze_action(action)

    @contextmanager
    def _alone(self) -> Iterator[Callable[[], None]]:
        """Have no other thread write events for as long as the context lasts; give what writes them all."""
        with Uninterrupted(), self._lock:
            yield self._take_events

    def _find_out_if_ready(self) -> None:
        """Say whether the next step may be packed without further ado, if it is of a kind that is known."""
        is_known = self._in_episode and self._dtypes_decided and not self._annotation
        self._events.is_ready = is_known and self._events.takes_rows and self.failure is None

    def annotate(self, values: Mapping[str, Any]) -> None:
        """See `Writer.annotate`."""
        self._check_process()
        self._annotation = {**self._annotation, **nested.copy(dict(values))}
        self._find_out_if_ready()

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
        if self.failure is None:
            self._write_step(time, observation, action, reward, as_outcome(terminated, truncated), info)
        if terminated or truncated:
            self._in_episode = False
        self._find_out_if_ready()
        if self._events.is_full:
            self.flush_block()

    def _write_step(
        self, time: float, observation: Any, action: Any, reward: Any, outcome: int, info: Mapping[str, Any]
    ) -> None:
        if not (self._in_episode and self._dtypes_decided):
            self._begin_steps(observation, action)
        reward = as_reward(reward)
        try:
            frozen = self._freeze(observation, action)
        except LossyCastError:
            self._make_room(observation, action)
            if self.failure is not None:
                return  # there is none
            frozen = self._freeze(observation, action)
        annotation, self._annotation = self._annotation, {}
        plan, values = self._planner.find(info, annotation)
        try:
            self._events.add_step(*frozen, reward, time, outcome, plan, values)
        except struct.error:  # an integer of an info has more than 64 bits
            plan, values = self._planner.learn(info, annotation)
            self._events.add_step(*frozen, reward, time, outcome, plan, values)

    def recorded_step(
        self,
        env: Any,
        clock: Callable[[], float],
        choose_info: Callable[[Any], Mapping[str, Any]],
        state: RecordingState,
    ) -> Callable[[Any], Any]:
        """See `Writer.recorded_step`."""
        takes_all = getattr(choose_info, "takes_all", False)

        def step_and_write(action: Any) -> Any:
            if not state.in_episode:
                state.refuse()
            events = self._events
            is_ready, given = events.is_ready, action
            if type(action) not in events.plain_actions:
                try:  # the env may change it
                    given = events.freeze_action(action)
                except SpaceError:
                    is_ready = False
                if not is_ready:
                    given = nested.copy(action)
            try:
                observation, reward, terminated, truncated, info = result = env.step(action)
                time = clock()
                if is_ready and takes_all and type(info) is dict:
                    # Most steps are of a kind that is known. They are packed here, without further calls.
                    try:
                        if terminated is False and truncated is False:
                            outcome = 0
                        else:
                            outcome = as_outcome(terminated, truncated)
                        if type(reward) not in PLAIN_REWARDS:
                            reward = as_reward(reward)
                        frozen = events.freeze_observation(observation)
                        end = events.end
                        if info:
                            plan = events.known[(*info, *map(type, info), *map(type, info.values()))]
                            row = frozen, given, reward, time, plan.code + outcome
                            plan.pack(events.buffer, end, *row, *plan.values(info))
                        else:
                            events.pack_plain(events.buffer, end, frozen, given, reward, time, outcome)
                        events.end = end = end + events.stride
                    except (KeyError, UnfitError, LossyCastError, struct.error):
                        pass
                    else:
                        if outcome:
                            self._in_episode = events.is_ready = state.in_episode = False
                        if end >= events.due:
                            self.flush_block()
                        return result
                if is_ready and type(action) not in events.plain_actions:
                    given = self._action_column.thaw(given)
                self.write_step(time, observation, given, reward, terminated, truncated, choose_info(info))
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
        self._in_episode = self._events.is_ready = False
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
        self._dtypes_decided = True

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
        # Later events are dropped.
        self.failure = error
        self._events.is_ready = False
        self._ended.clear()

    def _open_rows(self) -> dict[str, Rows]:
        """Return the row of the episode that is under way, as if it were cut now."""
        if self._episode is None:
            return {}
        row = self._episode_row(Ending.UNFINISHED, self._latest, self._rows)
        return self._episodes.pack_row(row)

    def _episode_row(self, ending: int, final: Any, rows: int) -> tuple[Any, ...]:
        """Return the row of the episode that is under way, should it end before that row of the steps."""
        assert self._episode is not None
        first_row, arguments, time, info = self._episode
        return first_row, rows - first_row, ending, self._session, arguments, time, info, final

    def _write_episodes(self) -> None:
        if self._ended:
            self._episodes.write(dict(zip(EPISODE_COLUMNS, zip(*self._ended, strict=True), strict=True)))
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
        self._create_columns()
        is_step = block.outcomes != RESET
        # Row t has the observation before action t, which came with the event before.
        before = block.observations_before(np.flatnonzero(is_step), self._latest)
        self._note_episodes(block, is_step)
        values = (block.actions, block.rewards, block.outcomes, block.times)
        if not is_step.all():
            values = tuple(choose(each, is_step) for each in values)
        actions, rewards, outcomes, times = values
        count = len(before)
        if count:
            rows = {
                "observations": before,
                "actions": actions,
                "rewards": rewards,
                "terminated": (outcomes & Ending.TERMINATED).astype(bool),
                "truncated": (outcomes & Ending.TRUNCATED).astype(bool),
                "times": times,
            }
            by_plan = block.steps_by_plan(self._events.plans, is_step)
            infos, annotations = self._info_tables
            chosen = [(plan.info, where, own) for plan, where, own in by_plan]
            rows.update(infos.values(chosen, block.kept, count))
            chosen = [(plan.annotation, where, own) for plan, where, own in by_plan]
            rows.update(annotations.values(chosen, block.kept, count))
            self._steps.write(rows)
            self._rows += count
        # Those of many blocks together, as it takes as long to write a few as to write many.
        if len(self._ended) >= self._most_ended:
            self._write_episodes()

    def _create_columns(self) -> None:
        """Make the arrays of keys that came up since, and add to the tables of kinds."""
        for table in self._info_tables:
            columns, kinds = table.take_new()
            if columns:
                self._write_episodes()
                self._store.flush(self._open_rows())
                name, existing = table.table, self._store.dtypes()
                specs = {
                    path: spec
                    for path, spec in array_specs({**columns, name: DataColumn()}).items()
                    if path not in existing
                }
                # Bytes of ragged columns are not in the rows of the steps, nor are kinds.
                is_ragged = {
                    join(path, "data") for path, column in columns.items() if isinstance(column, BytesColumn)
                }
                rows = {
                    path: self._rows for path in specs if path not in is_ragged and not path.startswith(name)
                }
                self._store.create(specs, rows)
                self._steps.add(columns, are_new=True)
            if kinds:
                name = table.table
                if name not in self._kinds:
                    self._kinds[name] = TableWriter(self._store, {name: DataColumn()})
                self._kinds[name].write({name: kinds})

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
