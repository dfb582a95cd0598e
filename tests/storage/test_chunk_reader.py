"""Reading rows through our codecs, against h5py itself."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gymbag.errors import DamagedFileError, MissingExtraError
from gymbag.storage import chunk_reader
from gymbag.storage.chunk_reader import ChunkReader
from gymbag.storage.codecs import choose_compression, choose_filters
from gymbag.storage.stored_array import ArrayForm, StoredArray, create_arrays

pytest.importorskip("hdf5plugin")

LENGTH, CHUNK_ROWS = 103, 8
ARRAYS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "bool": ("?", ()),
    "frame": ("u1", (5, 4, 3)),
    "number": ("<i8", ()),
    "big-endian": (">f4", (4,)),
    "double": ("<f8", (2, 2)),
    "complex": ("<c8", ()),
    "text": ("S4", ()),
    "no elements": ("<f4", (0,)),
}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("chunks") / "chunks.h5"
    random = np.random.default_rng(1)
    with h5py.File(path, "w") as file:
        for name, (dtype, shape) in ARRAYS.items():
            rows = random.integers(0, 2, (LENGTH, *shape)).astype(dtype)
            for compression in ("gzip", "zstd", "lzf", None):
                filters = choose_filters(choose_compression(compression), rows.dtype)
                form = ArrayForm(rows.dtype, shape, (CHUNK_ROWS, *(size or 1 for size in shape)), filters)
                (array,) = create_arrays(file["/"].id, {f"{compression}/{name}": form}).values()
                array.resize(LENGTH)
                array.as_dataset()[...] = rows
            file.create_dataset(f"in one piece/{name}", data=rows)
        numbers = np.arange(LENGTH * 6, dtype=np.int32).reshape(-1, 6)
        file.create_dataset("parted rows", data=numbers, chunks=(CHUNK_ROWS, 4), compression="gzip")
        strings = [f"text {number}" for number in range(LENGTH)]
        file.create_dataset("strings", data=strings, chunks=(CHUNK_ROWS,), compression="gzip")
        partly = file.create_dataset("partly written", (LENGTH, 3), "i4", chunks=(CHUNK_ROWS, 3), fillvalue=7)
        partly[20:60] = 1
        gaps = file.create_dataset(
            "gaps", (LENGTH, 3), "i4", chunks=(CHUNK_ROWS, 3), fillvalue=7, compression="gzip"
        )
        gaps[20:60] = 1
        gaps.id.write_direct_chunk((72, 0), np.arange(24, dtype=np.int32).tobytes(), filter_mask=1)
    return path


def reader_of(dataset: h5py.Dataset) -> ChunkReader:
    return ChunkReader(StoredArray(dataset.id))


def names(path: Path) -> list[str]:
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, node: found.append(name) if isinstance(node, h5py.Dataset) else None)
    return found


def assert_rows(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    if expected.dtype == object:
        assert found.tolist() == expected.tolist()
    else:
        assert found.tobytes() == expected.tobytes()
    assert found.flags.writeable


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("batch_bytes", [1, 1 << 20], ids=["threads", "no threads"])
def test_rows_are_those_that_h5py_reads(
    path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, data: st.DataObject
) -> None:
    monkeypatch.setattr(chunk_reader, "_BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(chunk_reader, "_MANY_BYTES", 2 * batch_bytes)
    rows = st.integers(0, LENGTH)
    with h5py.File(path) as file:
        dataset = file[data.draw(st.sampled_from(names(path)))]
        reader = reader_of(dataset)
        assert len(reader) == LENGTH
        for _ in range(4):
            start, stop = sorted((data.draw(rows), data.draw(rows)))
            found = reader.read(start, stop)
            assert_rows(found, dataset[start:stop])
            if found.dtype != object:  # what is changed must not come back
                found.reshape(-1).view(np.uint8)[...] ^= 1


def test_small_reads_restore_a_chunk_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    read_chunk = ChunkReader._read_chunk
    monkeypatch.setattr(
        ChunkReader, "_read_chunk", lambda self, begin: fetched.append(begin) or read_chunk(self, begin)
    )
    with h5py.File(path) as file:
        reader = reader_of(file["gzip/number"])
        for start in range(LENGTH - 3):
            reader.read(start, start + 3)
    assert fetched == list(range(0, LENGTH, CHUNK_ROWS))


def test_threads_may_share_a_reader(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_reader, "_BATCH_BYTES", 64)
    monkeypatch.setattr(chunk_reader, "_MANY_BYTES", 128)
    with h5py.File(path) as file:
        for name in ("gzip/frame", "zstd/big-endian", "lzf/double", "gaps"):
            reader, expected, wrong = reader_of(file[name]), file[name][:], []

            def work(seed: int, reader: Any = reader, expected: Any = expected, wrong: Any = wrong) -> None:
                random = np.random.default_rng(seed)
                for _ in range(30):
                    start, stop = sorted(random.integers(0, LENGTH + 1, 2).tolist())
                    if reader.read(start, stop).tobytes() != expected[start:stop].tobytes():
                        wrong.append((start, stop))

            threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert not wrong


@pytest.mark.parametrize("name", ["gzip/frame", "zstd/frame", "lzf/frame", "None/frame"])
@pytest.mark.parametrize("batch_bytes", [1, 1 << 20], ids=["threads", "no threads"])
def test_a_damaged_chunk_is_reported_and_the_rest_read(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_bytes: int, name: str
) -> None:
    monkeypatch.setattr(chunk_reader, "_BATCH_BYTES", batch_bytes)
    monkeypatch.setattr(chunk_reader, "_MANY_BYTES", 2 * batch_bytes)
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(path.read_bytes())
    with h5py.File(path) as file:
        expected = file[name][:]
        where = file[name].id.get_chunk_info_by_coord((3 * CHUNK_ROWS, 0, 0, 0))
    with damaged.open("r+b") as raw:
        raw.seek(where.byte_offset + where.size // 2)
        raw.write(b"\x55" * (where.size // 4))
    with h5py.File(damaged) as file:
        reader = reader_of(file[name])
        for start, stop in ((0, LENGTH), (24, 25), (20, 33)):
            with pytest.raises(DamagedFileError):
                reader.read(start, stop)
        assert_rows(reader.read(0, 24), expected[:24])
        assert_rows(reader.read(32, LENGTH), expected[32:])


def test_damage_is_located(path: Path, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "damaged.h5", "w") as file:
        dataset = file.create_dataset("a", (20,), "i4", chunks=(8,), compression="gzip")
        dataset.id.write_direct_chunk((8,), b"no zlib stream")
        with pytest.raises(DamagedFileError, match="chunk of rows 8 to 16: expected a zlib stream"):
            reader_of(dataset).read(9, 10)


def test_a_filter_that_is_not_installed_is_named(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "foreign.h5", "w") as file:
        options = {"compression": 32765, "allow_unknown_filter": True}
        dataset = file.create_dataset("a", (20,), "i4", chunks=(8,), **options)
        dataset.id.write_direct_chunk((0,), b"something")
        with pytest.raises(MissingExtraError, match="filter 32765"):
            reader_of(dataset).read(0, 8)


def _read_all(path: Path) -> bool:
    with h5py.File(path) as file:
        return reader_of(file["gzip/frame"]).read(0, LENGTH).tobytes() == file["gzip/frame"][:].tobytes()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_process_starts_threads_of_its_own(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk_reader, "_BATCH_BYTES", 64)
    monkeypatch.setattr(chunk_reader, "_MANY_BYTES", 128)
    assert _read_all(path)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(_read_all, [path] * 4).get(timeout=60) == [True] * 4
    assert _read_all(path)


def test_reading_at_the_end_of_the_interpreter_is_possible_and_the_threads_do_not_hold_it_up(
    path: Path,
) -> None:
    program = f"""
import atexit, threading, h5py
from gymbag.storage import chunk_reader
from gymbag.storage.stored_array import StoredArray
chunk_reader._BATCH_BYTES = 64
chunk_reader._MANY_BYTES = 128
file = h5py.File({str(path)!r})
reader = chunk_reader.ChunkReader(StoredArray(file["gzip/frame"].id))
reader.read(0, {LENGTH})
atexit.register(lambda: print(len(reader.read(0, {LENGTH}))))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.split() == [str(LENGTH)], result.stderr
