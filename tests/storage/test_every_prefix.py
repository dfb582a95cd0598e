"""A process may be killed between any two file operations, or inside a write: nothing flushed is lost.

The operations of one process that is not killed are noted, and done again up to each of them, and up to
places inside each write. What is left then has to be read, and gone on with, as after a crash.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from file_operations import FOLDER, FileOperations, Operation, State, states
from story import FIRST, SECOND, Check, Story

from gymbag.errors import StorageError
from gymbag.storage.repair import repair

pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning"),
]


def tell(folder: Path) -> tuple[Story, FileOperations]:
    """Let the whole story happen."""
    folder.mkdir()
    operations = FileOperations(folder)
    story = Story(folder / "recording.h5", operations.note)
    with operations:
        for session in story.sessions():
            session()
            operations.assert_complete()
    return story, operations


def check_of(folder: Path, story: Story, notes: list[Any]) -> Check:
    flushed, recorded, _ = notes[-1] if notes else ({}, {}, {})
    return Check(folder / "recording.h5", story.episodes, flushed, recorded)


def check_state(check: Check, folder: Path, state: State, name: str) -> None:
    """Check what readers find in a folder, and that recording goes on from there."""
    state.put(folder)
    check.plain_h5py()
    check.reader()
    check.append(name)
    check.reader()
    check.plain_h5py()
    assert [file.name for file in folder.iterdir()] == ["recording.h5"]


def check_states(folder: Path, stride: int) -> int:
    """Check every so-maniest state of the story; return how many those are."""
    story, operations = tell(folder / "story")
    names = itertools.cycle((FIRST, SECOND, "new"))
    chosen = 0
    for count, next_operation, state, notes in itertools.islice(
        states(operations.start, operations.done), 0, None, stride
    ):
        try:
            check_state(check_of(folder / "left", story, notes), folder / "left", state, next(names))
        except Exception as error:
            error.args = (f"after {count} operations, of {next_operation} a part: {error}",)
            raise
        chosen += 1
    return chosen


def test_nothing_is_lost_wherever_the_process_is_killed(tmp_path: Path) -> None:
    assert check_states(tmp_path, 23) > 40


@pytest.mark.exhaustive
def test_nothing_is_lost_wherever_the_process_is_killed_exhaustively(tmp_path: Path) -> None:
    assert check_states(tmp_path, 1) > 1000


def check_recoveries(folder: Path, stride: int, inner_stride: int) -> int:
    """Recover from every so-maniest state of the story, and check those that this goes through."""
    story, operations = tell(folder / "story")
    names = itertools.cycle((FIRST, SECOND, "new"))
    chosen = 0
    for count, _, state, notes in itertools.islice(
        states(operations.start, operations.done), 0, None, stride
    ):
        left = folder / "left"
        state.put(left)
        check = check_of(left, story, notes)
        check.reader()  # which notes how much there is, for that must not change
        recovery = FileOperations(left)
        with recovery:
            try:
                repair(left / "recording.h5")
            except StorageError:
                assert not notes or not notes[-1][0], "what was begun cannot be repaired"
                continue
        recovery.assert_complete()
        for inner_count, _, inner, _ in itertools.islice(
            states(recovery.start, recovery.done), 0, None, inner_stride
        ):
            try:
                check_state(check.again(), left, inner, next(names))
            except Exception as error:
                error.args = (f"after {count} operations and {inner_count} of the recovery: {error}",)
                raise
            chosen += 1
    return chosen


def test_nothing_is_lost_when_the_recovery_is_killed(tmp_path: Path) -> None:
    assert check_recoveries(tmp_path, 199, 13) > 10


@pytest.mark.exhaustive
def test_nothing_is_lost_when_the_recovery_is_killed_exhaustively(tmp_path: Path) -> None:
    assert check_recoveries(tmp_path, 31, 3) > 500


def test_the_story_has_every_kind_of_operation(tmp_path: Path) -> None:
    _, operations = tell(tmp_path / "story")
    done = [each for each in operations.done if isinstance(each, Operation)]
    assert {each.kind for each in done} == {"open", "write", "truncate", "remove", "rename", "sync"}
    assert {each.name for each in done if each.file != FOLDER} == {
        "recording.h5",
        "recording.h5.journal",
        "recording.h5.new",
    }
    assert len(list(states(operations.start, operations.done))) > 1000
