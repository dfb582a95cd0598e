"""Disks that are full: the env goes on, a warning comes, `close` raises, and nothing flushed is lost.

The limit is a real one, of the size of files or of a small file system. What else may fail, and where, is
tried out in `test_failing_operations`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from deterministic import assert_same_episode, expected

from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.journal import journal_path
from gymbag.storage.repair import repair

pytestmark = [pytest.mark.crash, pytest.mark.skipif(sys.platform == "win32", reason="needs limits of POSIX")]

PRELUDE = """
import resource, sys, threading, time, warnings
sys.path[:0] = {sys_path!r}
from pathlib import Path
import numpy as np
from deterministic import ENVS, events
from gymbag.errors import *
from gymbag.recording import RecordingWrapper
from gymbag.storage import hdf5_store
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path
from gymbag.storage.repair import repair

path = Path({path!r})
stopped = threading.Event()
messages = []

def show(message, category, *rest):
    messages.append((category, str(message)))
    if category is RecordingStoppedWarning:
        stopped.set()

warnings.showwarning = show

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

def lift():
    limit(resource.RLIM_INFINITY)

def wrap(kind, name=None, compression="gzip"):
    writer = HDF5Writer(path, flush_seconds=0.05, compression=compression)
    return RecordingWrapper(ENVS[kind](), writer, name=name or kind), writer

class Playing:
    "Plays a recording env next to a bare one."
    def __init__(self, env, kind, session):
        self.pairs = zip(events(env, session), events(ENVS[kind](), session))
        self.count = 0

    def go_on(self, count):
        for _ in range(count):
            found, bare = next(self.pairs)
            assert repr(found) == repr(bare)
            self.count += 1

def expect(error, function, *arguments):
    try:
        function(*arguments)
    except error as caught:
        assert type(caught) is error, type(caught)
        return caught
    raise AssertionError("expected " + error.__name__)
"""


def run(path: Path, program: str) -> None:
    """Run a program, which must end without an error."""
    text = PRELUDE.format(sys_path=sys.path, path=str(path)) + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-c", text], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr, done.stderr


def assert_recorded(path: Path, name: str, *sessions: tuple[str, int, int]) -> None:
    """Assert that a data set holds these sessions: of an env, a number, and so many events."""
    episodes = [episode for session in sessions for episode in expected(*session)]
    with HDF5Reader(path, name) as reader:
        assert len(reader) == len(episodes)
        for found, episode in zip(reader, episodes, strict=True):
            assert_same_episode(found, episode)


def count_events(path: Path, name: str) -> int:
    with HDF5Reader(path, name) as reader:
        return len(reader) + reader.nsteps


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root may mount a small file system")
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


FILL = {
    "a limit of the size of files": "limit(path.stat().st_size + 50_000)",
    "a small file system": """
import os
with (path.parent / "filler").open("wb", buffering=0) as filler:
    while os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_bsize > 50_000:
        filler.write(bytes(4096))
""",
}
EMPTY = {
    "a limit of the size of files": "lift()",
    "a small file system": "(path.parent / 'filler').unlink()",
}
ON_A_FULL_DISK = """
env, writer = wrap("Frames")
playing = Playing(env, "Frames", 1)
playing.go_on(20)
writer.flush()
assert writer.stream.failure is None
{fill}
while not stopped.is_set():
    playing.go_on(1)
playing.go_on(300)  # through several resets
with HDF5Reader(path) as reader:
    assert len(reader) + reader.nsteps >= 20
