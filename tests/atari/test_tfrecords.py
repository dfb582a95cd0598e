"""TFRecord files and the Examples in them: what was written comes back, and all else is an error of ours."""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import struct
import sys
import tracemalloc
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rl_unplugged_shards import (
    Values,
    encode_example,
    encode_feature,
    encode_field,
    encode_record,
    encode_varint,
    masked_crc32c,
    write_records,
)

from gymbag.atari.tfrecords import Record, RecordFile, read_features
from gymbag.errors import DamagedFileError, MissingExtraError

RECORDS = [b"one", b"", bytes(range(256)), b"four" * 50]


def read_whole(record: Record) -> bytes:
    return record.read(record.length)


def read_records(path: Path) -> list[bytes]:
    with RecordFile(path) as file:
        return list(map(read_whole, file))


def record_of(data: bytes) -> Record:
    return Record(io.BytesIO(data + masked_crc32c(data)), len(data), google_crc32c.extend, "here: record 0")


def read_example(data: bytes) -> dict[str, list[Any]]:
    """Return all that an Example holds: bytes, and numbers as pairs of dtype and value."""
    found: dict[str, list[Any]] = {}
    for name, values in read_features(record_of(data)):
        if isinstance(values, bytes):
            found.setdefault(name, []).append(values)
        elif len(values):
            found.setdefault(name, []).extend((values.dtype.char, value.tobytes()) for value in values)
    return found


def plain(features: Mapping[str, Values]) -> dict[str, list[Any]]:
    """Return what `read_example` should, of features that have any values."""
    return {
        name: [(values.dtype.char, value.tobytes()) for value in values]
        if isinstance(values, np.ndarray)
        else list(values)
        for name, values in features.items()
        if len(values)
    }


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
def test_records_come_back(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "records"
    write_records(path, RECORDS, compressed)
    assert read_records(path) == RECORDS


@pytest.mark.parametrize("library", ["isal", "zlib"])
def test_either_library_reads_gzip(tmp_path: Path, library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "zlib":
        monkeypatch.setattr("gymbag.atari.gzipped_array._library", gzip)
    path = tmp_path / "records"
    write_records(path, RECORDS)
    assert read_records(path) == RECORDS
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedFileError, match=r"record \d cannot be read"):
        read_records(path)


def test_a_plain_file_may_begin_as_gzip_does(tmp_path: Path) -> None:
    data = bytes(0x8B1F)
    path = tmp_path / "records"
    write_records(path, [data], compressed=False)
    assert path.read_bytes()[:2] == gzip.compress(b"")[:2]
    assert read_records(path) == [data]


def test_what_of_a_record_is_not_read_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "records"
    large = np.random.default_rng(0).bytes(1_000_000)
    write_records(path, [large, b"second", large], compressed=False)
    with RecordFile(path) as file:
        found = [record.read(3) for record in file]
    assert found == [large[:3], b"sec", large[:3]]


def test_a_file_closes_twice(tmp_path: Path) -> None:
    path = tmp_path / "records"
    write_records(path, RECORDS)
    file = RecordFile(path)
    file.close()
    file.close()


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
def test_a_file_that_is_cut_off_says_so_wherever(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "records"
    write_records(path, RECORDS, compressed)
    whole = path.read_bytes()
    # A plain file that ends with a record is just a shorter one.
    ends = np.cumsum([len(encode_record(data)) for data in RECORDS[:-1]])
    for length in sorted({*range(len(whole))} - ({*ends.tolist()} if not compressed else set())):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError, match="records"):
            read_records(path)


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip", "plain"])
def test_a_changed_bit_is_noticed_wherever(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "records"
    write_records(path, RECORDS, compressed)
    whole = path.read_bytes()
    unnoticed = []
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            assert read_records(path) == RECORDS
            unnoticed.append(place)
        except DamagedFileError:
            pass
    # The header of gzip holds times and systems, which nobody needs.
    assert all(place < 10 for place in unnoticed) if compressed else not unnoticed


def test_an_error_names_file_and_record(tmp_path: Path) -> None:
    path = tmp_path / "records"
    write_records(path, RECORDS, compressed=False)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"four")] + b"5" + data[data.index(b"four") + 1 :])
    with pytest.raises(
        DamagedFileError, match=r"records: record 3 cannot be read: .*checksum.*get the file anew"
    ):
        read_records(path)


@pytest.mark.parametrize("length", [1 << 20, 1 << 40, 2**64 - 1])
def test_a_wrong_length_takes_no_memory(tmp_path: Path, length: int) -> None:
    path = tmp_path / "records"
    head = struct.pack("<Q", length)
    for value in (b"", encode_varint(length), b"\x0a" + encode_varint(length - 11) + b"\x0a"):
        path.write_bytes(head + masked_crc32c(head) + value)
        tracemalloc.start()
        try:
            with RecordFile(path) as file, pytest.raises(DamagedFileError):
                deque(itertools.chain.from_iterable(map(read_features, file)), maxlen=0)
            assert tracemalloc.get_traced_memory()[1] < 4 << 20
        finally:
            tracemalloc.stop()


@pytest.mark.parametrize("content", [None, b"", b"no TFRecord file", b"\x1f\x8bno gzip file"])
def test_other_files_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "records"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DamagedFileError, match="records"):
        read_records(path)


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    with pytest.raises(MissingExtraError, match=r'google-crc32c.*"gymbag\[atari\]"'):
        RecordFile(tmp_path / "records")


INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-2, 300)
FEATURES = st.dictionaries(
    st.text(max_size=10),
    st.lists(st.binary(max_size=200), max_size=10)
    | st.lists(st.floats(width=32), max_size=20).map(lambda values: np.array(values, np.float32))
    | st.lists(INTEGERS, max_size=20).map(lambda values: np.array(values, np.int64)),
    max_size=6,
)


@given(FEATURES, st.booleans())
@example({"a": np.arange(200)}, True)
@example({"a": np.array([-1, 2**63 - 1, -(2**63), 127, 128])}, True)
def test_an_example_comes_back(features: dict[str, Values], packed: bool) -> None:
    assert read_example(encode_example(features, packed)) == plain(features)


FIELDS = st.builds(
    encode_field,
    st.integers(4, 2**29 - 1),
    st.binary(max_size=20) | st.integers(0, 2**64 - 1) | st.just(np.float32(1)),
) | st.integers(4, 2**29 - 1).map(lambda number: encode_varint(number << 3 | 1) + bytes(8))


@given(st.lists(FIELDS, min_size=8, max_size=8))
def test_unknown_fields_are_skipped_wherever(fields: list[bytes]) -> None:
    values = encode_field(1, fields[0] + encode_field(1, b"abc") + fields[1] + encode_field(1, b""))
    feature = fields[2] + values + fields[3]
    entry = fields[4] + encode_field(1, b"name") + fields[5] + encode_field(2, feature)
    data = fields[6] + encode_field(1, fields[7] + encode_field(1, entry)) + fields[0]
    assert read_example(data) == {"name": [b"abc", b""]}


def test_lists_that_come_in_parts_are_joined() -> None:
    numbers = np.arange(5) * 1000
    halves = encode_feature(numbers[:2]) + encode_feature(numbers[2:], packed=False)
    entry = encode_field(1, b"a") + encode_field(2, halves)
    assert read_example(encode_field(1, encode_field(1, entry))) == plain({"a": numbers})


@pytest.mark.parametrize("size", [1, 1000, 100_000, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 1 << 20])
def test_values_may_lie_anywhere_in_a_large_record(size: int) -> None:
    random = np.random.default_rng(size)
    features = {
        "bytes": [random.bytes(size) for _ in range(3)],
        "floats": random.random(60_000, np.float32),
        "integers": random.integers(-(2**40), 2**40, 30_000),
        "more": [random.bytes(int(length)) for length in random.integers(0, 300, 2000)],
    }
    assert read_example(encode_example(features)) == plain(features)


NAMED = encode_field(1, b"name")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x0b", "kind 3", id="group"),
        pytest.param(b"\x80", "within the record", id="tag is cut off"),
        pytest.param(b"\x80" * 11, "ten bytes", id="endless tag"),
        pytest.param(b"\x0a\x05", "ends behind", id="features are cut off"),
        pytest.param(encode_field(1, b"\x0a\x7f"), "ends behind", id="entry is cut off"),
        pytest.param(b"\x0a\x02\x08\x80\x00", "ends behind", id="number goes beyond its message"),
        pytest.param(
            encode_field(1, encode_field(1, encode_field(2, b"") + NAMED)), "name", id="list before its name"
        ),
        pytest.param(
            encode_field(
                1, encode_field(1, NAMED + encode_field(2, encode_field(2, encode_field(1, b"abc"))))
            ),
            "float32",
            id="three quarters of a float",
        ),
        pytest.param(
            encode_field(
                1, encode_field(1, NAMED + encode_field(2, encode_field(3, encode_field(1, b"\x80"))))
            ),
            "int64",
            id="packed number is cut off",
        ),
        pytest.param(
            encode_field(
                1,
                encode_field(
                    1, NAMED + encode_field(2, encode_field(3, encode_field(1, b"\x80" * 10 + b"\0")))
                ),
            ),
            "int64",
            id="packed number of eleven bytes",
        ),
        pytest.param(encode_example({"a": [bytes((1 << 20) + 1)]}), "at most 1048576 bytes", id="too long"),
    ],
)
def test_what_is_no_example_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DamagedFileError, match=f"here: record 0 cannot be read: .*{reason}"):
        read_example(data)


VALID = encode_example(
    {
        "numbers": np.arange(-3, 300, 7),
        "floats": np.arange(9, dtype=np.float32),
        "frames": [b"ab", bytes(300)],
    }
) + encode_field(7, 5)


@settings(max_examples=500)
@given(st.binary(max_size=100))
def test_random_bytes_are_an_example_or_an_error_of_ours(data: bytes) -> None:
    read_example_or_refuse(data)


@settings(max_examples=500)
@given(st.lists(st.tuples(st.integers(0, len(VALID) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_changed_example_is_another_or_an_error_of_ours(changes: list[tuple[int, int]]) -> None:
    data = bytearray(VALID)
    for place, byte in changes:
        data[place] = byte
    read_example_or_refuse(bytes(data))


def read_example_or_refuse(data: bytes) -> None:
    try:
        found = read_example(data)
    except DamagedFileError:
        return
    # No value is made of nothing.
    assert sum(len(values) for values in found.values()) <= len(data)


def test_every_part_of_an_example_is_an_example_or_an_error_of_ours() -> None:
    whole = read_example(VALID)
    for length in range(len(VALID)):
        with contextlib.suppress(DamagedFileError):
            assert read_example(VALID[:length]).items() <= whole.items()
