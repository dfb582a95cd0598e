"""The power may be cut between any two file operations: what was synced is there, and recording goes on.

The operations of a process are noted, with its syncs; `power_cut` is the model of what may be left of them.
Each state has to be read, by gymbag and by HDF5, and gone on with. What was found of a state is kept, as most
cuts leave one that another has left, too.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import h5py
import numpy as np
import pytest
from file_operations import FileOperations, Operation, State
from power_cut import Volume
from story import FIRST, SECOND, Check, Story

from gymbag.errors import RecordingError, StorageError
from gymbag.storage.repair import repair
from gymbag.storage.snapshot import Snapshot
from gymbag.storage.syncing import Syncer

pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning"),
]

#: What is synced, as errors call it.
SITES = (
    "the latest rows",
    "the name of the journal",
    "the beginning of the journal",
    "the file that is there",
    "what is new in the file",
    "the redo log",
    "the commit slot",
    "the file",
    "the name of the file",
    "the end of the journal",
    "the journal that was left",
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk of the machine that runs the tests says nothing."""
    for name in ("fsync", "fdatasync"):
        monkeypatch.setattr(os, name, lambda _: None)


class SharedStory(Story):
    """The story, and what another program does to the file between sessions: it has an array of its own."""

    def sessions(self) -> Iterator[Callable[[], None]]:
        first, second, *others = super().sessions()
        yield from (first, self._replace_file, second, self._write_in_place, *others)

    def _replace_file(self) -> None:
        """Write the file anew, with an array more, as a program does that cares for the data."""
        content = io.BytesIO(self.path.read_bytes())
        with h5py.File(content, "r+") as file:
            file.create_dataset("elsewhere", data=np.arange(4), track_times=False)
        copy = self.path.with_name("copy.h5")
        self._write(copy, content.getvalue(), 0, is_synced=True)
        copy.replace(self.path)

    def _write_in_place(self) -> None:
        """Change a number in the array, which may be lost."""
        with h5py.File(io.BytesIO(self.path.read_bytes())) as file:
            offset = file["elsewhere"].id.get_offset()
        self._write(self.path, np.int64(7).tobytes(), offset, is_synced=False)

    def _write(self, path: Path, data: bytes, offset: int, is_synced: bool) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        os.pwrite(descriptor, data, offset)
        if is_synced:
            os.fsync(descriptor)
        os.close(descriptor)


@dataclass
class Log:
    """What was done in a folder, and noted between.

    Attributes:
        story: Who did it, or what came before.
        start: The folder before.
        done: Operations, and what the story noted.
        before: What was done and noted before that.
        name: Whose operations these are.
    """

    story: Story
    start: State
    done: list[Any]
    before: list[Any] = field(default_factory=list)
    name: str = "the story"

    def points(self, near: int | None = None) -> Iterator[tuple[int, Volume, Any]]:
        """Yield how many operations were done, what of that is synced, and the latest note.

        Args:
            near: If given, only places that are so few operations behind a sync that was left out.
        """
        volume, note, count = Volume(self.start), ({}, {}, {}), 0
        left_out_at = -math.inf
        for each in self.before:
            if isinstance(each, Operation):
                volume.do(each)
            elif each is not LEFT_OUT:
                note = each
        yield count, volume, note
        for each in self.done:
            if each is LEFT_OUT:
                left_out_at = count
            elif not isinstance(each, Operation):
                note = each
            else:
                volume.do(each)
                count += 1
                if each.kind != "sync" and (near is None or count <= left_out_at + near):
                    yield count, volume, note


#: Stands in a log for a sync that was left out.
LEFT_OUT = object()


@contextmanager
def syncs(call: Callable[[str], bool]) -> Iterator[None]:
    """Have a function called with what is to be synced, which is left out if it returns False."""
    with pytest.MonkeyPatch.context() as patches:
        for name in ("sync", "sync_folder"):
            original = getattr(Syncer, name)

            def sync(syncer: Syncer, where: Any, what: str, original: Any = original) -> None:
                if call(what):
                    original(syncer, where, what)

            patches.setattr(Syncer, name, sync)
        yield


def tell(folder: Path, left_out: str = "") -> Log:
    """Let the whole story happen, with a sync left out."""
    folder.mkdir()
    operations = FileOperations(folder)
    story = SharedStory(folder / "recording.h5", operations.note)

    def call(what: str) -> bool:
        if what == left_out:
            operations.note(LEFT_OUT)
        return what != left_out

    with syncs(call), operations:
        for session in story.sessions():
            session()
    operations.assert_complete()
    return Log(story, operations.start, operations.done)


