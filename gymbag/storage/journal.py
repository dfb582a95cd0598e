"""The journal: the file beside a recording that takes its latest rows, until they are put into it.

    NAME.h5            as it was when the journal began
    NAME.h5.journal    header     magic, version, epoch, size and CRC of NAME.h5, who is writing, CRC
                       commit     where a redo log (see `transaction`) lies, zeros as long as there is none
                       block *    rows, which build on NAME.h5

It only ever grows, by a block at a time, until it is cleared as a whole. A block has a table of contents,
an entry of which says: drop the rows of this array from this one on, then append these. So rows that are
not final yet, those of the episode that is under way, are replaced by the next block. A block that is
not whole never happened, nor did those behind it: its writer was killed, or the power was cut before it was
synced. But each block says up to where the journal had been synced before, and what is not whole there is
damage. `docs/format.md` has the bytes, under "The journal".
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
from gymbag.storage.syncing import Syncer

_MAGIC = b"gymbag-J"
_VERSION = 2
_HEADER = struct.Struct("<8sI16sQIQ64s")
_CHECKSUM = struct.Struct("<I")
# Where a redo log lies: its first byte and the one after its last, its CRC, and that of these three.
_COMMIT = struct.Struct("<QQI")
_COMMIT_AT = 128
#: Header and commit slot; blocks begin behind them.
PREAMBLE_BYTES = 192
# Magic, bytes of the contents, bytes of the rows, CRC of the contents, up to where the journal was synced,
# epoch; then the CRC of these. In version 1 there are only the first four.
_BLOCK = struct.Struct("<4sIQIQ16s")
_BLOCKS = {1: struct.Struct("<4sIQI"), _VERSION: _BLOCK}
_BLOCK_MAGIC = b"rows"
_REDO_MAGIC = b"redo"  # behind it lies no block any more

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
        version: Of the journal.
        epoch: 16 random bytes, others each time that the journal begins anew.
        base_size: Size of the file that the rows build on.
        base_checksum: CRC of the first bytes of this file, to tell it from others.
        process: Id of the process that writes it.
        host: Name of the machine that this process runs on.
    """

    version: int
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
    data = os.pread(descriptor, PREAMBLE_BYTES, 0)
    if len(data) < PREAMBLE_BYTES:
        return None
    if not any(data):
        # After a power cut, a file may have the size it was given and not the bytes. That is before the first
        # block, as the header is synced before.
        if os.fstat(descriptor).st_size > PREAMBLE_BYTES:
            raise DamagedFileError("the journal's header is gone")
        return None
    if _CHECKSUM.unpack_from(data, _HEADER.size) != (_crc(data[: _HEADER.size]),):
        raise DamagedFileError("the journal's header is damaged")
    magic, version, epoch, base_size, base_checksum, process, host = _HEADER.unpack_from(data)
    if magic != _MAGIC or version not in _BLOCKS:
        raise DamagedFileError(
            f"expected a journal of version 1 to {_VERSION}, found {magic!r} version {version}"
        )
    name = host.rstrip(b"\0").decode("utf-8", "replace")
    return Header(version, epoch, base_size, base_checksum, process, name)


class _Head(NamedTuple):
    """The first bytes of a block.

    Attributes:
        size: How many these are.
        contents: How many bytes of contents follow.
        payload: How many bytes of rows follow those.
        checksum: CRC of the contents.
        synced: Up to where the journal had been synced before the block was written.
    """

    size: int
    contents: int
    payload: int
    checksum: int
    synced: int


def _parse_head(data: bytes, at: int, header: Header) -> _Head | None:
    """Parse the head of a block at a byte of a journal; None if there is none, or one of another epoch."""
    form = _BLOCKS[header.version]
    size = form.size + _CHECKSUM.size
    if len(data) < size or _CHECKSUM.unpack_from(data, form.size) != (_crc(data[: form.size]),):
        return None
    magic, contents, payload, checksum, *more = form.unpack_from(data)
    # Of version 1, whose writers thought of kills only, what lies before a block was written before it.
    synced, epoch = more or (at, header.epoch)
    if magic != _BLOCK_MAGIC or epoch != header.epoch:
        return None
    return _Head(size, contents, payload, checksum, synced)


