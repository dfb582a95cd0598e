"""Who may write when, and what becomes of a recording when processes, threads and references come and go."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
from deterministic import ENVS, assert_same_episode, events, expected
from file_operations import settings

from gymbag.errors import FileInUseError, RecordingError
from gymbag.recording import RecordingWrapper
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path
from gymbag.storage.repair import repair
from gymbag.storage.snapshot import Snapshot

pytestmark = pytest.mark.crash

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
NEVER = 1e6


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


def wrap(path: Path, kind: str = "CartPole", name: str | None = None, seconds: float = NEVER) -> Any:
    return RecordingWrapper(ENVS[kind](), HDF5Writer(path, flush_seconds=seconds), name=name or kind)


def go_on(env: Any, session: int, count: int) -> None:
    played = events(env, session)
    for _ in range(count):
        next(played)


def assert_recorded(path: Path, *sessions: tuple[str, int, int], name: str | None = None) -> None:
    episodes = [episode for session in sessions for episode in expected(*session)]
    with HDF5Reader(path, name) as reader:
        assert len(reader) == len(episodes)
        for found, episode in zip(reader, episodes, strict=True):
            assert_same_episode(found, episode)


def heartbeats() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "gymbag heartbeat"]


PRELUDE = """
import os, signal, sys, threading
sys.path[:0] = {sys_path!r}
from pathlib import Path
import h5py
from deterministic import ENVS, events, expected, assert_same_episode
from gymbag.errors import *
from gymbag.recording import RecordingWrapper
from gymbag.storage import hdf5_store
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path

path = Path({path!r})

def wrap(path=path, kind="CartPole", name=None, seconds=1e6):
    return RecordingWrapper(ENVS[kind](), HDF5Writer(path, flush_seconds=seconds), name=name or kind)

def go_on(env, session, count):
    played = events(env, session)
    for _ in range(count):
        next(played)

def assert_recorded(path, *sessions, name=None):
    episodes = [episode for session in sessions for episode in expected(*session)]
    with HDF5Reader(path, name) as reader:
        assert len(reader) == len(episodes)
        for found, episode in zip(reader, episodes):
            assert_same_episode(found, episode)

def ask(what, *arguments):
    "Tell what a function raises."
    try:
        return what(*arguments)
    except Exception as error:
        return f"{{type(error).__name__}}: {{error}}"
