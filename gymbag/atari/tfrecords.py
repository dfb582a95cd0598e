"""Records of a TFRecord file, and the `tf.train.Example` that each holds, read without TensorFlow.

A file, plain or compressed with gzip, is one record after the other. Its numbers are little-endian:

    uint64  how long the data is
    uint32  masked CRC-32C of these eight bytes
    bytes   data
    uint32  masked CRC-32C of the data

An Example is a message of protocol buffers, and so are its parts. A message is fields one after the other,
each with a number, a kind, and a value:

    Example   1: Features
    Features  1: entry, one for each feature
    entry     1: name, 2: Feature
    Feature   1: list of bytes, 2: list of float32, or 3: list of int64
    list      1: value, one for each; or many numbers packed into one value

A record of frames may be larger than anybody wants to hold in memory. So it is read value by value, and if it
is longer than `_BLOCK_BYTES`, some values have been handed out when its checksum is found to be wrong.

See https://www.tensorflow.org/tutorials/load_data/tfrecord and https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gymbag.atari.gzipped_array import GZIP_ERRORS, open_gzip
from gymbag.errors import DamagedFileError, MissingExtraError

# How much of a record is read at a time.
_BLOCK_BYTES = 256 << 10
# No value is longer: a frame has some hundred bytes, and the longest episode 27,000 numbers.
_MOST_BYTES = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"

# The kinds of values in a message: a number of one to ten bytes, and values of a known length.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED_BYTES = {_FIXED64: 8, _FIXED32: 4}

#: Extends a CRC-32C by more bytes.
_Extend = Callable[[int, bytes], int]


class RecordFile(AbstractContextManager["RecordFile"]):
    """Reads the records of a TFRecord file, once, in their order.

    Args:
        path: The file.

    Attributes:
        path: The file.

    Raises:
        DamagedFileError: The file is not there, or is no such file.
        MissingExtraError: The package that computes the checksums is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._extend = _import_crc32c()
        try:
            self._file = _open_plain_or_gzip(path, self._extend)
        except OSError as error:
            raise DamagedFileError(f"{path} cannot be opened: {error}") from error

    def __iter__(self) -> Iterator[Record]:
        """Yield the records from here on; each can be read until the next is asked for.

        Raises:
            DamagedFileError: A record is not what was written, or the file ends within one.
        """
        for number in itertools.count():
            where = f"{self.path}: record {number}"
            head = _read(self._file, 12, where)
            if not head:
                if not number:
                    raise DamagedFileError(f"{self.path}: expected a TFRecord file, found no record in it")
                return
            if not _is_head(head, self._extend):
                raise _damaged(where, "its length is cut off, or has another checksum")
            record = Record(self._file, int.from_bytes(head[:8], "little"), self._extend, where)
            yield record
            record.skip(record.length - record.position)

    def close(self) -> None:
        """Close the file. Closing again does nothing."""
        self._file.close()

    def __exit__(self, *_: object) -> None:
        """Close the file."""
        self.close()


