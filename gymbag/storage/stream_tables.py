"""The tables of a stream as they are read: an array at a time, or in blocks of rows."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gymbag.columns import Column, ScalarColumn, StepInfoColumn, ValueColumn
from gymbag.storage.read_ahead import OngoingReads, ReadAhead
from gymbag.storage.row_blocks import RowBlocks, Rows
from gymbag.storage.stream import ArraySource, array_specs

# A block has at most this many rows, and about this many bytes.
_BLOCK_ROWS = 8192
_BLOCK_BYTES = 2 << 20

# How many times the bytes of its JSON a small info takes as a dict.
_INFO_GROWTH = 16

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
        self._ongoing = ongoing
        self._outline_columns: dict[str, Column] = {
            "episodes/first_row": ScalarColumn(np.int64),
            "episodes/length": ScalarColumn(np.int64),
            "episodes/ending": ScalarColumn(np.uint8),
        }
        self._episode_columns: dict[str, Column] = {
            "episodes/reset_time": ScalarColumn(np.float64),
            "episodes/reset_info": StepInfoColumn(),
            "episodes/final_observation": observations,
        }
        self._step_columns: dict[str, Column] = {
            "times": ScalarColumn(np.float64),
            "observations": observations,
            "actions": actions,
            "rewards": ScalarColumn(np.float64),
            "infos": StepInfoColumn(),
        }

    @cached_property
    def row_bytes(self) -> int:
        """Bytes of the observation and info of a step, on average."""
        return self._mean_bytes("observations", self.observation_column) + self._info_bytes

    @cached_property
    def _info_bytes(self) -> int:
        return self._mean_bytes("infos", ValueColumn())

    def _mean_bytes(self, name: str, column: Column) -> int:
        specs = array_specs({name: column})
        total = sum(self._store.length(path) * spec.row_bytes for path, spec in specs.items())
        return total // max(self._store.length("rewards"), 1)

    @cached_property
    def _block_rows(self) -> int:
        row_bytes = self.row_bytes + (_INFO_GROWTH - 1) * self._info_bytes
        rows = min(max(_BLOCK_BYTES // max(row_bytes, 1), 1), _BLOCK_ROWS)
        # Chunks of stores hold a power of two of rows, too, so that each lies in one block.
        return int(1 << rows.bit_length() - 1)

    def outlines(self, stop: int) -> RowBlocks:
        """Return first row, length and ending of the episodes before `stop`."""
        return RowBlocks(self._outline_columns, self.read, _BLOCK_ROWS, 0, stop)

    def episodes(self, stop: int) -> RowBlocks:
        """Return reset time, reset info and final observation of the episodes before `stop`."""
        return RowBlocks(self._episode_columns, self.read, self._block_rows, 0, stop)

    def steps(self, start: int, stop: int) -> RowBlocks:
        """Return time, observation, action, reward and info of steps start to stop, read ahead if big."""
        ahead: ReadAhead[Rows] | None = None
        if self._ongoing is not None and self.row_bytes >= _BIG_ROW_BYTES:
            ahead = ReadAhead(self._ongoing)
        return RowBlocks(self._step_columns, self.read, self._block_rows, start, stop, ahead)
