"""The other recorder that people write by hand: it collects rows in lists and writes them at the end.

Infos become a dataset for each key, as in D4RL's files; every step must give the same keys.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from naive import COLUMNS, episode_bounds


class CollectingRecorder(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Records an env of plain spaces.

    Args:
        env: The env.
        path: The file to make.
    """

    def __init__(self, env: Any, path: Path) -> None:
        super().__init__(env)
        self._path = path
        self._rows: list[tuple[Any, ...]] = []
        self._infos: list[dict[str, Any]] = []

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._observation, info = self.env.reset(seed=seed, options=options)
        return self._observation, info

    def step(self, action: Any) -> Any:
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._rows.append((self._observation, action, reward, terminated, truncated))
        self._infos.append(info)
        self._observation = observation
        return observation, reward, terminated, truncated, info

    def close(self) -> None:
        with h5py.File(self._path, "w") as file:
            columns = dict(zip(COLUMNS, zip(*self._rows, strict=True), strict=True))
            for key in self._infos[0]:
                columns[f"infos/{key}"] = tuple(info[key] for info in self._infos)
            for name, values in columns.items():
                file.create_dataset(name, data=np.array(values), compression="gzip")
        super().close()


def read_collected(path: Path) -> Iterator[Iterable[Any]]:
    """Yield the episodes, each an iterable of rows, whose last item is the info."""
    with h5py.File(path) as file:
        columns = [file[name] for name in COLUMNS]
        infos = dict(file["infos"])
        for start, stop in episode_bounds(file):
            values = zip(*(column[start:stop] for column in infos.values()), strict=True)
            yield zip(
                *(column[start:stop] for column in columns),
                (dict(zip(infos, row, strict=True)) for row in values),
                strict=True,
            )
