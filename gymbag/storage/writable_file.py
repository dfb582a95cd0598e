"""An HDF5 file that this process alone may change, and its journal.

The file itself is changed by `WritableFile.change` only, whole or not at all. In between it is closed, and
as complete as the last change made it; what came since is in the journal.
"""

from __future__ import annotations

import contextlib
import functools
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import h5py

from gymbag.errors import DamagedFileError, FileInUseError, GymbagError, StorageError
from gymbag.storage.folding import KnownArray, fold
from gymbag.storage.journal import Journal, JournalReader, NewRows, check_base, journal_path, read_header
from gymbag.storage.lock import LockedFile, share
from gymbag.storage.open_files import open_for_writer
from gymbag.storage.snapshot import DAMAGE, open_hdf5
from gymbag.storage.syncing import Syncer
from gymbag.storage.transaction import OverlaidFile, Transaction, apply_committed

# HDF5 1.10 and later read this version, and it lets arrays grow without bound at a flat cost.
_LIBRARY_VERSION = ("v110", "v110")


class WritableFile:
    """A file that no other writer has open. What a killed one left in the journal is put into it first.

    Args:
        path: The file, which need not exist: then the first change makes it.
        durable: Whether what is written is to survive the loss of power.

    Attributes:
        path: The file.
        known: What is known of the arrays of each data set, so that a change need not look it up.
        journal: Takes rows, until `fold` or `change` puts them into the file.
        repaired: Whether a killed writer had left something in the journal.

    Raises:
        FileInUseError: Another writer has it open.
        StorageError: It may not be written to.
        DamagedFileError: It is damaged, or its journal is. Nothing was changed.
    """

    def __init__(self, path: Path, durable: bool = True) -> None:
        self.path = path
        self.known: dict[str, Mapping[str, KnownArray]] = {}
        self._descriptor = -1
        self._opened: h5py.File | None = None
        self._lock = _lock(path)
        self._syncer = Syncer(durable)
        self.journal = Journal(self._lock, self._syncer)
        _held.add(self)
        try:
            with _explained(path):
                # Were the journal to lose its name, what is done to the file could not be completed.
                self._syncer.sync_folder(path.parent, "the name of the journal")
                if path.exists():
                    self._descriptor = self._open()
                    # Somebody else may have written it just now.
                    self._syncer.sync(self._descriptor, "the file that is there")
                self.repaired = self._recover()
                if self._descriptor >= 0:
                    self._begin_journal()
        except BaseException:
            self._release(remove=self._lock.is_empty())
            raise

    def _open(self) -> int:
        descriptor = os.open(self.path, os.O_RDWR)
        try:
            share(descriptor)
        except BlockingIOError as error:
            os.close(descriptor)
            raise FileInUseError(
                f"{self.path} is open for writing in another program; close it there"
            ) from error
        return descriptor

    def _begin_journal(self) -> None:
        self.journal.begin(self._descriptor)

    def _recover(self) -> bool:
        """Put what the journal holds into the file; tell whether it held anything."""
        header = read_header(self._lock.descriptor)
        if header is None:
            self.journal.clear()
            return False
        reader = JournalReader(self._lock.descriptor, header)
        try:
            reader.advance()
            if self._descriptor < 0:
                return self._without_file(reader)
            redo = reader.redo()
            if redo is not None:
                self._apply_again(redo)
                return True
            check_base(header, self._descriptor)
            # What lies behind is left of a change that was not committed.
            os.ftruncate(self._descriptor, header.base_size)
            if reader.entries:
                self.journal.resume(reader.end)
                with self._transaction() as file:
                    fold(file, reader)
                return True
        except DamagedFileError as error:
            raise DamagedFileError(
                f"{self.path}: the rows in {journal_path(self.path).name} cannot be put into it: {error}; "
                f"nothing was changed; gymbag.salvage({str(self.path)!r}, 'new.h5') saves what can be read"
            ) from error
        self.journal.clear()
        return False

    def _apply_again(self, redo: bytes) -> None:
        """Apply a redo log that was committed, and perhaps not synced: its writer was killed, or failed."""
        self.journal.write_again()
        apply_committed(redo, self._descriptor, self.journal)

    def _without_file(self, reader: JournalReader) -> bool:
        if reader.entries:
            beside = journal_path(self.path)
            raise StorageError(
                f"{beside} holds rows of {self.path}, which is gone; move it to where its file is now, named "
                "after it, or delete it"
            )
        self.journal.clear()
        return False

    @contextmanager
    def _transaction(self) -> Iterator[h5py.File]:
        transaction = Transaction(self.path, self._descriptor, self.journal)
        try:
            is_new = transaction.is_empty
            mode = "w" if is_new else "r+"
            with open_for_writer(transaction, mode, libver=_LIBRARY_VERSION) as file:
                yield file
            transaction.commit()
        except BaseException as error:
            with contextlib.suppress(OSError):  # what lies behind the end of the file is ignored
                transaction.give_up()
            if transaction.error is not None and isinstance(error, Exception):
                # HDF5 did not find what could not be written, and would call the file damaged.
                raise transaction.error from error
            raise

    @contextmanager
    def change(self, last: bool = False) -> Iterator[h5py.File]:
        """Give the file, with all rows of the journal in it, to be changed; at the end of the block it is.

        If the block raises, nothing has happened.

        Args:
            last: Whether the journal takes no rows after this.

        Raises:
            StorageError: The file cannot be written.
            DamagedFileError: It, or the journal, is damaged.
        """
        self.check_in_place()
        self.stop_reading()
        with _explained(self.path):
            if self._descriptor < 0:
                with self._new_file():
                    with self._transaction() as file:
                        yield file
                    self._begin_journal()
            else:
                header = read_header(self._lock.descriptor)
                reader = None if header is None else JournalReader(self._lock.descriptor, header)
                if reader is not None and (redo := reader.redo()) is not None:
                    # A change was committed, and could not be applied.
                    self._apply_again(redo)
                    self._begin_journal()
                    reader = None
                with self._transaction() as file:
                    if reader is not None:
                        reader.advance(self.journal.size)
                        fold(file, reader, self.known)
                    yield file
                if not last:
                    self._begin_journal()

    @contextmanager
    def _new_file(self) -> Iterator[None]:
        """Make a file under another name, which gets its own once there is an HDF5 file in it."""
        making = self.path.with_name(self.path.name + ".new")
        self._descriptor = os.open(making, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            share(self._descriptor)
            self._begin_journal()
            yield
            making.replace(self.path)
            self._syncer.sync_folder(self.path.parent, "the name of the file")
        except BaseException:
            self._close_descriptor()
            with contextlib.suppress(OSError):
                making.unlink()
            raise

    def fold(self, last: bool = False) -> None:
        """Put all rows of the journal into the file; see `change`."""
        with self.change(last):
            pass

    def append(self, data_set: str, entries: Sequence[NewRows]) -> None:
        """Add rows to the journal.

        Raises:
            StorageError: It cannot be written. It stays as it was.
        """
        with _explained(journal_path(self.path)):
            self.journal.append(data_set, entries)

    def sync(self) -> None:
        """Return once all rows that were added are on the disk; any thread may call this.

        Raises:
            StorageError: That failed. Nothing can be changed any more.
        """
        self.journal.sync()

    @contextmanager
    def opened(self) -> Iterator[h5py.File]:
        """Give the file to read, without the rows of the journal; it stays open until `stop_reading`."""
        with _explained(self.path):
            if self._opened is None:
                size = os.fstat(self._descriptor).st_size
                raw = OverlaidFile(self.path, self._descriptor, size, {})
                self._opened = open_hdf5(self.path, raw, functools.partial(open_for_writer, mode="r"))
            yield self._opened

    def stop_reading(self) -> None:
        """Close what `opened` has opened, as any change does."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def check_in_place(self) -> None:
        """Make sure that what is written can be found again.

        Raises:
            StorageError: The file, or its journal, was removed, or a sync has failed.
        """
        self._syncer.check()
        if self._lock.process != os.getpid():
            raise StorageError(f"{self.path} is recorded to by another process, from which this was forked")
        for descriptor in (self._lock.descriptor, self._descriptor):
            if descriptor >= 0 and os.fstat(descriptor).st_nlink == 0:
                raise StorageError(f"{self.path} or its journal was removed while it was recorded to")

    def close(self) -> None:
        """Put all rows of the journal into the file, and let others write to it.

        Raises:
            StorageError: The rows stay in the journal, as there was no room, say. The next writer puts
                them into the file, or `gymbag.repair` does.
        """
        try:
            if self._descriptor >= 0 and self.journal.has_rows:
                try:
                    self.fold(last=True)
                except StorageError as error:
                    raise type(error)(
                        f"{error}; the latest rows stay in {journal_path(self.path).name} until somebody "
                        f"records to the file again, or calls gymbag.repair({str(self.path)!r})"
                    ) from error
            with contextlib.suppress(OSError):  # it holds nothing that matters
                self.journal.clear()
        finally:
            is_removed = self._release(remove=not self.journal.has_rows)
        if is_removed:
            with _explained(self.path):
                # Were the journal to come back, it would be put into the file whatever has become of that.
                self._syncer.sync_folder(self.path.parent, "the end of the journal")

    def abandon(self) -> None:
        """Let others write to the file, and leave the journal as it is."""
        self._release(remove=False)

    def _release(self, remove: bool) -> bool:
        self.stop_reading()
        self._close_descriptor()
        return self._lock.close(remove)

    def _close_descriptor(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


_held: weakref.WeakSet[WritableFile] = weakref.WeakSet()


def _leave_to_parent() -> None:
    """Close in a forked process what belongs to its parent, lest what is locked stay so after the parent."""
    for file in list(_held):
        file._close_descriptor()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _lock(path: Path) -> LockedFile:
    beside = journal_path(path)
    try:
        return LockedFile(beside)
    except BlockingIOError as error:
        raise FileInUseError(f"{path} is being recorded to by {_owner(beside)}; {_REMEDY}") from error
    except OSError as error:
        raise StorageError(
            f"cannot open {beside}, the journal that a recording needs beside its file: {error.strerror}"
        ) from error


_REMEDY = "close that env first, or record to another file"


def _owner(beside: Path) -> str:
    """Tell who holds a journal, as far as it says."""
    try:
        descriptor = os.open(beside, os.O_RDONLY)
    except OSError:
        return "another process"
    try:
        header = read_header(descriptor)
    except DamagedFileError:
        header = None
    finally:
        os.close(descriptor)
    if header is None:
        return "another process"
    return (
        f"another env of this process, {header.process}"
        if header.process == os.getpid()
        else (f"process {header.process} on {header.host}")
    )


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system and h5py raise into errors of our own."""
    try:
        yield
    except GymbagError:
        raise
    except OSError as error:
        if error.errno is not None:
            raise StorageError(f"cannot open or write {path}: {error.strerror}") from error
        raise DamagedFileError(f"{path} is damaged, and was not changed: {error}") from error
    except DAMAGE as error:
        raise DamagedFileError(f"{path} is damaged, and was not changed: {error}") from error
