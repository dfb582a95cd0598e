"""What both backends do alike: whatever is written comes back."""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import pickle
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import VALUES, SpaceCase, each_space, space_case
from recorded import Played, assert_recorded, header_of, overwrite, play, write, write_episodes
from same import assert_same
from workers import summarize, summarize_episode

from gymbag.columns import ArraySpec
from gymbag.errors import RecordingError, SpaceError, StorageError
from gymbag.infos import UnstorableInfoWarning
from gymbag.storage.base import Reader, Writer
from gymbag.storage.events import _LARGE_BLOCK_BYTES, _PACKED, _WITH_OBJECTS
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_store import rows_per_chunk
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.memory import MemoryWriter

T, U, B, X = "terminated", "truncated", "terminated and truncated", "unfinished"
EVERY_FORM = [(0, X), (3, T), (1, U), (0, X), (0, X), (2, X), (4, B), (0, X)]
BOX, DISCRETE, IMAGE = space_case("Box-unbounded"), space_case("Discrete"), space_case("Box-image")


class InMemory:
    """The backend that keeps recordings in memory: one writer, to which sessions are added."""

    def __init__(self, folder: Path) -> None:
        self._writer = MemoryWriter()

    def writer(self) -> Writer:
        return self._writer

    def reader(self) -> Reader:
        return self._writer.reader()