class BadStateError(AssertionError):
    """What is left is not what it should be."""


@dataclass
class Examination:
    """Looks at what is left in a folder.

    Args:
        folder: To put it in.
        every: Of how many different states recording goes on from one; 0 if from none.

    Attributes:
        states: How many were looked at, and how many of them were different.
    """

    folder: Path
    every: int = 1
    states: Counter[str] = field(default_factory=Counter)
    _found: dict[bytes, Any] = field(default_factory=dict)
    _names: Iterator[str] = field(default_factory=lambda: itertools.cycle((FIRST, SECOND, "new")))

    def examine(self, story: Story, state: State, note: Any, label: str) -> None:
        """Check a state.

        Raises:
            BadStateError: It is bad.
        """
        _, recorded, synced = note
        files = state.files()
        key = hashlib.sha256(repr((sorted(files.items()), synced, recorded)).encode()).digest()
        self.states["all"] += 1
        if key in self._found:
            return
        self._found[key] = None
        self.states["different"] += 1
        try:
            self._check(Check(self.folder / "recording.h5", story.episodes, synced, recorded), state)
        except Exception as error:
            raise BadStateError(f"{label}: {type(error).__name__}: {error}") from error

    def _check(self, check: Check, state: State) -> None:
        state.put(self.folder)
        (self.folder / "copy.h5").unlink(missing_ok=True)
        check.plain_h5py()
        check.reader()
        if b"elsewhere" in state.files().get("recording.h5", b""):
            with Snapshot(self.folder / "recording.h5") as snapshot:
                assert "elsewhere" in snapshot.file, "what another program wrote is gone"
        if self.every and self.states["different"] % self.every == 0:
            self.states["gone on with"] += 1
            check.append(next(self._names))
            check.reader()
            check.plain_h5py()
            assert [file.name for file in self.folder.iterdir()] == ["recording.h5"]


def cut_everywhere(
    log: Log, examination: Examination, count: int, every: int = 1, first: int = 0, near: int | None = None
) -> None:
    """Cut the power at every so-maniest operation, in the plain ways and `count` random ones.

    Raises:
        BadStateError: Something was lost then.
    """
    for number, volume, note in itertools.islice(log.points(near), first, None, every):
        for label, state in volume.cuts(Random(f"{log.name} {number}"), count):
            examination.examine(log.story, state, note, f"operation {number} of {log.name}, {label}")


def test_nothing_synced_is_lost_when_the_power_is_cut(tmp_path: Path) -> None:
    examination = Examination(tmp_path / "left")
    cut_everywhere(tell(tmp_path / "story"), examination, 1, every=37)
    assert examination.states["different"] > 40


PARTS = 16


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_synced_is_lost_when_the_power_is_cut_exhaustively(tmp_path: Path, part: int) -> None:
    examination = Examination(tmp_path / "left", every=4)
    cut_everywhere(tell(tmp_path / "story"), examination, 200, every=PARTS, first=part)
    print(dict(examination.states))
    assert examination.states["different"] > 1000


def recoveries(log: Log, folder: Path, numbers: Iterable[int]) -> Iterator[Log]:
    """Yield what recoveries do after the process was killed somewhere, and after a power cut there."""
    random = Random(1)
    for number in numbers:
        killed = Log(log.story, log.start, [], log.done[:number])
        state = log.start.copy()
        for each in killed.before:
            if isinstance(each, Operation):
                state.do(each)
        (_, volume, note), *_ = killed.points()
        label, cut = random.choice(list(volume.cuts(random, 3)))
        for before, left, how in (
            (killed, state, "was killed"),
            (Log(log.story, cut, [], [note]), cut, f"lost power ({label})"),
        ):
            left.put(folder)
            operations = FileOperations(folder, start=left.copy())
            with operations:
                try:
                    repair(folder / "recording.h5")
                except StorageError:
                    assert not note[2], "what was synced cannot be repaired"
                    continue
            name = f"a recovery of what {how} after {number}"
            yield Log(log.story, before.start, operations.done, before.before, name)


