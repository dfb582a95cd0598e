"""Changing a file whole or not at all, whenever the process may be killed.

h5py is given a `Transaction` in place of the file. What it writes behind the end of the file goes there at
once, as nothing points to it yet. What it would overwrite is kept here, in pages. `commit` then

    1. syncs the file
    2. appends the pages to the journal, as a redo log, and syncs it
    3. writes into the journal's commit slot where that log lies, and syncs it: now the change has happened
    4. applies the log to the file, which may be done any number of times, and syncs it
    5. clears the journal

Before 3, the file's old bytes are all there, and whatever lies behind its old end is ignored. After 3, who
opens the file lays the log over it (`OverlaidFile`), or applies it (`apply_committed`). Synced, so that a
power cut does not leave a later step without an earlier one. `docs/format.md`, "A fold", has the bytes.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Mapping
from pathlib import Path

from gymbag.errors import DamagedFileError
from gymbag.storage.journal import Journal, write_at

_PAGE = 4096
# The size of the file, then for each page its offset and size, and its bytes.
_SIZE = struct.Struct("<Q")
_EXTENT = struct.Struct("<QI")


def parse_redo(log: bytes) -> tuple[int, dict[int, bytes]]:
    """Return the size that the file is to have, and its changed pages by their offsets."""
    if len(log) < _SIZE.size:
        raise DamagedFileError("the journal's redo log breaks off")
    (size,) = _SIZE.unpack_from(log)
    pages, at = {}, _SIZE.size
    while at < len(log):
        if len(log) < at + _EXTENT.size:
            raise DamagedFileError("the journal's redo log breaks off")
        offset, length = _EXTENT.unpack_from(log, at)
        at += _EXTENT.size
        pages[offset] = log[at : at + length]
        at += length
        if len(pages[offset]) != length:
            raise DamagedFileError("the journal's redo log breaks off")
    return size, pages


def apply_committed(log: bytes, descriptor: int, journal: Journal) -> None:
    """Make the changes of a redo log to the file, and clear the journal, which has it on the disk.

    Doing so again, should it break off, changes nothing.
    """
    size, pages = parse_redo(log)
    for offset, page in pages.items():
        write_at(descriptor, page, offset)
    os.ftruncate(descriptor, size)
    journal.syncer.sync(descriptor, "the file")
    journal.clear()


class OverlaidFile(io.RawIOBase):
    """A file to read, as it is once a redo log is applied.

    Args:
        path: What to call the file in messages.
        descriptor: The file.
        size: How long it is to be.
        pages: What differs, by offset; each within one page.
    """

    def __init__(
        self, path: Path, descriptor: int, size: int, pages: Mapping[int, bytes | bytearray]
    ) -> None:
        super().__init__()
        self._path, self._descriptor, self._size = path, descriptor, size
        self._pages = {offset: bytearray(page) for offset, page in pages.items()}
        self._position = 0

    def __repr__(self) -> str:
        """Return the path, which is what h5py takes for the name of the file."""
        return str(self._path)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # the driver gives no other
        view = memoryview(buffer).cast("B")
        start, stop = self._position, min(self._position + len(view), self._size)
        if stop <= start:
            return 0
        found = os.pread(self._descriptor, stop - start, start)
        view[: len(found)] = found
        if len(found) < stop - start:
            view[len(found) : stop - start] = bytes(stop - start - len(found))
        for offset in range(start - start % _PAGE, stop, _PAGE) if self._pages else ():
            page = self._pages.get(offset)
            if page is not None:
                first, last = max(start, offset), min(stop, offset + len(page))
                # The last page of the file as it was may end before the part of it that is asked for.
                if first < last:
                    view[first - start : last - start] = page[first - offset : last - offset]
        self._position = stop
        return stop - start


class Transaction(OverlaidFile):
    """A file to change, all at once.

    Args:
        path: What to call the file in messages.
        descriptor: The file, open for reading and writing.
        journal: Its journal, which has begun.
    """

    def __init__(self, path: Path, descriptor: int, journal: Journal) -> None:
        self._base = os.fstat(descriptor).st_size
        super().__init__(path, descriptor, self._base, {})
        self._journal = journal
        #: Why it cannot be committed.
        self.error: OSError | None = None
        self._may_have_happened = False
        self._process = os.getpid()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing in the file yet."""
        return self._base == 0

    def writable(self) -> bool:
        return True

    def write(self, data: memoryview) -> int:  # type: ignore[override]  # the driver gives no other
        view = memoryview(data).cast("B")
        if os.getpid() != self._process:
            return len(view)  # a forked process closes the file, and must leave it to its parent
        start, stop = self._position, self._position + len(view)
        inside = max(0, min(stop, self._base) - start)
        at = start
        while at < start + inside:
            offset = at - at % _PAGE
            end = min(offset + _PAGE, start + inside)
            page = self._page(offset)
            page[at - offset : end - offset] = view[at - start : end - start]
            at = end
        if inside < len(view) and self.error is None:
            try:
                write_at(self._descriptor, view[inside:], start + inside)
            except OSError as error:
                self.error = error  # raised by `commit`: HDF5 cannot let go of a file that it fails to write
        self._position = stop
        self._size = max(self._size, stop)
        return len(view)

    def _page(self, offset: int) -> bytearray:
        page = self._pages.get(offset)
        if page is None:
            page = bytearray(os.pread(self._descriptor, min(_PAGE, self._base - offset), offset))
            self._pages[offset] = page
        return page

    def truncate(self, size: int | None = None) -> int:
        self._size = self._position if size is None else size
        return self._size

    def commit(self) -> None:
        """Make the change happen; h5py must have closed the file.

        Raises:
            OSError: It cannot be, for want of room, say. Then nothing has happened; or the journal has the
                redo log, to be applied by who opens it next.
            StorageError: It cannot be synced; likewise.
        """
        parts = [_SIZE.pack(self._size)]
        for offset, page in sorted(self._pages.items()):
            if offset < self._size:
                parts += _EXTENT.pack(offset, len(page)), bytes(page)
        log = b"".join(parts)
        if self.error is not None:
            raise self.error
        self._journal.syncer.sync(self._descriptor, "what is new in the file")
        slot = self._journal.add_redo(log)
        # Even if writing this fails, as that does not tell what stands there now.
        self._may_have_happened = True
        self._journal.commit(slot)
        apply_committed(log, self._descriptor, self._journal)

    def give_up(self) -> None:
        """Forget the change, unless it may have happened already."""
        if not self._may_have_happened:
            os.ftruncate(self._descriptor, self._base)