"""


def start(path: Path, program: str) -> subprocess.Popen[str]:
    text = PRELUDE.format(sys_path=sys.path, path=str(path)) + textwrap.dedent(program)
    return subprocess.Popen(
        [sys.executable, "-u", "-c", text],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(path: Path, program: str, status: int = 0) -> str:
    """Run a program; return what it printed."""
    with start(path, program) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == status, errors
    return output


# Two writers.

NAMES: dict[str, Callable[[Path], str]] = {
    "the same name": str,
    "a relative name": lambda path: os.path.relpath(path),
    "a name with dots": lambda path: f"{path.parent}/./../{path.parent.name}/{path.name}",
    "a link": lambda path: str(path.with_name("link.h5")),
    "a link to the folder": lambda path: str(path.with_name("folder") / path.name),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_a_second_writer_is_told_who_writes_and_changes_nothing(
    path: Path, name: Callable[[Path], str]
) -> None:
    path.with_name("link.h5").symlink_to(path)
    path.with_name("folder").symlink_to(path.parent)
    env = wrap(path)
    go_on(env, 1, 50)
    env._writer.flush()
    before = path.read_bytes(), journal_path(path).read_bytes()
    for data_set in ("CartPole", "another"):
        answer = run(path, f"print(ask(wrap, {name(path)!r}, 'CartPole', {data_set!r}))")
        assert answer.startswith("FileInUseError")
        for part in (Path(name(path)).resolve().name, f"process {os.getpid()}", socket.gethostname()):
            assert part in answer
    assert (path.read_bytes(), journal_path(path).read_bytes()) == before
    env.close()
    assert_recorded(path, ("CartPole", 1, 50))


def test_two_files_are_written_at_once(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.h5" for number in range(2)]
    envs = [wrap(path, seconds=0.01) for path in paths]
    played = [events(env, session) for session, env in enumerate(envs)]
    for _ in range(300):
        for each in played:
            next(each)
    for env in envs:
        env.close()
    for session, path in enumerate(paths):
        assert_recorded(path, ("CartPole", session, 300))
    assert not heartbeats()


@pytest.mark.parametrize("first", ["began the file", "goes on with it"])
def test_other_programs_may_not_write_while_somebody_records(path: Path, first: str) -> None:
    if first == "goes on with it":
        wrap(path).close()
    env = wrap(path)
    go_on(env, 1, 10)
    for mode in ("a", "r+"):
        with pytest.raises(OSError, match="lock"):
            h5py.File(path, mode)
    with h5py.File(path, "r"):
        go_on(env, 2, 10)
        env._writer.flush()
    env.close()
    h5py.File(path, "a").close()
    assert_recorded(path, ("CartPole", 1, 10), ("CartPole", 2, 10))


@pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning")
def test_a_killed_process_leaves_no_lock(path: Path) -> None:
    with start(
        path, "env = wrap()\ngo_on(env, 1, 50)\nenv._writer.flush()\nprint('flushed')\ninput()"
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "flushed\n"
        with pytest.raises(FileInUseError, match=f"process {process.pid}"):
            wrap(path)
        process.kill()
        process.wait()
    env = wrap(path)
    go_on(env, 2, 50)
    env.close()
    assert_recorded(path, ("CartPole", 1, 50), ("CartPole", 2, 50))


# Forks.


@needs_fork
@pytest.mark.parametrize("end", ["env.close()", "os.kill(os.getpid(), signal.SIGKILL)"])
@pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning")
def test_the_lock_ends_with_the_parent_even_if_its_child_lives_on(path: Path, end: str) -> None:
    program = f"""
    wrap().close()
    env = wrap()
    go_on(env, 1, 50)
    env._writer.flush()
    if os.fork() == 0:
        input()
        print("child ends")
        sys.exit()
    {end}
    print("parent ends")
    """
    with start(path, program) as process:
        process.wait()  # for the parent
        assert process.stdin is not None
        assert process.stdout is not None
        again = wrap(path)
        go_on(again, 2, 50)
        again.close()
        h5py.File(path, "a").close()  # nor is there any other lock
        process.stdin.write("\n")
        process.stdin.flush()
        assert "child ends" in process.stdout.read()
    assert_recorded(path, ("CartPole", 1, 50), ("CartPole", 2, 50))


@needs_fork
@pytest.mark.parametrize("kind", ENVS)
def test_a_forked_child_reads_and_records_elsewhere_but_not_to_its_parents_file(
    path: Path, kind: str
) -> None:
    run(
        path,
        f"""
        hdf5_store._LARGEST_JOURNAL = 1 << 14
        kind = {kind!r}
        env = wrap(path, kind, seconds=0.001)
        played = events(env, 1)
        count = 0

        def live(number):
            with HDF5Reader(path) as reader:
                assert len(reader) + reader.nsteps == count
            assert ask(wrap).startswith("FileInUseError")
            other = path.with_name(f"child-{{number}}.h5")
            own = wrap(other, kind, seconds=0.001)
            go_on(own, 2, 30)
            own.close()
            assert_recorded(other, (kind, 2, 30))
            assert ask(env.reset).startswith("RecordingError")
            env._writer.flush()
            if number % 2:
                ask(env.close)

        for number in range(8):
            for _ in range(50):
                next(played)
                count += 1
            env._writer.flush()
            child = os.fork()
            if child == 0:
                live(number)
                sys.exit(0)
            _, status = os.waitpid(child, 0)
            assert status == 0, status
            for _ in range(50):  # at times the child comes in the middle of a flush or fold
                next(played)
                count += 1
        env.close()
        assert_recorded(path, (kind, 1, count))
        """,
    )


FORK_WHILE_FOLDING = """
from gymbag.storage import writable_file
folding, forked = threading.Event(), threading.Event()
fold = writable_file.fold

def fold_and_wait(*arguments):
    fold(*arguments)
    folding.set()
    forked.wait()

env = wrap(path, "Frames")
played = events(env, 1)
for _ in range(60):
    next(played)
writable_file.fold = fold_and_wait
thread = threading.Thread(target=env._writer.flush)
hdf5_store._LARGEST_JOURNAL = 0
thread.start()
folding.wait()
reads, writes = os.pipe()
child = os.fork()
if child == 0:
    os.close(writes)
    os.read(reads, 1)  # until the parent has closed the file
    sys.exit(0)
forked.set()
thread.join()
assert env._writer.stream.failure is None
for _ in range(600):
    next(played)
env.close()
before = path.read_bytes()
os.close(writes)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert path.read_bytes() == before
"""


@needs_fork
def test_a_child_that_is_forked_while_its_parent_folds_leaves_the_file_alone(path: Path) -> None:
    # It inherits an HDF5 file that is open for writing, which HDF5 closes at the child's exit.
    run(path, FORK_WHILE_FOLDING)
    assert_recorded(path, ("Frames", 1, 660))
    h5py.File(path, "r").close()


READ_TO_THE_END = """
env = wrap(path, "Frames")
go_on(env, 1, 60)
env.close()
ready, never = threading.Event(), threading.Event()

def read():
    reader = HDF5Reader(path)
    assert len(reader[0]) == 50
    ready.set()
    never.wait()

