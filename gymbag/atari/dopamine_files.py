"""An epoch in the files of a Dopamine replay buffer: a checkpoint of the DQN Replay data.

Each column is a gzipped array of R rows, a million as a rule:

    observation  (R, 84, 84) uint8
    action       (R,) int32
    reward       (R,) float32, clipped
    terminal     (R,) uint8
    add_count    () int64: how many rows were ever added to the buffer; d4rl-atari did not keep it

The buffer is a ring. It was written to files when the last but one of its rows had been added, so the last
row is stale: it is from the pass before. The final checkpoint of a run was written wherever the run ended,
with the count of that pass alone, and all behind it is stale. `add_count` modulo R is thus how many rows
count; where it is missing, it can be told from a run's ending with an episode. Three rows of zeros come
before each episode, and part of them may be in the checkpoint before.

See `OutOfGraphLoggedReplayBuffer` of https://github.com/google-research/batch_rl.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from gymbag.atari.epoch import (
    FRAME_SHAPE,
    PADDING_ROWS,
    STACK_FRAMES,
    STEPS_LIMIT,
    Epoch,
    EpochColumns,
    EpochTable,
    FrameReader,
    skip_rows,
)
from gymbag.atari.gzipped_array import GzippedArray
from gymbag.episode import Ending
from gymbag.errors import DamagedFileError

# The columns, with the kinds of dtype each may have, and the dtype it is given.
_COLUMNS = {
    "action": ("iu", np.int32),
    "reward": ("f", np.float32),
    "terminal": ("biu", np.bool_),
}


class DopamineEpoch(Epoch):
    """An epoch in the files of a Dopamine replay buffer.

    Args:
        files: The file of each column: `observation`, `action`, `reward`, `terminal`, and if it is there
            `add_count`.
        origin: Where they come from, for people to read.
        is_final: Whether this is the final checkpoint of a run.
    """

    def __init__(self, files: Mapping[str, Path], origin: str, is_final: bool = False) -> None:
        self.origin = origin
        self.files = files
        self._is_final = is_final

    @cached_property
    def columns(self) -> EpochColumns:
        """All but the frames and the episodes; read once, and kept.

        Raises:
            DamagedFileError: They cannot be read, or have not as many rows.
        """
        columns = {name: self._read_column(name) for name in _COLUMNS}
        lengths = {name: len(column) for name, column in columns.items()}
        frames = self.open_frames()
        with frames:
            lengths["observation"] = len(frames)
        if len(set(lengths.values())) != 1:
            raise DamagedFileError(f"{self.origin}: expected columns of equal length, found {lengths} rows")
        return EpochColumns(columns["action"], columns["reward"], columns["terminal"], None)

    @cached_property
    def table(self) -> EpochTable:
        """All but the frames; read once, and kept.

        Raises:
            DamagedFileError: It cannot be read, or is not what such data promises.
        """
        columns = self.columns
        first_rows, ends, knows_first = self._find_episodes(columns, self._count_valid_rows(columns))
        lengths = ends - first_rows
        endings = np.where(columns.terminals[ends - 1], Ending.TERMINATED, Ending.UNFINISHED).astype(np.uint8)
        # The limit is kept as a terminal, too. Of an episode that began in the epoch before, nobody can tell.
        is_cut = (lengths == STEPS_LIMIT) & (endings == Ending.TERMINATED)
        is_cut[: not knows_first] = False
        endings[is_cut] = Ending.TRUNCATED
        return EpochTable(**vars(columns), first_rows=first_rows, lengths=lengths, endings=endings)

    def _read_column(self, name: str) -> np.ndarray:
        kinds, dtype = _COLUMNS[name]
        with GzippedArray(self.files[name]) as array:
            if len(array.shape) != 1 or array.dtype.kind not in kinds:
                raise DamagedFileError(
                    f"{array.path}: expected {np.dtype(dtype)} of shape (R,), "
                    f"found {array.dtype} of shape {array.shape}"
                )
            stored = array.read_all()
        column: np.ndarray = stored.astype(dtype, copy=False)
        if column.dtype == np.int32 and (column != stored).any():
            raise DamagedFileError(
                f"{array.path}: expected numbers of {column.dtype}, found {stored[column != stored][0]}"
            )
        return column

    def _count_valid_rows(self, columns: EpochColumns) -> int:
        """Count the rows that were written in this pass of the buffer."""
        rows = len(columns)
        if "add_count" in self.files:
            with GzippedArray(self.files["add_count"]) as array:
                if array.shape != () or array.dtype.kind not in "iu":
                    raise DamagedFileError(
                        f"{array.path}: expected one integer, found {array.dtype} of shape {array.shape}"
                    )
                count = int(array.read_all())
            if count < 0:
                raise DamagedFileError(f"{array.path}: expected a count, found {count}")
            # As many as there are, where that is how many were written; none, where none was.
            return (count - 1) % rows + 1 if count and rows else 0
        if self._is_final:
            return self._find_end_of_run(columns)
        return max(rows - 1, 0)

    def _find_end_of_run(self, columns: EpochColumns) -> int:
        """Count the rows up to the first terminal that no padding follows: runs ended with an episode."""
        row, rows = 0, len(columns)
        block = np.empty((PADDING_ROWS, *FRAME_SHAPE), np.uint8)
        is_zero = _find_zeros(columns)
        with self.open_frames() as frames:
            for end in (np.flatnonzero(columns.terminals) + 1).tolist():
                skip_rows(frames, end - row)
                row = min(end + PADDING_ROWS, rows)
                padding = block[: row - end]
                frames.read_into(padding)
                if padding.any() or not is_zero[end:row].all():
                    return end
        return rows

    def _find_episodes(self, columns: EpochColumns, valid: int) -> tuple[np.ndarray, np.ndarray, bool]:
        """Return the first row of each episode, the row after its last, and whether the first is whole."""
        is_zero = _find_zeros(columns)
        first_frames = np.empty((min(PADDING_ROWS, valid), *FRAME_SHAPE), np.uint8)
        with self.open_frames() as frames:
            frames.read_into(first_frames)
        # An epoch begins in the middle of an episode, or in its padding, or, as a run does, with its padding.
        black = ~first_frames.any((1, 2)) & is_zero[: len(first_frames)]
        leading = int(np.cumprod(black).sum())
        terminals = np.flatnonzero(columns.terminals[:valid])
        padding = terminals[:, None] + np.arange(1, STACK_FRAMES)
        padding = padding[padding < valid]
        if not is_zero[padding].all():
            row = int(padding[~is_zero[padding]][0])
            raise DamagedFileError(
                f"{self.origin}: expected {PADDING_ROWS} rows of zeros behind each terminal, found others in "
                f"row {row}; get_dataset(compat=True) takes rows as they are"
            )
        first_rows = np.concatenate([[leading], terminals + STACK_FRAMES])
        ends = np.concatenate([terminals + 1, [valid]])
        is_there = first_rows < ends
        return first_rows[is_there], ends[is_there], leading > 0 or not is_there[0]

    def open_frames(self) -> DopamineFrames:
        """Return a reader of the R frames, from the first on.

        Raises:
            DamagedFileError: They cannot be read.
        """
        return DopamineFrames(self.files["observation"])


def _find_zeros(columns: EpochColumns) -> np.ndarray:
    """Tell which rows are zeros but perhaps for their frames, (R,) bool."""
    is_zero: np.ndarray = (columns.actions == 0) & (columns.rewards == 0) & ~columns.terminals
    return is_zero


class DopamineFrames(FrameReader):
    """Reads the frames of a checkpoint, once, in the order of its rows."""

    def __init__(self, path: Path) -> None:
        self._array = GzippedArray(path)
        if self._array.shape[1:] != FRAME_SHAPE or self._array.dtype != np.uint8:
            self._array.close()
            raise DamagedFileError(
                f"{path}: expected uint8 of shape (R, 84, 84), "
                f"found {self._array.dtype} of shape {self._array.shape}"
            )

    def __len__(self) -> int:
        """Count the frames."""
        return len(self._array)

    def read_into(self, frames: np.ndarray) -> None:
        self._array.read_into(frames)

    def close(self) -> None:
        self._array.close()
