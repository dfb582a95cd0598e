"""Chunk compression: what HDF5 makes of ours, what we make of HDF5's, and what becomes of damage."""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gymbag.errors import DamagedFileError, MissingExtraError, StorageError
from gymbag.storage.codecs import (
    Codec,
    Compression,
    check_filters,
    choose_compression,
    choose_filters,
)
from gymbag.storage.fletcher32 import fletcher32
from gymbag.storage.stored_array import ArrayForm, StoredArray, create_arrays

GZIP, ZSTD = choose_compression("gzip"), choose_compression("zstd")
OURS = [
    GZIP,
    choose_compression("gzip", 0),
    choose_compression("gzip", 6),
    ZSTD,
    choose_compression("zstd", 9),
]
ROWS = 64

DTYPES = [
    *("?", "i1", "u1", "<i2", ">i2", "<u4", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8", "g"),
    *("<c8", ">c16", "S5", "V3"),
]
SHAPES: list[tuple[int, ...]] = [(), (1,), (4,), (3, 1, 5), (2500,)]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[h5py.File]:
    with h5py.File(tmp_path / "chunks.h5", "w") as file:
        yield file


def draw(dtype: Any, shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """Draw rows of which the first bytes vary and others do not, as in numbers of real life."""
    dtype = np.dtype(dtype)
    random = np.random.default_rng(seed)
    if dtype == np.bool_:
        return random.random(shape) < 0.3
    data = np.zeros((int(np.prod(shape)), dtype.itemsize), np.uint8)
    data[:, : max(1, dtype.itemsize // 2)] = random.integers(1, 5, (len(data), max(1, dtype.itemsize // 2)))
    return data.reshape(-1).view(dtype).reshape(shape)


def make(
    file: h5py.File, compression: Compression, dtype: Any, shape: tuple[int, ...], chunk_rows: int = ROWS
) -> h5py.Dataset:
    dtype = np.dtype(dtype)
    form = ArrayForm(dtype, shape, (chunk_rows, *shape), choose_filters(compression, dtype))
    (array,) = create_arrays(file["/"].id, {f"array{len(file)}": form}).values()
    return array.as_dataset()


def codec_of(dataset: h5py.Dataset) -> Codec | None:
    return StoredArray(dataset.id).form.codec


def codec_for(dataset: h5py.Dataset) -> Codec:
    codec = codec_of(dataset)
    assert codec is not None
    return codec


def restore_with(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have codecs restore gzip with this library: those that they prefer to it are not to be found."""
    for preferred in {"isal": ["deflate"], "zlib": ["deflate", "isal"]}.get(library, []):
        monkeypatch.setitem(sys.modules, preferred, None)
    if library in ("deflate", "isal"):
        pytest.importorskip(library)


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.dtype == expected.dtype and found.tobytes() == expected.tobytes()


def write(dataset: h5py.Dataset, data: bytes) -> None:
    dataset.resize(ROWS, axis=0)
    dataset.id.write_direct_chunk((0,) * dataset.ndim, data)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", OURS, ids=str)
def test_we_and_hdf5_read_what_we_wrote(
    file: h5py.File, compression: Compression, dtype: str, shape: tuple[int, ...]
) -> None:
    pytest.importorskip("hdf5plugin")
    dataset = make(file, compression, dtype, shape)
    codec, rows = codec_for(dataset), draw(dtype, (ROWS, *shape))
    data = codec.encode(rows)
    restored = np.empty_like(rows)
    codec.decode(data, restored)
    assert same(restored, rows)
    write(dataset, data)
    assert same(dataset[:], rows)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("compression", OURS, ids=str)
def test_we_read_what_hdf5_wrote(
    file: h5py.File, compression: Compression, dtype: str, shape: tuple[int, ...]
) -> None:
    pytest.importorskip("hdf5plugin")
    dataset, rows = make(file, compression, dtype, shape), draw(dtype, (ROWS, *shape))
    dataset.resize(ROWS, axis=0)
    dataset[:] = rows
    mask, data = dataset.id.read_direct_chunk((0,) * dataset.ndim)
    assert mask == 0
    restored = np.empty_like(rows)
    codec_for(dataset).decode(data, restored)
    assert same(restored, rows)


@pytest.mark.parametrize("compression", OURS, ids=str)
def test_large_chunks_in_sections_of_their_own(file: h5py.File, compression: Compression) -> None:
    pytest.importorskip("hdf5plugin")
    random = np.random.default_rng(2)
    for rows in (
        random.normal(size=(8192, 4)).astype(np.float32),
        random.integers(0, 2, 8192),
        np.ones(8192),
        random.integers(0, 256, (16, 210, 160, 3), np.uint8),
    ):
        dataset = make(file, compression, rows.dtype, rows.shape[1:], len(rows))
        dataset.resize(len(rows), axis=0)
        codec, restored = codec_for(dataset), np.empty_like(rows)
        data = codec.encode(rows)
        codec.decode(data, restored)
        assert same(restored, rows)
        dataset.id.write_direct_chunk((0,) * rows.ndim, data)
        assert same(dataset[:], rows)


def test_sections_and_long_copies_pay(file: h5py.File) -> None:
    walk = np.cumsum(np.random.default_rng(3).normal(size=(8192, 4)), axis=0).astype(np.float32)
    frame = np.random.default_rng(4).integers(0, 256, (210, 160, 3), np.uint8)
    frames = np.repeat(frame[None], 16, axis=0)
    frames[:, ::7, ::5] += np.arange(16, dtype=np.uint8)[:, None, None, None]
    for compression, rows, plain in (
        (GZIP, walk, lambda data: zlib.compress(data, 9)),
        (ZSTD, frames, lambda data: zlib.compress(data, 9)),
    ):
        dataset = make(file, compression, rows.dtype, rows.shape[1:], len(rows))
        assert len(codec_for(dataset).encode(rows)) < 0.95 * len(plain(rows.tobytes()))


@pytest.mark.parametrize("level", [0, 1, 3, 4, 9])
def test_with_and_without_isal_the_content_is_the_same(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch, level: int
) -> None:
    pytest.importorskip("isal")
    dataset = make(file, choose_compression("gzip", level), "<f4", (2500,))
    rows = draw("<f4", (ROWS, 2500))
    fast = codec_for(dataset)
    monkeypatch.setitem(sys.modules, "isal", None)
    slow = codec_for(dataset)
    ours, theirs = fast.encode(rows), slow.encode(rows)
    assert zlib.decompress(ours[:-4]) == zlib.decompress(theirs[:-4])
    for codec in (fast, slow):
        for data in (ours, theirs):
            restored = np.empty_like(rows)
            codec.decode(data, restored)
            assert same(restored, rows)


@pytest.mark.parametrize("library", ["deflate", "isal", "zlib", "zstd"])
@pytest.mark.parametrize("dtype", ["?", "u1", "<i8", "<f4"])
def test_a_byte_that_changed_is_noticed_wherever_it_is(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch, library: str, dtype: str
) -> None:
    restore_with(library, monkeypatch)
    codec = codec_for(make(file, ZSTD if library == "zstd" else GZIP, dtype, (3,)))
    rows = draw(dtype, (ROWS, 3))
    data = codec.encode(rows)
    for position in range(len(data)):
        for change in (0x01, 0x20, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[position] ^= change
            restored = np.empty_like(rows)
            try:
                codec.decode(bytes(damaged), restored)
            except DamagedFileError:
                continue
            assert same(restored, rows), (position, change)


@pytest.mark.parametrize("library", ["deflate", "isal", "zlib", "zstd"])
def test_data_of_another_length_is_noticed(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    restore_with(library, monkeypatch)
    compression = ZSTD if library == "zstd" else GZIP
    codec, longer = (codec_for(make(file, compression, "<f4", shape)) for shape in ((3,), (4,)))
    rows, restored = draw("<f4", (ROWS, 3)), np.empty((ROWS, 3), "<f4")
    data = codec.encode(rows)
    cases = [data[:length] for length in range(len(data))]
    for damaged in [*cases, b"\0" * 100, longer.encode(draw("<f4", (ROWS, 4)))]:
        with pytest.raises(DamagedFileError):
            codec.decode(damaged, restored)


@pytest.mark.parametrize("library", ["deflate", "isal", "zlib"])
def test_damage_is_noticed_without_a_checksum_behind_it(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    restore_with(library, monkeypatch)
    width = 100
    options = {"maxshape": (None, width), "chunks": (ROWS, width), "compression": "gzip"}
    codec = codec_for(file.create_dataset("frames", (0, width), "u1", **options))
    rows = np.random.default_rng(1).integers(0, 256, (ROWS, width), np.uint8)
    data = codec.encode(rows)
    changed = data[:-1] + bytes([data[-1] ^ 1])
    longer, shorter = (zlib.compress(content) for content in (rows.tobytes() + b"x", rows[1:].tobytes()))
    for damaged in (b"", data[:-1], data[: len(data) // 2], changed, longer, shorter, b"\0" * 100):
        with pytest.raises(DamagedFileError):
            codec.decode(damaged)


@pytest.mark.parametrize("library", ["deflate", "isal", "zlib", "zstd"])
@pytest.mark.parametrize("dtype", ["u1", "<f8"])
def test_a_restored_chunk_is_writable_and_nobody_elses(
    file: h5py.File, monkeypatch: pytest.MonkeyPatch, library: str, dtype: str
) -> None:
    restore_with(library, monkeypatch)
    codec = codec_for(make(file, ZSTD if library == "zstd" else GZIP, dtype, (3, 5)))
    rows = draw(dtype, (ROWS, 3, 5))
    data = codec.encode(rows)
    first, second = codec.decode(data), codec.decode(data)
    assert same(first, rows)
    assert first.shape == rows.shape
    first[...] = 0
    assert same(second, rows)
    assert codec.decode(data, first) is first
    assert same(first, rows)


@pytest.mark.parametrize("dtype", ["u1", "<f8"])
def test_what_is_left_to_hdf5_has_a_checksum(file: h5py.File, dtype: str, tmp_path: Path) -> None:
    compression = choose_compression("lzf")
    dataset, rows = make(file, compression, dtype, (3,)), draw(dtype, (ROWS, 3))
    assert codec_of(dataset) is None
    dataset.resize(ROWS, axis=0)
    dataset[:] = rows
    assert same(dataset[:], rows)
    where, name = dataset.id.get_chunk_info(0), dataset.name
    file.close()
    with (tmp_path / "chunks.h5").open("r+b") as raw:
        raw.seek(where.byte_offset + where.size // 2)
        (byte,) = raw.read(1)
        raw.seek(-1, 1)
        raw.write(bytes([byte ^ 1]))
    with h5py.File(tmp_path / "chunks.h5") as damaged, pytest.raises(OSError, match="read"):
        damaged[name][:]


def test_what_a_codec_does_not_know_is_left_to_hdf5(file: h5py.File) -> None:
    gzip = {"compression": "gzip", "chunks": (4,)}
    for options in (
        {"dtype": "i4"},
        {"dtype": "i4", "chunks": (4,)},
        {"dtype": "i4", **gzip, "scaleoffset": 0},
        {"dtype": h5py.string_dtype(), **gzip},
        {"dtype": np.dtype(("i4", (2,))), **gzip},
        {"dtype": "i4", "chunks": (4,), "shuffle": True},
        {"dtype": "i4", "chunks": (4,), "compression": 32001, "allow_unknown_filter": True},
    ):
        assert codec_of(file.create_dataset(f"array{len(file)}", (8,), **options)) is None
    assert codec_of(file.create_dataset("known", (8,), "i4", **gzip)) is not None


@pytest.mark.parametrize("length", [1, 2, 3, 255, 256, 721, 65536, 300001])
def test_our_checksum_is_that_of_hdf5(file: h5py.File, length: int) -> None:
    random = np.random.default_rng(length)
    for data in (
        random.integers(0, 256, length, np.uint8),
        np.zeros(length, np.uint8),
        np.full(length, 255, np.uint8),
    ):
        dataset = file.create_dataset(f"array{len(file)}", data=data, chunks=(length,), fletcher32=True)
        _, chunk = dataset.id.read_direct_chunk((0,))
        assert fletcher32(data.tobytes()) == chunk[-4:]


def test_threads_may_share_a_codec(file: h5py.File) -> None:
    for compression in (GZIP, ZSTD):
        codec = codec_for(make(file, compression, "<f4", (2500,)))
        wrong = []

        def work(seed: int, codec: Codec = codec, wrong: list[int] = wrong) -> None:
            rows = draw("<f4", (ROWS, 2500), seed)
            restored = np.empty_like(rows)
            for _ in range(5):
                codec.decode(codec.encode(rows), restored)
                if not same(restored, rows):
                    wrong.append(seed)

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@pytest.mark.parametrize(
    ("name", "level", "chosen"),
    [
        ("gzip", None, 1),
        ("gzip", 0, 0),
        ("gzip", np.int64(9), 9),
        ("zstd", None, 3),
        ("zstd", 22, 22),
        ("lzf", None, None),
        (None, None, None),
    ],
)
def test_a_compression_is_chosen(name: str | None, level: Any, chosen: int | None) -> None:
    assert choose_compression(name, level) == Compression(name, chosen)


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("zip", None),
        ("", None),
        ("gzip", 10),
        ("gzip", -1),
        ("gzip", 1.5),
        ("gzip", True),
        ("gzip", "1"),
        ("zstd", 0),
        ("zstd", 23),
        ("lzf", 1),
        (None, 0),
    ],
)
def test_the_choices_are_named_when_there_is_no_such_one(name: Any, level: Any) -> None:
    with pytest.raises(
        StorageError, match=r'"gzip" \(level 0 to 9\), "zstd" \(level 1 to 22\), "lzf" or None; found'
    ):
        choose_compression(name, level)


def test_without_zstandard_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r'pip install "gymbag\[zstd\]"'):
        choose_compression("zstd")


def test_a_missing_filter_is_named(file: h5py.File) -> None:
    dataset = file.create_dataset(
        "array", (8,), "i4", chunks=(4,), compression=32765, allow_unknown_filter=True
    )
    with pytest.raises(MissingExtraError, match=r"array needs HDF5 filter 32765.*gymbag\[legacy\]"):
        check_filters(dataset)
