"""Reading a stream: the episodes that lie in an `ArraySource`."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gymbag.columns import Column, ScalarColumn, ValueColumn
from gymbag.compound_columns import below, under
from gymbag.dataset import FlatRecording
from gymbag.episode import Ending, Episode, Field
from gymbag.errors import DamagedFileError
from gymbag.spaces import Description
from gymbag.storage.base import Header, Reader
from gymbag.storage.stream import ArraySource, array_specs


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

    @functools.cached_property
    def mean_row_bytes(self) -> int:
        """Bytes of the observation and info of a step, on average."""
        specs = array_specs({"observations": self.observation_column, "infos": ValueColumn()})
        total = sum(self.store.length(path) * spec.row_bytes for path, spec in specs.items())
        return total // max(self.store.length("rewards"), 1)

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
        self._row_bytes = reader.mean_row_bytes
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

    @property
    def row_bytes(self) -> int:
        """About how many bytes a step takes: as many as an average one of the whole recording."""
        return self._row_bytes

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
