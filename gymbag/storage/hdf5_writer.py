"""Recording to an HDF5 file."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from pathlib import Path

from gymbag.errors import DamagedFileError, StorageError, UnfinishedRecordingWarning
from gymbag.json_values import encode
from gymbag.storage.base import Header
from gymbag.storage.codecs import choose_compression
from gymbag.storage.hdf5_file import note_writer
from gymbag.storage.hdf5_layout import (
    check_name,
    check_room,
    find_node,
    is_data_set,
    is_text,
    read_identity,
    write_description,
)
from gymbag.storage.hdf5_store import HDF5Store
from gymbag.storage.store_writer import StoreWriter
from gymbag.storage.stream import STEP_COLUMNS, ArrayStore, check_arrays
from gymbag.storage.writable_file import WritableFile

# HDF5 numbers the rows of a chunk with 32 bits.
_MOST_CHUNK_ROWS = 1 << 31


class HDF5Writer(StoreWriter):
    """Records to a data set of an HDF5 file, which is made if need be.

    A data set of the same name is continued. While it records, the latest rows are in a journal beside the
    file, NAME.journal; they are put into the file when the writer is closed: by `close`, when it is
    forgotten, or at the interpreter's exit. After a crash the next writer does so, or `gymbag.repair`;
    `HDF5Reader` reads both, at any time.

    Args:
        filename: Path of the file.
        compression: How to compress a new data set: "gzip", which every HDF5 library reads; "zstd", which
            makes images several times smaller, and which others read with the plug-ins of hdf5plugin; "lzf",
            or None.
        level: How hard to compress, for gzip 0 to 9, for zstd 1 to 22; by default 1 and 3.
        chunk_rows: How many steps make a chunk of a new data set; by default as many as make 2 MiB, at most
            8,192. Reading a single step reads a whole chunk. A mapping, such as `{"observations": 16}`, says
            so of some columns only.
        flush_seconds: How old a step may become before it is safe: from the process being killed and, if
            `durable`, from the loss of power.
        durable: Whether recordings are to survive the loss of power, or a crash of the machine. It takes
            nothing from the env's time, as another thread waits for the disk.

    Raises:
        StorageError: There is no such compression or level.
        MissingExtraError: The compression needs an optional package.

    >>> import gymnasium
    >>> from gymbag import HDF5Reader, RecordingWrapper
    >>> env = RecordingWrapper(gymnasium.make("CartPole-v1"), HDF5Writer("cartpole.h5"))
    >>> observation, info = env.reset(seed=1)
    >>> step = env.step(0)
    >>> env.close()
    >>> len(HDF5Reader("cartpole.h5"))
    1
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        *,
        compression: str | None = "gzip",
        level: int | None = None,
        chunk_rows: int | Mapping[str, int] | None = None,
        flush_seconds: float = 1.0,
        durable: bool = True,
    ) -> None:
        self.path = Path(filename).absolute()
        self._compression = choose_compression(compression, level)
        self._chunk_rows = _check_chunk_rows(chunk_rows)
        if not flush_seconds > 0:
            raise StorageError(f"expected flush_seconds above 0, found {flush_seconds!r}")
        self.flush_seconds = flush_seconds
        self.durable = durable

    def begin(self, header: Header) -> None:
        """See `Writer.begin`; the errors are those of `open_store`."""
        super().begin(header)
        self._file.stop_reading()
        note_writer(self.path, self)

    def open_store(self, header: Header) -> ArrayStore:
        """Open the file, after making sure that it can take the data.

        Raises:
            FileInUseError: Another writer has the file open.
            StorageError: The folder does not exist, the name is no good, or the data set has other
                spaces.
            DamagedFileError: The file is not HDF5, or damaged. In all cases nothing was changed.
        """
        check_name(header.name)
        if not is_text(header.description):
            raise StorageError(f"expected a description without NUL, found {header.description!r}")
        if not self.path.parent.is_dir():
            raise StorageError(
                f"expected a folder for {self.path.name}, found none: {self.path.parent}; make it first"
            )
        # Under its real name, so that whoever comes by another one finds the same journal.
        path = self.path.resolve()
        if path.is_dir():
            raise StorageError(f"expected an HDF5 file, found a folder: {self.path}")
        if self.path.is_symlink() and not path.exists():
            raise StorageError(f"expected an HDF5 file, found a link to nothing: {self.path}")
        file = WritableFile(path, self.durable)
        try:
            if file.repaired:
                warnings.warn(
                    f"{self.path}: the process that last recorded to it was killed; what it had left in the "
                    "journal was put into the file",
                    UnfinishedRecordingWarning,
                    stacklevel=2,
                )
            is_known = path.exists() and self._is_known(file, header)
            store = HDF5Store(file, header, self._compression, self._chunk_rows)
            if is_known:
                self._check_arrays(store, header)
                self._describe(file, header)
            self._file = file
            return store
        except BaseException:
            file.close()
            raise

    def _describe(self, file: WritableFile, header: Header) -> None:
        if not header.description:
            return
        with file.opened() as opened:
            known = read_identity(opened[header.name])[-1] == header.description
        if not known:
            with file.change() as opened:
                write_description(opened[header.name], header.description)

    def _is_known(self, file: WritableFile, header: Header) -> bool:
        """Tell whether the file has the data set; refuse what cannot be continued, and change nothing."""
        with file.opened() as opened:
            node = find_node(opened, header.name)
            if not is_data_set(node):
                check_room(opened, header.name)
                return False
            _, *spaces, _ = read_identity(node)
        for kind, expected, found in zip(
            ("observation", "action"), map(encode, spaces), header.spaces_as_json(), strict=True
        ):
            if expected != found:
                raise StorageError(
                    f"{self.path}: the data set {header.name!r} has the {kind} space {expected}, and the env "
                    f"has {found}; record under another name or to another file"
                )
        return True

    def _check_arrays(self, store: HDF5Store, header: Header) -> None:
        try:
            check_arrays(store, header)
            store.fill_up()
        except DamagedFileError as error:
            raise DamagedFileError(f"{self.path}: {header.name!r} is damaged: {error}") from error


def _check_chunk_rows(chunk_rows: int | Mapping[str, int] | None) -> Mapping[str, int]:
    """Return how many rows make a chunk of each column of steps for which that is said.

    Raises:
        StorageError: There is no such column, or there cannot be so many rows.
    """
    if chunk_rows is None:
        return {}
    by_column = chunk_rows if isinstance(chunk_rows, Mapping) else dict.fromkeys(STEP_COLUMNS, chunk_rows)
    for column, rows in by_column.items():
        if column not in STEP_COLUMNS:
            raise StorageError(
                f"expected chunk_rows of some of the columns {', '.join(STEP_COLUMNS)}, found {column!r}"
            )
        if not 1 <= rows <= _MOST_CHUNK_ROWS:
            raise StorageError(f"expected chunk_rows from 1 to {_MOST_CHUNK_ROWS}, found {rows!r}")
    return by_column
