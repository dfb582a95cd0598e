"""The journal: the file beside a recording that takes its latest rows, until they are put into it.

    NAME.h5            as it was when the journal began
    NAME.h5.journal    header     magic, version, epoch, size and CRC of NAME.h5, who is writing, CRC
                       commit     where a redo log (see `transaction`) lies, zeros as long as there is none
                       block *    rows, which build on NAME.h5

It only ever grows, by a block at a time, until it is cleared as a whole. A block has a table of contents,
an entry of which says: drop the rows of this array from this one on, then append these. So rows that are
not final yet, those of the episode that is under way, are replaced by the next block. A block that breaks
off at the end of the journal never happened: its writer was killed. `docs/format.md` has the bytes, under
"The journal".
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from gymbag.errors import DamagedFileError
from gymbag.storage.lock import LockedFile

_MAGIC = b"gymbag-J"
_VERSION = 1
_HEADER = struct.Struct("<8sI16sQIQ64s")
_CHECKSUM = struct.Struct("<I")
# Where a redo log lies: its first byte and the one after its last, its CRC, and that of these three.
_COMMIT = struct.Struct("<QQI")
_COMMIT_AT = 128
#: Header and commit slot; blocks begin behind them.
PREAMBLE_BYTES = 192
# Magic, bytes of the contents, bytes of the rows, CRC of the contents; then the CRC of these four.
_BLOCK = struct.Struct("<4sIQI")
_BLOCK_MAGIC = b"rows"
_REDO_MAGIC = b"redo"  # behind it lies no block any more
_BLOCK_BYTES = _BLOCK.size + _CHECKSUM.size

_FIRST_BYTES = 1 << 16

#: How the rows of an entry are written: as they are in memory, or as one whole chunk of the HDF5 file.
Encoding = Literal["raw", "chunk"]


def journal_path(path: Path) -> Path:
    """Name the journal of a file."""
    return path.with_name(path.name + ".journal")


@dataclass(frozen=True)
class Header:
    """What a journal says of itself.

    Attributes:
        epoch: 16 random bytes, others each time that the journal begins anew.
        base_size: Size of the file that the rows build on.
        base_checksum: CRC of the first bytes of this file, to tell it from others.
        process: Id of the process that writes it.
        host: Name of the machine that this process runs on.
    """

    epoch: bytes
    base_size: int
    base_checksum: int
    process: int
    host: str


class NewRows(NamedTuple):
    """Rows to write: those of an array from `first_row` on are dropped, and these appended."""

    path: str
    first_row: int
    rows: int
    encoding: Encoding
    data: bytes | memoryview


class Entry(NamedTuple):
    """Rows that a journal holds."""

    first_row: int
    rows: int
    encoding: Encoding
    offset: int
    size: int
    checksum: int


@dataclass
class Coverage:
    """Where the rows of one array are to be found: at first in the file, then in the journal.

    Attributes:
        kept: How many rows of the file still count.
        entries: What follows them, in the order of the rows, without gaps; some may have none.
    """

    kept: int
    entries: list[Entry] = field(default_factory=list)

    @property
    def length(self) -> int:
        """How many rows there are in all."""
        return self.entries[-1].first_row + self.entries[-1].rows if self.entries else self.kept

    def add(self, entry: Entry) -> None:
        """Drop the rows from the entry's first one on, then append the entry.

        Raises:
            DamagedFileError: Rows are missing before it.
        """
        if entry.first_row > self.length:
            raise DamagedFileError(f"expected row {self.length} next, found row {entry.first_row}")
        while self.entries and self.entries[-1].first_row >= entry.first_row:
            self.entries.pop()
        if not self.entries:
            self.kept = min(self.kept, entry.first_row)
        elif self.length != entry.first_row:
            # Only the rows of an open episode are dropped, and they have entries that end with them.
            last = self.entries.pop()
            self.entries.append(last._replace(rows=entry.first_row - last.first_row))
        self.entries.append(entry)


def check_base(header: Header, base: int) -> None:
    """Make sure that the rows of a journal belong to a file, given its descriptor.

    Raises:
        DamagedFileError: They do not, or something has been cut off the file.
    """
    size = os.fstat(base).st_size
    if size < header.base_size:
        raise DamagedFileError(f"expected a file of at least {header.base_size} bytes, found {size}")
    if _first_checksum(base, header.base_size) != header.base_checksum:
        raise DamagedFileError(
            "the rows are those of another file, or of an older state of this one, or it is damaged"
        )


def _first_checksum(base: int, size: int) -> int:
    # The superblock is among them, which changes with everything that is added.
    return _crc(os.pread(base, min(size, _FIRST_BYTES), 0))


def read_header(descriptor: int) -> Header | None:
    """Read the header of a journal; None if there is none yet, or none any more.

    Raises:
        DamagedFileError: It is damaged, or of another version.
    """
    return parse_header(os.pread(descriptor, PREAMBLE_BYTES, 0))


def parse_header(data: bytes) -> Header | None:
    """Make sense of the first bytes of a journal; see `read_header`."""
    if len(data) < PREAMBLE_BYTES:
        return None
    if _CHECKSUM.unpack_from(data, _HEADER.size) != (_crc(data[: _HEADER.size]),):
        raise DamagedFileError("the journal's header is damaged")
    magic, version, epoch, base_size, base_checksum, process, host = _HEADER.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION):
        raise DamagedFileError(f"expected a journal of version {_VERSION}, found {magic!r} version {version}")
    return Header(epoch, base_size, base_checksum, process, host.rstrip(b"\0").decode("utf-8", "replace"))


class Journal:
    """Writes a journal.

    Args:
        file: The locked file that holds it.
    """

    def __init__(self, file: LockedFile) -> None:
        self.file = file
        self._end = 0

    def begin(self, base: int) -> None:
        """Begin anew, with rows that build on a file as it is now, given its descriptor."""
        host = socket.gethostname().encode()[:64]
        size = os.fstat(base).st_size
        fields = _HEADER.pack(
            _MAGIC, _VERSION, os.urandom(16), size, _first_checksum(base, size), os.getpid(), host
        )
        start = (fields + _CHECKSUM.pack(_crc(fields))).ljust(PREAMBLE_BYTES, b"\0")
        self._end = 0
        self._append(start)

    def resume(self, end: int) -> None:
        """Go on behind the blocks of a writer that was killed."""
        self._end = end

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self._end

    @property
    def has_rows(self) -> bool:
        """Whether there is a block in it."""
        return self._end > PREAMBLE_BYTES

    def append(self, data_set: str, entries: Sequence[NewRows]) -> None:
        """Add a block. If it cannot be written whole, the journal stays as it was."""
        contents = json.dumps(
            [data_set, [(*entry[:4], len(entry.data), _crc(entry.data)) for entry in entries]],
            separators=(",", ":"),
        ).encode()
        payload = sum(len(entry.data) for entry in entries)
        head = _BLOCK.pack(_BLOCK_MAGIC, len(contents), payload, _crc(contents))
        parts = [head, _CHECKSUM.pack(_crc(head)), contents, *(entry.data for entry in entries)]
        self._append(b"".join(parts))

    def _append(self, data: bytes | bytearray) -> None:
        try:
            write_at(self.file.descriptor, data, self._end)
        except OSError:
            with contextlib.suppress(OSError):  # readers know a block that is not whole
                os.ftruncate(self.file.descriptor, self._end)
            raise
        self._end += len(data)

    def add_redo(self, redo: bytes) -> bytes:
        """Keep a redo log, without effect yet; return what is to be given to `commit`."""
        start = self._end + len(_REDO_MAGIC)
        self._append(_REDO_MAGIC + redo)
        slot = _COMMIT.pack(start, self._end, _crc(redo))
        return slot + _CHECKSUM.pack(_crc(slot))

    def commit(self, slot: bytes) -> None:
        """Put a redo log into force: from here on, it stands for all that is to become of the file."""
        write_at(self.file.descriptor, slot, _COMMIT_AT)

    def clear(self) -> None:
        """Forget everything: the file says it all."""
        os.ftruncate(self.file.descriptor, 0)
        self._end = 0


class JournalReader:
    """Reads a journal, as far as it has come.

    Args:
        descriptor: The open file.
        header: Its header.
    """

    def __init__(self, descriptor: int, header: Header) -> None:
        self._descriptor = descriptor
        self.header = header
        #: Where the next block will begin.
        self.end = PREAMBLE_BYTES
        #: The entries of each array of each data set, in the order of writing.
        self.entries: dict[str, dict[str, list[Entry]]] = {}

    def advance(self, written: int = 0) -> bool:
        """Take in the blocks that were added since; tell whether there were any.

        Args:
            written: Up to where the journal is known to have been written, as the writer itself knows.

        Raises:
            DamagedFileError: A block is damaged that is not the last one.
        """
        before = self.end
        size = os.fstat(self._descriptor).st_size
        while self.end < size and self._take_block(size, written):
            pass
        return self.end != before

    def _take_block(self, size: int, written: int) -> bool:
        head = os.pread(self._descriptor, _BLOCK_BYTES, self.end)
        if len(head) < _BLOCK_BYTES or head.startswith(_REDO_MAGIC):
            return False  # its writer broke off, or has not got further yet
        magic, contents_size, payload, checksum = _BLOCK.unpack_from(head)
        is_sound = _CHECKSUM.unpack_from(head, _BLOCK.size) == (_crc(head[: _BLOCK.size]),)
        if not is_sound or magic != _BLOCK_MAGIC:
            # A write that breaks off leaves a beginning of it, or pages of zeros, and nothing follows it.
            return self._broken_off(any(head) or self._has_block_behind(size), "head")
        data_at = self.end + _BLOCK_BYTES + contents_size
        end = data_at + payload
        if end > size:
            return False
        contents = os.pread(self._descriptor, contents_size, self.end + _BLOCK_BYTES)
        if _crc(contents) != checksum:
            return self._broken_off(end < size or size <= written, "contents")
        data_set, listed = json.loads(contents)
        entries = []
        for path, first_row, rows, encoding, length, entry_checksum in listed:
            entries.append((path, Entry(first_row, rows, encoding, data_at, length, entry_checksum)))
            data_at += length
        if end == size > written and not all(self._is_sound(entry) for _, entry in entries):
            return False  # a page of the last block may be missing; that of another is damage
        arrays = self.entries.setdefault(data_set, {})
        for path, entry in entries:
            arrays.setdefault(path, []).append(entry)
        self.end = end
        return True

    def _has_block_behind(self, size: int) -> bool:
        """Tell whether there is a block behind the place where the next one should begin."""
        rest = os.pread(self._descriptor, size - self.end, self.end)
        at = rest.find(_BLOCK_MAGIC)
        while at >= 0:
            head = rest[at : at + _BLOCK_BYTES]
            if len(head) == _BLOCK_BYTES and _CHECKSUM.unpack_from(head, _BLOCK.size) == (
                _crc(head[: _BLOCK.size]),
            ):
                return True
            at = rest.find(_BLOCK_MAGIC, at + 1)
        return False

    def _broken_off(self, is_damage: bool, part: str) -> bool:
        if is_damage:
            raise DamagedFileError(f"the journal's block at byte {self.end} has a damaged {part}")
        return False

    def _is_sound(self, entry: Entry) -> bool:
        return _crc(os.pread(self._descriptor, entry.size, entry.offset)) == entry.checksum

    def read(self, entry: Entry) -> bytes:
        """Read the rows of an entry, as they were written.

        Raises:
            DamagedFileError: They are not what was written.
        """
        data = os.pread(self._descriptor, entry.size, entry.offset)
        if _crc(data) != entry.checksum:
            raise DamagedFileError(
                f"rows {entry.first_row} to {entry.first_row + entry.rows} are damaged in the journal"
            )
        return data

    def coverage(
        self, data_set: str, lengths: Mapping[str, int], salvaging: bool = False
    ) -> dict[str, Coverage]:
        """Tell where the rows of each array are.

        Args:
            data_set: Its name.
            lengths: How many rows the file has, for each array.
            salvaging: Whether to leave out rows that do not fit.

        Raises:
            DamagedFileError: Rows do not fit.
        """
        covered = {path: Coverage(length) for path, length in lengths.items()}
        for path, entries in self.entries.get(data_set, {}).items():
            for entry in entries:
                try:
                    covered[path].add(entry)
                except (KeyError, DamagedFileError) as error:
                    if salvaging:
                        break
                    raise DamagedFileError(f"the journal does not fit {data_set}/{path}: {error}") from error
        return covered

    def redo(self) -> bytes | None:
        """Return the redo log, if one was committed.

        Raises:
            DamagedFileError: It was, and is damaged.
        """
        slot = os.pread(self._descriptor, _COMMIT.size + _CHECKSUM.size, _COMMIT_AT)
        if len(slot) < _COMMIT.size + _CHECKSUM.size or not any(slot):
            return None
        if _CHECKSUM.unpack_from(slot, _COMMIT.size) != (_crc(slot[: _COMMIT.size]),):
            return None  # the writer broke off while it was writing this; what it says is not in force
        start, end, checksum = _COMMIT.unpack_from(slot)
        log = os.pread(self._descriptor, end - start, start)
        if _crc(log) != checksum:
            raise DamagedFileError("the journal's redo log is damaged")
        return log


def write_at(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of the data, however many calls that takes."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _crc(data: bytes | bytearray | memoryview) -> int:
    return zlib.crc32(data)
