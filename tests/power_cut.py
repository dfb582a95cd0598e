"""What a power cut may leave of a folder: a model of a file system that honours fsync, and of nothing more.

Of a file there is certain what it held when it was last synced. Each write and each truncation since may
have reached the disk or not, whatever became of those before it: they are applied in order, those that were
lost left out. A write may have arrived in part:

    whole      all of it or nothing
    pages      any of its pieces, cut at each multiple of 4,096 bytes of the file
    sectors    the same with 512 bytes. A sector is never torn, as SQLite assumes, too (powersafe overwrite)

The size is another matter (`Sizes`): it may be what the writes that arrived make of it; or what it was made
in the end, truncations included, with zeros where no bytes arrived; or what it was when last synced, what
lies behind being lost.

Of the names in the folder those are certain that it had when it was last synced itself. Each one made,
removed or changed since may have been so on the disk, or not, whatever became of the others.

When a sync fails, what was not on the disk then may never get there, whatever later syncs of that file say,
unless it is written again: the system has marked it as written, and forgotten the error.

That is stricter than file systems are that are in use. ext4, for one, keeps the order of changes to names and
sizes, and syncs a new file with its name.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from file_operations import FOLDER, Operation, State

PIECES = {"whole": 0, "pages": 4096, "sectors": 512}
ODDS = (0.1, 0.5, 0.9)


class Sizes(enum.Enum):
    """What becomes of the size of a file."""

    OF_WRITES = "what the writes that arrived make of it"
    FINAL = "what it was made in the end"
    SYNCED = "what it was when it was last synced"


@dataclass(eq=False)
class _Change:
    """An operation on a file, or on the names of the folder.

    Attributes:
        operation: The operation.
        is_of_name: Whether it is one on a name.
        is_certain: Whether it was synced.
        is_doomed: Whether a sync of it has failed.
    """

    operation: Operation
    is_of_name: bool
    is_certain: bool = False
    is_doomed: bool = False


#: Tells whether a change, or a piece of it, has reached the disk.
Keep = Callable[[_Change], bool]


class Volume:
    """A folder, of which not everything is on the disk yet.

    Args:
        start: What is.
    """

    def __init__(self, start: State) -> None:
        self._now, self._synced = start.copy(), start.copy()
        self._changes: list[_Change] = []  # since what they change was last synced

    def do(self, operation: Operation) -> None:
        """Do an operation."""
        changed = [
            change
            for change in self._changes
            if (FOLDER if change.is_of_name else change.operation.file) == operation.file
        ]
        if operation.kind == "sync":
            for change in changed:
                change.is_certain = not change.is_doomed
            self._settle()
        elif operation.kind == "failed sync":
            for change in changed:
                change.is_doomed = not change.is_of_name  # a folder is written anew with every change
        else:
            is_there = self._now.names.get(operation.name) == operation.file
            if operation.kind == "open" and is_there:
                operation = Operation("truncate", operation.file, operation.name)
            elif operation.kind == "open":
                self._synced.contents[operation.file] = b""
            self._changes.append(_Change(operation, operation.kind in ("open", "remove", "rename")))
            self._now.do(operation)

    def _settle(self) -> None:
        """Forget the changes that are certain, unless they follow one to the same file that is not."""
        waiting: list[_Change] = []
        files = set()
        for change in self._changes:
            file = FOLDER if change.is_of_name else change.operation.file
            if change.is_certain and file not in files:
                _do(change.operation, self._synced)
            else:
                files.add(file)
                waiting.append(change)
        self._changes = waiting

    def cuts(self, random: Random, count: int) -> Iterator[tuple[str, State]]:
        """Yield what a power cut may leave now: the plain cases, then random ones.

        Args:
            random: Decides.
            count: How many random ones.

        Yields:
            What was lost, in words, and the folder.
        """
        yield "all is lost", self._left(lambda _: False)
        uncertain = [change for change in self._changes if not change.is_certain]
        if not uncertain:
            return
        last = uncertain[-1]
        yield "nothing is lost", self._left(lambda _: True)
        yield "the last change is lost", self._left(lambda change: change is not last)
        yield "all but the last change is lost", self._left(lambda change: change is last)
        yield "names are lost", self._left(lambda change: not change.is_of_name)
        yield "names only", self._left(lambda change: change.is_of_name)
        yield "sizes without data", self._left(lambda change: change.is_of_name, sizes=Sizes.FINAL)
        yield "data without sizes", self._left(lambda _: True, sizes=Sizes.SYNCED)
        for number in range(count):
            piece, sizes, odds = random.choice(list(PIECES)), random.choice(list(Sizes)), random.choice(ODDS)
            left = self._left(lambda _, odds=odds: random.random() < odds, PIECES[piece], sizes)
            yield f"random cut {number}, {piece}, of a size: {sizes.value}", left

    def _left(self, keep: Keep, piece: int = 0, sizes: Sizes = Sizes.OF_WRITES) -> State:
        left = self._synced.copy()
        lengths = {file: len(data) for file, data in left.contents.items()}
        final = dict(lengths)
        for change in self._changes:
            operation = change.operation
            for part in _pieces(operation, piece):
                has_size = sizes is Sizes.FINAL and operation.kind == "truncate"
                if change.is_certain or has_size or keep(change):
                    _do(part, left)
            if not change.is_of_name:
                file = operation.file
                final[file] = _size(operation, final[file])
                if change.is_certain:
                    lengths[file] = _size(operation, lengths[file])
        if sizes is not Sizes.OF_WRITES:
            for file, size in (final if sizes is Sizes.FINAL else lengths).items():
                data = left.contents[file]
                # That a file is cut, and has the bytes that came before, is not to be had.
                if sizes is Sizes.FINAL or size < len(data):
                    left.contents[file] = data[:size].ljust(size, b"\0")
        return left


def _size(operation: Operation, size: int) -> int:
    return operation.at if operation.kind == "truncate" else max(size, operation.at + len(operation.data))


def _do(operation: Operation, state: State) -> None:
    """Do an operation to a folder in which others have not been done."""
    names, name = state.names, operation.name
    if operation.kind == "open":
        names[name] = operation.file
    elif operation.kind == "remove":
        if names.get(name) == operation.file:
            del names[name]
    elif operation.kind == "rename":
        if names.get(name) == operation.file:
            del names[name]
        names[operation.target] = operation.file
    else:
        state.do(operation)


def _pieces(operation: Operation, size: int) -> Iterator[Operation]:
    """Cut a write into those of the pieces of a file that are so long."""
    if operation.kind != "write" or not size:
        yield operation
        return
    at, end = operation.at, operation.at + len(operation.data)
    while at < end:
        stop = min(at - at % size + size, end)
        data = operation.data[at - operation.at : stop - operation.at]
        yield Operation("write", operation.file, operation.name, at, data)
        at = stop