def _find_synced(descriptor: int, start: int, end: int, header: Header) -> int:
    """Return up to where the journal was synced, as blocks say that lie anywhere between two bytes, or 0."""
    rest = os.pread(descriptor, end - start, start)
    synced, at = 0, rest.find(_BLOCK_MAGIC)
    while at >= 0:
        head = _parse_head(rest[at : at + _BLOCK.size + _CHECKSUM.size], start + at, header)
        if head is not None:
            synced = max(synced, head.synced)
        at = rest.find(_BLOCK_MAGIC, at + 1)
    return synced


@dataclass
class _Extent:
    """How far a journal has come since it began.

    Attributes:
        end: Where the next block will begin.
        synced: Up to where it is on the disk.
        epoch: Its epoch.
    """

    end: int = 0
    synced: int = 0
    epoch: bytes = b""


class Journal:
    """Writes a journal.

    Args:
        file: The locked file that holds it.
        syncer: Forces to the disk what must be there before something else is done.
    """

    def __init__(self, file: LockedFile, syncer: Syncer) -> None:
        self.file, self.syncer = file, syncer
        # Another each time that the journal begins: one thread may sync what another has just cleared.
        self._extent = _Extent()

    def begin(self, base: int) -> None:
        """Begin anew, with rows that build on a file as it is now, given its descriptor."""
        host = socket.gethostname().encode()[:64]
        size, epoch = os.fstat(base).st_size, os.urandom(16)
        fields = _HEADER.pack(_MAGIC, _VERSION, epoch, size, _first_checksum(base, size), os.getpid(), host)
        self._extent = _Extent(epoch=epoch)
        self._append((fields + _CHECKSUM.pack(_crc(fields))).ljust(PREAMBLE_BYTES, b"\0"))
        # Blocks would lie over a redo log that was applied, and may come back, with the commit slot.
        self.syncer.sync(self.file.descriptor, "the beginning of the journal")

    def resume(self, end: int) -> None:
        """Go on behind the blocks of a writer that was killed, with a redo log."""
        self._extent = _Extent(end)

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return self._extent.end

    @property
    def has_rows(self) -> bool:
        """Whether there is a block in it."""
        return self._extent.end > PREAMBLE_BYTES

    def append(self, data_set: str, entries: Sequence[NewRows]) -> None:
        """Add a block. If it cannot be written whole, the journal stays as it was."""
        contents = json.dumps(
            [data_set, [(*entry[:4], len(entry.data), _crc(entry.data)) for entry in entries]],
            separators=(",", ":"),
        ).encode()
        payload = sum(len(entry.data) for entry in entries)
        extent = self._extent
        # Who never syncs has readers rely on what was written, as long as the power stays.
        synced = extent.synced if self.syncer.is_active else extent.end
        head = _BLOCK.pack(_BLOCK_MAGIC, len(contents), payload, _crc(contents), synced, extent.epoch)
        parts = [head, _CHECKSUM.pack(_crc(head)), contents, *(entry.data for entry in entries)]
        self._append(b"".join(parts))

    def _append(self, data: bytes | bytearray) -> None:
        extent = self._extent
        try:
            write_at(self.file.descriptor, data, extent.end)
        except OSError:
            with contextlib.suppress(OSError):  # readers know a block that is not whole
                os.ftruncate(self.file.descriptor, extent.end)
            raise
        extent.end += len(data)

    def sync(self) -> None:
        """Return once all blocks are on the disk; any thread may call this.

        Raises:
            StorageError: That failed. Nothing may be written any more.
        """
        extent = self._extent
        end = extent.end  # there may be more blocks meanwhile
        if extent.synced < end:
            self.syncer.sync(self.file.descriptor, "the latest rows")
            extent.synced = max(extent.synced, end)

    def add_redo(self, redo: bytes) -> bytes:
        """Keep a redo log, without effect yet; return what is to be given to `commit`."""
        start = self._extent.end + len(_REDO_MAGIC)
        self._append(_REDO_MAGIC + redo)
        self.syncer.sync(self.file.descriptor, "the redo log")
        slot = _COMMIT.pack(start, self._extent.end, _crc(redo))
        return slot + _CHECKSUM.pack(_crc(slot))

    def commit(self, slot: bytes) -> None:
        """Put a redo log into force: from here on, it stands for all that is to become of the file."""
        write_at(self.file.descriptor, slot, _COMMIT_AT)
        self.syncer.sync(self.file.descriptor, "the commit slot")

    def write_again(self) -> None:
        """Have all that is in it on the disk, though its writer was killed, or failed to sync it.

        It is written again, as to sync after a failure proves nothing of what was written before.
        """
        size = os.fstat(self.file.descriptor).st_size
        write_at(self.file.descriptor, os.pread(self.file.descriptor, size, 0), 0)
        self.syncer.sync(self.file.descriptor, "the journal that was left")

    def clear(self) -> None:
        """Forget everything: the file says it all."""
        os.ftruncate(self.file.descriptor, 0)
        self._extent = _Extent()