class Record:
    """Reads one record, once, from its first byte on; compares its checksum as soon as all is read.

    Attributes:
        length: How many bytes it has.
        position: How many of them were read.
        where: What it is called in errors.
    """

    def __init__(self, file: BinaryIO, length: int, extend: _Extend, where: str) -> None:
        self.length, self.where = length, where
        self.position = 0
        self._file, self._extend = file, extend
        self._checksum = 0
        self._unread = length  # in the file
        self._block, self._at = b"", 0
        self._load(0)

    def _load(self, least: int) -> None:
        """Have at least so many bytes at hand, and compare the checksum if they are the last."""
        rest = self._block[self._at :]
        wanted = min(self._unread, max(least - len(rest), _BLOCK_BYTES))
        found = _read(self._file, wanted, self.where)
        self._unread -= len(found)
        self._checksum = self._extend(self._checksum, found)
        if len(found) < wanted:
            raise self.damaged("the file ends within it")
        if not self._unread and _read(self._file, 4, self.where) != _mask(self._checksum):
            raise self.damaged("its checksum is cut off, or is another than that of its data")
        self._block, self._at = rest + found, 0

    def read(self, count: int) -> bytes:
        """Return the next bytes.

        Raises:
            DamagedFileError: There are not so many, or more than any value has; or the record is damaged.
        """
        end = self._at + count
        if end > len(self._block):
            if count > min(self.length - self.position, _MOST_BYTES):
                raise self.damaged(
                    f"expected a value of at most {_MOST_BYTES} bytes and within the record, "
                    f"found {count} bytes at byte {self.position} of {self.length}"
                )
            self._load(count)
            end = count
        data = self._block[self._at : end]
        self._at = end
        self.position += count
        return data

    def skip(self, count: int) -> None:
        """Pass over the next bytes, of which there must be so many.

        Raises:
            DamagedFileError: The record is damaged.
        """
        assert count <= self.length - self.position
        while count:
            if self._at == len(self._block):
                self._load(1)
            passed = min(count, len(self._block) - self._at)
            self._at += passed
            self.position += passed
            count -= passed

    def read_varint(self) -> int:
        """Return the next number: seven bits in each byte, the lowest first; the last byte is below 128.

        Raises:
            DamagedFileError: It has more than 64 bits, or is cut off; or the record is damaged.
        """
        if self._at < len(self._block) and (byte := self._block[self._at]) < 0x80:
            self._at += 1
            self.position += 1
            return byte
        value = 0
        for shift in range(0, 70, 7):
            (byte,) = self.read(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF
        raise self.damaged(f"expected a number of at most ten bytes before byte {self.position}")

    def damaged(self, reason: str) -> DamagedFileError:
        """Return the error that says what is wrong with it."""
        return _damaged(self.where, reason)


def read_features(record: Record) -> Iterator[tuple[str, bytes | np.ndarray]]:
    """Yield what the features of a `tf.train.Example` hold.

    A list comes in parts: bytes one by one; numbers as they were packed, which is all at once as a rule. What
    is not of an Example is skipped.

    Args:
        record: What holds it, nothing of it read.

    Yields:
        The name of a feature, and more of its list: bytes, (K,) float32, or (K,) int64.

    Raises:
        DamagedFileError: The record holds no Example, or is damaged.
    """
    for number, kind, end in _read_fields(record, record.length):
        if (number, kind) == (1, _BYTES):
            for number, kind, end_of_entry in _read_fields(record, end):
                if (number, kind) == (1, _BYTES):
                    yield from _read_entry(record, end_of_entry)


def _read_entry(record: Record, end: int) -> Iterator[tuple[str, bytes | np.ndarray]]:
    """Yield the name of a feature, and what it holds."""
    name: str | None = None
    for number, kind, end_of_value in _read_fields(record, end):
        if (number, kind) == (1, _BYTES):
            name = record.read(end_of_value - record.position).decode("utf-8", "replace")
        elif (number, kind) == (2, _BYTES):
            if name is None:
                # Fields may have any order, but a list would have to be held until its name is known.
                raise record.damaged("expected the name of a feature before its list")
            for number, kind, end_of_list in _read_fields(record, end_of_value):
                if kind == _BYTES and number in _LISTS:
                    for values in _LISTS[number](record, end_of_list):
                        yield name, values


def _read_bytes(record: Record, end: int) -> Iterator[bytes]:
    for number, kind, end_of_value in _read_fields(record, end):
        if (number, kind) == (1, _BYTES):
            yield record.read(end_of_value - record.position)


def _read_floats(record: Record, end: int) -> Iterator[np.ndarray]:
    for number, kind, end_of_value in _read_fields(record, end):
        if number == 1 and kind in (_BYTES, _FIXED32):
            data = record.read(end_of_value - record.position)
            if len(data) % 4:
                raise record.damaged(f"expected float32, found {len(data)} bytes")
            yield np.frombuffer(data, "<f4").astype(np.float32, copy=False)


def _read_integers(record: Record, end: int) -> Iterator[np.ndarray]:
    for number, kind, value in _read_fields(record, end):
        if (number, kind) == (1, _VARINT):
            yield np.array([value], np.uint64).view(np.int64)
        elif (number, kind) == (1, _BYTES):
            yield _unpack_varints(record, record.read(value - record.position))


_LISTS: dict[int, Callable[[Record, int], Iterator[Any]]] = {
    1: _read_bytes,
    2: _read_floats,
    3: _read_integers,
}


def _unpack_varints(record: Record, data: bytes) -> np.ndarray:
    """Return numbers that follow each other, each as `Record.read_varint` has it."""
    septets = np.frombuffer(data, np.uint8)
    is_last = septets < 0x80
    if is_last.all():
        return septets.astype(np.int64)
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate([[0], ends])
    lengths = np.diff(starts, append=len(data))
    if starts[-1] != len(data) or lengths.max() > 10:
        raise record.damaged("expected int64 of at most ten bytes each")
    shifts = 7 * (np.arange(len(data)) - np.repeat(starts, lengths))
    bits = (septets & 0x7F).astype(np.uint64) << shifts.astype(np.uint64)
    return np.add.reduceat(bits, starts[:-1]).view(np.int64)


def _read_fields(record: Record, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of the message that ends there; what is left of a value is skipped.

    Yields:
        Number, kind, and where the value ends; or, if it is a `_VARINT`, the value.
    """
    while record.position < end:
        tag = record.read_varint()
        number, kind = tag >> 3, tag & 7
        if kind == _VARINT:
            yield number, kind, record.read_varint()
            continue
        if kind == _BYTES:
            length = record.read_varint()
        elif kind in _FIXED_BYTES:
            length = _FIXED_BYTES[kind]
        else:
            raise record.damaged(f"expected a tf.train.Example, found a field of kind {kind}")
        end_of_value = record.position + length
        if end_of_value > end:
            raise record.damaged(f"a value of {length} bytes ends behind what holds it")
        yield number, kind, end_of_value
        record.skip(end_of_value - record.position)
    if record.position > end:
        raise record.damaged("a number ends behind what holds it")


def _open_plain_or_gzip(path: Path, extend: _Extend) -> BinaryIO:
    with path.open("rb") as file:
        head = file.read(12)
    # A length could begin as gzip does, but then its checksum is right.
    is_plain = _is_head(head, extend) or not head.startswith(_GZIP_MAGIC)
    return path.open("rb") if is_plain else open_gzip(path)


def _is_head(head: bytes, extend: _Extend) -> bool:
    """Tell whether these are the length of a record and its checksum."""
    return len(head) == 12 and head[8:] == _mask(extend(0, head[:8]))


def _mask(checksum: int) -> bytes:
    """Return a CRC-32C as files have it: rotated by 15 bits, plus a constant."""
    rotated = (checksum >> 15 | checksum << 17) & 0xFFFF_FFFF
    return struct.pack("<I", (rotated + 0xA282_EAD8) & 0xFFFF_FFFF)


def _read(file: BinaryIO, count: int, where: str) -> bytes:
    """Return the next bytes, fewer if there are no more."""
    try:
        return file.read(count)
    except GZIP_ERRORS as error:
        raise _damaged(where, str(error)) from error


def _damaged(where: str, reason: str) -> DamagedFileError:
    return DamagedFileError(f"{where} cannot be read: {reason}; get the file anew, as it is damaged")


def _import_crc32c() -> _Extend:
    try:
        from google_crc32c import extend
    except ImportError:
        raise MissingExtraError(
            'TFRecord files need the package google-crc32c to be read: pip install "gymbag[atari]"'
        ) from None
    found: _Extend = extend
    return found
