"""Iterating a reader: blocks of rows that episodes share, and threads that read ahead."""

from __future__ import annotations

import gc
import itertools
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import SpaceCase, space_case
from recorded import Played, assert_same_arrays, assert_same_steps, header_of, play, write
from same import assert_same

from gymbag.columns import ArraySpec, Rows, join_rows
from gymbag.errors import DamagedFileError
from gymbag.storage.base import Header, Reader
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.read_ahead import OngoingReads, ReadAhead
from gymbag.storage.store_writer import StoreWriter
from gymbag.storage.stream import ArrayStore
from gymbag.storage.stream_reader import StreamReader
from gymbag.storage.stream_tables import _BLOCK_ROWS

T, X = "terminated", "unfinished"
BOX, DISCRETE, TEXT = space_case("Box-unbounded"), space_case("Discrete"), space_case("Text")
IMAGE = space_case("Box-image")  # 100,800 bytes, of which 16 make a block
# Episodes within a block, across blocks, of several blocks, and without steps.
LENGTHS = [7, 1, 12, 0, 50, 3, 0, 2]


class Arrays(ArrayStore):
    """A store of plain arrays, in which rows may be replaced or be damaged."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self.damaged: tuple[str, int] | None = None
        self.before_reading: Any = str  # does nothing

    def create(self, specs: Mapping[str, ArraySpec]) -> None:
        self.arrays.update({path: np.empty((0, *spec.shape), spec.dtype) for path, spec in specs.items()})

    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        raise NotImplementedError

    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        return {path: array.dtype for path, array in self.arrays.items()}

    def append(self, path: str, rows: Rows) -> None:
        if len(rows):
            self.arrays[path] = np.concatenate([self.arrays[path], join_rows(rows)])

    def length(self, path: str) -> int:
        return len(self.arrays.get(path, ()))

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        self.before_reading(path)
        if not start <= stop <= self.length(path):
            raise DamagedFileError(f"{path} has no rows {start} to {stop}")
        if self.damaged and path == self.damaged[0] and start <= self.damaged[1] < stop:
            raise DamagedFileError(f"row {self.damaged[1]} of {path} cannot be read")
        return self.arrays[path][start:stop].copy()


class ArraysWriter(StoreWriter):
    """Records to a store of plain arrays."""

    def __init__(self, store: Arrays) -> None:
        self._store = store

    def open_store(self, header: Header) -> ArrayStore:
        return self._store


def recorded_to(store: Arrays, case: SpaceCase, episodes: list[Played]) -> StreamReader:
    """Record episodes to a store, and return a reader of it that reads ahead."""
    header = header_of(case)
    write(ArraysWriter(store), header, episodes)
    return StreamReader(
        store, header.name, header.observation_space, header.action_space, "", in_background=True
    )


@pytest.fixture
def images(tmp_path: Path) -> tuple[Reader, list[Played]]:
    episodes = play(IMAGE, [(length, T if length else X) for length in LENGTHS], actions=DISCRETE)
    path = tmp_path / "images.h5"
    write(HDF5Writer(path), header_of(IMAGE, DISCRETE), episodes)
    return HDF5Reader(path), episodes


def reading_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("gymbag-read-ahead")]


def assert_no_threads() -> None:
    deadline = time.monotonic() + 10
    while reading_threads() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not reading_threads()


def test_episodes_may_be_iterated_in_any_order(images: Any) -> None:
    reader, episodes = images
    found = list(reader)
    orders = [range(8), reversed(range(8)), random.Random(1).sample(range(8), 8), [6, 7, 0, 1]]
    for order in orders:
        for index in order:
            assert_same_steps(found[index], episodes[index], reader)
    assert_no_threads()


def test_steps_of_two_episodes_may_be_read_in_turns(images: Any) -> None:
    reader, episodes = images
    _, _, third, _, fifth, *_ = reader
    pairs = list(itertools.zip_longest(third, fifth))
    assert_same([step.observation for step, _ in pairs[:13]], episodes[2].observations)
    assert_same([step.observation for _, step in pairs], episodes[4].observations)


def test_episodes_that_are_left_early_or_skipped_do_not_matter(images: Any) -> None:
    reader, episodes = images
    for index, episode in enumerate(reader):
        if index % 2:
            assert_same_steps(episode, episodes[index], reader)
        else:
            next(iter(episode))
    assert_no_threads()


@pytest.mark.parametrize("name", ["Box-unbounded", "Dict-nested", "Text", "Graph"])
def test_what_is_done_to_steps_changes_neither_episodes_nor_neighbours(name: str, tmp_path: Path) -> None:
    case = space_case(name)
    episodes = play(case, [(3, T), (2, T), (4, X)], infos=True)
    write(HDF5Writer(tmp_path / "x.h5"), header_of(case), episodes)
    reader = HDF5Reader(tmp_path / "x.h5")

    def overwrite(value: Any) -> None:
        if isinstance(value, np.ndarray):
            assert value.flags.writeable
            value[...] = 1
        elif isinstance(value, dict | tuple | list):
            for item in value.values() if isinstance(value, dict) else value:
                overwrite(item)
            if isinstance(value, dict):
                value.clear()

    found = list(reader)
    for index, episode in enumerate(found):
        assert_same_steps(episode, episodes[index], reader)  # the shared blocks are used up by this
    found = list(reader)
    for index, episode in enumerate(found):
        for step in episode:
            overwrite(step)
        for other, played in zip(found[index:], episodes[index:], strict=True):
            if other is episode:
                assert_same_steps(other, played, reader)
            assert_same_arrays(other, played, reader)
    for episode, played in zip(found, episodes, strict=True):
        assert_same_steps(episode, played, reader)


def test_threads_may_iterate_the_episodes_of_one_loop(images: Any) -> None:
    reader, episodes = images
    for _ in range(3):
        with ThreadPoolExecutor(4) as pool:
            steps = list(pool.map(list, reader))
        for found, played in zip(steps, episodes, strict=True):
            assert_same([step.observation for step in found], played.observations)


def test_episodes_outlive_the_closing_of_their_reader(images: Any) -> None:
    reader, episodes = images
    found = list(reader)
    next(iter(found[4]))
    reader.close()
    steps = iter(found[5])
    next(steps)
    reader.close()
    assert_same([step.observation for step in steps], episodes[5].observations[1:])
    for episode, played in zip(found, episodes, strict=True):
        assert_same_arrays(episode, played, reader)
        assert_same_steps(pickle.loads(pickle.dumps(episode)), played, reader)


@pytest.mark.parametrize("leave", ["close", "forget"])
def test_no_thread_is_left_when_a_loop_is_left(images: Any, leave: str) -> None:
    reader, _ = images
    episodes = iter(reader)
    steps = iter(next(episodes))
    next(steps)
    assert reading_threads()
    if leave == "close":
        episodes.close()
    del episodes, steps
    gc.collect()
    assert_no_threads()


def test_closing_a_reader_waits_for_what_is_being_read(images: Any) -> None:
    reader, _ = images
    for _ in range(20):
        steps = iter(next(iter(reader)))
        next(steps)
        reader.close()
        assert reader._recording.store._snapshot is None
        time.sleep(0.002)
        assert reader._recording.store._snapshot is None


PROGRAM = """
import sys
from gymbag import HDF5Reader
reader = HDF5Reader(sys.argv[1])
episodes = iter(reader)
steps = iter(next(episodes))
step = next(steps)
"""


@pytest.mark.parametrize(
    "last", ["", "raise RuntimeError", "import atexit\natexit.register(lambda: print(sum(map(len, reader))))"]
)
def test_an_interpreter_exits_in_the_middle_of_a_loop(images: Any, last: str) -> None:
    command = [sys.executable, "-c", PROGRAM + last, str(images[0].path)]
    finished = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert finished.returncode == ("raise" in last), finished.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_goes_on_with_a_loop(images: Any) -> None:
    reader, episodes = images
    *_, fifth = itertools.islice(reader, 5)
    steps = iter(fifth)
    next(steps)
    child = os.fork()
    if not child:
        status = 1
        try:
            rest = [step.observation for step in steps]
            status = int(not np.array_equal(rest, episodes[4].observations[1:]))
            reader.close()
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert_same([step.observation for step in steps], episodes[4].observations[1:])


def test_reading_goes_on_without_a_thread_if_there_can_be_none(
    images: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    reader, episodes = images
    for episode, played in zip(reader, episodes, strict=True):
        assert_same_steps(episode, played, reader)


def test_only_what_is_damaged_is_not_read() -> None:
    store, episodes = Arrays(), play(IMAGE, [(3, T), (4, T), (3, T)])
    reader = recorded_to(store, IMAGE, episodes)
    for path, row in (("observations", 5), ("infos/ends", 4), ("episodes/final_observation", 1)):
        store.damaged = path, row
        first, second, third = reader
        assert_same_steps(first, episodes[0], reader)
        with pytest.raises(DamagedFileError, match="cannot be read"):
            list(second)
        if path != "infos/ends":  # where a row of infos begins, the row before it tells
            assert_same_steps(third, episodes[2], reader)
    assert_no_threads()


def test_memory_does_not_grow_with_the_number_of_episodes(tmp_path: Path) -> None:
    writer = HDF5Writer(tmp_path / "x.h5")
    write(writer, header_of(BOX, DISCRETE), play(BOX, [(3, T)] * 20_000, actions=DISCRETE))
    reader = HDF5Reader(tmp_path / "x.h5")
    for episode in itertools.islice(reader, 10):
        list(episode)
    peaks = []
    for count in (2 * _BLOCK_ROWS // 3, 20_000):
        tracemalloc.start()
        for episode in itertools.islice(reader, count):
            for _ in episode:
                pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0] + 1e6


def beginning_of(whole: Played, length: int) -> Played:
    """Return the episode as it was after so many steps."""
    return Played(
        whole.observations[: length + 1],
        whole.actions[:length],
        whole.rewards[:length],
        whole.infos[: length + 1],
        whole.times[: length + 1],
        X,
    )


@pytest.mark.parametrize("case", [BOX, TEXT, space_case("Dict-nested")], ids=str)
def test_an_episode_stays_what_it_was_while_it_goes_on(case: SpaceCase) -> None:
    (whole,) = play(case, [(6, X)])
    store, later = Arrays(), Arrays()
    cut = beginning_of(whole, 3)
    reader = recorded_to(store, case, [cut])
    recorded_to(later, case, [whole])
    (made_before,) = reader
    read_before = reader[0]
    assert_same_arrays(read_before, cut, reader)

    store.arrays = later.arrays
    for episode in (made_before, read_before, pickle.loads(pickle.dumps(made_before))):
        assert len(episode) == 3
        assert_same_steps(episode, cut, reader)
        assert_same_arrays(episode, cut, reader)
    (now,) = reader
    assert_same_steps(now, whole, reader)


@pytest.mark.parametrize("moment", ["episodes/final_observation/ends", "episodes/final_observation/data"])
def test_an_episode_may_go_on_while_its_end_is_read(moment: str) -> None:
    (whole,) = play(TEXT, [(6, X)])
    whole.observations[3], whole.observations[6] = "abcdef", "a"
    store, later = Arrays(), Arrays()
    cut = beginning_of(whole, 3)
    reader = recorded_to(store, TEXT, [cut])
    recorded_to(later, TEXT, [whole])
    (episode,) = reader

    def go_on(path: str) -> None:
        if path == moment:
            store.arrays = later.arrays

    store.before_reading = go_on
    assert_same([step.observation for step in episode], cut.observations)


def test_what_was_not_begun_is_not_taken() -> None:
    ahead: ReadAhead[int] = ReadAhead(OngoingReads())
    assert ahead.take(1) is None
    ahead.begin(1, lambda number: 10 * number)
    assert ahead.take(2) is None
    ahead.begin(2, lambda number: 10 * number)
    assert ahead.take(2) in (20, None)
    ahead.begin(3, lambda number: number // 0)
    time.sleep(0.05)
    with pytest.raises(ZeroDivisionError):
        ahead.take(3)


SHORT_LENGTHS = [3, 1, 2, 0, 5, 4, 1, 3, 2, 6, 1, 1, 2, 3, 0, 2, 4, 1, 2, 3, 1, 2, 2, 4]


@pytest.fixture(params=["Box-unbounded", "Discrete", "Dict-nested", "Text"])
def short_episodes(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Reader, list[Played]]:
    """Return episodes of which many lie in a block, with infos in some."""
    case = space_case(request.param)
    episodes = [
        play(case, [(length, T if length and number % 3 else X)], infos=number % 2 == 0)[0]
        for number, length in enumerate(SHORT_LENGTHS)
    ]
    write(HDF5Writer(tmp_path / "short.h5"), header_of(case), episodes)
    return HDF5Reader(tmp_path / "short.h5"), episodes


def test_short_episodes_may_be_iterated_in_any_order_and_again(short_episodes: Any) -> None:
    reader, episodes = short_episodes
    everything = range(len(episodes))
    orders = [everything, reversed(everything), random.Random(2).sample(everything, len(everything))]
    for order in orders:
        found = list(reader)
        for index in [*order, *order]:
            assert_same_steps(found[index], episodes[index], reader)


@pytest.mark.parametrize("taken", [0, 1, 2, 4])
def test_short_episodes_may_be_left_early_and_taken_up_again(short_episodes: Any, taken: int) -> None:
    reader, episodes = short_episodes
    iterators, begun = [], []
    for index, episode in enumerate(reader):
        if index % 4 == 3:
            assert_same_steps(episode, episodes[index], reader)
            continue
        iterators.append((index, iter(episode)))
        begun.append(list(itertools.islice(iterators[-1][1], taken)))
    for (index, rest), steps in zip(iterators, begun, strict=True):
        observations = [step.observation for step in (*steps, *rest)]
        assert_same(observations, list(episodes[index].observations))


def test_threads_may_iterate_short_episodes_of_one_loop(short_episodes: Any) -> None:
    reader, episodes = short_episodes
    for _ in range(10):
        with ThreadPoolExecutor(4) as pool:
            steps = list(pool.map(list, reader))
        for found, played in zip(steps, episodes, strict=True):
            assert_same([step.observation for step in found], list(played.observations))


def test_short_episodes_do_not_depend_on_damaged_neighbours() -> None:
    store, episodes = Arrays(), play(BOX, [(2, T)] * 30)
    reader = recorded_to(store, BOX, episodes)
    for path, row, damaged in (("observations", 25, 12), ("episodes/final_observation", 17, 17)):
        store.damaged = path, row
        for index, episode in enumerate(reader):
            if index == damaged:
                with pytest.raises(DamagedFileError, match="cannot be read"):
                    list(episode)
            else:
                assert_same_steps(episode, episodes[index], reader)
