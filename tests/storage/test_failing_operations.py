"""A file operation may fail, on a full disk or a broken one: the env goes on, and nothing flushed is lost."""

from __future__ import annotations

import copy
import errno
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from file_operations import FileOperations, Operation, State
from story import FIRST, SECOND, Check, Story

from gymbag.errors import RecordingError, StorageError

pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning"),
]


@dataclass
class Chapter:
    """A session of the story, and all that comes before it.

    Attributes:
        number: Which session it is.
        folder: The folder at its beginning.
        story: What was recorded at its beginning.
        operations: What it does.
    """

    number: int
    folder: State
    story: Story
    operations: list[Operation]


def chapters(folder: Path) -> list[Chapter]:
    folder.mkdir()
    story = Story(folder / "recording.h5")
    found = []
    for number, session in enumerate(story.sessions()):
        before = copy.deepcopy(story)
        operations = FileOperations(folder)
        with operations:
            session()
        done = [each for each in operations.done if isinstance(each, Operation)]
        found.append(Chapter(number, operations.start, before, done))
    return found


class Disk:
    """A disk on which operations fail, from one on.

    Args:
        first: Which one is the first that fails.

    Attributes:
        is_well: Whether it is so no more.
        failures: How many failed.
    """

    def __init__(self, first: int) -> None:
        self._first, self._count = first, 0
        self.is_well = False
        self.failures = 0
        self.sizes: dict[int, int] = {}

    def __call__(self, operation: Operation) -> int | None:
        number, self._count = self._count, self._count + 1
        if self.is_well or number < self._first:
            return None
        return self.judge(operation)

    def judge(self, operation: Operation) -> int | None:
        raise NotImplementedError

    def fail(self, code: int) -> None:
        self.failures += 1
        raise OSError(code, os.strerror(code))


class BrokenOnce(Disk):
    """One operation fails."""

    def judge(self, operation: Operation) -> int | None:
        self.is_well = True
        self.fail(errno.EIO)


class Broken(Disk):
    """From one operation on, all fail."""

    def judge(self, operation: Operation) -> int | None:
        self.fail(errno.EIO)


class BrokenInside(Disk):
    """A write breaks off, and all operations after it fail."""

    def judge(self, operation: Operation) -> int | None:
        if self.failures or operation.kind != "write" or len(operation.data) < 2:
            self.fail(errno.EIO)
        self.failures += 1
        return len(operation.data) // 2


class Full(Disk):
    """From one operation on, no file can be made, and none can grow."""

    def __init__(self, first: int, folder: Path) -> None:
        super().__init__(first)
        self._folder = folder

    def judge(self, operation: Operation) -> int | None:
        path = self._folder / operation.name
        size = path.stat().st_size if path.exists() else 0
        if operation.kind == "open" and not path.exists():
            self.fail(errno.ENOSPC)
        if operation.kind == "write" and operation.at + len(operation.data) > size:
            if operation.at >= size:
                self.fail(errno.ENOSPC)
            return size - operation.at
        return None


DISKS: dict[str, Callable[[int, Path], Disk]] = {
    "one operation fails": lambda first, folder: BrokenOnce(first),
    "all fail": lambda first, folder: Broken(first),
    "all fail, the first one halfway": lambda first, folder: BrokenInside(first),
    "full": Full,
}


def fail_everywhere(folder: Path, make: Callable[[int, Path], Disk], stride: int) -> int:
    """Have the operations of the story fail, from every so-maniest on; return how often one did."""
    names = itertools.cycle((FIRST, SECOND, "new"))
    told = chapters(folder / "story")
    chosen: Iterator[tuple[Chapter, int]] = itertools.islice(
        ((chapter, first) for chapter in told for first in range(len(chapter.operations))), 0, None, stride
    )
    count = 0
    for chapter, first in chosen:
        left = folder / "left"
        chapter.folder.put(left)
        disk = make(first, left)
        try:
            fail(chapter, left, disk, next(names))
        except BaseException as error:
            error.add_note(f"in session {chapter.number}, from operation {first} on")
            raise
        count += disk.failures > 0
    return count


def fail(chapter: Chapter, folder: Path, disk: Disk, name: str) -> None:
    story = copy.deepcopy(chapter.story)
    story.path = folder / "recording.h5"
    operations = FileOperations(folder, disk)
    with operations:
        session = next(itertools.islice(story.sessions(), chapter.number, None))
        raised: Exception | None = None
        try:
            session()
        except (StorageError, RecordingError) as error:
            raised = error
        if raised is not None and isinstance(disk, Full):
            assert os.strerror(errno.ENOSPC) in str(raised)
        if isinstance(raised, StorageError) and isinstance(disk, Full):
            # It could not begin. All that may be left is an empty data set.
            left = {file.name for file in folder.iterdir()}
            assert left <= {*chapter.folder.names, "recording.h5"}
        check = Check(story.path, story.episodes, story.flushed, story.recorded)
        check.plain_h5py()
        check.reader()
        disk.is_well = True
    check.append(name)
    check.reader()
    check.plain_h5py()
    assert [file.name for file in folder.iterdir()] == ["recording.h5"]


@pytest.mark.parametrize("disk", DISKS.values(), ids=DISKS)
def test_nothing_is_lost_when_operations_fail(tmp_path: Path, disk: Callable[[int, Path], Disk]) -> None:
    assert fail_everywhere(tmp_path, disk, 19) > 20


@pytest.mark.exhaustive
@pytest.mark.parametrize("disk", DISKS.values(), ids=DISKS)
def test_nothing_is_lost_when_operations_fail_exhaustively(
    tmp_path: Path, disk: Callable[[int, Path], Disk]
) -> None:
    assert fail_everywhere(tmp_path, disk, 2) > 200
