"""Reading the arrays of a data set: what is in the HDF5 file, and behind it what is in the journal."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from gymbag.errors import DamagedFileError
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.folding import read_raw
from gymbag.storage.hdf5_file import FileOnDemand
from gymbag.storage.hdf5_layout import arrays_of
from gymbag.storage.journal import Coverage, Entry, JournalReader
from gymbag.storage.snapshot import Snapshot
from gymbag.storage.stored_array import StoredArray
from gymbag.storage.stream import ArraySource

_Result = TypeVar("_Result")


class _Array:
    """One array, as long as it was when the file was opened, or its journal last looked at."""

    def __init__(self, stored: StoredArray, journal: JournalReader | None) -> None:
        self._stored, self._journal = stored, journal
        self.dtype = stored.form.dtype
        self.file_length = len(stored)
        self.coverage = Coverage(self.file_length)
        self._decoded: tuple[Entry, np.ndarray] | None = None

    @functools.cached_property
    def _reader(self) -> ChunkReader:
        return ChunkReader(self._stored)  # takes a while to make, and most arrays are never read

    def read(self, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop, as a new array."""
        kept = self.coverage.kept
        if stop <= kept or start == stop:
            # No rows are read from what is there, as they would be of an array that has none.
            return self._reader.read(start, stop) if stop <= kept else self._reader.read(0, 0)
        parts = [self._reader.read(start, kept)] if start < kept else []
        for entry in self.coverage.entries:
            first, last = max(start, entry.first_row), min(stop, entry.first_row + entry.rows)
            if first < last:
                parts.append(self._rows(entry)[first - entry.first_row : last - entry.first_row])
        if len(parts) == 1:
            return parts[0].copy()
        return np.concatenate(parts, dtype=self.dtype)

    def _rows(self, entry: Entry) -> np.ndarray:
        """Return the rows of an entry, and keep them: small reads follow one another."""
        if self._decoded is None or self._decoded[0] != entry:
            assert self._journal is not None
            if entry.encoding == "raw":
                rows = read_raw(self._journal, entry, self.dtype, self._stored.form.row_shape)
            else:
                codec = self._stored.form.codec
                if codec is None:
                    raise DamagedFileError("the journal has chunks of a compression that cannot be read here")
                rows = codec.decode(self._journal.read(entry))
            self._decoded = entry, rows
        return self._decoded[1]


class HDF5Source(FileOnDemand, ArraySource):
    """Reads the arrays of one data set, as long as they were when it was opened, or refreshed.

    Args:
        path: The file.
        name: Name of the data set.
        salvaging: Whether to pass over what is damaged in the journal.
    """

    _address = ("_path", "_name", "_state", "_salvaging")

    def __init__(self, path: Path, name: str, salvaging: bool = False) -> None:
        super().__init__(path, salvaging)
        self._name = name
        self._state = 0

    def _take_up(self, snapshot: Snapshot) -> None:
        found = arrays_of(snapshot.file[self._name])
        self._arrays = {path: _Array(stored, snapshot.journal) for path, stored in found.items()}
        self._lay_journal(snapshot.journal)

    @property
    def state(self) -> int:
        """A number that changes when the last rows may have been replaced."""
        return self._state

    def _lay_journal(self, journal: JournalReader | None) -> None:
        self._state += 1
        if journal is not None:
            lengths = {path: array.file_length for path, array in self._arrays.items()}
            for path, coverage in journal.coverage(self._name, lengths, self._salvaging).items():
                self._arrays[path].coverage = coverage

    def refresh(self) -> bool:
        """Take in what was recorded since; tell whether there was anything."""
        with self._guard():
            snapshot = self._open()
            if not snapshot.is_current():
                self.close()
                self._open()
                return True
            if snapshot.journal is None or not snapshot.journal.advance():
                return False
            self._lay_journal(snapshot.journal)
            return True

    def _read_whole(self, read: Callable[[], _Result]) -> _Result:
        """Read something from one and the same state of the file."""
        with self._guard():
            while True:
                snapshot = self._open()
                try:
                    result = read()
                except (DamagedFileError, OSError, RuntimeError):
                    if snapshot.is_current():
                        raise
                else:
                    if snapshot.is_current():
                        return result
                self.close()  # it was changed meanwhile

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""
        return self._read_whole(lambda: {path: array.dtype for path, array in self._arrays.items()})

    def has(self, path: str) -> bool:
        """Tell whether there is an array of that path."""
        return self._read_whole(lambda: path in self._arrays)

    def length(self, path: str) -> int:
        """Count the rows of an array.

        Raises:
            DamagedFileError: There is no such array.
        """
        return self._read_whole(lambda: self._array(path).coverage.length)

    def _array(self, path: str) -> _Array:
        try:
            return self._arrays[path]
        except KeyError:
            raise DamagedFileError(f"{self._path}: {self._name} has no array {path}") from None

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array, as a new array.

        Raises:
            DamagedFileError: The file has no such rows, or they cannot be read.
        """
        return self._read_whole(lambda: self._read(path, start, stop))

    def _read(self, path: str, start: int, stop: int) -> np.ndarray:
        array = self._array(path)
        length = array.coverage.length
        if not 0 <= start <= stop <= length:
            raise DamagedFileError(
                f"{self._path}: expected rows {start} to {stop} of {self._name}/{path}, which has {length}"
            )
        try:
            return array.read(start, stop)
        except (DamagedFileError, OSError) as error:
            raise DamagedFileError(
                f"{self._path}: rows {start} to {stop} of {self._name}/{path} cannot be read: {error}"
            ) from error
