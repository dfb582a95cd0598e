"""Saving what can still be read of a damaged file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import h5py

from gymbag.episode import Episode
from gymbag.errors import DamagedFileError, GymbagError, StorageError
from gymbag.recording import record_from_iter
from gymbag.storage.base import Header, Reader
from gymbag.storage.gymbag_0_4 import is_table
from gymbag.storage.hdf5_layout import is_data_set, read_identity
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path
from gymbag.storage.snapshot import DAMAGE, Snapshot, read_file

_DAMAGE = (*DAMAGE, GymbagError)


@dataclass
class Salvage:
    """What became of a damaged file.

    Attributes:
        saved: For each data set, how many episodes were written to the new file.
        lost: What could not be read, each with the reason: data sets, episodes of them, and the journal,
            which has what was recorded last.
    """

    saved: dict[str, int] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)


def salvage(filename: str | os.PathLike[str], new_filename: str | os.PathLike[str]) -> Salvage:
    """Write every episode that can be read to a new file; the damaged one is not changed.

    An episode is saved whole, or not at all: each value comes with a checksum of what was written.

    Args:
        filename: Path of the damaged file.
        new_filename: Path of the file to make.

    Returns:
        How many episodes were saved, and which were not, and why.

    Raises:
        StorageError: The damaged file is not there, or the new one is there already.
        DamagedFileError: Nothing can be read of it: HDF5 does not open it.

    >>> import gymnasium
    >>> from gymbag import record_hdf5
    >>> env = record_hdf5(gymnasium.make("CartPole-v1"), "cartpole.h5")
    >>> observation, info = env.reset(seed=1)
    >>> env.close()
    >>> salvage("cartpole.h5", "saved.h5")
    Salvage(saved={'CartPole-v1': 1}, lost={})
    """
    source, target = Path(filename), Path(new_filename)
    if target.exists():
        raise StorageError(f"expected the name of a new file, found one that exists: {target}")
    found = Salvage()
    for name in read_file(source, lambda snapshot: _names(snapshot, found), salvaging=True):
        try:
            reader = HDF5Reader(source, name, salvaging=True)
            header = _header(source, name, reader)
            count = len(reader)
        except _DAMAGE as error:
            found.lost[name] = str(error)
            continue
        healthy = _Healthy(reader, name, count, found)
        record_from_iter(HDF5Writer(target), healthy, header)
        found.saved[name] = healthy.count
    return found


class _Healthy:
    """The episodes of a reader that can be read from beginning to end."""

    def __init__(self, reader: Reader, name: str, count: int, found: Salvage) -> None:
        self._reader, self._name, self._count, self._found = reader, name, count, found
        self.count = 0

    def __iter__(self) -> Iterator[Episode]:
        for index in range(self._count):
            try:
                episode = self._reader.read_episode(index)
                _ = episode.seed, episode.options
                for _ in episode:  # all of it, before any of it is written
                    pass
            except _DAMAGE as error:
                self._found.lost[f"{self._name}, episode {index}"] = str(error)
            else:
                self.count += 1
                yield episode


def _names(snapshot: Snapshot, found: Salvage) -> list[str]:
    """List the data sets, and note what cannot even be opened."""
    names: list[str] = []
    found.lost.clear()
    if snapshot.damage is not None:
        found.lost[journal_path(snapshot.path).name] = snapshot.damage
    waiting: list[tuple[str, h5py.Group]] = [("", snapshot.file)]
    while waiting:
        name, group = waiting.pop()
        try:
            children = sorted(group)
        except _DAMAGE as error:
            found.lost[name or "/"] = str(error)
            continue
        for child in children:
            path = f"{name}/{child}".lstrip("/")
            try:
                if not isinstance(group.get(child, getlink=True), h5py.HardLink):
                    continue
                node = group[child]
                if is_data_set(node) or is_table(node):
                    names.append(path)
                elif isinstance(node, h5py.Group) and path.count("/") < _DEEPEST:
                    waiting.append((path, node))
            except _DAMAGE as error:
                found.lost[path] = str(error)
    return sorted(names)


# Hard links may form a cycle, in which one would go down for ever.
_DEEPEST = 20


def _header(source: Path, name: str, reader: HDF5Reader) -> Header:
    try:
        return reader.header
    except DamagedFileError:  # the sessions are damaged, the spaces are not
        return read_file(source, lambda snapshot: Header(*read_identity(snapshot.file[name])), salvaging=True)