class InHDF5:
    """The backend that keeps recordings in a file."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "recording.h5"

    def writer(self) -> Writer:
        return HDF5Writer(self.path)

    def reader(self) -> Reader:
        return HDF5Reader(self.path)


@pytest.fixture(params=[InMemory, InHDF5], ids=["memory", "hdf5"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return request.param(tmp_path)


def record(backend: Any, case: SpaceCase, shape: Any, **options: Any) -> tuple[Reader, list[Played]]:
    episodes = play(case, shape, **options)
    write(backend.writer(), header_of(case, options.get("actions")), episodes)
    return backend.reader(), episodes


@each_space
def test_episodes_of_every_form_come_back(backend: Any, case: SpaceCase) -> None:
    assert_recorded(*record(backend, case, EVERY_FORM[1:], infos=True))


@pytest.mark.parametrize(
    "name", ["Box-unbounded", "Discrete", "Dict", "Text", "Sequence-Box", "Graph", "OneOf"]
)
def test_resets_before_the_first_step_come_back(backend: Any, name: str) -> None:
    assert_recorded(*record(backend, space_case(name), [(0, X), (0, X), (0, X), (2, T)], infos=True))


@pytest.mark.parametrize("name", ["Box-unbounded", "Dict-nested", "Text", "Dict-empty", "Graph"])
@pytest.mark.parametrize("shape", [[], [(0, X)], [(0, X), (0, X)], [(1, X)]], ids=str)
def test_the_shortest_recordings_come_back(backend: Any, name: str, shape: Any) -> None:
    assert_recorded(*record(backend, space_case(name), shape))


def test_a_recording_without_episodes_has_an_empty_dataset(backend: Any) -> None:
    reader, _ = record(backend, BOX, [])
    dataset = reader.get_dataset(infos=True)
    assert dataset["observations"].shape == dataset["next_observations"].shape == (0, 3)
    assert dataset["rewards"].shape == (0,)


@pytest.mark.parametrize("library", ["gymnasium", "gym"])
def test_observations_and_actions_may_be_of_different_spaces(backend: Any, library: str) -> None:
    case, actions = space_case("Dict-nested", library), space_case("Box-unbounded", library)
    assert_recorded(*record(backend, case, EVERY_FORM[1:], actions=actions))


@pytest.mark.parametrize("info", [v for v in VALUES.values() if isinstance(v, dict)])
def test_infos_options_and_seeds_of_every_kind_come_back(backend: Any, info: Any) -> None:
    episodes = play(DISCRETE, [(2, T), (0, X)])
    for episode in episodes:
        episode.infos[:] = [info] * len(episode.infos)
        episode.options = episode.seed = info
    write(backend.writer(), header_of(DISCRETE), episodes)
    assert_recorded(backend.reader(), episodes)


CHUNK_ROWS = rows_per_chunk("observations", ArraySpec(np.dtype("f4"), (3,)))
WIDE = SpaceCase("Box-wide", "gymnasium", lambda spaces: spaces.Box(-np.inf, np.inf, (256,), np.float64))
WIDE_CHUNK_ROWS = rows_per_chunk("observations", ArraySpec(np.dtype("f8"), (256,)))
BORDERS = [
    pytest.param(BOX, [_PACKED - 1, 0, 1, 1, _PACKED, _PACKED + 1, 0, 3], id="blocks"),
    # A chunk of this space is as long as a block that is read ahead.
    pytest.param(BOX, [CHUNK_ROWS - 1, 1, CHUNK_ROWS, 2], id="chunks"),
    # Chunks of this one are encoded by other threads.
    pytest.param(WIDE, [WIDE_CHUNK_ROWS - 7, 7, 5], id="wide"),
    pytest.param(IMAGE, [_LARGE_BLOCK_BYTES // 100_800 - 1, 1, 0, 1, 9, 10, 11, 1], id="images"),
    pytest.param(space_case("Text"), [_WITH_OBJECTS - 1, 1, 1, _WITH_OBJECTS, 0, 20], id="ragged"),
    pytest.param(DISCRETE, [1] * (_PACKED + 6), id="episodes"),
]


@pytest.mark.parametrize(("case", "lengths"), BORDERS)
def test_episodes_across_borders_of_blocks_and_chunks_come_back(
    backend: Any, case: SpaceCase, lengths: list[int]
) -> None:
    shape = [(length, ending if length else X) for length, ending in zip(lengths, itertools.cycle([T, U, X]))]
    reader, episodes = record(backend, case, shape, actions=DISCRETE)
    assert_recorded(reader, episodes)
    assert len(reader.get_dataset()["rewards"]) == sum(lengths)


def test_infos_across_borders_of_chunks_come_back(backend: Any) -> None:
    (episode,) = episodes = play(DISCRETE, [(30, T)])
    episode.infos[:] = [{"text": str(number % 10) * 20_000} for number in range(31)]
    write(backend.writer(), header_of(DISCRETE), episodes)
    assert_recorded(backend.reader(), episodes)


@pytest.mark.parametrize(
    "name", ["Box-unbounded", "Dict-nested", "Text", "Graph", "OneOf", "Sequence-stacked"]
)
def test_sessions_are_added_to_what_is_there(backend: Any, name: str) -> None:
    case, episodes = space_case(name), []
    for number in range(3):
        session = play(case, EVERY_FORM[number:-1], infos=True, first=len(episodes))
        header = header_of(
            case, metadata={"session": number}, spec={"id": name}, versions={"gymbag": str(number)}
        )
        write(backend.writer(), header, session)
        episodes += session
    reader = backend.reader()
    assert_recorded(reader, episodes)
    assert [session["metadata"]["session"] for session in reader.sessions] == [0, 1, 2]
    assert (reader.header.metadata, reader.header.versions) == ({"session": 2}, {"gymbag": "2"})


def test_a_session_without_steps_adds_nothing(backend: Any) -> None:
    _, episodes = record(backend, BOX, [(2, T)])
    write(backend.writer(), header_of(BOX), [])
    assert_recorded(backend.reader(), episodes)
    assert len(backend.reader().sessions) == 2


def test_the_header_comes_back(backend: Any) -> None:
    facts = {
        "name": "ns/Name-v0",
        "description": "é\n2",
        "spec": {"id": "x", "kwargs": {"a": (1, np.zeros(2))}},
        "versions": {"python": "3"},
        "metadata": {1: np.float32(2), "nan": float("nan")},
    }
    header = header_of(BOX, **facts)
    write(backend.writer(), header, [])
    found = backend.reader().header
    for name in ("name", "description", "spec", "versions", "metadata", "observation_space", "action_space"):
        assert_same(getattr(found, name), getattr(header, name))


@each_space
def test_the_spaces_come_back(backend: Any, case: SpaceCase) -> None:
    write(backend.writer(), header_of(case, DISCRETE), [])
    assert backend.reader().observation_space == case.space()
    assert backend.reader().action_space == DISCRETE.space()


@pytest.mark.parametrize("wanted", ["gymnasium", "gym"])
@pytest.mark.parametrize("recorded_with", ["gymnasium", "gym"])
def test_a_recording_of_one_library_is_read_with_the_other(
    backend: Any, recorded_with: str, wanted: Any
) -> None:
    case = space_case("Graph", recorded_with)
    reader, episodes = record(backend, case, [(3, T)], actions=space_case("Dict", recorded_with))
    other = reader.in_library(wanted)
    assert other.observation_space == space_case("Graph", wanted).space()
    assert other.action_space == space_case("Dict", wanted).space()
    graph = other[0].observations[1]
    assert type(graph).__module__.split(".")[0] == wanted
    assert graph in other.observation_space
    assert_same(graph.nodes, episodes[0].observations[1].nodes)
    assert reader.observation_space == case.space()


def test_episodes_are_indexed_and_sliced(backend: Any) -> None:
    reader, _ = record(backend, DISCRETE, [(length, T) for length in range(1, 6)])
    assert [len(episode) for episode in reader] == [1, 2, 3, 4, 5]
    assert [len(reader[index]) for index in (0, 4, -1, -5, np.int64(2))] == [1, 5, 5, 1, 3]
    for part in (
        slice(None),
        slice(1, 3),
        slice(-2, None),
        slice(None, None, -2),
        slice(3, 99),
        slice(9, 12),
    ):
        assert [len(episode) for episode in reader[part]] == [1, 2, 3, 4, 5][part]
        assert [episode.index for episode in reader[part]] == [0, 1, 2, 3, 4][part]


@pytest.mark.parametrize("index", [5, -6, 10**30])
def test_there_is_no_other_episode(backend: Any, index: int) -> None:
    reader, _ = record(backend, DISCRETE, [(1, T)] * 5)
    with pytest.raises(IndexError, match="has 5 episodes"):
        reader[index]


@pytest.mark.parametrize("index", [1.0, "0", None])
def test_an_index_is_an_integer(backend: Any, index: Any) -> None:
    reader, _ = record(backend, DISCRETE, [(1, T)])
    with pytest.raises(TypeError):
        reader[index]


def test_loops_over_one_reader_are_independent(backend: Any) -> None:
    reader, _ = record(backend, DISCRETE, [(2, T), (3, T), (1, T)])
    assert [(len(one), len(other)) for one in reader for other in reader] == list(
        itertools.product((2, 3, 1), repeat=2)
    )
    episode = reader[1]
    times = [step.time for step in episode]
    pairs = [(one.time, other.time) for one in episode for other in episode]
    assert pairs == list(itertools.product(times, repeat=2))


def test_arrays_belong_to_the_episode(backend: Any) -> None:
    reader, _ = record(backend, space_case("Dict"), [(3, T)])
    changed, untouched = reader[0], reader[0]
    before = untouched.observations["b"].copy()
    changed.observations["b"][:] = 7
    changed.rewards[:] = 7
    for step in changed:
        step.observation["b"][:] = 7
    for episode in (untouched, reader[0]):
        assert_same(episode.observations["b"], before)
        assert 7 not in episode.rewards
    assert changed.observations["b"] is changed.observations["b"]


@each_space
def test_a_writer_copies_what_it_is_given(backend: Any, case: SpaceCase) -> None:
    shape = [(2, T), (1, U), (0, X)]
    episodes = play(case, shape, infos=True)
    writer = backend.writer()
    writer.begin(header_of(case))
    for given in play(case, shape, infos=True):
        write_episodes(writer, [given])
        for value in (given.observations, given.actions):
            overwrite(value)
    writer.close()
    assert_recorded(backend.reader(), episodes)


def test_a_writer_copies_what_the_env_reuses(backend: Any) -> None:
    observation, action, info, options = (
        np.zeros(3, np.float32),
        np.zeros(3, np.float32),
        {"a": np.zeros(1)},
        {"o": [0]},
    )
    writer = backend.writer()
    writer.begin(header_of(BOX))
    writer.write_reset(0.0, observation, info, None, options)
    for step in range(1, 4):
        observation[:], action[:], info["a"][:], options["o"][0] = step, -step, step, step
        writer.write_step(0.0, observation, action, 0.0, False, False, info)
    observation[:] = action[:] = info["a"][:] = 99
    writer.close()
    (episode,) = backend.reader()
    assert episode.observations[:, 0].tolist() == [0, 1, 2, 3]
    assert episode.actions[:, 0].tolist() == [-1, -2, -3]
    assert [info["a"].tolist() for info in episode.infos] == [[0], [1], [2], [3]]
    assert episode.options == {"o": [0]}


def recorded_values(backend: Any, case: SpaceCase, observations: list[Any], actions: list[Any]) -> Any:
    """Record an episode of these values, after resets alone if there are more lists of observations."""
    writer = backend.writer()
    writer.begin(header_of(case))
    writer.write_reset(0.0, observations[0], {}, None, None)
    for observation, action in zip(observations[1:], actions, strict=True):
        writer.write_step(0.0, observation, action, 0.0, False, False, {})
    writer.close()
    return backend.reader()[-1]


def test_values_of_another_dtype_than_declared_keep_it(backend: Any) -> None:
    observations = [np.full(3, 0.1 * number) for number in range(3)]
    actions = [np.full(3, 1 / 3), np.full(3, 2 / 3)]
    episode = recorded_values(backend, BOX, observations, actions)
    assert_same(list(episode.observations), observations)
    assert_same(list(episode.actions), actions)
    again = recorded_values(backend, BOX, observations, actions)
    assert_same(list(again.actions), actions)


def test_the_first_two_observations_may_be_of_different_dtypes(backend: Any) -> None:
    observations = [np.zeros(3, np.float32), np.full(3, 0.1)]
    episode = recorded_values(backend, BOX, observations, [np.zeros(3, np.float32)])
    assert_same(episode.observations, np.array(observations))


def test_whole_numbers_that_come_first_do_not_make_a_float_space_one_of_integers(backend: Any) -> None:
    observations = [np.zeros(3, int), np.ones(3, int), np.full(3, 0.5, np.float32)]
    actions = [[0, 1, 2], np.full(3, 0.5, np.float32)]
    episode = recorded_values(backend, BOX, observations, actions)
    assert episode.observations.tolist() == [[0, 0, 0], [1, 1, 1], [0.5, 0.5, 0.5]]
    assert episode.actions.tolist() == [[0, 1, 2], [0.5, 0.5, 0.5]]


def test_a_reset_before_the_first_step_does_not_decide_the_dtypes(backend: Any) -> None:
    writer = backend.writer()
    writer.begin(header_of(BOX))
    for number in range(3):
        writer.write_reset(0.0, np.full(3, 0.1 * number), {}, None, None)
    writer.write_step(0.0, np.full(3, 0.7), np.full(3, 1 / 3), 0.0, True, False, {})
    writer.close()
    episode = backend.reader()[-1]
    assert_same(episode.observations, np.array([[0.2] * 3, [0.7] * 3]))
    assert_same(episode.actions, np.array([[1 / 3] * 3]))


@pytest.mark.parametrize(
    "misfit",
    [
        {"observation": np.zeros(2, np.float32)},
        {"observation": np.full(3, "x")},
        {"action": np.full(3, 1j)},
        {"action": None},
        {"reward": "much"},
        {"reward": [1.0, 2.0]},
        {"reward": 1j},
        {"reward": None},
    ],
    ids=str,
)
@pytest.mark.parametrize("before", [0, 2])
def test_a_step_that_does_not_fit_is_refused_and_the_rest_kept(
    backend: Any, misfit: Any, before: int
) -> None:
    episodes = play(BOX, [(before, X)])
    good = {"observation": np.zeros(3, np.float32), "action": np.zeros(3, np.float32), "reward": 0.0}
    writer = backend.writer()
    writer.begin(header_of(BOX))
    write_episodes(writer, episodes)
    with pytest.raises(SpaceError):
        writer.write_step(1.0, **{**good, **misfit}, terminated=False, truncated=False, info={})
    after = play(BOX, [(2, T)], first=1)
    write_episodes(writer, after)
    writer.close()
    assert_recorded(backend.reader(), [*episodes, *after])


@pytest.mark.parametrize(
    ("name", "misfit"),
    [("Box-unbounded", np.zeros(2)), ("Discrete", "x"), ("Text", 5), ("Dict", {}), ("Graph", 0)],
)
@pytest.mark.parametrize("earlier", [[], [(1, T)]], ids=["at first", "later"])
def test_a_reset_that_does_not_fit_is_refused_at_once_and_the_rest_kept(
    backend: Any, name: str, misfit: Any, earlier: Any
) -> None:
    case = space_case(name)
    episodes = play(case, earlier)
    writer = backend.writer()
    writer.begin(header_of(case))
    write_episodes(writer, episodes)
    with pytest.raises(SpaceError):
        writer.write_reset(0.0, misfit, {}, None, None)
    writer.close()
    assert_recorded(backend.reader(), episodes)


@pytest.mark.parametrize(
    ("reward", "stored"),
    [
        (1, 1.0),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.array([0.5]), 0.5),
        (np.array(0.5), 0.5),
        (True, 1.0),
        (float("nan"), float("nan")),
        (-0.0, -0.0),
        (np.int64(3), 3.0),
    ],
    ids=repr,
)
def test_a_reward_is_any_number(backend: Any, reward: Any, stored: float) -> None:
    writer = backend.writer()
    writer.begin(header_of(DISCRETE))
    writer.write_reset(0.0, 0, {}, None, None)
    writer.write_step(0.0, 0, 0, reward, False, False, {})
    writer.close()
    assert_same(backend.reader()[0].rewards, np.array([stored]))


@pytest.mark.parametrize("flag", [True, np.True_, 1, np.array(True)], ids=repr)
def test_flags_are_anything_true(backend: Any, flag: Any) -> None:
    writer = backend.writer()
    writer.begin(header_of(DISCRETE))
    writer.write_reset(0.0, 0, {}, None, None)
    writer.write_step(0.0, 0, 0, 0.0, flag, flag, {})
    writer.close()
    assert backend.reader()[0].ending == B
    assert backend.reader().get_dataset()["terminals"].tolist() == [True]


def test_what_cannot_be_stored_of_infos_and_options_is_named_once_and_left_out(backend: Any) -> None:
    writer = backend.writer()
    writer.begin(header_of(DISCRETE))
    (episode,) = play(DISCRETE, [(1, X)])
    episode.infos = [{"bad": len, "good": 1}, {"bad": len, "good": 3}]
    episode.options = {"bad": len, "good": 2}
    with pytest.warns(UnstorableInfoWarning) as caught:
        write_episodes(writer, [episode, episode])
    writer.close()
    assert [str(warning.message).split(" is a ")[0] for warning in caught] == [
        "reset argument ['options']['bad']",
        "info['bad']",
    ]
    for episode in backend.reader():
        assert (episode.infos, episode.options) == (({"good": 1}, {"good": 3}), {"good": 2})


def test_what_is_recorded_can_be_read_before_the_writer_is_closed(backend: Any) -> None:
    episodes = play(BOX, [(1500, T), (3, X), (2, T), (2, X)], actions=DISCRETE)
    writer = backend.writer()
    write(writer, header_of(BOX, DISCRETE), episodes[:3], close=False)
    assert_recorded(backend.reader(), episodes[:3])
    write_episodes(writer, episodes[3:])
    # The fourth has not ended, as a reset would tell; what is kept in a file shows it as far as it has come.
    known = 4 if isinstance(writer, HDF5Writer) else 3
    assert_recorded(backend.reader(), episodes[:known])
    assert len(backend.reader().get_dataset()["rewards"]) == {3: 1505, 4: 1507}[known]
    writer.close()
    assert_recorded(backend.reader(), episodes)


def test_a_reader_shows_what_there_was_or_what_there_is_now(backend: Any) -> None:
    _, episodes = record(backend, BOX, [(2, T)])
    reader = backend.reader()
    assert len(reader) == 1
    more = play(BOX, [(3, T), (1, U)], first=1)
    write(backend.writer(), header_of(BOX), more)
    seen = len(reader)
    assert seen in (1, 3)
    assert_same(list(reader[0].observations), episodes[0].observations)
    assert sum(len(episode) for episode in reader) == reader.nsteps


def test_a_writer_that_is_recording_does_not_begin_again(backend: Any) -> None:
    writer = backend.writer()
    writer.begin(header_of(BOX))
    with pytest.raises(RecordingError, match="one writer for each env"):
        writer.begin(header_of(BOX))
    writer.close()


@pytest.mark.parametrize("closed", [False, True], ids=["before begin", "after close"])
def test_a_writer_takes_nothing_before_begin_and_after_close(backend: Any, closed: bool) -> None:
    writer = backend.writer()
    if closed:
        write(writer, header_of(BOX), [])
    with pytest.raises(RecordingError, match="begin"):
        writer.write_reset(0.0, np.zeros(3, np.float32), {}, None, None)
    with pytest.raises(RecordingError, match="begin"):
        writer.write_step(0.0, np.zeros(3, np.float32), np.zeros(3), 0.0, False, False, {})


def test_closing_again_does_nothing(backend: Any) -> None:
    writer = backend.writer()
    writer.close()
    write(writer, header_of(BOX), play(BOX, [(1, T)]))
    writer.close()
    reader = backend.reader()
    reader.close()
    reader.close()
    assert len(reader) == 1


def test_a_closed_writer_may_begin_again(backend: Any) -> None:
    episodes = play(BOX, [(2, T), (1, U)])
    writer = backend.writer()
    write(writer, header_of(BOX), episodes[:1])
    write(writer, header_of(BOX), episodes[1:])
    assert_recorded(backend.reader(), episodes)


def test_other_spaces_are_refused(backend: Any) -> None:
    _, episodes = record(backend, BOX, [(2, T)])
    for header in (header_of(DISCRETE, BOX), header_of(BOX, DISCRETE)):
        with pytest.raises(StorageError):
            backend.writer().begin(header)
    assert_recorded(backend.reader(), episodes)


def test_threads_may_share_a_reader(backend: Any) -> None:
    reader, episodes = record(backend, space_case("Dict"), [(number % 90 + 1, X) for number in range(100)])

    def check(start: int) -> bool:
        for index in range(start, 100, 7):
            played = episodes[index]
            assert [step.time for step in reader[index]] == played.times
            assert_same(reader[index].rewards, np.array(played.rewards, float))
            assert_same(list(reader[index].observations["b"]), [value["b"] for value in played.observations])
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(check, [*range(7), *range(7)]))


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Have threads take turns so often that they meet at every bad moment."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("switching_often")
def test_reading_in_one_thread_while_another_records_loses_nothing(backend: Any) -> None:
    episodes = play(BOX, [(200, T)] * 40, actions=DISCRETE)
    writer = backend.writer()
    write(writer, header_of(BOX, DISCRETE), episodes[:1], close=False)
    write_episodes(writer, episodes[1:2])
    recorded = threading.Event()

    def keep_reading() -> None:
        while not recorded.is_set():
            reader = backend.reader()
            assert_same(reader[0].observations, np.array(episodes[0].observations))

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(keep_reading)
        try:
            for episode in episodes[2:]:
                write_episodes(writer, [episode])
        finally:
            recorded.set()
        reading.result()
    writer.close()
    assert_recorded(backend.reader(), episodes)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_pool_of_processes_reads(backend: Any, method: str) -> None:
    reader, episodes = record(
        backend, space_case("Graph"), [(number, X) for number in (5, 4, 3, 2, 1, 0)], infos=True
    )
    assert len(reader[0].rewards) == 5  # so that the reader has the file open
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.starmap(summarize, [(reader, index) for index in range(6)])
        found_by_episode = pool.map(summarize_episode, list(reader))
    for (length, rewards, infos), played in zip(found, episodes, strict=True):
        assert (length, rewards) == (len(played), played.rewards)
        assert_same(infos, [info or None for info in played.infos])
    assert len(found_by_episode) == 6
    assert_recorded(reader, episodes)


def test_a_pickled_reader_reads_the_same(backend: Any) -> None:
    reader, episodes = record(backend, space_case("Dict-nested"), [(3, T), (2, X)])
    assert_recorded(reader, episodes)
    for copied in (pickle.loads(pickle.dumps(reader)), pickle.loads(pickle.dumps(backend.reader()))):
        assert_recorded(copied, episodes)


def test_a_writer_that_is_forgotten_is_closed(backend: Any) -> None:
    episodes = play(BOX, [(2, T), (3, X)])
    writer = backend.writer()
    write(writer, header_of(BOX), episodes, close=False)
    if isinstance(backend, InHDF5):
        del writer
        gc.collect()
        assert_recorded(backend.reader(), episodes)
    else:  # the recording goes with its writer, but not with its reader
        reader = backend.reader()
        del writer, backend
        gc.collect()
        assert_recorded(reader, episodes[:1])


PROGRAM = """
import sys
sys.path[:0] = {path!r}
from cases import space_case
from recorded import *
from gymbag.storage.hdf5_writer import HDF5Writer
case = space_case("Box-unbounded")
episodes = play(case, [(1500, "terminated"), (3, "unfinished")])
writer = HDF5Writer({file!r})
write(writer, header_of(case), episodes, close=False)
"""

WAYS_TO_EXIT = {
    "end of the program": "",
    "an exception": "raise RuntimeError",
    "a cycle of references": "writer.itself = writer; del writer",
    "a forked child": "import os\nif os.fork() == 0: sys.exit()\nos.wait()",
    "a forked child that closes": "import os\nif os.fork() == 0: writer.close(); sys.exit()\nos.wait()",
    "a forked child that ends first": (
        "import os\nif os.fork() == 0: sys.exit()\nos.wait()\n"
        "more = play(case, [(1500, 'truncated')], first=2); write_episodes(writer, more)"
    ),
}


@pytest.mark.parametrize("way", WAYS_TO_EXIT.values(), ids=WAYS_TO_EXIT)
def test_an_interpreter_that_exits_loses_nothing(way: str, tmp_path: Path) -> None:
    path = tmp_path / "recording.h5"
    program = PROGRAM.format(path=sys.path, file=str(path)) + way
    subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=60)
    episodes = play(BOX, [(1500, T), (3, X)])
    if "more" in way:
        episodes += play(BOX, [(1500, U)], first=2)
    assert_recorded(HDF5Reader(path), episodes)


def test_recording_many_episodes_takes_no_more_memory_than_a_few(tmp_path: Path) -> None:
    case = space_case("Box-uneven-image")  # 48 kB
    observation = case.samples(1)[0]
    observation[:] = 0
    writer = HDF5Writer(tmp_path / "recording.h5")
    writer.begin(header_of(case, DISCRETE))
    tracemalloc.start()
    try:
        for _ in range(500):
            writer.write_reset(0.0, observation, {}, None, None)
            writer.write_step(0.0, observation, 0, 0.0, True, False, {})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        writer.close()
    assert peak < 32e6, f"recording 500 episodes of 48 kB held {peak / 1e6:.0f} MB"


def test_readers_show_name_spaces_and_size(backend: Any) -> None:
    reader, _ = record(backend, space_case("Dict"), [(2, T), (1, U)])
    assert "'Data-v0'" in repr(reader)
    for shown in (repr(reader), reader._repr_html_()):
        assert "Dict(b: Box(2,) float32, a: Discrete(3))" in shown
        assert "episodes" in shown
    assert repr(reader[0]) == "<Episode 0: 2 steps, terminated>"


def test_descriptions_are_escaped_in_html(backend: Any) -> None:
    write(backend.writer(), header_of(BOX, description="<script>"), [])
    assert "<script>" not in backend.reader()._repr_html_()


def test_the_total_reward_is_the_sum(backend: Any) -> None:
    reader, _ = record(backend, BOX, [(1, T), (0, X)])
    assert [episode.total_reward for episode in reader] == [1.0, 0.0]


def test_memory_has_nothing_to_read_before_it_began() -> None:
    with pytest.raises(RecordingError, match="nothing has been recorded"):
        MemoryWriter().reader()
