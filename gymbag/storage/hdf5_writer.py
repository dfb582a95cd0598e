"""Recording to an HDF5 file."""

from __future__ import annotations

import os
from pathlib import Path

from gymbag.errors import DamagedFileError, StorageError
from gymbag.json_values import encode
from gymbag.storage.base import Header
from gymbag.storage.hdf5_file import (
    begin_writing,
    check_unused,
    damage_explained,
    open_file,
    open_for_writing,
)
from gymbag.storage.hdf5_layout import (
    check_name,
    check_room,
    create_data_set,
    find_node,
    is_data_set,
    is_text,
    read_identity,
)
from gymbag.storage.hdf5_source import HDF5Source
from gymbag.storage.hdf5_store import HDF5Store
from gymbag.storage.stream import ArrayStore, check_arrays
from gymbag.storage.stream_writer import StoreWriter


class HDF5Writer(StoreWriter):
    """Records to a data set of an HDF5 file, which is made if need be.

    A data set of the same name is continued. Whatever was recorded is complete in the file once the
    writer is closed: by `close`, when it is forgotten, or at the interpreter's exit.

    Args:
        filename: Path of the file.

    >>> import gymnasium
    >>> from gymbag import HDF5Reader, RecordingWrapper
    >>> env = RecordingWrapper(gymnasium.make("CartPole-v1"), HDF5Writer("cartpole.h5"))
    >>> observation, info = env.reset(seed=1)
    >>> step = env.step(0)
    >>> env.close()
    >>> len(HDF5Reader("cartpole.h5"))
    1
    """

    def __init__(self, filename: str | os.PathLike[str]) -> None:
        self.path = Path(filename)

    def begin(self, header: Header) -> None:
        """See `Writer.begin`; the errors are those of `open_store`."""
        super().begin(header)
        self._store.flush_stream = self.stream.flush

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
        known = self.path.exists() and self._is_known(header)
        file = open_for_writing(self.path)
        try:
            if not known:
                create_data_set(file, header)
            elif header.description:
                file[header.name].attrs["description"] = header.description
            with damage_explained(self.path):
                self._store = HDF5Store(file, header.name)
            begin_writing(self.path, file, self._store)
            return self._store
        except BaseException:
            file.close()
            raise

    def _is_known(self, header: Header) -> bool:
        """Tell whether the file has the data set; refuse what cannot be continued, and change nothing."""
        check_unused(self.path)
        with open_file(self.path, "r") as file, damage_explained(self.path):
            node = find_node(file, header.name)
            if not is_data_set(node):
                check_room(file, header.name)
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
        source = HDF5Source(self.path, header.name)
        try:
            check_arrays(source, header)
        except DamagedFileError as error:
            raise DamagedFileError(f"{self.path}: {header.name!r} is damaged: {error}") from error
        finally:
            source.close()
        return True
