"""A table of the original Gymbag 0.4 as episodes, like those of our own files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gymbag import spaces
from gymbag.episode import Ending, Episode, Field
from gymbag.spaces import Description
from gymbag.storage.base import Header, Reader
from gymbag.storage.gymbag_0_4 import Table
from gymbag.storage.hdf5_file import FileOnDemand
from gymbag.storage.snapshot import Snapshot

_COLUMNS = {
    "observations": "observation",
    "actions": "action",
    "rewards": "reward",
    "times": "time",
    "infos": "info",
}


class TableReader(FileOnDemand, Reader):
    """Reads a table of Gymbag 0.4, which is never written to.

    The original marked the last step of every episode done, also when the user had cut it. So every
    episode that is marked counts as terminated; seeds and options were not recorded.

    Args:
        path: The file.
        name: Name of the table.
    """

    _address = ("_path", "_salvaging", "_name", "library")

    def __init__(self, path: Path, name: str) -> None:
        super().__init__(path)
        self._name = name

    def _take_up(self, snapshot: Snapshot) -> None:
        self._table = Table(snapshot.file[self._name])

    @property
    def table(self) -> Table:
        """The table."""
        with self._guard():
            self._open()
            return self._table

    @property
    def header(self) -> Header:
        """What the table tells of its env: name, spaces and description."""
        table = self.table
        return Header(
            self._name,
            _describe(table.observation_space, table.observation_shape),
            _describe(table.action_space, table.action_shape),
            table.description,
        )

    @property
    def nsteps(self) -> int:
        """How many steps all episodes have together, resets not included."""
        return int(self.table.episodes[1].sum())

    def __len__(self) -> int:
        """Count the episodes."""
        return len(self.table.episodes[0])

    def read_episode(self, index: int) -> Episode:
        """Return an episode by its number, from 0 to len(self) - 1."""
        return TableEpisode(self, index)


class TableEpisode(Episode):
    """An episode of a table: T+1 rows, the reset first; each with the action that led to it."""

    def __init__(self, reader: TableReader, index: int) -> None:
        first_rows, lengths, done = reader.table.episodes
        # A reset cannot end an episode, yet the original marked one that was followed by another reset.
        ending = Ending.TERMINATED if done[index] and lengths[index] else Ending.UNFINISHED
        columns = reader.observation_column, reader.action_column
        super().__init__(index, int(lengths[index]), ending, *columns)
        self._reader = reader
        self._first_row = int(first_rows[index])

    def read(self, field: Field, start: int, stop: int) -> Any:
        """Read elements start to stop of one of the fields, as a stack."""
        first = self._first_row + (field in ("actions", "rewards"))
        rows = self._reader.table.read(_COLUMNS[field], first + start, first + stop)
        if field == "infos":
            return tuple(info or {} for info in rows)
        if field == "rewards":
            return rows.astype(np.float64)
        column = {"observations": self._observation_column, "actions": self._action_column}.get(field)
        # Everything was stored as float32, the numbers of discrete spaces too.
        return rows if column is None else rows.astype(column.arrays()[""].dtype)

    @property
    def seed(self) -> None:
        """None: seeds were not recorded."""
        return None

    @property
    def options(self) -> None:
        """None: options were not recorded."""
        return None


def _describe(space: Description | None, shape: tuple[int, ...]) -> Description:
    unknown = {"type": "Box", "dtype": "<f4", "shape": list(shape), "low": "-inf", "high": "inf"}
    return {"version": spaces.VERSION, "library": "gymnasium", "space": space or unknown}
