"""Our own backends keep the contract of a backend."""

from __future__ import annotations

from pathlib import Path

import pytest

from gymbag import HDF5Reader, HDF5Writer, MemoryWriter, Reader, Writer
from gymbag.testing import BackendContract


class TestHDF5(BackendContract):
    def open_writer(self, folder: Path) -> Writer:
        return HDF5Writer(folder / "recording.h5")

    def open_reader(self, folder: Path) -> Reader:
        return HDF5Reader(folder / "recording.h5")


class TestMemory(BackendContract):
    @pytest.fixture(autouse=True)
    def _writers(self) -> None:
        self.writers: dict[Path, MemoryWriter] = {}

    def open_writer(self, folder: Path) -> Writer:
        self.writers[folder] = MemoryWriter()
        return self.writers[folder]

    def open_reader(self, folder: Path) -> Reader:
        return self.writers[folder].reader()
