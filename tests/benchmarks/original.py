"""Recording and reading as Gymbag 0.4.9 (2017) did, which itself no longer runs with today's gym.

Rewritten after its `HDF5Recorder` and `HDF5Reader`: the same PyTables calls in the same order. What differs
is the env's interface, and that `done` is terminated or truncated.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

_FIELDS = ("time", "observation", "action", "reward", "done", "info")
_INFO_BYTES = 1_024
_BUFFER_ROWS = 16
_DONE = 4


class OriginalRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records an env whose observations are a Box and whose actions are Discrete.

    Args:
        env: The env.
        path: The file to make.
    """

    def __init__(self, env: Any, path: Path) -> None:
        import tables

        super().__init__(env)
        members = (
            tables.Time64Col(pos=0),
            tables.Float32Col(shape=env.observation_space.shape, pos=1),
            tables.Float32Col(shape=env.action_space.shape, pos=2),
            tables.Float32Col(pos=3),
            tables.BoolCol(pos=4),
            tables.StringCol(_INFO_BYTES, pos=5),
        )
        filters = tables.Filters(complevel=2, complib="blosc:zstd")
        self._file = tables.open_file(str(path), mode="a", filters=filters)
        self._table = self._file.create_table("/", "recording", dict(zip(_FIELDS, members, strict=True)))
        self._table.attrs.gymbag_format = 1
        self._buffer: list[tuple[Any, ...]] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        observation, info = self.env.reset(seed=seed, options=options)
        self._end_episode()
        self._append(time.time(), observation, 0, np.nan, False, None)
        return observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._append(time.time(), observation, action, reward, terminated or truncated, info)
        return observation, reward, terminated, truncated, info

    def _append(
        self, moment: float, observation: Any, action: Any, reward: Any, done: bool, info: Any
    ) -> None:
        text = json.dumps(info, separators=(",", ":"), sort_keys=True).encode("ascii") if info else b""
        self._buffer.append((moment, observation, action, reward, done, text))
        # The last row stays, as its `done` may change yet.
        if len(self._buffer) >= _BUFFER_ROWS:
            self._table.append(self._buffer[:-1])
            self._buffer = self._buffer[-1:]

    def _end_episode(self) -> None:
        if self._buffer:
            last = self._buffer[-1]
            self._buffer[-1] = (*last[:_DONE], True, *last[_DONE + 1 :])

    def close(self) -> None:
        super().close()
        self._end_episode()
        self._table.append(self._buffer)
        self._file.close()


def read_original(path: Path) -> Iterator[Iterable[Any]]:
    """Yield the episodes, each an iterator of tuples, to be used up before the next."""
    import tables

    with tables.open_file(str(path), "r") as file:
        table = file.root.recording
        rows = table.iterrows()
        while rows.nrow < table.nrows - 1:
            yield _read_episode(rows)


def _read_episode(rows: Any) -> Iterator[tuple[Any, ...]]:
    done, first = False, True
    while not done:
        row = next(rows)
        moment, observation, action, reward, done, info = (row[field] for field in _FIELDS)
        if first:
            first = False
            if not np.all(np.isnan(action) | (np.asarray(action) == 0)) or not np.isnan(reward):
                warnings.warn("the first step has an action or a reward", stacklevel=2)
        info = json.loads(info.decode("ascii")) if info else None
        yield moment, observation, int(action), reward, done, info