class _Block(NamedTuple):
    """What a block says, and where it has ended."""

    data_set: str
    entries: list[tuple[str, Entry]]
    end: int
    synced: int


def _parse_contents(contents: bytes, at: int, start: int, end: int) -> tuple[str, list[tuple[str, Entry]]]:
    """Return the data set and the entries of the block at a byte; its rows lie from `start` to `end`.

    Raises:
        DamagedFileError: It is no block of a gymbag's.
    """
    entries = []
    try:
        data_set, listed = json.loads(contents)
        for path, first_row, rows, encoding, size, checksum in listed:
            numbers = first_row, rows, size, checksum
            if (
                not isinstance(path, str)
                or encoding not in ("raw", "chunk")
                or not all(type(number) is int and number >= 0 for number in numbers)
            ):
                raise ValueError
            entries.append((path, Entry(first_row, rows, encoding, start, size, checksum)))
            start += size
        if not isinstance(data_set, str) or start != end:
            raise ValueError
    except (ValueError, TypeError, RecursionError) as error:
        raise DamagedFileError(f"the journal's block at byte {at} makes no sense") from error
    return data_set, entries


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
            DamagedFileError: Something is damaged that had been synced.
        """
        before, at, synced = self.end, self.end, written
        size = os.fstat(self._descriptor).st_size
        blocks = []
        while at < size and (block := self._read_block(at, size)) is not None:
            blocks.append(block)
            at, synced = block.end, max(synced, block.synced)
        if at < size:
            synced = max(synced, _find_synced(self._descriptor, at, size, self.header))
        for block in blocks:
            # What was synced is checked when it is read: damaged rows take no others along.
            if block.end > synced and not all(self._is_sound(entry) for _, entry in block.entries):
                return self.end != before
            arrays = self.entries.setdefault(block.data_set, {})
            for path, entry in block.entries:
                arrays.setdefault(path, []).append(entry)
            self.end = block.end
        if at < synced:
            raise DamagedFileError(f"the journal's block at byte {at} is damaged")
        return self.end != before

    def _read_block(self, at: int, size: int) -> _Block | None:
        """Read the block at a byte of the journal, all but the rows; None if it is not whole."""
        start = os.pread(self._descriptor, _BLOCK.size + _CHECKSUM.size, at)
        head = _parse_head(start, at, self.header)
        if head is None or at + head.size + head.contents + head.payload > size:
            return None
        contents = os.pread(self._descriptor, head.contents, at + head.size)
        if _crc(contents) != head.checksum:
            return None
        rows_at = at + head.size + head.contents
        data_set, entries = _parse_contents(contents, at, rows_at, rows_at + head.payload)
        return _Block(data_set, entries, rows_at + head.payload, head.synced)

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
        if PREAMBLE_BYTES <= start <= end <= os.fstat(self._descriptor).st_size:
            log = os.pread(self._descriptor, end - start, start)
            if _crc(log) == checksum:
                return log
        raise DamagedFileError("the journal's redo log is damaged")


def write_at(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write all of the data, however many calls that takes."""
    view = memoryview(data).cast("B")
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


def _crc(data: bytes | bytearray | memoryview) -> int:
    return zlib.crc32(data)
