"""One episode of a stream: its rows in the table of steps, and its row in the table of episodes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from gymbag.columns import Column, ScalarColumn, StepInfoColumn, ValueColumn
from gymbag.compound_columns import below
from gymbag.episode import Ending, Episode, Field, Step, annotate_step, join_steps, make_step
from gymbag.errors import DamagedFileError
from gymbag.info_arrays import InfoArrays
from gymbag.storage.info_columns import InfoColumn
from gymbag.storage.step_runs import StepRuns
from gymbag.storage.stream_tables import StreamTables

_COUNT, _TIME = ScalarColumn(np.int64), ScalarColumn(np.float64)
_INFO = StepInfoColumn()


class StreamEpisode(Episode):
    """An episode that reads its arrays from a stream when they are asked for.

    It stays what it was when it was made, even if it is being recorded and goes on.

    Args:
        tables: Where the stream's tables are.
        index: Its number in the recording.
        first_row: Where its steps begin.
        length: How many there are.
        ending: How it ended.
        runs: The steps of a loop that its neighbours share, to be taken once.
    """

    def __init__(
        self,
        tables: StreamTables,
        index: int,
        first_row: int,
        length: int,
        ending: Ending,
        runs: StepRuns | None = None,
    ) -> None:
        super().__init__(index, length, ending, tables.observation_column, tables.action_column)
        self._tables = tables
        self._first_row = first_row
        self._runs = runs

    def __getstate__(self) -> dict[str, Any]:
        """Hand over no runs: what they hold is given but once."""
        return {name: value for name, value in vars(self).items() if name != "_runs"}

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
                parts.append(self._final_observation())
        else:
            # Element 0 is the reset's, and element t stands in row t - 1.
            column = _TIME if field == "times" else ValueColumn()
            parts = [self._own(column, f"reset_{field[:-1]}")] if start == 0 else []
            first = max(start - 1, 0)
            if field == "times":
                parts.append(self._rows(column, field, first, stop - 1))
            else:
                parts.append(self._dicts(self._tables.infos, field, first, stop - 1))
        return parts[0] if len(parts) == 1 else column.map(_concatenate, *parts)

    def read_annotations(self, start: int, stop: int) -> tuple[dict[str, Any], ...]:
        """Read annotations start to stop."""
        return self._dicts(self._tables.annotations, "annotations", start, stop)

    def _dicts(self, column: InfoColumn, name: str, start: int, stop: int) -> tuple[dict[str, Any], ...]:
        first = self._first_row
        infos = column.unpack(below(self._tables.read, name), first + start, first + stop)
        return tuple({} if info is None else info for info in infos)

    @cached_property
    def info_arrays(self) -> Mapping[str, np.ndarray]:
        """The infos of the steps key by key, read from their columns; see `Episode.info_arrays`."""
        return self._arrays_of(self._tables.infos)

    @cached_property
    def annotation_arrays(self) -> Mapping[str, np.ndarray]:
        """The annotations key by key, formed like `info_arrays`."""
        return self._arrays_of(self._tables.annotations)

    def _arrays_of(self, column: InfoColumn) -> InfoArrays:
        return InfoArrays(len(self), column.parts(self._first_row, self._first_row + len(self)))

    @property
    def row_bytes(self) -> int:
        """About how many bytes a step takes: as many as an average one of the whole recording."""
        return self._tables.row_bytes

    def __iter__(self) -> Iterator[Step]:
        """Yield T+1 steps, reading ahead a bounded number of rows."""
        try:
            runs = self._runs
            # At once, as threads may iterate the same episode, and each wants values of its own.
            del self._runs
        except AttributeError:
            runs = None
        steps = None if runs is None else runs.steps_of(self.index, self._first_row, self._length)
        return itertools.chain.from_iterable(self._read_steps(runs)) if steps is None else steps

    def _read_steps(self, runs: StepRuns | None) -> Iterator[Iterable[Step]]:
        first, stop = self._first_row, self._first_row + self._length
        observation_column, action_column = self._observation_column, self._action_column
        if runs is None or not runs.steps.have_ahead(first, stop):
            steps, row = self._tables.steps(first, stop), 0
            reset: Sequence[Any] = (
                self._own(_TIME, "reset_time"),
                self._own(_INFO, "reset_info"),
                self._final_observation(),
            )
        else:
            steps = runs.steps
            begin, _, reset = runs.episodes.block(self.index, self.index + 1)
            row = self.index - begin
        times, infos, finals = reset
        time, info, annotation = float(times[row]), infos[row], None
        (final,) = itertools.islice(observation_column.iterate_rows(finals, row, row + 1), 1)
        action, reward = action_column.null(), np.nan
        # A step is what came of an action, a row, and the observation before the next, the row below it. So
        # each observation goes with what came before, of the rows one higher.
        while first < stop:
            begin, end, block = steps.block(first, stop)
            times, observations, actions, rewards, infos, annotations = block
            row, last = first - begin, min(end, stop) - begin - 1
            *before, last_action = itertools.islice(
                action_column.iterate_rows(actions, row, last + 1), last + 1 - row
            )
            joined = join_steps(
                [time, *times[row:last].tolist()],
                observation_column.iterate_rows(observations, row, last + 1),
                [action, *before],
                [reward, *rewards[row:last].tolist()],
                itertools.repeat(False),
                [info, *infos[row:last]],
            )
            if annotation or any(annotations[row:last]):
                joined = map(annotate_step, joined, [annotation, *annotations[row:last]])
            yield joined
            time, action, reward = float(times[last]), last_action, float(rewards[last])
            info, annotation = infos[last], annotations[last]
            first = begin + last + 1
        yield (annotate_step(make_step((time, final, action, reward, self.finished, info)), annotation),)

    def _final_observation(self) -> Any:
        """Read observation T as a stack of one.

        While an episode is recorded its row in the table of episodes is replaced again and again. Once it
        has more than T steps, observation T stands before the step that followed.
        """
        try:
            final = self._own(self._observation_column, "final_observation")
            # Asked for last, as the row may be replaced at any moment.
            has_gone_on = self._has_gone_on()
        except DamagedFileError:  # if replaced between the reading of two of its arrays
            has_gone_on = self._has_gone_on()
            if not has_gone_on:
                raise
        if has_gone_on:
            return self._rows(self._observation_column, "observations", self._length, self._length + 1)
        return final

    def _has_gone_on(self) -> bool:
        return not self.finished and int(self._own(_COUNT, "length")[0]) > self._length

    def _rows(self, column: Column, name: str, start: int, stop: int) -> Any:
        first = self._first_row
        return column.unpack(below(self._tables.read, name), first + start, first + stop)

    def _own(self, column: Column, name: str) -> Any:
        return column.unpack(below(self._tables.read, f"episodes/{name}"), self.index, self.index + 1)

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
