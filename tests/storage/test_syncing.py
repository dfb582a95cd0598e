"""What is synced, by whom, and what becomes of a recording when that takes long, or fails."""

from __future__ import annotations

import errno
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from deterministic import ENVS, assert_same_episode, events, expected

from gymbag.errors import RecordingError, RecordingStoppedWarning, StorageError
from gymbag.recording import RecordingWrapper, record_hdf5
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.heartbeat import Heartbeat
from gymbag.storage.journal import journal_path
from gymbag.storage.syncing import Syncer

NEVER = 1e6
PATIENCE = 60


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Take note of which threads sync."""
    found: list[str] = []
    for name, original in (("fsync", os.fsync), ("fdatasync", os.fdatasync)):

        def sync(descriptor: int, original: Callable[[int], None] = original) -> None:
            found.append(threading.current_thread().name)
            original(descriptor)

        monkeypatch.setattr(os, name, sync)
    return found


class Playing:
    """Records an env."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.writer = HDF5Writer(path, **options)
        self.env = RecordingWrapper(ENVS["CartPole"](), self.writer, name="CartPole")
        self._events = events(self.env, 1)
        self.count = 0

    def go_on(self, count: int) -> None:
        for _ in range(count):
            next(self._events)
            self.count += 1


def assert_recorded(path: Path, count: int) -> None:
    with HDF5Reader(path) as reader:
        for found, episode in zip(reader, expected("CartPole", 1, count), strict=True):
            assert_same_episode(found, episode)


def test_another_thread_syncs_and_nobody_waits_for_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_syncing, may_go_on = threading.Event(), threading.Event()
    sync = os.fdatasync

    def wait(descriptor: int) -> None:
        if threading.current_thread().name == "gymbag sync":
            is_syncing.set()
            assert may_go_on.wait(PATIENCE)
        sync(descriptor)

    monkeypatch.setattr(os, "fdatasync", wait)
    playing = Playing(path, flush_seconds=0.01)
    playing.go_on(1)
    assert is_syncing.wait(PATIENCE)
    size = journal_path(path).stat().st_size
    while journal_path(path).stat().st_size < size + 100_000:  # several flushes
        playing.go_on(100)
    assert_recorded(path, playing.count)
    may_go_on.set()
    playing.env.close()
    assert_recorded(path, playing.count)


def test_who_flushes_waits_for_the_disk(path: Path, synced: list[str]) -> None:
    playing = Playing(path, flush_seconds=NEVER)
    playing.go_on(50)
    playing.writer.flush()
    del synced[:]
    playing.writer.flush()
    assert not synced, "nothing is new"
    playing.go_on(1)
    with HDF5Reader(path) as reader:
        assert len(reader) + reader.nsteps == 51
    assert not synced, "a reader needs no sync"
    playing.writer.flush()
    assert synced == [threading.current_thread().name]
    playing.env.close()


def test_nothing_is_synced_if_that_is_not_wanted(path: Path, synced: list[str]) -> None:
    env = record_hdf5(ENVS["CartPole"](), path, name="CartPole", flush_seconds=0.01, durable=False)
    played = events(env, 1)
    for _ in range(500):
        next(played)
    assert "gymbag sync" not in [thread.name for thread in threading.enumerate()]
    env.close()
    assert_recorded(path, 500)
    assert not synced


def test_recording_stops_when_a_sync_fails(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    has_failed, has_stopped = threading.Event(), threading.Event()
    later: list[str] = []
    sync = os.fdatasync

    def fail(descriptor: int) -> None:
        name = threading.current_thread().name
        if has_failed.is_set():
            later.append(name)
        elif name == "gymbag sync" and is_failing:
            has_failed.set()
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        sync(descriptor)

    def show(message: Any, category: Any, *_: Any) -> None:
        messages.append((category, str(message)))
        has_stopped.set()

    is_failing = False
    messages: list[tuple[Any, str]] = []
    monkeypatch.setattr(os, "fdatasync", fail)
    monkeypatch.setattr(warnings, "showwarning", show)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        playing = Playing(path, flush_seconds=0.05)
        playing.go_on(300)
        playing.writer.flush()
        is_failing = True
        while not has_stopped.is_set():
            playing.go_on(10)
        playing.go_on(300)  # the env goes on
        with pytest.raises(RecordingError, match="the latest rows to the disk: Input/output error"):
            playing.env.close()
    assert [category for category, _ in messages] == [RecordingStoppedWarning]
    assert not later, "synced after a failure"
    with HDF5Reader(path) as reader:
        kept = len(reader) + reader.nsteps
    assert 300 <= kept <= playing.count
    assert_recorded(path, kept)


def test_a_sync_that_failed_is_never_tried_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def fail(descriptor: int) -> None:
        calls.append(descriptor)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fail)
    syncer = Syncer()
    with path.open("wb") as file:
        for what in ("a file", "another"):
            with pytest.raises(StorageError, match="cannot sync a file to the disk: Input/output error"):
                syncer.sync(file.fileno(), what)
        with pytest.raises(StorageError, match="cannot sync a file"):
            syncer.sync_folder(path.parent, "a folder")
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("code", "is_fatal"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)]
)
def test_a_folder_may_be_of_a_kind_that_cannot_be_synced(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, is_fatal: bool
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    syncer = Syncer()
    if is_fatal:
        with pytest.raises(StorageError, match="a folder"):
            syncer.sync_folder(path.parent, "a folder")
    else:
        syncer.sync_folder(path.parent, "a folder")
        syncer.check()


def test_a_function_of_a_heartbeat_may_have_another_follow_it() -> None:
    done: list[str] = []
    has_ended = threading.Event()

    def follow() -> None:
        done.append("second")
        has_ended.set()

    def beat() -> float:
        done.append(f"first, {heartbeat.call_after(follow)}")
        return 0.0

    may_begin = threading.Lock()
    with may_begin:
        heartbeat = Heartbeat(lambda: beat() if may_begin.acquire() else None, 0.0)
    assert has_ended.wait(PATIENCE)
    heartbeat.stop()
    assert done == ["first, True", "second"]
    assert not heartbeat.call_after(follow)