threading.Thread(target=read, daemon=True).start()
ready.wait()
"""


def test_a_thread_may_hold_a_reader_to_the_end(path: Path) -> None:
    run(path, READ_TO_THE_END)


@needs_fork
def test_a_child_may_be_forked_while_a_thread_holds_a_reader(path: Path) -> None:
    run(path, READ_TO_THE_END + "if os.fork() == 0: sys.exit(0)\nassert os.wait()[1] == 0")


# Errors and endings.


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_env_that_raises_loses_nothing(path: Path, error: type[BaseException]) -> None:
    env = wrap(path)
    go_on(env, 1, 5)

    def fail(action: Any) -> Any:
        raise error

    step = env.env.step
    env.env.step = fail
    with pytest.raises(error):
        env.step(0)
    env.env.step = step
    with pytest.raises(RecordingError, match="expected reset"):
        env.step(0)
    go_on(env, 2, 5)
    env.close()
    assert_recorded(path, ("CartPole", 1, 5), ("CartPole", 2, 5))
    assert not heartbeats()


def test_an_interrupted_program_loses_nothing(path: Path) -> None:
    program = """
    env = wrap(seconds=0.01)
    print("recording")
    count = 0
    for _ in events(env, 1):
        count += 1
    """
    with start(path, program) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "recording\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    with HDF5Reader(path) as reader:
        count = len(reader) + reader.nsteps
    assert_recorded(path, ("CartPole", 1, count))
    assert list(path.parent.iterdir()) == [path]


def test_a_recording_that_is_forgotten_is_closed_and_its_thread_ends(path: Path) -> None:
    env = wrap(path, seconds=0.001)
    go_on(env, 1, 500)
    assert len(heartbeats()) == 1
    del env
    gc.collect()
    assert not heartbeats()
    assert list(path.parent.iterdir()) == [path]
    assert_recorded(path, ("CartPole", 1, 500))


@pytest.mark.parametrize(
    ("end", "status"),
    [("", 0), ("sys.exit(3)", 3), ("raise RuntimeError", 1), ("env.itself = env; del env", 0)],
)
@pytest.mark.parametrize("kind", ENVS)
def test_a_program_that_ends_without_closing_loses_nothing(
    path: Path, kind: str, end: str, status: int
) -> None:
    run(path, f"env = wrap(path, {kind!r}, seconds=0.001)\ngo_on(env, 1, 300)\n{end}", status)
    assert_recorded(path, (kind, 1, 300))
    assert list(path.parent.iterdir()) == [path]


def test_no_thread_is_left_after_close(path: Path) -> None:
    before = threading.active_count()
    for session in range(5):
        env = wrap(path, seconds=0.001)
        go_on(env, session, 20)
        env.close()
        assert not heartbeats()
    assert threading.active_count() == before
    assert_recorded(path, *(("CartPole", session, 20) for session in range(5)))


def test_a_recording_may_be_flushed_never(path: Path) -> None:
    env = wrap(path, seconds=float("inf"))
    assert len(heartbeats()) == 1
    go_on(env, 1, 20)
    env.close()
    assert_recorded(path, ("CartPole", 1, 20))


def test_an_open_recording_is_not_pickled(path: Path) -> None:
    env = wrap(path)
    go_on(env, 1, 5)
    with pytest.raises(RecordingError, match="cannot be pickled"):
        pickle.dumps(env)
    go_on(env, 2, 5)
    env.close()
    assert_recorded(path, ("CartPole", 1, 5), ("CartPole", 2, 5))


# Readers and a writer.


def count_and_check(path: Path, kind: str, session: int, at_least: int) -> int:
    """Read a recording that goes on, twice, and assert that all of it is right; return how much there was."""
    with HDF5Reader(path) as reader:
        found = list(reader)
        count = len(found) + sum(map(len, found))
        assert count >= at_least
        episodes = expected(kind, session, count)
        assert len(found) == len(episodes)
        for one, other in zip(found, episodes, strict=True):
            assert_same_episode(one, other)
        # An episode that has been handed out stays as it was, whatever is recorded meanwhile.
        assert reader.nsteps + len(reader) >= count
        for one, other in zip(found[-2:], episodes[-2:], strict=True):
            assert [step.reward for step in one][1:] == other.rewards
            assert_same_episode(one, other)
    return count


def hammer(path: Path, kind: str, session: int, connection: Any) -> None:
    """Read until told to stop; tell after some readings, and at the end, that nothing was wrong, or what."""
    count = 0
    try:
        for _ in range(4):
            count = count_and_check(path, kind, session, count)
        connection.send("right")
        while not connection.poll():
            count = count_and_check(path, kind, session, count)
        connection.send("right")
    except BaseException as error:
        connection.send(repr(error))
        raise


@pytest.mark.parametrize("kind", ENVS)
def test_many_readers_find_nothing_wrong_while_a_writer_folds_all_the_time(path: Path, kind: str) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["deterministic"])
    with settings(_LARGEST_JOURNAL=1 << 13):
        env = wrap(path, kind)
        played = events(env, 1)
        next(played)
        env._writer.flush()
        pipes = [context.Pipe() for _ in range(3)]
        processes = [
            context.Process(target=hammer, args=(path, kind, 1, theirs), daemon=True) for _, theirs in pipes
        ]
        ours, theirs = multiprocessing.Pipe()
        thread = threading.Thread(target=hammer, args=(path, kind, 1, theirs))
        for reader in (*processes, thread):
            reader.start()
        count = 1
        connections = [*(connection for connection, _ in pipes), ours]
        while count < 400 or not all(connection.poll() for connection in connections):
            for _ in range(7):
                next(played)
                count += 1
            env._writer.flush()
            assert env._writer.stream.failure is None
            if count > 400:  # let those who are slow come to an end
                for connection in connections:
                    connection.poll(0.1)
        for connection in connections:
            connection.send("stop")
        answers = [connection.recv() for connection in connections]
        if set(answers) == {"right"}:
            answers += [connection.recv() for connection in connections]
        for reader in (*processes, thread):
            reader.join()
        env.close()
    assert set(answers) == {"right"}
    assert_recorded(path, (kind, 1, count))


def test_a_reader_does_not_keep_a_writer_from_anything(path: Path) -> None:
    wrap(path).close()
    reader = HDF5Reader(path)
    assert len(reader) == 0
    with settings(_LARGEST_JOURNAL=0):
        env = wrap(path)
        assert list(reader) == []
        go_on(env, 1, 50)
        env._writer.flush()
        reader.close()
        steps = iter(reader[0])
        first = [next(steps) for _ in range(3)]
        go_on(env, 2, 50)
        env._writer.flush()
        env.close()
    env = wrap(path)
    go_on(env, 3, 50)
    env.close()
    assert [step.reward for step in [*first, *steps]][1:] == expected("CartPole", 1, 50)[0].rewards
    assert_recorded(path, *(("CartPole", session, 50) for session in (1, 2, 3)))


@pytest.mark.parametrize("array", ["first_row", "length", "ending", "final_observation"])
@pytest.mark.parametrize("read", [list, lambda reader: reader[:]], ids=["iterate", "slice"])
def test_an_episode_that_ends_while_its_row_is_read_is_read_as_it_was_at_one_moment(
    path: Path, array: str, read: Callable[[HDF5Reader], list[Any]]
) -> None:
    with settings(_LARGEST_JOURNAL=0):
        env = wrap(path)
        played = events(env, 1)
        episodes = expected("CartPole", 1, 200)
        whole = sum(1 + len(episode) for episode in episodes[:2])
        for _ in range(whole - 3):
            next(played)
        env._writer.flush()
        reader = HDF5Reader(path)
        source: Any = reader._recording.store  # type: ignore[attr-defined]
        read_array, waiting = source.read, [3]

        def read_and_go_on(name: str, start: int, stop: int) -> Any:
            if name == f"episodes/{array}" and waiting:
                for _ in range(waiting.pop()):
                    next(played)
                env._writer.flush()
            return read_array(name, start, stop)

        source.read = read_and_go_on
        found = read(reader)
        count = 2 + sum(map(len, found))
        assert count in (whole - 3, whole)
        for one, other in zip(found, expected("CartPole", 1, count), strict=True):
            assert_same_episode(one, other)
        env.close()
    for one, other in zip(found, expected("CartPole", 1, count), strict=True):
        assert_same_episode(one, other)


@pytest.mark.parametrize("left", ["nothing", "an empty journal"])
def test_a_reader_that_is_opened_just_as_a_writer_begins_finds_what_is_recorded(
    path: Path, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = wrap(path)
    go_on(env, 1, 30)
    env.close()
    envs: list[Any] = []
    begun = threading.Event()
    open_journal = Snapshot._open_journal

    def open_journal_and_begin(snapshot: Snapshot) -> int:
        if begun.is_set():
            return open_journal(snapshot)
        begun.set()
        if left == "an empty journal":
            journal_path(path).touch()
        descriptor = open_journal(snapshot)
        repair(path)  # which removes an empty journal
        envs.append(wrap(path))
        go_on(envs[0], 2, 30)
        envs[0]._writer.flush()
        return descriptor

    with HDF5Reader(path) as reader:
        monkeypatch.setattr(Snapshot, "_open_journal", open_journal_and_begin)
        assert reader.nsteps + len(reader) == 60
    assert_recorded(path, ("CartPole", 1, 30), ("CartPole", 2, 30))
    envs[0].close()
