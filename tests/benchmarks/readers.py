"""Who reads: gymbag, and the loops that people write otherwise."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
from collecting import read_collected
from made_up_envs import SEED
from measure import seconds_of
from naive import COLUMNS, read_naive
from original import read_original
from recorders import COLLECTING, GYMBAG, NAIVE, ORIGINAL, Recorder

from gymbag import HDF5Reader

# In the group of infos: the JSON of what is in no column, and what says which columns a row has.
NO_COLUMNS = ("data", "ends", "kind")


@dataclass(frozen=True)
class StepReader:
    """A way to read a file step by step.

    Attributes:
        recorder: Who makes the file.
        read: Yields its episodes, each an iterable of steps.
    """

    recorder: Recorder
    read: Callable[[Path], Iterable[Iterable[Any]]]

    def read_all(self, path: Path) -> None:
        """Read every step of a file."""
        for episode in self.read(path):
            for _ in episode:
                pass


GYMBAG_STEPS = StepReader(GYMBAG, HDF5Reader)
NAIVE_STEPS = StepReader(NAIVE, read_naive)
COLLECTED_STEPS = StepReader(COLLECTING, read_collected)
ORIGINAL_STEPS = StepReader(ORIGINAL, read_original)


def read_columns(path: Path) -> dict[str, Any]:
    """Read the columns of a recording of gymbag with plain h5py, those of infos included."""
    with HDF5Reader(path) as reader:
        name = reader.name
    with h5py.File(path) as file:
        columns = {column: file[name][column] for column in COLUMNS}
        infos = {f"infos/{key}": array for key, array in file[name]["infos"].items() if key not in NO_COLUMNS}
        return {column: array[:] for column, array in (columns | infos).items()}


def texts_of_infos(path: Path) -> list[str]:
    """Return the infos of all steps of a recording of gymbag, each as JSON."""
    with HDF5Reader(path) as reader:
        return [json.dumps(info) for episode in reader for info in episode.infos[1:]]


def bytes_of_infos(path: Path) -> int:
    """Return what the infos of all steps take in a recording of gymbag, compressed."""
    sizes = []

    def add(_: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            sizes.append(item.id.get_storage_size())

    with HDF5Reader(path) as reader:
        name = reader.name
    with h5py.File(path) as file:
        for part in ("infos", "info_kinds"):
            if part in file[name]:
                file[name][part].visititems(add)
    return sum(sizes)


def read_first_step(path: Path, index: int) -> None:
    """Open a file and read the first step of an episode."""
    with HDF5Reader(path) as reader:
        next(iter(reader[index]))


def seconds_of_random_episodes(path: Path, count: int) -> list[float]:
    """Time reading the arrays of random episodes of an open file, one by one."""
    chosen = random.Random(SEED)
    with HDF5Reader(path) as reader:
        return [seconds_of(lambda: _read_arrays(reader, chosen.randrange(len(reader)))) for _ in range(count)]


def _read_arrays(reader: HDF5Reader, index: int) -> tuple[Any, ...]:
    episode = reader[index]
    return episode.observations, episode.actions, episode.rewards
