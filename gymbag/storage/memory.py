"""Recordings in memory: the same data as in a file, gone with the process."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import numpy as np

from gymbag.columns import ArraySpec, Rows, join_rows
from gymbag.errors import RecordingError, StorageError
from gymbag.storage.base import Header
from gymbag.storage.store_writer import StoreWriter
from gymbag.storage.stream import ArrayStore
from gymbag.storage.stream_reader import StreamReader

# One for all stores, so that a store can be sent to another process.
_reading = threading.Lock()


class _MemoryStore(ArrayStore):
    """Growing arrays as lists of blocks, joined when they are read."""

    def __init__(self) -> None:
        self._blocks: dict[str, list[np.ndarray]] = {}

    def create(self, specs: Mapping[str, ArraySpec], rows: Mapping[str, int] | None = None) -> None:
        for path, spec in specs.items():
            count = (rows or {}).get(path, 0)
            self._blocks[path] = [np.full((count, *spec.shape), spec.fill_value)]

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        # Of a copy, as a thread may make arrays meanwhile.
        return {path: blocks[0].dtype for path, blocks in self._blocks.copy().items()}

    def has(self, path: str) -> bool:
        return path in self._blocks

    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        with _reading:
            for path, spec in specs.items():
                self._blocks[path] = [block.astype(spec.dtype) for block in self._blocks[path]]

    def append(self, path: str, rows: Rows) -> None:
        if len(rows):
            self._blocks[path].append(join_rows(rows))

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        with _reading:
            blocks = self._blocks[path]
            count = len(blocks)  # more may be appended meanwhile
            if count > 1:
                blocks[:count] = [
                    np.concatenate(blocks[:count], dtype=blocks[0].dtype)
                ]  # keeps the byte order
            return blocks[0][start:stop].copy()

    def length(self, path: str) -> int:
        return sum(map(len, self._blocks.get(path, ())))


class MemoryWriter(StoreWriter):
    """Records to memory; the original Gymbag's ListRecorder.

    >>> import gymnasium
    >>> from gymbag import RecordingWrapper
    >>> writer = MemoryWriter()
    >>> env = RecordingWrapper(gymnasium.make("CartPole-v1"), writer)
    >>> observation, info = env.reset(seed=1)
    >>> for action in (0, 1):
    ...     step = env.step(action)
    >>> env.close()
    >>> writer.reader()[0].rewards
    array([1., 1.])
    """

    def __init__(self) -> None:
        self._store = _MemoryStore()
        self._header: Header | None = None

    def open_store(self, header: Header) -> ArrayStore:
        """Return the store to write to.

        Raises:
            StorageError: The writer holds a recording of other spaces.
        """
        known = self._header
        if known and known.spaces_as_json() != header.spaces_as_json():
            raise StorageError(
                f"expected to go on with {known.spaces_as_json()}, found {header.spaces_as_json()}; "
                "use another MemoryWriter"
            )
        self._header = header
        return self._store

    def reader(self) -> StreamReader:
        """Return a reader of the episodes that have ended so far.

        Raises:
            RecordingError: Nothing has been recorded.
        """
        if self._header is None:
            raise RecordingError("nothing has been recorded with this MemoryWriter yet")
        if self._stream is not None:
            self._stream.flush()
        header = self._header
        return StreamReader(
            self._store,
            header.name,
            header.observation_space,
            header.action_space,
            header.description,
        )
