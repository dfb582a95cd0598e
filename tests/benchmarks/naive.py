"""The recorder that people write by hand with h5py, and the loop that reads its file.

A resizable gzip dataset for each column, grown by 100 rows at a time, a row written at each step, a flush
every 100 rows. Infos, times and the final observations are not kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np

ROWS = 100
COLUMNS = ("observations", "actions", "rewards", "terminated", "truncated")


class NaiveRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records an env of plain spaces.

    Args:
        env: The env.
        path: The file to make.
    """

    def __init__(self, env: Any, path: Path) -> None:
        super().__init__(env)
        self._file = h5py.File(path, "w")
        self._columns = [
            self._create(*column)
            for column in zip(
                COLUMNS,
                (env.observation_space.shape, env.action_space.shape, (), (), ()),
                (env.observation_space.dtype, env.action_space.dtype, np.float64, bool, bool),
                strict=True,
            )
        ]
        self._rows = 0

    def _create(self, name: str, shape: tuple[int, ...], dtype: Any) -> h5py.Dataset:
        chunk_rows = 1 if len(shape) > 1 else ROWS  # of images, one each
        return self._file.create_dataset(
            name,
            (0, *shape),
            dtype,
            maxshape=(None, *shape),
            chunks=(chunk_rows, *shape),
            compression="gzip",
        )

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        if self._rows % ROWS == 0:
            self._resize(self._rows + ROWS)
            self._file.flush()
        row = (self._observation, action, reward, terminated, truncated)
        for column, value in zip(self._columns, row, strict=True):
            column[self._rows] = value
        self._rows += 1
        self._observation = observation
        return observation, reward, terminated, truncated, info

    def _resize(self, rows: int) -> None:
        for column in self._columns:
            column.resize(rows, axis=0)

    def close(self) -> None:
        self._resize(self._rows)
        self._file.close()
        super().close()


def episode_bounds(file: h5py.File) -> Iterator[tuple[int, int]]:
    """Return the first row of each episode, and the row after its last."""
    ended = file["terminated"][:] | file["truncated"][:]
    return itertools.pairwise(sorted({0, *(np.flatnonzero(ended) + 1).tolist(), len(ended)}))


def read_naive(path: Path) -> Iterator[Iterable[Any]]:
    """Yield the episodes, each an iterable of rows."""
    with h5py.File(path) as file:
        columns = [file[name] for name in COLUMNS]
        for start, stop in episode_bounds(file):
            yield zip(*(column[start:stop] for column in columns), strict=True)