error = expect(RecordingError, env.close)
assert isinstance(error.__cause__, Exception)
assert {reason!r} in str(error), error
env.close()
assert [category for category, _ in messages] == [RecordingStoppedWarning]
assert {reason!r} in messages[0][1]
assert threading.active_count() == 1
{empty}
"""


def test_the_env_goes_on_when_files_may_not_grow(tmp_path: Path) -> None:
    name = "a limit of the size of files"
    check_full_disk(tmp_path / "recording.h5", FILL[name], EMPTY[name], "File too large")


def test_the_env_goes_on_when_the_disk_is_full(small_disk: Path) -> None:
    name = "a small file system"
    check_full_disk(small_disk / "recording.h5", FILL[name], EMPTY[name], "No space left on device")


def check_full_disk(path: Path, fill: str, empty: str, reason: str) -> None:
    run(path, ON_A_FULL_DISK.format(fill=fill.strip(), empty=empty, reason=reason))
    kept = count_events(path, "Frames")
    assert kept >= 20
    assert_recorded(path, "Frames", ("Frames", 1, kept))
    run(path, "env, writer = wrap('Frames')\nPlaying(env, 'Frames', 2).go_on(30)\nenv.close()")
    assert_recorded(path, "Frames", ("Frames", 1, kept), ("Frames", 2, 30))
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("size", [0, 100, 200, 1000, 5000])
def test_a_recording_that_finds_no_room_to_begin_leaves_nothing(tmp_path: Path, size: int) -> None:
    run(
        tmp_path / "recording.h5",
        f"""
        limit({size})
        error = expect(StorageError, wrap, "CartPole")
        assert "File too large" in str(error), error
        assert threading.active_count() == 1
        lift()
        """,
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "size"),
    [("CartPole", 0), ("CartPole", 100), ("CartPole", 200), ("another", 200), ("another", 1000)],
)
def test_a_recording_that_finds_no_room_to_go_on_changes_nothing(
    tmp_path: Path, name: str, size: int
) -> None:
    path = tmp_path / "recording.h5"
    run(path, "env, writer = wrap('CartPole')\nPlaying(env, 'CartPole', 1).go_on(30)\nenv.close()")
    before = path.read_bytes()
    run(
        path,
        f"""
        limit({size})
        expect(StorageError, wrap, "CartPole", {name!r})
        """,
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_put_into_the_file_stays_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "recording.h5"
    # Without compression the file is larger than the journal will be, so that a limit stops but one of them.
    run(
        path,
        "env, writer = wrap('Frames', compression=None)\nPlaying(env, 'Frames', 1).go_on(60)\nenv.close()",
    )
    before = path.read_bytes()
    run(
        path,
        """
        env, writer = wrap("Frames")
        Playing(env, "Frames", 2).go_on(12)
        writer.flush()
        size = path.stat().st_size
        assert journal_path(path).stat().st_size < 100_000 < size
        limit(150_000)
        error = expect(RecordingError, env.close)
        assert "File too large" in str(error) and ".journal" in str(error), error
        env.close()
        with HDF5Reader(path) as reader:
            assert len(reader) + reader.nsteps == 72
        expect(StorageError, wrap, "Frames")  # who comes next cannot either
        expect(StorageError, repair, path)
        """,
    )
    assert path.read_bytes() == before
    both = ("Frames", 1, 60), ("Frames", 2, 12)
    assert_recorded(path, "Frames", *both)
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    shutil.copy(path, copy)
    shutil.copy(journal_path(path), journal_path(copy))
    assert repair(path)
    assert not repair(path)
    assert_recorded(path, "Frames", *both)
    assert not journal_path(path).exists()
    # So does who records next.
    run(copy, "env, writer = wrap('Frames')\nPlaying(env, 'Frames', 3).go_on(5)\nenv.close()")
    assert_recorded(copy, "Frames", *both, ("Frames", 3, 5))


REMOVED: dict[str, Callable[[Path], str]] = {
    "folder": lambda path: "import shutil; shutil.rmtree(path.parent)",
    "journal": lambda path: "journal_path(path).unlink()",
    "file": lambda path: "path.unlink()",
}


@pytest.mark.parametrize("what", REMOVED)
def test_the_env_goes_on_when_what_is_recorded_to_is_removed(tmp_path: Path, what: str) -> None:
    path = tmp_path / "folder" / "recording.h5"
    path.parent.mkdir()
    run(
        path,
        f"""
        env, writer = wrap("CartPole")
        playing = Playing(env, "CartPole", 1)
        playing.go_on(30)
        writer.flush()
        {REMOVED[what](path)}
        while not stopped.is_set():
            playing.go_on(1)
        playing.go_on(300)
        error = expect(RecordingError, env.close)
        assert "removed" in str(error), error
        env.close()
        assert threading.active_count() == 1
        path.parent.mkdir(exist_ok=True)
        if journal_path(path).exists():  # all that is left of the recording, so nobody overwrites it
            assert "is gone" in str(expect(StorageError, wrap, "CartPole", "another"))
            journal_path(path).unlink()
        env, writer = wrap("CartPole", "another")
        Playing(env, "CartPole", 2).go_on(30)
        env.close()
        """,
    )
    assert_recorded(path, "another", ("CartPole", 2, 30))


def test_a_wider_dtype_that_finds_no_room_stops_the_recording_only(tmp_path: Path) -> None:
    path = tmp_path / "recording.h5"
    run(
        path,
        """
        import gymnasium

        class Widening(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (1000,))
            action_space = gymnasium.spaces.Discrete(2)
            t = 0

            def observe(self):
                dtype = np.float32 if self.t < 50 else np.float64
                return np.full(1000, self.t / 3, dtype)

            def reset(self, seed=None, options=None):
                return self.observe(), {}

            def step(self, action):
                self.t += 1
                return self.observe(), 1.0, False, False, {}

        env = RecordingWrapper(Widening(), HDF5Writer(path, flush_seconds=1000, compression=None))
        env.reset()
        for _ in range(40):
            env.step(0)
        env._writer.flush()
        limit(path.stat().st_size + 200_000)
        for t in range(41, 100):
            observation, reward, *_ = env.step(1)
            assert observation.dtype == (np.float32 if t < 50 else np.float64)
        env.reset()
        env.step(0)
        expect(RecordingError, env.close)
        lift()
        with HDF5Reader(path) as reader:
            found = reader[0].observations
            assert len(found) >= 41
            assert found.dtype == np.float32
            assert found[:, 0].tolist() == [float(np.float32(t / 3)) for t in range(len(found))]
        """,
    )
