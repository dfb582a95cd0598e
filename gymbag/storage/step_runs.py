"""Steps of many short episodes, made in one go.

To begin an episode, to shift its actions behind its observations and to end it costs more than the steps of a
short one. So episodes that lie in one block of rows are laid behind each other, with the values that stand in
the table of episodes put in where they belong:

    rows of the block     o0 o1 o2 | o0 o1 | ...        a0 a1 a2 | a0 a1 | ...
    observations          o0 o1 o2 final | o0 o1 final | ...
    actions               null a0 a1 a2 | null a0 a1 | ...

and each episode takes as many steps as it has from one iterator of them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, starmap
from operator import length_hint
from typing import Any

import numpy as np

from gymbag.columns import Column
from gymbag.episode import Step, annotate_step, join_steps
from gymbag.storage.stream_tables import StreamTables

# Fewer episodes than these, in a block of rows, are long enough to be read by themselves.
_FEWEST_EPISODES = 8


class StepRun:
    """The steps of neighbouring episodes.

    Args:
        first: Number of the first episode.
        bounds: Where in the run the steps of each begin; and where the last one's end.
        columns: How observations and actions lie in stacks.
        parts: Times, observations, actions, rewards, dones, infos and annotations of all steps.

    Attributes:
        stop: Number of the episode after the last.
    """

    def __init__(
        self, first: int, bounds: list[int], columns: tuple[Column, Column], parts: Sequence[Any]
    ) -> None:
        self.first, self.stop = first, first + len(bounds) - 1
        self._bounds, self._columns, self._parts = bounds, columns, parts
        self._times_left = iter(parts[0])  # of which one is taken whenever a step is
        self._steps_left = self._join(self._times_left, 0, bounds[-1])

    def _join(self, times: Iterable[float], begin: int, end: int) -> Iterator[Step]:
        observation_column, action_column = self._columns
        _, observations, actions, rewards, dones, infos, annotations = self._parts
        steps = join_steps(
            times,
            observation_column.iterate_rows(observations, begin, end),
            action_column.iterate_rows(actions, begin, end),
            rewards[begin:end],
            dones[begin:end],
            infos[begin:end],
        )
        if not any(annotations[begin:end]):
            return steps
        return map(annotate_step, steps, annotations[begin:end])

    def steps_of(self, index: int) -> Iterator[Step]:
        """Return the steps of an episode; who asks twice gets the same values twice."""
        number = index - self.first
        begin, end = self._bounds[number], self._bounds[number + 1]
        if length_hint(self._times_left) == self._bounds[-1] - begin:
            return islice(self._steps_left, end - begin)
        # An episode before was passed over or left early, and its iterator may be taken up again.
        return self._join(self._parts[0][begin:end], begin, end)


class StepRuns:
    """The steps of the episodes of a loop over a stream.

    Args:
        tables: Where the stream's tables are.
        count: How many episodes the loop has. The last one may be replaced, so is in no run.
        rows: How many steps.

    Attributes:
        steps: Blocks of steps, to read the other episodes from.
        episodes: Blocks of episodes.
        outlines: Blocks of first row, length and ending of episodes.
    """

    def __init__(self, tables: StreamTables, count: int, rows: int) -> None:
        self.steps, self.episodes = tables.steps(0, rows), tables.episodes(count)
        self.outlines = tables.outlines(count)
        self._columns = tables.observation_column, tables.action_column
        self._last = count - 1
        self._run: StepRun | None = None

    def steps_of(self, index: int, first: int, length: int) -> Iterator[Step] | None:
        """Return the steps of an episode, or None if it is to be read by itself."""
        run = self._run
        if run is None or not run.first <= index < run.stop:
            if not length or not self.steps.have_ahead(first, first + length):
                return None
            run = self._run = self._make_run(index, first, length)
            if run is None:
                return None
        return run.steps_of(index)

    def _make_run(self, index: int, first: int, length: int) -> StepRun | None:
        """Lay as many episodes behind each other as begin with this one and lie in one block of rows."""
        block, stop, rows = self.steps.block(first, first + length)
        times, observations, actions, rewards, infos, annotations = rows
        stacks = zip(self._columns, (observations, actions), strict=True)
        if stop - first < _FEWEST_EPISODES * length or not all(starmap(_is_of_arrays, stacks)):
            return None
        start, outlines_stop, outlines = self.outlines.block(index, index + 1)
        begin, own_stop, own = self.episodes.block(index, index + 1)
        end = min(outlines_stop, own_stop, self._last)
        firsts, lengths, endings = (column[index - start : end - start] for column in outlines)
        ends = firsts + lengths
        follow = np.concatenate([[first], ends[:-1]]) == firsts
        count = int(np.argmin(np.append(follow & (lengths >= 0) & (ends <= stop) & (endings <= 3), False)))
        if count < _FEWEST_EPISODES:
            return None
        taken = slice(first - block, int(ends[count - 1]) - block)
        begins, lasts = firsts[:count] - first, ends[:count] - first
        reset_times, reset_infos, finals = own
        chosen = slice(index - begin, index - begin + count)
        observation_column, action_column = self._columns

        def before(rows: np.ndarray, values: Any) -> np.ndarray:
            return np.insert(rows[taken], begins, values, axis=0)

        def after(rows: np.ndarray, values: np.ndarray) -> np.ndarray:
            return np.insert(rows[taken], lasts, values[chosen], axis=0)

        bounds = np.append(0, lasts + np.arange(1, count + 1))
        dones = np.zeros(bounds[-1], bool)
        dones[bounds[1:] - 1] = endings[:count] != 0
        return StepRun(
            index,
            bounds.tolist(),
            self._columns,
            (
                before(times, reset_times[chosen]).tolist(),
                observation_column.map(after, observations, finals),
                action_column.map(before, actions, action_column.stack([action_column.null()])),
                before(rewards, np.nan).tolist(),
                dones.tolist(),
                _insert_infos(infos[taken], reset_infos[chosen], begins.tolist()),
                _insert_infos(annotations[taken], [None] * count, begins.tolist()),
            ),
        )


def _is_of_arrays(column: Column, stack: Any) -> bool:
    leaves: list[Any] = []
    column.map(leaves.append, stack)
    return all(isinstance(leaf, np.ndarray) and not leaf.dtype.hasobject for leaf in leaves)


def _insert_infos(infos: Sequence[Any], own: Sequence[Any], begins: list[int]) -> list[Any]:
    if not any(infos) and not any(own):
        return [None] * (len(infos) + len(own))
    laid: list[Any] = []
    for first, begin, end in zip(own, begins, [*begins[1:], len(infos)], strict=True):
        laid.append(first)
        laid += infos[begin:end]
    return laid
