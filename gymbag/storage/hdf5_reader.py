"""Reading recordings from an HDF5 file: ours, and those of the original Gymbag 0.4."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from gymbag.columns import Column
from gymbag.dataset import FlatRecording
from gymbag.episode import Episode
from gymbag.errors import DataSetNotFoundError
from gymbag.spaces import Library
from gymbag.storage.base import Header, Reader
from gymbag.storage.gymbag_0_4 import Table, is_table, list_tables
from gymbag.storage.gymbag_0_4_reader import TableReader
from gymbag.storage.hdf5_layout import find_data_sets, find_node, is_data_set, read_description, read_identity
from gymbag.storage.hdf5_source import HDF5Source
from gymbag.storage.journal import journal_path
from gymbag.storage.lock import is_locked
from gymbag.storage.snapshot import Snapshot, read_file
from gymbag.storage.stream_reader import StreamReader

# How often to look for news.
_POLL_SECONDS = 0.1


def list_datasets(filename: str | os.PathLike[str]) -> dict[str, str]:
    """List the data sets of a file.

    Returns:
        The description of each data set, by its name.

    Raises:
        StorageError: The file is not there, or cannot be read.
    """

    def read(snapshot: Snapshot) -> dict[str, str]:
        file = snapshot.file
        descriptions = {name: read_description(file[name]) for name in find_data_sets(file)}
        return descriptions | {name: Table(file[name]).description for name in list_tables(file)}

    return read_file(Path(filename), read)


class HDF5Reader(Reader):
    """Reads a data set of an HDF5 file: iterate it for episodes, and those for steps.

    It may be used by several threads, and goes to another process by fork or by spawn, where it
    opens the file by itself. Files of the original Gymbag 0.4 open just the same.

    Args:
        filename: Path of the file.
        table: Name of the data set; needed if there are several.
        library: Whose spaces to build, "gymnasium" or "gym"; by default those of the library
            recorded.
        salvaging: Whether to read what can be read of a damaged file; see `gymbag.salvage`.
        follow: Whether to keep up with a recording that goes on, in this process or another. Whatever is
            asked for is then as recent as a second ago, and iteration waits for more episodes until the
            writer is closed, or killed. Without it, a reader shows what there was when it was opened.

    Raises:
        StorageError: The file is not there, or cannot be read.
        DataSetNotFoundError: It has no such data set, or several and none was chosen.

    >>> import gymnasium
    >>> from gymbag import record_hdf5
    >>> env = record_hdf5(gymnasium.make("CartPole-v1"), "cartpole.h5")
    >>> observation, info = env.reset(seed=1)
    >>> for action in (0, 1):
    ...     step = env.step(action)
    >>> env.close()
    >>> reader = HDF5Reader("cartpole.h5")
    >>> for episode in reader:
    ...     for time, observation, action, reward, done, info in episode:
    ...         print(action, reward, done)
    0 nan False
    0 1.0 False
    1 1.0 False
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        table: str | None = None,
        library: Library | None = None,
        *,
        follow: bool = False,
        salvaging: bool = False,
    ) -> None:
        self.path = Path(filename)
        self.library = library
        self._follow = follow
        name = None if table is None else table.strip("/")
        self._salvaging = salvaging
        self._recording = read_file(self.path, functools.partial(self._choose, name), salvaging)
        self._recording.library = library

    def _choose(self, name: str | None, snapshot: Snapshot) -> Reader:
        file = snapshot.file
        if name is None:
            names = [*find_data_sets(file), *list_tables(file)]
            if len(names) != 1:
                raise self._not_chosen(names)
            (name,) = names
        node = find_node(file, name)
        if is_data_set(node):
            source = HDF5Source(self.path.absolute(), name, self._salvaging)
            return StreamReader(source, *read_identity(node), in_background=True)
        if is_table(node):
            return TableReader(self.path.absolute(), name)
        names = [*find_data_sets(file), *list_tables(file)]
        raise DataSetNotFoundError(f"{self.path} has no data set {name!r}; it has {names}")

    def _not_chosen(self, names: list[str]) -> DataSetNotFoundError:
        if not names:
            return DataSetNotFoundError(f"expected a recording, found an HDF5 file without one: {self.path}")
        return DataSetNotFoundError(
            f"{self.path} has several data sets: {names}; choose one, as in "
            f"HDF5Reader(filename, table={names[0]!r})"
        )

    @property
    def header(self) -> Header:
        """What is known of the recording as a whole; of the latest session, if there were several."""
        return self._recording.header

    @property
    def sessions(self) -> list[dict[str, Any]]:
        """The env's spec, the versions and the metadata of each time the recording was taken up."""
        return self._recording.sessions

    @property
    def observation_column(self) -> Column:
        """How observations lie in arrays, of the dtypes they were recorded in."""
        return self._recording.observation_column

    @property
    def action_column(self) -> Column:
        """How actions lie in arrays, of the dtypes they were recorded in."""
        return self._recording.action_column

    @property
    def is_being_recorded(self) -> bool:
        """Whether a writer has the file open, in this process or another."""
        return is_locked(journal_path(self.path.resolve()))

    def refresh(self) -> bool:
        """Take in what was recorded since the file was opened; tell whether there was anything new."""
        return isinstance(self._recording, StreamReader) and self._recording.refresh()

    def _keep_up(self) -> Reader:
        if self._follow:
            self.refresh()
        return self._recording

    @property
    def nsteps(self) -> int:
        """How many steps all episodes have together, resets not included."""
        return self._keep_up().nsteps

    def __len__(self) -> int:
        """Count the episodes; one that is under way is the last, as far as it has come."""
        return len(self._keep_up())

    def read_episode(self, index: int) -> Episode:
        """Return an episode by its number, from 0 to len(self) - 1."""
        return self._recording.read_episode(index)

    def __iter__(self) -> Iterator[Episode]:
        """Yield the episodes in the order in which they were recorded."""
        return self._follow_episodes() if self._follow else iter(self._recording)

    def _follow_episodes(self) -> Iterator[Episode]:
        """Yield the episodes as they end, and at last one that was cut."""
        index = 0
        while True:
            goes_on = self.is_being_recorded  # asked first, as the last rows may come with the end
            count = len(self)
            while index < count:
                episode = self.read_episode(index)
                if goes_on and index == count - 1 and not episode.finished:
                    break  # it is under way
                yield episode
                index += 1
            if not goes_on:
                return
            time.sleep(_POLL_SECONDS)  # no signal reaches other processes

    @property
    def info_keys(self) -> list[str]:
        """The keys of the infos of steps, as `get_dataset` names them."""
        return self._keep_up().info_keys

    @property
    def annotation_keys(self) -> list[str]:
        """The keys of the annotations, as `get_dataset` names them."""
        return self._keep_up().annotation_keys

    def read_flat(self, with_infos: bool = False, with_annotations: bool = False) -> FlatRecording:
        """Read every step of every episode."""
        return self._keep_up().read_flat(with_infos, with_annotations)

    def in_library(self, library: Library) -> HDF5Reader:
        """Return a reader of the same recording that builds the spaces and graphs of that library."""
        reader = super().in_library(library)
        reader._recording = self._recording.in_library(library)
        return reader

    def close(self) -> None:
        """Close the file. Closing again does nothing; reading again opens it again."""
        self._recording.close()


def get_dataset(
    source: Reader | str | os.PathLike[str],
    dtype: Any = None,
    infos: bool | Collection[str] = False,
    annotations: bool | Collection[str] = False,
    *,
    table: str | None = None,
) -> dict[str, Any]:
    """Flatten a recording into a D4RL-style dict of arrays; see `Reader.get_dataset`.

    Args:
        source: A reader, or the path of an HDF5 file.
        dtype: A dtype to convert floating-point observations, actions and rewards to.
        infos: Whether to add infos, or of which keys.
        annotations: Whether to add what was said of the steps, or of which keys.
        table: Name of the data set, if the file has several.
    """
    if isinstance(source, Reader):
        return source.get_dataset(dtype, infos, annotations)
    with HDF5Reader(source, table) as reader:
        return reader.get_dataset(dtype, infos, annotations)
