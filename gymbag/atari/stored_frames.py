"""Observations that stay on disk: those of recordings that `conversion` made, read as they are asked for.

They take next to no memory, open at once, and go to other processes, such as the workers of a DataLoader,
which open the files by themselves.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np

from gymbag.atari.dataset import mark_ends
from gymbag.atari.epoch import FRAME_SHAPE, STACK_FRAMES
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_source import HDF5Source

# How many are read at once when all are iterated.
_BLOCK_ROWS = 256


class StoredFrames(Sequence[np.ndarray]):
    """N observations on disk: a read-only sequence of arrays (84, 84), or of stacks (4, 84, 84).

    An item, and an array of B numbers or of N bools, is read when it is asked for, into an array of its own.
    Numbers may have several axes. A slice is another such sequence. `numpy.asarray` reads all.

    Args:
        sources: The recordings, one after the other.
        lengths: For each, how many steps it has.
        ages: (N,) uint8, how many of the three frames before each one belong to its episode; None if an
            observation is but one frame.
        rows: Which of them to give; by default all.

    Attributes:
        shape: (N, 84, 84) or (N, 4, 84, 84).
        dtype: uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        sources: Sequence[HDF5Source],
        lengths: Sequence[int],
        ages: np.ndarray | None,
        rows: range | None = None,
    ) -> None:
        self._sources, self._lengths, self._ages = sources, lengths, ages
        self._ends = np.cumsum(lengths)
        self._rows = range(sum(lengths)) if rows is None else rows
        self._item_shape = FRAME_SHAPE if ages is None else (STACK_FRAMES, *FRAME_SHAPE)

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 84, 84) or (N, 4, 84, 84)."""
        return len(self), *self._item_shape

    @property
    def ndim(self) -> int:
        """How many axes the shape has."""
        return len(self.shape)

    def __len__(self) -> int:
        """Count the observations."""
        return len(self._rows)

    @overload
    def __getitem__(self, index: int | np.ndarray | Sequence[int]) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> StoredFrames: ...
    def __getitem__(self, index: Any) -> Any:
        """Return an observation, a sequence for a slice, or a batch for an array of numbers or bools.

        Raises:
            IndexError: There is no such observation.
            DamagedFileError: It cannot be read.
        """
        if isinstance(index, slice):
            return StoredFrames(self._sources, self._lengths, self._ages, self._rows[index])
        if isinstance(index, np.ndarray | list) and np.ndim(index):
            numbers = self._numbers(np.asarray(index))
            return self._read(numbers.reshape(-1)).reshape(*numbers.shape, *self._item_shape)
        return self._read(self._numbers(np.array([operator.index(index)])))[0]

    def _numbers(self, index: np.ndarray) -> np.ndarray:
        """Turn numbers, counted from the end if negative, or bools into the numbers of steps."""
        count = len(self)
        if index.dtype == bool:
            if index.shape != (count,):
                raise IndexError(f"expected {count} bools, found {index.shape}")
            index = np.flatnonzero(index)
        elif not index.size:
            index = index.astype(np.int64)
        if index.dtype.kind not in "iu":
            raise IndexError(f"expected integers or bools, found {index.dtype} of shape {index.shape}")
        index = index.astype(np.int64)  # of few bits, they would overflow
        is_there = (index >= -count) & (index < count)
        if not is_there.all():
            raise IndexError(f"there are {count} observations, so there is no {index[~is_there][0]}")
        return self._rows.start + self._rows.step * (index % max(count, 1))

    def _read(self, numbers: np.ndarray) -> np.ndarray:
        observations = np.empty((len(numbers), *self._item_shape), self.dtype)
        for position in np.argsort(numbers):  # those that share a chunk follow one another
            number = numbers[position]
            source = int(np.searchsorted(self._ends, number, side="right"))
            row = int(number) - (self._ends[source] - self._lengths[source])
            if self._ages is None:
                observations[position] = self._sources[source].read("observations", row, row + 1)[0]
            else:
                age = int(self._ages[number])
                observations[position, : STACK_FRAMES - 1 - age] = 0
                frames = self._sources[source].read("observations", row - age, row + 1)
                observations[position, STACK_FRAMES - 1 - age :] = frames
        return observations

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the observations."""
        for start in range(0, len(self), _BLOCK_ROWS):
            yield from self._read(np.array(self._rows[start : start + _BLOCK_ROWS]))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all observations, read into an array of their own.

        Raises:
            ValueError: None of its own is wanted.
        """
        if copy is False:
            raise ValueError("the observations are on disk, so an array of them is always a copy")
        array = np.empty(self.shape, self.dtype)
        for start in range(0, len(self), _BLOCK_ROWS):
            array[start : start + _BLOCK_ROWS] = self._read(np.array(self._rows[start : start + _BLOCK_ROWS]))
        return array if dtype is None else array.astype(dtype, copy=False)

    def __repr__(self) -> str:
        """Tell shape and dtype."""
        return f"<StoredFrames of shape {self.shape}, {self.dtype}>"


def open_dataset(paths: Sequence[Path], *, stack: bool = False) -> dict[str, Any]:
    """Return what `dataset.load_dataset` does, with the observations left on disk.

    Args:
        paths: Files that `conversion.convert` made, at least one.
        stack: Whether an observation is four frames, the oldest first, rather than one.

    Returns:
        The same keys, dtypes and values; `observations` is a `StoredFrames`.

    Raises:
        StorageError: A file is not there, or cannot be read.
    """
    sources = []
    for path in paths:
        with HDF5Reader(path) as reader:
            sources.append(HDF5Source(path.absolute(), reader.name))
    columns = {
        name: np.concatenate([source.read(name, 0, source.length(name)) for source in sources])
        for name in ("actions", "rewards", "episodes/length", "episodes/ending")
    }
    lengths = columns["episodes/length"]
    dataset: dict[str, Any] = {
        "actions": columns["actions"].astype(np.int32),
        "rewards": columns["rewards"].astype(np.float32),
        **mark_ends(lengths, columns["episodes/ending"]),
    }
    ages = None
    if stack:
        first_rows = np.cumsum(lengths) - lengths
        ages = np.full(len(dataset["actions"]), STACK_FRAMES - 1, np.uint8)
        for age in range(STACK_FRAMES - 1):
            ages[(first_rows + age)[lengths > age]] = age
    frames = StoredFrames(sources, [source.length("actions") for source in sources], ages)
    return {"observations": frames, **dataset}
