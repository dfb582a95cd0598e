"""An epoch: about a million consecutive steps of one run, wherever they are kept.

The DQN Replay data has runs of 50 million steps, each in checkpoints of a replay buffer. d4rl-atari calls
what one checkpoint holds an epoch, and so do we. An epoch has R rows, in the order of writing:

    row      0     1     2     3    ...              R-1
    frame    0     0     0     o0   o1   o2 ... oT-1  0   0   0   o0 ...
             '-- padding --'   '----- episode 0 ----' '-padding-' '-- episode 1

Row t holds the frame before action t, action t, and what came of it: reward t, and whether the game was over.
The frame that an episode's last action led to was never kept. Where the data comes from a replay buffer, rows
of padding stand before each episode, and the last rows may be stale; which rows belong to episodes, the
`EpochTable` tells.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property

import numpy as np

#: Height and width of a frame, in pixels.
FRAME_SHAPE = (84, 84)
#: How many frames make up what the agents of the data saw.
STACK_FRAMES = 4
#: How many rows of zeros come before an episode.
PADDING_ROWS = STACK_FRAMES - 1
#: After so many steps the agents' episodes were cut. The data has it as the end of the game.
STEPS_LIMIT = 27_000


@dataclass(frozen=True)
class EpochColumns:
    """What an epoch has beside its frames: R rows, whatever they are.

    Attributes:
        actions: (R,) int32, numbers in the game's minimal action set.
        rewards: (R,) float32, clipped to [-1, 1].
        terminals: (R,) bool, as kept: whether the game was over, or the limit of steps reached.
        unclipped_rewards: (R,) float32, the game's own rewards, or None where they are not known.
    """

    actions: np.ndarray
    rewards: np.ndarray
    terminals: np.ndarray
    unclipped_rewards: np.ndarray | None

    def __len__(self) -> int:
        """Count the rows, R."""
        return len(self.actions)


@dataclass(frozen=True)
class EpochTable(EpochColumns):
    """All of an epoch but its frames: R rows, of which those in E episodes count.

    Attributes:
        first_rows: (E,) int64, the first row of each episode, ascending.
        lengths: (E,) int64, how many rows each episode has; at least one.
        endings: (E,) uint8, how each episode ended: the values of `episode.Ending`. An episode that
            the end of the epoch cut is unfinished.
    """

    first_rows: np.ndarray
    lengths: np.ndarray
    endings: np.ndarray

    @cached_property
    def nsteps(self) -> int:
        """How many rows belong to episodes."""
        return int(self.lengths.sum())

    @cached_property
    def rows(self) -> np.ndarray:
        """The rows that belong to episodes, ascending: (nsteps,) int64."""
        before = np.cumsum(self.lengths) - self.lengths  # how many steps come before each episode
        rows: np.ndarray = np.arange(self.nsteps) + np.repeat(self.first_rows - before, self.lengths)
        return rows


class FrameReader(AbstractContextManager["FrameReader"]):
    """Reads the frames of an epoch, once, in the order of its rows."""

    @abstractmethod
    def read_into(self, frames: np.ndarray) -> None:
        """Read the next frames.

        Args:
            frames: (K, 84, 84) uint8, contiguous: where they belong.

        Raises:
            DamagedFileError: There are not so many, or they cannot be read.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file. Closing again does nothing."""

    def __exit__(self, *_: object) -> None:
        """Let go of the file."""
        self.close()


# How many frames are read at once where they are not wanted.
_BLOCK_ROWS = 64


def skip_rows(reader: FrameReader, count: int) -> None:
    """Read frames that nobody wants.

    Raises:
        DamagedFileError: There are not so many, or they cannot be read.
    """
    block = np.empty((min(count, _BLOCK_ROWS), *FRAME_SHAPE), np.uint8)
    for start in range(0, count, _BLOCK_ROWS):
        reader.read_into(block[: count - start])


class Epoch(ABC):
    """About a million consecutive steps of one run.

    Attributes:
        origin: Where they come from, for people to read.
    """

    origin: str

    @property
    @abstractmethod
    def table(self) -> EpochTable:
        """All but the frames; read once, and kept.

        Raises:
            DamagedFileError: It cannot be read, or is not what such data promises.
        """

    @property
    def columns(self) -> EpochColumns:
        """What of the table can be had though no episodes can be told; the table, where there are none such.

        Raises:
            DamagedFileError: They cannot be read.
        """
        return self.table

    @abstractmethod
    def open_frames(self) -> FrameReader:
        """Return a reader of the R frames, from the first on.

        Raises:
            DamagedFileError: They cannot be read.
        """
