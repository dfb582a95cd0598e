"""Who reads: gymbag, and the loops that people write otherwise."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
from measure import seconds_of
from naive import COLUMNS, read_naive
from original import read_original
from recorders import GYMBAG, NAIVE, ORIGINAL, Recorder
from workloads import SEED

from gymbag import HDF5Reader


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
ORIGINAL_STEPS = StepReader(ORIGINAL, read_original)


def read_columns(path: Path, name: str) -> dict[str, Any]:
    """Read the columns of a data set of gymbag with plain h5py."""
    with h5py.File(path) as file:
        return {column: file[name][column][:] for column in COLUMNS}


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
