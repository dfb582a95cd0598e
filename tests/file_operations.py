"""What the engine does to files: each operation is noted, may be made to fail, and can be done again.

A process that is killed has done the first so-and-so many of them, and perhaps a part of the next. `State`
does just that, so that tests can look at the folder as it would be left, for each of them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

#: Stands for the number of a file in an `Operation`.
FOLDER = -1


@dataclass(frozen=True)
class Operation:
    """Something that changes a folder.

    Attributes:
        kind: "open" (makes or empties a file), "write", "truncate", "remove", "rename", "sync" or
            "failed sync".
        file: Number of the file, or FOLDER if the folder is synced; a name that is removed and made again is
            that of another one.
        name: Its name; of "write", "truncate" and syncs, when it was opened.
        at: Where a write begins, or the size to truncate to.
        data: What is written.
        target: The new name.
    """

    kind: str
    file: int
    name: str
    at: int = 0
    data: bytes = b""
    target: str = ""

    def cut(self, size: int) -> Operation:
        """Return a write that broke off."""
        return Operation(self.kind, self.file, self.name, self.at, self.data[:size])


@dataclass
class State:
    """A folder and what is in it.

    Attributes:
        names: The numbers of the files, by name.
        contents: What is in them, by number.
    """

    names: dict[str, int] = field(default_factory=dict)
    contents: dict[int, bytes] = field(default_factory=dict)

    @staticmethod
    def of(folder: Path) -> State:
        """Take in a folder as it is."""
        files = sorted(folder.iterdir())
        return State(
            {file.name: number for number, file in enumerate(files)},
            {number: file.read_bytes() for number, file in enumerate(files)},
        )

    def copy(self) -> State:
        return State(dict(self.names), dict(self.contents))

    def files(self) -> dict[str, bytes]:
        """Return what is in each file, by name."""
        return {name: self.contents[file] for name, file in self.names.items()}

    def do(self, operation: Operation) -> None:
        """Do an operation."""
        file, data = operation.file, self.contents.get(operation.file, b"")
        if operation.kind == "open":
            self.names[operation.name] = file
            self.contents[file] = b""
        elif operation.kind == "write":
            start, end = operation.at, operation.at + len(operation.data)
            self.contents[file] = data[:start].ljust(start, b"\0") + operation.data + data[end:]
        elif operation.kind == "truncate":
            self.contents[file] = data[: operation.at].ljust(operation.at, b"\0")
        elif operation.kind == "remove":
            del self.names[operation.name]
        elif operation.kind == "rename":
            self.names[operation.target] = self.names.pop(operation.name)

    def put(self, folder: Path) -> None:
        """Make a folder be like this."""
        files = self.files()
        folder.mkdir(exist_ok=True)
        for file in folder.iterdir():
            if file.name not in files:
                file.unlink()
        for name, data in files.items():
            (folder / name).write_bytes(data)


class FileOperations:
    """Notes every operation on the files of a folder, or makes it fail, while in a `with` block.

    Args:
        folder: The folder.
        before: Called with every operation before it is done. It may raise OSError, or return how many bytes
            of a write are to be done, as a disk does that is about to be full.
        start: The folder as it is, if its files have numbers.

    Attributes:
        start: The folder as it was.
        done: The operations, and whatever was given to `note`, in order.
    """

    def __init__(
        self,
        folder: Path,
        before: Callable[[Operation], int | None] | None = None,
        start: State | None = None,
    ) -> None:
        self._folder, self._before = folder, before
        self.start = start or State.of(folder)
        self._state = self.start.copy()
        self.done: list[Any] = []
        self._opened: dict[int, tuple[int, str]] = {}

    def note(self, what: Any) -> None:
        """Note something between two operations."""
        self.done.append(what)

    def assert_complete(self) -> None:
        """Assert that what was noted explains all that is in the folder."""
        assert self._state.files() == State.of(self._folder).files()

    def _begin(self, operation: Operation) -> int | None:
        return None if self._before is None else self._before(operation)

    def _end(self, operation: Operation) -> None:
        self.done.append(operation)
        self._state.do(operation)

    def _is_inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).parent == self._folder

    def __enter__(self) -> FileOperations:
        """Begin to take note."""
        self._patches = pytest.MonkeyPatch()
        open_, close, pwrite, ftruncate = os.open, os.close, os.pwrite, os.ftruncate
        unlink, replace = Path.unlink, Path.replace

        def noted_open(path: Any, flags: int, *arguments: Any, **options: Any) -> int:
            name = Path(path).name
            if path == self._folder:
                descriptor = open_(path, flags, *arguments, **options)
                self._opened[descriptor] = FOLDER, ""
                return descriptor
            if not self._is_inside(path) or not flags & (os.O_WRONLY | os.O_RDWR):
                return open_(path, flags, *arguments, **options)
            is_new = name not in self._state.names
            operation = None
            if (is_new and flags & os.O_CREAT) or flags & os.O_TRUNC:
                file = len(self._state.contents) if is_new else self._state.names[name]
                operation = Operation("open", file, name)
                self._begin(operation)
            descriptor = open_(path, flags, *arguments, **options)
            if operation is not None:
                self._end(operation)
            self._opened[descriptor] = self._state.names[name], name
            return descriptor

        def noted_close(descriptor: int) -> None:
            self._opened.pop(descriptor, None)
            close(descriptor)

        def noted_pwrite(descriptor: int, data: Any, offset: int) -> int:
            operation = Operation("write", *self._opened[descriptor], offset, bytes(data))
            size = self._begin(operation)
            if size is not None:
                operation = operation.cut(size)
            written = pwrite(descriptor, operation.data, offset)
            self._end(operation.cut(written))
            return written

        def noted_ftruncate(descriptor: int, size: int) -> None:
            operation = Operation("truncate", *self._opened[descriptor], size)
            self._begin(operation)
            ftruncate(descriptor, size)
            self._end(operation)

        def noted_sync(descriptor: int) -> None:
            operation = Operation("sync", *self._opened[descriptor])
            try:
                self._begin(operation)
            except OSError:
                self._end(dataclasses.replace(operation, kind="failed sync"))
                raise
            self._end(operation)  # which tests need not wait for

        def noted_unlink(path: Path, missing_ok: bool = False) -> None:
            operation = None
            if self._is_inside(path) and path.name in self._state.names:
                operation = Operation("remove", self._state.names[path.name], path.name)
                self._begin(operation)
            unlink(path, missing_ok)
            if operation is not None:
                self._end(operation)

        def noted_replace(path: Path, target: Any) -> Any:
            name = Path(target).name
            operation = Operation("rename", self._state.names[path.name], path.name, target=name)
            self._begin(operation)
            result = replace(path, target)
            self._end(operation)
            return result

        def unexpected(*_: Any, **__: Any) -> Any:
            raise AssertionError("a file operation that is not noted")

        for name, function in (
            ("open", noted_open),
            ("close", noted_close),
            ("pwrite", noted_pwrite),
            ("ftruncate", noted_ftruncate),
            ("fsync", noted_sync),
            ("fdatasync", noted_sync),
        ):
            self._patches.setattr(os, name, function)
        for name in ("sync", "write", "truncate", "pwritev", "writev", "sendfile", "copy_file_range"):
            if hasattr(os, name):
                self._patches.setattr(os, name, unexpected)
        self._patches.setattr(Path, "unlink", noted_unlink)
        self._patches.setattr(Path, "replace", noted_replace)
        for name in ("rename", "write_bytes", "write_text", "touch"):
            self._patches.setattr(Path, name, unexpected)
        return self

    def __exit__(self, *_: object) -> None:
        """Take note no more."""
        self._patches.undo()


def states(start: State, done: list[Any]) -> Iterator[tuple[int, Operation | None, State, list[Any]]]:
    """Yield the folder as it is after each operation, and as it is when a write breaks off.

    Yields:
        How many operations were done; the next one, of which a part was done, or None; the folder; what was
        noted up to here. The folder and the notes change afterwards.
    """
    state, notes = start.copy(), list[Any]()
    count = 0
    yield count, None, state, notes
    for operation in done:
        if not isinstance(operation, Operation):
            notes.append(operation)
            continue
        for size in _where_to_cut(operation):
            torn = state.copy()
            torn.do(operation.cut(size))
            yield count, operation, torn, notes
        state.do(operation)
        count += 1
        if not operation.kind.endswith("sync"):
            yield count, None, state, notes


def _where_to_cut(operation: Operation) -> Iterator[int]:
    """Yield how much of a write may have been done: to a border of pages, and an odd number of bytes."""
    size = len(operation.data)
    if operation.kind == "write" and size > 1:
        yield from range(-operation.at % 4096 or 4096, size, 4096)
        yield min(size - 1, 1 + operation.at * 31 % size)


@contextlib.contextmanager
def settings(**values: int) -> Iterator[None]:
    """Have the engine use other limits, such as _LARGEST_JOURNAL."""
    with pytest.MonkeyPatch.context() as patches:
        for name, value in values.items():
            patches.setattr(f"gymbag.storage.hdf5_store.{name}", value)
        yield
