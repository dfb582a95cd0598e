"""A recording story in which everything happens that changes files, and what must be left of it at any point.

Two data sets are recorded in five sessions: made, gone on with, described anew; dtypes are widened, the
journal is put into the file again and again; episodes end in every way. What was recorded is one sequence of
events for each data set, resets and steps. So what a reader finds must be this sequence cut somewhere:
behind what was flushed, and before what was never recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
from file_operations import settings
from recorded import Played, write_episodes
from same import assert_same

from gymbag.errors import DamagedFileError, StorageError
from gymbag.spaces import describe_space
from gymbag.storage.base import Header
from gymbag.storage.hdf5_reader import HDF5Reader, list_datasets
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import JournalReader, journal_path, read_header

SPACE = describe_space(gymnasium.spaces.Box(-np.inf, np.inf, (3,)))
ACTIONS = describe_space(gymnasium.spaces.Discrete(100))
NEVER = 1e6  # seconds; the tests flush by themselves
FIRST, SECOND = "A", "deep/B"


def play(name: str, number: int, length: int, ending: str, dtype: Any = np.float32) -> Played:
    """Make up an episode; every value of it is found nowhere else.

    Args:
        name: Of the data set.
        number: Of the episode.
        length: How many steps it has.
        ending: How it ends.
        dtype: Of the observations from the second step on; the first two are float32.
    """
    base = 1000 * number + 1_000_000 * (name != FIRST)
    third = np.float64(1 / 3) if dtype == np.float64 else np.float32(0.5)
    observations = [
        np.array([base + t, -t, third if t > 1 else 0], dtype if t > 1 else np.float32)
        for t in range(length + 1)
    ]
    return Played(
        observations,
        [np.int64((7 * t + number) % 100) for t in range(length)],
        [base + t / 7 for t in range(length)],
        [_info(number, base, t) for t in range(length + 1)],
        [1e9 + base + t / 3 for t in range(length + 1)],
        ending,
        seed=base,
        options={"number": number} if number % 2 else None,
    )


def _info(number: int, base: int, t: int) -> dict[str, Any]:
    """Make up an info: some are empty, some have keys that others have not, and not all fit a column."""
    info: dict[str, Any] = {"number": base + t} if t % 3 else {}
    if t % 3 == 2:
        info["score"] = {"name": f"step {t}", "value": np.float32(base + t / 3)}
    if number > 2 and t % 2:
        info["late"] = np.array([t, number], np.int16)
        info["odd"] = [None, t] if number % 2 else base / 7
    return info


def cut(episodes: Sequence[Played], events: int) -> list[Played]:
    """Return episodes as they are after so many events; a reset is one, and so is each step."""
    found = []
    for episode in episodes:
        if events <= len(episode):
            if events:
                steps = events - 1
                found.append(
                    replace(
                        episode,
                        observations=episode.observations[:events],
                        actions=episode.actions[:steps],
                        rewards=episode.rewards[:steps],
                        infos=episode.infos[:events],
                        times=episode.times[:events],
                        ending="unfinished",
                    )
                )
            return found
        found.append(episode)
        events -= 1 + len(episode)
    assert not events, "more than there is"
    return found


@dataclass(frozen=True)
class Known:
    """How far a data set has come: as far as was flushed, or as was recorded.

    Attributes:
        events: How many resets and steps there are.
        sessions: How often it was begun.
    """

    events: int = 0
    sessions: int = 0


class Story:
    """Records to a file, and knows what is to be found in it.

    Args:
        path: The file.
        note: Called with copies of `flushed`, `recorded` and `synced` whenever they change.

    Attributes:
        episodes: All that is recorded if nothing goes wrong, by data set.
        flushed: What must be there when the process was killed.
        recorded: What may be there.
        synced: What must be there when the power was cut.
    """

    def __init__(self, path: Path, note: Callable[[Any], None] = lambda _: None) -> None:
        self.path, self._note = path, note
        self.episodes: dict[str, list[Played]] = {FIRST: [], SECOND: []}
        self.flushed: dict[str, Known] = {}
        self.recorded: dict[str, Known] = {}
        self.synced: dict[str, Known] = {}
        self.writer: Any = None

    def _say(self, known: dict[str, Known], **change: Any) -> None:
        known[self._name] = replace(known.get(self._name, Known()), **change)
        self._note((dict(self.flushed), dict(self.recorded), dict(self.synced)))

    def _say_synced(self) -> None:
        self._say(self.flushed, events=self.recorded[self._name].events)
        self._say(self.synced, **vars(self.flushed[self._name]))

    def begin(self, name: str, description: str = "") -> None:
        self._name = name
        sessions = self.recorded.get(name, Known()).sessions + 1
        self._say(self.recorded, sessions=sessions)
        writer = HDF5Writer(self.path, chunk_rows=4, flush_seconds=NEVER)
        writer.begin(Header(name, SPACE, ACTIONS, description, metadata={"session": sessions}))
        self.writer = writer
        self._say(self.flushed, sessions=sessions)

    def record(self, length: int, ending: str, flush_at: Sequence[int] = (), dtype: Any = np.float32) -> None:
        """Record an episode, and flush and sync after these of its events; after others only flush."""
        episode = play(self._name, len(self.episodes[self._name]), length, ending, dtype)
        self.episodes[self._name].append(episode)
        for t in range(length + 1):
            self._say(self.recorded, events=self.recorded[self._name].events + 1)
            if t == 0:
                self.writer.write_reset(
                    episode.times[0], episode.observations[0], episode.infos[0], episode.seed, episode.options
                )
            else:
                is_last = t == length
                self.writer.write_step(
                    episode.times[t],
                    episode.observations[t],
                    episode.actions[t - 1],
                    episode.rewards[t - 1],
                    is_last and episode.terminated,
                    is_last and episode.truncated,
                    episode.infos[t],
                )
            if t in flush_at:
                self.writer.flush()
                if self.writer.stream.failure is None:
                    self._say_synced()
            elif t % 2:  # as who records does
                self.writer.stream.flush()
                if self.writer.stream.failure is None:
                    self._say(self.flushed, events=self.recorded[self._name].events)

    def close(self) -> None:
        writer, self.writer = self.writer, None
        writer.close()
        self._say_synced()

    def sessions(self) -> Iterator[Callable[[], None]]:
        """Yield each session, as something to call."""
        yield self._first
        yield self._second
        yield self._other
        yield self._third
        yield self._nothing

    def _first(self) -> None:
        self.begin(FIRST, "first")
        self.record(0, "unfinished", flush_at=[0])
        self.record(3, "terminated", flush_at=[1, 3])
        self.record(7, "truncated", flush_at=[2, 5])
        # Its second step is the first value that float32 does not hold.
        self.record(6, "terminated and truncated", flush_at=[1, 3, 6], dtype=np.float64)
        with settings(_LARGEST_JOURNAL=0):
            self.record(5, "terminated", flush_at=[1, 4])
        self.record(9, "unfinished", flush_at=[3])
        self.close()

    def _second(self) -> None:
        self.begin(FIRST, "second")
        self.record(2, "terminated", flush_at=[2])
        self.record(4, "terminated", flush_at=[1, 2, 3])
        self.close()

    def _other(self) -> None:
        self.begin(SECOND)
        self.record(4, "truncated", flush_at=[0, 4])
        with settings(_LARGEST_JOURNAL=0):
            self.record(10, "terminated", flush_at=[1, 9, 10])
        self.record(1, "unfinished", flush_at=[0, 1])
        self.close()

    def _third(self) -> None:
        self.begin(FIRST)
        self.record(15, "terminated", flush_at=range(0, 15, 5), dtype=np.float64)
        self.close()

    def _nothing(self) -> None:
        self.begin(SECOND, "third")
        self.close()


ADDED = 77


class Check:
    """Checks what is left of a story in a folder.

    Args:
        path: The file.
        episodes: What was to be recorded, by data set.
        flushed: What must be there, by data set.
        recorded: What may be there.
    """

    def __init__(
        self,
        path: Path,
        episodes: dict[str, list[Played]],
        flushed: dict[str, Known],
        recorded: dict[str, Known],
    ) -> None:
        self._path, self._episodes = path, episodes
        self._flushed, self._recorded = flushed, recorded
        self._added: dict[str, list[Played]] = {}
        self._events: dict[str, int] = {}

    def again(self) -> Check:
        """Return a check of the same file as it was before anything was appended, with as much in it."""
        other = Check(self._path, self._episodes, self._flushed, self._recorded)
        other._events = dict(self._events)
        return other

    def reader(self) -> None:
        """Check what readers find."""
        try:
            names = set(list_datasets(self._path))
        except DamagedFileError:
            raise
        except StorageError:
            assert not self._flushed, "what was begun cannot be read"
            assert not self._path.exists()
            return
        assert {*self._flushed, *self._added} <= names <= {*self._recorded, *self._added}
        for name in names:
            self._check_data_set(name)

    def _check_data_set(self, name: str) -> None:
        at_least, at_most = self._flushed.get(name, Known()), self._recorded.get(name, Known())
        added = self._added.get(name, [])
        with HDF5Reader(self._path, name) as reader:
            count = len(reader) - len(added)
            steps = reader.nsteps - sum(map(len, added))
            events = count + steps
            assert at_least.events <= events <= at_most.events, "too little, or too much"
            # What was found once stays.
            assert events == self._events.setdefault(name, events)
            _assert_same_episodes(reader, [*cut(self._episodes.get(name, []), events), *added])
            sessions = [session["metadata"]["session"] for session in reader.sessions]
            own = [number for number in sessions if number != ADDED]
            assert own == list(range(1, len(own) + 1))
            assert at_least.sessions <= len(own) <= at_most.sessions

    def plain_h5py(self) -> None:
        """Check that HDF5 itself opens the file and can read all of it."""
        if not self._path.exists() or _is_being_applied(self._path):
            return
        with h5py.File(self._path, "r") as file:

            def read(_: str, node: Any) -> None:
                if isinstance(node, h5py.Dataset):
                    node[()]

            file.visititems(read)

    def append(self, name: str) -> None:
        """Go on with a data set, or add one."""
        number = len(self._episodes.get(name, [])) + 10
        added = [play(name, number, 2, "terminated"), play(name, number + 1, 5, "unfinished")]
        record(self._path, name, added)
        self._added[name] = [*self._added.get(name, []), *added]


def record(path: Path, name: str, episodes: Sequence[Played]) -> None:
    writer = HDF5Writer(path, chunk_rows=4, flush_seconds=NEVER)
    writer.begin(Header(name, SPACE, ACTIONS, metadata={"session": ADDED}))
    write_episodes(writer, episodes)
    writer.close()


def _is_being_applied(path: Path) -> bool:
    """Tell whether the journal holds a change that is to be made to the file, and may have been in part."""
    if not journal_path(path).exists():
        return False
    with journal_path(path).open("rb") as file:
        header = read_header(file.fileno())
        return header is not None and JournalReader(file.fileno(), header).redo() is not None


def _assert_same_episodes(reader: Any, episodes: Sequence[Played]) -> None:
    """Assert that a reader has these episodes and no others, bit for bit."""
    assert len(reader) == len(episodes)
    for found, played in zip(reader, episodes, strict=True):
        assert len(found) == len(played)
        assert found.ending == played.ending
        assert_same((found.seed, found.options), (played.seed, played.options))
        # Step by step, as that takes the least time by far.
        steps = list(found)
        assert [step.observation.tolist() for step in steps] == [
            each.tolist() for each in played.observations
        ]
        assert [step.action for step in steps[1:]] == played.actions
        assert [step.reward for step in steps[1:]] == played.rewards
        assert [step.time for step in steps] == played.times
        assert_same([step.info or {} for step in steps], played.infos)
