"""The tables of a stream as they are read: an array at a time, or in blocks of rows."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from gymbag.columns import Column, ScalarColumn, StepInfoColumn
from gymbag.storage.info_columns import InfoColumn
from gymbag.storage.read_ahead import OngoingReads, ReadAhead
from gymbag.storage.row_blocks import RowBlocks, Rows, Unpacks
from gymbag.storage.stream import ArraySource, array_specs

# A block has at most this many rows, and about this many bytes.
_BLOCK_ROWS = 8192
_BLOCK_BYTES = 2 << 20

# How many times its bytes a small info takes that is JSON, and a text while it is made of those of a column.
_JSON_GROWTH, _TEXT_GROWTH = 16, 8
# How many bytes a value of a column takes as an object in a dict, beside its own.
_OBJECT_BYTES = 96

# Rows of this many bytes take so long to decompress that handing them to a thread pays.
_BIG_ROW_BYTES = 4096


class StreamTables:
    """The tables of steps and of episodes of a stream.

    Args:
        store: Where the arrays are.
        observations: The column of the observation space.
        actions: The column of the action space.
        ongoing: Notes the reads of threads; without it there are none.
    """

    def __init__(
        self, store: ArraySource, observations: Column, actions: Column, ongoing: OngoingReads | None
    ) -> None:
        self._store = store
        self.read = store.read
        self.observation_column, self.action_column = observations, actions
        self.infos, self.annotations = InfoColumn(store, "infos"), InfoColumn(store, "annotations")
        self._ongoing = ongoing
        self._outline_columns: dict[str, Unpacks] = {
            "episodes/first_row": ScalarColumn(np.int64),
            "episodes/length": ScalarColumn(np.int64),
            "episodes/ending": ScalarColumn(np.uint8),
        }
        self._episode_columns: dict[str, Unpacks] = {
            "episodes/reset_time": ScalarColumn(np.float64),
            "episodes/reset_info": StepInfoColumn(),
            "episodes/final_observation": observations,
        }
        self._step_columns: dict[str, Unpacks] = {
            "times": ScalarColumn(np.float64),
            "observations": observations,
            "actions": actions,
            "rewards": ScalarColumn(np.float64),
            "infos": self.infos,
            "annotations": self.annotations,
        }

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of the observation, the info and the annotation of a step, on average."""
        paths = [*array_specs({"observations": self.observation_column}), *self._info_paths]
        return sum(map(self._mean_bytes, paths))

    @cached_property
    def _info_paths(self) -> list[str]:
        """The arrays of infos and annotations, but for what tells where or of which kind they are."""
        return [
            path
            for path in self._store.dtypes()
            if path.startswith(("infos/", "annotations/")) and not path.endswith(("/ends", "/kind"))
        ]

    def _mean_bytes(self, path: str, table: str = "rewards") -> int:
        """Count the bytes that an array has for each row of a table."""
        rows = self._store.read(path, 0, 0)
        row_bytes = rows.dtype.itemsize * math.prod(rows.shape[1:])
        return self._store.length(path) * row_bytes // max(self._store.length(table), 1)

    @cached_property
    def _step_rows(self) -> int:
        """How many steps make a block."""
        row_bytes = self.row_bytes
        for path in self._info_paths:
            mean = self._mean_bytes(path)
            if path in ("infos/data", "annotations/data"):
                row_bytes += (_JSON_GROWTH - 1) * mean
            else:
                row_bytes += _OBJECT_BYTES + (_TEXT_GROWTH - 1) * mean * path.endswith("/data")
        return _fitting_rows(row_bytes)

    @cached_property
    def _episode_rows(self) -> int:
        """How many episodes make a block."""
        table = "episodes/length"
        row_bytes = _JSON_GROWTH * self._mean_bytes("episodes/reset_info/data", table)
        for path in array_specs({"episodes/final_observation": self.observation_column}):
            row_bytes += self._mean_bytes(path, table)
        return _fitting_rows(row_bytes)

    def outlines(self, stop: int) -> RowBlocks:
        """Return first row, length and ending of the episodes before `stop`."""
        return RowBlocks(self._outline_columns, self.read, _BLOCK_ROWS, 0, stop)

    def episodes(self, stop: int) -> RowBlocks:
        """Return reset time, reset info and final observation of the episodes before `stop`."""
        return RowBlocks(self._episode_columns, self.read, self._episode_rows, 0, stop)

    def steps(self, start: int, stop: int) -> RowBlocks:
        """Return times, observations, actions, rewards, infos, annotations of steps, read ahead if big."""
        ahead: ReadAhead[Rows] | None = None
        if self._ongoing is not None and self.row_bytes >= _BIG_ROW_BYTES:
            ahead = ReadAhead(self._ongoing)
        return RowBlocks(self._step_columns, self.read, self._step_rows, start, stop, ahead)


def _fitting_rows(row_bytes: int) -> int:
    """Return how many rows of so many bytes make a block."""
    rows = min(max(_BLOCK_BYTES // max(row_bytes, 1), 1), _BLOCK_ROWS)
    # Chunks of stores hold a power of two of rows, too, so that each lies in one block.
    return int(1 << rows.bit_length() - 1)