def test_nothing_synced_is_lost_when_the_power_is_cut_in_a_recovery(tmp_path: Path) -> None:
    examination = Examination(tmp_path / "left")
    log = tell(tmp_path / "story")
    numbers = range(0, len(log.done), 211)
    for number, recovery in enumerate(recoveries(log, tmp_path / "recovered", numbers)):
        cut_everywhere(recovery, examination, 1, every=17, first=number % 17)
    assert examination.states["different"] > 20


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(PARTS))
def test_nothing_synced_is_lost_when_the_power_is_cut_in_a_recovery_exhaustively(
    tmp_path: Path, part: int
) -> None:
    examination = Examination(tmp_path / "left", every=5)
    log = tell(tmp_path / "story")
    numbers = range(7 * part, len(log.done), 7 * PARTS)
    for number, recovery in enumerate(recoveries(log, tmp_path / "recovered", numbers)):
        cut_everywhere(recovery, examination, 20, every=3, first=number % 3)
    print(dict(examination.states))
    assert examination.states["different"] > 100


def commits(log: Log) -> list[int]:
    """List where commit slots have just been written to the journal of a file, and are not synced yet."""
    return [
        number + 1
        for number, each in enumerate(log.done)
        if isinstance(each, Operation) and each.name == "recording.h5.journal" and each.at == 128
    ][1:]  # at the first there is no file yet


def test_all_syncs_are_known(tmp_path: Path) -> None:
    found = set()
    log = tell(tmp_path / "story")
    with syncs(lambda what: found.add(what) is None):
        for session in SharedStory(tmp_path / "recording.h5").sessions():
            session()
        for _ in recoveries(log, tmp_path / "recovered", commits(log)[:1]):
            pass
    assert found == set(SITES)


@pytest.mark.parametrize("site", SITES)
def test_each_sync_that_is_left_out_is_noticed(tmp_path: Path, site: str) -> None:
    examination = Examination(tmp_path / "left", every=0)
    log = tell(tmp_path / "story", left_out=site)

    def cut() -> None:
        if site != "the journal that was left":
            cut_everywhere(log, examination, 2, near=20)
        else:
            with syncs(lambda what: what != site):
                for recovery in recoveries(log, tmp_path / "recovered", commits(log)):
                    cut_everywhere(recovery, examination, 2)

    with pytest.raises(BadStateError):
        cut()


class FailingSync:
    """Has one sync fail.

    Args:
        number: Which one.

    Attributes:
        has_failed: Whether it has.
        later: How many were tried after it.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self.has_failed, self.later = False, 0

    def __call__(self, operation: Operation) -> None:
        if operation.kind == "sync":
            self.later += self.has_failed
            if not self._left and not self.has_failed:
                self.has_failed = True
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self._left -= 1


def tell_until_a_sync_fails(folder: Path, number: int) -> Log | None:
    """Let the story happen until the session is over in which a sync has failed; return None if none has."""
    folder.mkdir()
    failing = FailingSync(number)
    operations = FileOperations(folder, failing)
    story = Story(folder / "recording.h5", operations.note)
    errors: list[Exception] = []
    for session in story.sessions():
        with operations:
            try:
                session()
            except (RecordingError, StorageError) as error:
                errors.append(error)
                break
    assert [os.strerror(errno.EIO) in str(error) for error in errors] == [True] * failing.has_failed
    assert not failing.later, "synced after a failure"
    return Log(story, operations.start, operations.done) if failing.has_failed else None


def fail_syncs(
    folder: Path, examination: Examination, first: int, stride: int, count: int, every: int
) -> int:
    """Have every so-maniest sync fail, and cut the power after that, and while what is left is recovered."""
    for number in itertools.count(first, stride):
        log = tell_until_a_sync_fails(folder / f"failing {number}", number)
        if log is None:
            return number // stride
        log.name = f"a story in which sync {number} fails"
        operations = [each for each in log.done if isinstance(each, Operation)]
        failed = next(at for at, each in enumerate(operations) if each.kind == "failed sync")
        for at, volume, note in log.points():
            if at > failed:
                for label, state in volume.cuts(Random(at), count):
                    examination.examine(log.story, state, note, f"operation {at} of {log.name}, {label}")
        for recovery in recoveries(log, folder / "recovered", [len(log.done)]):
            cut_everywhere(recovery, examination, count, every, first=number % every)
    raise AssertionError


def test_nothing_synced_is_lost_when_a_sync_fails(tmp_path: Path) -> None:
    examination = Examination(tmp_path / "left", every=3)
    assert fail_syncs(tmp_path, examination, 1, stride=13, count=1, every=19) > 8


@pytest.mark.exhaustive
@pytest.mark.parametrize("part", range(4))
def test_nothing_synced_is_lost_when_a_sync_fails_exhaustively(tmp_path: Path, part: int) -> None:
    examination = Examination(tmp_path / "left", every=5)
    assert fail_syncs(tmp_path, examination, part, stride=4, count=20, every=3) > 20
    print(dict(examination.states))
