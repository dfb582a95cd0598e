"""Reading a stream: the episodes that lie in an `ArraySource`."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from gymbag.columns import Column, ValueColumn
from gymbag.compound_columns import below, under
from gymbag.dataset import FlatRecording
from gymbag.episode import Ending, Episode
from gymbag.errors import DamagedFileError
from gymbag.info_arrays import InfoArrays, name_paths
from gymbag.space_columns import column_of
from gymbag.spaces import Description, Library
from gymbag.storage.base import Header, Reader
from gymbag.storage.info_columns import InfoColumn
from gymbag.storage.read_ahead import OngoingReads
from gymbag.storage.step_runs import StepRuns
from gymbag.storage.stream import ArraySource
from gymbag.storage.stream_episode import StreamEpisode
from gymbag.storage.stream_tables import StreamTables

_Result = TypeVar("_Result")

# Keys are looked for in blocks of so many rows.
_BLOCK_ROWS = 1 << 16

# By their values; calling the enum takes a while.
_ENDINGS = tuple(map(Ending, range(4)))


class StreamReader(Reader):
    """Reads a stream from a store.

    Args:
        store: Where the arrays are.
        name: Name of the data set.
        observation_space: Description of the space.
        action_space: Description of the space.
        description: The user's words on where the data comes from.
        in_background: Whether to read ahead in a thread while big observations are iterated.
    """

    def __init__(
        self,
        store: ArraySource,
        name: str,
        observation_space: Description,
        action_space: Description,
        description: str,
        in_background: bool = False,
    ) -> None:
        self.store = store
        self._in_background = in_background
        self._ongoing = OngoingReads()
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
        self._ongoing.settle()
        self.store.close()

    def in_library(self, library: Library) -> StreamReader:
        """Return a reader of the same recording that builds the spaces and graphs of that library."""
        reader = super().in_library(library)
        vars(reader).pop("_tables", None)
        return reader

    @functools.cached_property
    def observation_column(self) -> Column:
        """How observations lie in arrays, of the dtypes they were recorded in."""
        return self._column(self._identity[1], "observations")

    @functools.cached_property
    def action_column(self) -> Column:
        """How actions lie in arrays, of the dtypes they were recorded in."""
        return self._column(self._identity[2], "actions")

    def _column(self, space: Description, name: str) -> Column:
        # Not from the header, which takes the sessions, too: if those are damaged, the episodes are not.
        return column_of(self._in_library(space)).with_dtypes(under(self.store.dtypes(), name))

    def _read(self, column: Column, name: str, start: int, stop: int) -> Any:
        return column.unpack(below(self.store.read, name), start, stop)

    def refresh(self) -> bool:
        """Take in what was recorded since the store was opened; tell whether there was anything new."""
        return self.store.refresh()

    def _at_once(self, read: Callable[[], _Result]) -> _Result:
        """Read several things from one state of the store; that of the last episode may be replaced."""
        while True:
            state = self.store.state
            result = read()
            if self.store.state == state:
                return result

    @property
    def nsteps(self) -> int:
        """How many steps all episodes have together, resets not included."""
        return self._at_once(lambda: self._rows(len(self)))

    def _rows(self, count: int) -> int:
        """Count the steps of the first episodes."""
        last = count - 1
        if last < 0:
            return 0
        # Not the length of the columns, to which an open episode may have added rows.
        return sum(
            int(self.store.read(f"episodes/{name}", last, last + 1)[0]) for name in ("first_row", "length")
        )

    def __len__(self) -> int:
        """Count the episodes."""
        return self.store.length("episodes/length")

    @functools.cached_property
    def _tables(self) -> StreamTables:
        columns = self.observation_column, self.action_column
        return StreamTables(self.store, *columns, self._ongoing if self._in_background else None)

    def read_episode(self, index: int) -> Episode:
        """Return an episode by its number, from 0 to len(self) - 1."""
        return self._episode(index, *self._at_once(functools.partial(self._outline, index)))

    def _outline(self, index: int) -> tuple[int, int, int]:
        first_row, length, ending = (
            int(self.store.read(f"episodes/{name}", index, index + 1)[0])
            for name in ("first_row", "length", "ending")
        )
        return first_row, length, ending

    def _episode(
        self, index: int, first_row: int, length: int, ending: int, runs: StepRuns | None = None
    ) -> StreamEpisode:
        if first_row < 0 or length < 0 or not 0 <= ending <= 3:
            raise DamagedFileError(
                f"{self._identity[0]!r}: expected first row, length and ending of episode {index}, "
                f"found {first_row}, {length} and {ending}"
            )
        return StreamEpisode(self._tables, index, first_row, length, _ENDINGS[ending], runs)

    def __iter__(self) -> Iterator[Episode]:
        """Yield the episodes in the order in which they were recorded; together they read ahead."""
        return self._episodes(len(self))

    def _episodes(self, count: int) -> Iterator[Episode]:
        runs = StepRuns(self._tables, count, self._rows(count))
        start = 0
        while start < count:
            _, end, columns = runs.outlines.block(start, count)
            outlines = (column.tolist() for column in columns)
            for index, first_row, length, ending in zip(range(start, end), *outlines, strict=True):
                if index < count - 1:
                    yield self._episode(index, first_row, length, ending, runs)
                    continue
                # That of the last one may be replaced, as it is recorded, between the reading of two columns.
                now = self._at_once(functools.partial(self._outline, index))
                is_fixed = ending and now == (first_row, length, ending)
                yield self._episode(index, *now, runs if is_fixed else None)
            start = end

    @property
    def info_keys(self) -> list[str]:
        """The keys of the infos of steps, as `get_dataset` names them."""
        return self._keys(self._tables.infos)

    @property
    def annotation_keys(self) -> list[str]:
        """The keys of the annotations, as `get_dataset` names them."""
        return self._keys(self._tables.annotations)

    def _keys(self, column: InfoColumn) -> list[str]:
        rows = self.nsteps
        # In blocks, as whatever is JSON has to be read for its keys.
        starts = range(0, rows, _BLOCK_ROWS)
        paths = (column.parts(start, min(start + _BLOCK_ROWS, rows)) for start in starts)
        return list(name_paths(dict.fromkeys(itertools.chain.from_iterable(paths))))

    def read_flat(self, with_infos: bool = False, with_annotations: bool = False) -> FlatRecording:
        """Read every step of every episode."""
        len(self)  # opens the store, which changes its state: all would be read twice
        return self._at_once(lambda: self._read_flat(with_infos, with_annotations))

    def _read_flat(self, with_infos: bool, with_annotations: bool) -> FlatRecording:
        episodes, rows = len(self), self.nsteps
        tables = self._tables
        return FlatRecording(
            self._read(self.observation_column, "observations", 0, rows),
            self._read(self.action_column, "actions", 0, rows),
            self.store.read("rewards", 0, rows),
            self.store.read("terminated", 0, rows),
            self.store.read("truncated", 0, rows),
            self.store.read("episodes/length", 0, episodes),
            self._read(self.observation_column, "episodes/final_observation", 0, episodes),
            InfoArrays(rows, tables.infos.parts(0, rows) if with_infos else {}),
            InfoArrays(rows, tables.annotations.parts(0, rows) if with_annotations else {}),
        )
