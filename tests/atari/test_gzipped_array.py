"""Gzipped arrays: read into the memory they belong in, and into no other."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from gymbag.atari import gzipped_array
from gymbag.atari.gzipped_array import GzippedArray


@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_reading_takes_next_to_no_memory(
    tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if library == "zlib":
        monkeypatch.setattr(gzipped_array, "_library", gzip)
    rows = np.arange(20_000_000, dtype=np.uint8)
    with gzip.open(tmp_path / "rows.gz", "wb", 1) as file:
        np.save(file, rows)
    found = np.empty_like(rows)
    with GzippedArray(tmp_path / "rows.gz") as array:
        tracemalloc.start()
        try:
            array.read_into(found)
            assert tracemalloc.get_traced_memory()[1] < 2 << 20
        finally:
            tracemalloc.stop()
    assert (found == rows).all()
