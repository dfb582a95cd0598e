"""Putting what a killed process left in its journal into the file."""

from __future__ import annotations

import os
from pathlib import Path

from gymbag.storage.snapshot import check_is_hdf5
from gymbag.storage.writable_file import WritableFile


def repair(filename: str | os.PathLike[str]) -> bool:
    """Put the latest rows, which a killed process left in the journal, into its HDF5 file.

    Recording to the file does so by itself, and `HDF5Reader` reads both; this is for those who want to read
    the file with plain h5py. A file that was closed is left as it is.

    Args:
        filename: Path of the file.

    Returns:
        Whether there was anything to do.

    Raises:
        FileInUseError: The file is being recorded to.
        StorageError: It is not there, or may not be written to.
        DamagedFileError: It, or its journal, is damaged; nothing was changed. See `gymbag.salvage`.

    >>> import gymnasium
    >>> from gymbag import record_hdf5
    >>> env = record_hdf5(gymnasium.make("CartPole-v1"), "cartpole.h5")
    >>> env.close()
    >>> repair("cartpole.h5")
    False
    """
    path = Path(filename).resolve()
    check_is_hdf5(path)
    file = WritableFile(path)
    file.close()
    return file.repaired
