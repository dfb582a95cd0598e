"""Following a recording that another process makes, while it goes on."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import SpaceCase, space_case
from recorded import (
    Played,
    assert_recorded,
    assert_same_arrays,
    assert_same_ending,
    assert_same_steps,
    header_of,
    play,
)
from recording_process import RecordingProcess, recording_process
from same import assert_same
from workers import collect_followed, probe_until

from gymbag.errors import FileInUseError
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path

pytestmark = pytest.mark.crash

T, U, X = "terminated", "truncated", "unfinished"
ROBOT = SpaceCase("Robot", "gymnasium", lambda s: s.Dict(at=s.Box(-1, 1, (2,)), word=s.Text(4)))
BOX, DISCRETE = space_case("Box-unbounded"), space_case("Discrete")

# How often to begin a recording while others look at its lock.
COUNT = 40
# How long to wait for what should happen within a second, on a machine that has other things to do.
PATIENCE = 60.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


@pytest.fixture
def recorder() -> Iterator[RecordingProcess]:
    with recording_process() as process:
        yield process


def played(shape: Any, case: SpaceCase = BOX, first: int = 0) -> list[Played]:
    return play(case, shape, actions=DISCRETE, infos=True, first=first)


def header(case: SpaceCase = BOX, **facts: Any) -> Any:
    return header_of(case, DISCRETE, **facts)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing new was seen"
        time.sleep(0.01)


def cut(episode: Played, steps: int) -> Played:
    """Return an episode as it was after so many of its steps."""
    if steps == len(episode):
        return episode
    return replace(
        episode,
        observations=episode.observations[: steps + 1],
        actions=episode.actions[:steps],
        rewards=episode.rewards[:steps],
        infos=episode.infos[: steps + 1],
        times=episode.times[: steps + 1],
        ending=X,
    )


def cut_all(episodes: Sequence[Played], steps: int) -> list[Played]:
    """Return as many episodes as have so many steps, the last of them cut."""
    found = []
    for episode in episodes:
        found.append(cut(episode, min(steps, len(episode))))
        steps -= len(episode)
        if steps <= 0:
            break
    return found


def assert_episode(found: Any, expected: Played, reader: HDF5Reader) -> None:
    assert len(found) == len(expected)
    assert_same_ending(found, expected)
    assert_same(found.seed, expected.seed)
    assert_same_arrays(found, expected, reader)
    assert_same_steps(found, expected, reader)


class Follower:
    """Iterates a file in a thread, and keeps what comes.

    Args:
        path: The file.
        name: Of the data set.
    """

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.reader = HDF5Reader(path, name, follow=True)
        self.episodes: list[Any] = []
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        try:
            for episode in self.reader:
                self.episodes.append(episode)
        except BaseException as error:
            self.error = error

    def has(self, count: int) -> bool:
        assert self.error is None, self.error
        return len(self.episodes) >= count

    def finish(self) -> None:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it does not stop"
        assert self.error is None, self.error

    def assert_episodes(self, expected: Sequence[Played]) -> None:
        assert len(self.episodes) == len(expected)
        for number, (found, episode) in enumerate(zip(self.episodes, expected, strict=True)):
            assert found.index == number
            assert_episode(found, episode, self.reader)


# What a reader sees.


@pytest.mark.parametrize("case", [BOX, ROBOT], ids=str)
def test_each_step_is_seen_before_the_next_is_made(
    path: Path, recorder: RecordingProcess, case: SpaceCase
) -> None:
    (episode,) = played([(4, T)], case)
    recorder("begin", path, header(case), flush_seconds=0.1)
    reader = HDF5Reader(path, follow=True)
    assert len(reader) == 0
    recorder("reset", episode)
    wait_until(lambda: len(reader) == 1)
    assert_episode(reader[0], cut(episode, 0), reader)
    for t in range(len(episode)):
        recorder("step", episode, t)
        wait_until(lambda t=t: reader.nsteps == t + 1)  # type: ignore[misc]
        assert_episode(reader[-1], cut(episode, t + 1), reader)
    recorder("close")
    assert_recorded(reader, [episode])


def test_a_step_is_seen_without_being_asked_for_within_the_default_time(
    path: Path, recorder: RecordingProcess
) -> None:
    (episode,) = played([(2, T)])
    recorder("begin", path, header())
    recorder("reset", episode)
    recorder("step", episode, 0)
    reader = HDF5Reader(path, follow=True)
    wait_until(lambda: reader.nsteps == 1)
    assert reader.is_being_recorded
    recorder("close")
    assert not reader.is_being_recorded


def test_a_reader_that_does_not_follow_shows_what_there_was(path: Path, recorder: RecordingProcess) -> None:
    episodes = played([(3, T), (2, U)])
    recorder("begin", path, header())
    recorder("write", episodes[0])
    recorder("flush")
    reader = HDF5Reader(path)
    assert len(reader) == 1
    recorder("write", episodes[1])
    recorder("flush")
    assert len(reader) == 1
    assert len(list(reader)) == 1
    assert reader.refresh()
    assert len(reader) == 2
    assert not reader.refresh()
    recorder("close")


def test_what_is_flattened_while_it_goes_on_is_a_prefix(path: Path, recorder: RecordingProcess) -> None:
    episodes = played([(number % 7 + 1, (T, U)[number % 2]) for number in range(150)], ROBOT)
    recorder("limit_journal", 20_000)
    recorder("begin", path, header(ROBOT), flush_seconds=0.02, chunk_rows=16)
    reader = HDF5Reader(path, follow=True)
    rewards = np.array([reward for episode in episodes for reward in episode.rewards])
    words = [value["word"] for episode in episodes for value in episode.observations[:-1]]
    ends = np.cumsum([len(episode) for episode in episodes])
    seen = set()
    for episode in episodes:
        recorder.tell("write", episode)
        while not recorder.is_done():
            steps, count = reader.nsteps, len(reader)
            flat = reader.get_dataset(infos=True)
            rows = len(flat["rewards"])
            seen.add(rows)
            assert steps <= rows
            assert_same(flat["rewards"], rewards[:rows])
            assert list(flat["observations"]["word"]) == words[:rows]
            last_rows = np.flatnonzero(flat["terminals"] | flat["timeouts"])
            finished = ends[ends <= rows] - 1
            expected = finished if not rows or rows - 1 in finished else [*finished, rows - 1]
            assert last_rows.tolist() == list(expected)
            assert count <= len(reader) <= len(episodes)
        recorder.wait()
    recorder("close")
    assert_recorded(reader, episodes)
    assert len(seen) > 5


# Iteration.


def test_finished_episodes_come_as_they_end_and_the_open_one_last(
    path: Path, recorder: RecordingProcess
) -> None:
    episodes = played([(3, T), (0, X), (2, U), (4, X)], ROBOT)
    recorder("begin", path, header(ROBOT), flush_seconds=0.1)
    follower = Follower(path)
    recorder("write", episodes[0])
    wait_until(lambda: follower.has(1))
    recorder("write", *episodes[1:3])
    wait_until(lambda: follower.has(3))
    recorder("write", episodes[3])
    recorder("flush")
    time.sleep(0.3)
    assert len(follower.episodes) == 3, "an episode came that is under way"
    recorder("close")
    follower.finish()
    follower.assert_episodes(episodes)


def test_following_ends_when_the_process_is_killed(path: Path, recorder: RecordingProcess) -> None:
    episodes = played([(3, T), (4, T)])
    recorder("begin", path, header(), flush_seconds=0.1)
    follower = Follower(path)
    recorder("write", episodes[0])
    wait_until(lambda: follower.has(1))
    recorder("reset", episodes[1])
    recorder("step", episodes[1], 0)
    recorder("step", episodes[1], 1)
    recorder("flush")
    recorder.die()
    follower.finish()
    follower.assert_episodes([episodes[0], cut(episodes[1], 2)])
    assert journal_path(path).exists()
    assert_recorded(HDF5Reader(path, follow=True), [episodes[0], cut(episodes[1], 2)])


@pytest.mark.parametrize("when", ["before", "in the middle", "after"])
def test_a_follower_may_come_at_any_time(path: Path, recorder: RecordingProcess, when: str) -> None:
    episodes = played([(3, T), (2, U), (4, X)])
    recorder("begin", path, header(), flush_seconds=0.1)
    follower = Follower(path) if when == "before" else None
    recorder("write", *episodes[:2])
    if when == "in the middle":
        recorder("flush")
        follower = Follower(path)
    recorder("write", episodes[2])
    recorder("close")
    follower = follower or Follower(path)
    follower.finish()
    follower.assert_episodes(episodes)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lzf", None])
def test_followers_survive_folds(path: Path, recorder: RecordingProcess, compression: str | None) -> None:
    episodes = played([(number % 5 + 1, (T, U, X)[number % 3]) for number in range(60)], ROBOT)
    recorder("limit_journal", 4000)
    recorder("begin", path, header(ROBOT), flush_seconds=0.05, chunk_rows=16, compression=compression)
    followers = [Follower(path) for _ in range(3)]
    size = path.stat().st_size
    for number, episode in enumerate(episodes):
        recorder("write", episode)
        if number % 3 == 0:
            recorder("flush")
    assert path.stat().st_size > size, "nothing was put into the file"
    recorder("close")
    for follower in followers:
        follower.finish()
        follower.assert_episodes(episodes)


def test_followers_in_other_processes_see_the_same(path: Path, recorder: RecordingProcess) -> None:
    episodes = played([(number % 5 + 1, (T, U)[number % 2]) for number in range(20)])
    recorder("begin", path, header(), flush_seconds=0.05)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        answers = [pool.apply_async(collect_followed, (path,)) for _ in range(2)]
        for episode in episodes:
            recorder("write", episode)
        recorder("close")
        for answer in answers:
            found = answer.get(PATIENCE)
            assert found == [(number, len(e), e.ending, e.rewards) for number, e in enumerate(episodes)]


def test_followers_survive_a_wider_dtype(path: Path, recorder: RecordingProcess) -> None:
    episodes = played([(3, T), (2, U), (3, T), (2, T)])
    exact = np.array([0.1, 1 / 3, 2.0])  # which float32 does not hold
    episodes[2].observations[1:] = [exact + number for number in range(3)]
    recorder("begin", path, header(), flush_seconds=0.05)
    follower, reader = Follower(path), HDF5Reader(path, follow=True)
    recorder("write", episodes[0])
    wait_until(lambda: follower.has(1))
    wait_until(lambda: len(reader) == 1)
    before = reader[0]
    assert before.observations.dtype == np.float32
    recorder("write", *episodes[1:3])
    wait_until(lambda: follower.has(3))
    assert before.observations.dtype.kind == "f"
    assert_same(np.array(before.observations, np.float32), np.array(episodes[0].observations))
    recorder("write", episodes[3])
    recorder("close")
    follower.finish()
    for found in (follower.episodes, list(reader), list(HDF5Reader(path))):
        assert len(found) == 4
        for episode, expected in zip(found, episodes, strict=True):
            wide = np.array(expected.observations, np.float64)
            assert_same(np.array(episode.observations, np.float64), wide)
            steps = np.array([step.observation for step in episode], np.float64)
            assert_same(steps, wide)
    flat = reader.get_dataset()
    assert flat["observations"].dtype == np.float64
    assert_same(flat["observations"][5], np.array(episodes[2].observations[0], np.float64))
    assert_same(flat["observations"][6], exact)


def test_a_later_session_is_seen(path: Path, recorder: RecordingProcess) -> None:
    episodes = played([(3, T), (2, X), (4, T), (1, U)])
    recorder("begin", path, header())
    recorder("write", *episodes[:2])
    reader = HDF5Reader(path, follow=True)
    first = Follower(path)
    recorder("close")
    first.finish()
    first.assert_episodes(episodes[:2])
    assert_recorded(reader, episodes[:2])
    recorder("begin", path, header(), flush_seconds=0.1)
    second = Follower(path)
    wait_until(lambda: second.has(1))
    recorder("write", episodes[2])  # until then episode 1, which is unfinished, looks as if it went on
    wait_until(lambda: second.has(3))
    recorder("write", episodes[3])
    wait_until(lambda: len(reader) == 4)
    recorder("close")
    second.finish()
    second.assert_episodes(episodes)
    assert_recorded(reader, episodes)
    assert len(reader.sessions) == 2


def test_another_data_set_in_the_file_disturbs_nobody(path: Path, recorder: RecordingProcess) -> None:
    episodes, others = played([(3, T), (2, X), (4, T)]), played([(2, T), (5, U)], ROBOT)
    recorder("begin", path, header(name="One-v0"))
    recorder("write", *episodes[:2])
    recorder("close")
    reader = HDF5Reader(path, follow=True)
    recorder("begin", path, header(ROBOT, name="Two-v0"), flush_seconds=0.05)
    assert_recorded_so_far(reader, episodes[:2])
    recorder("write", others[0])
    follower = Follower(path, "Two-v0")
    wait_until(lambda: follower.has(1))
    assert_recorded_so_far(reader, episodes[:2])
    recorder("write", others[1])
    recorder("close")
    follower.finish()
    follower.assert_episodes(others)
    recorder("begin", path, header(name="One-v0"))
    recorder("write", episodes[2])
    recorder("close")
    assert_recorded(reader, episodes)


def assert_recorded_so_far(reader: HDF5Reader, episodes: Sequence[Played]) -> None:
    assert len(reader) == len(episodes)
    for number, episode in enumerate(episodes):
        assert_episode(reader[number], episode, reader)


@pytest.mark.parametrize("case", [BOX, ROBOT], ids=str)
def test_the_value_of_an_open_episode_stays_what_it_was(
    path: Path, recorder: RecordingProcess, case: SpaceCase
) -> None:
    episode, *rest = played([(6, T), (2, U)], case)
    recorder("begin", path, header(case), flush_seconds=1e6)
    reader = HDF5Reader(path, follow=True)
    recorder("reset", episode)
    values = []
    for t in range(len(episode)):
        recorder("flush")
        values.append((t, reader[-1]))
        if t == 3:
            recorder("limit_journal", 100)  # so that it is put into the file from here on
        recorder("step", episode, t)
    recorder("write", *rest)
    recorder("flush")
    assert len(reader) == 2
    for t, value in values:
        assert_episode(value, cut(episode, t), reader)
        assert not value.finished
    recorder("close")
    for t, value in values:
        assert_episode(value, cut(episode, t), reader)
    assert_recorded(reader, [episode, *rest])


# Locks.


def test_a_writer_is_not_refused_because_somebody_looks(path: Path) -> None:
    episodes = played([(1, T)])
    context = multiprocessing.get_context("spawn")
    begun = context.Barrier(3)
    with context.Pool(2, initializer=begun.wait, initargs=(PATIENCE,)) as pool:
        stop = path.with_name("stop")
        answers = [pool.apply_async(probe_until, (journal_path(path), stop)) for _ in range(2)]
        begun.wait(PATIENCE)
        try:
            for _ in range(COUNT):
                writer = HDF5Writer(path, flush_seconds=1e6)
                writer.begin(header())
                writer.write_reset(0.0, episodes[0].observations[0], {}, None, None)
                writer.close()
        finally:
            stop.touch()
        assert all(answer.get(PATIENCE) > 100 for answer in answers)
    assert len(HDF5Reader(path)) == COUNT


def test_looking_at_the_journal_of_a_killed_process_refuses_nobody(
    path: Path, recorder: RecordingProcess
) -> None:
    recorder("begin", path, header())
    recorder("write", *played([(1, T)]))
    recorder("flush")
    recorder.die()
    reader = HDF5Reader(path, follow=True)
    assert not reader.is_being_recorded
    stopped = threading.Event()

    def look() -> None:
        while not stopped.is_set():
            _ = reader.is_being_recorded

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        writer = HDF5Writer(path)
        with pytest.warns(UserWarning, match="was killed"):
            writer.begin(header())
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    with pytest.raises(FileInUseError):
        HDF5Writer(path).begin(header())
    writer.close()
