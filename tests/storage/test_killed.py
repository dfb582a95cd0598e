"""Processes that record are killed at random moments, again and again, with one and the same file.

Each tells through a pipe what it has done: every event, and, each time that its heartbeat has flushed, how
many events there were before. So it is known exactly what must be there, whatever the machine's load: what a
bound of time, such as twice `flush_seconds`, would promise only if threads were never kept waiting. How old
the oldest event was that was lost is noted as a property of the test.
"""

from __future__ import annotations

import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import pytest
from deterministic import assert_same_episode, expected, record

from gymbag.storage.hdf5_reader import HDF5Reader, list_datasets

pytestmark = [
    pytest.mark.crash,
    pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning"),
]


@dataclass
class Told:
    """What a process has told.

    Attributes:
        has_begun: Whether the data set is there.
        events: When each event was over.
        flushed: How many of them are safe.
        stage: The latest message.
    """

    has_begun: bool = False
    events: list[float] = field(default_factory=list)
    flushed: int = 0
    stage: str = ""

    def take(self, connection: Connection) -> bool:
        """Wait for a message; return False if there will be none."""
        try:
            what, value = connection.recv()
        except EOFError:
            return False
        self.stage = what
        if what == "event":
            self.events.append(value)
        elif what in ("flushed", "closed"):
            self.flushed = value
        self.has_begun = self.has_begun or what == "begun"
        return True


class Killing:
    """Has processes record to one file, and kills them.

    Args:
        path: The file.
        seed: Decides when, and what they record.
    """

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self._random = random.Random(seed)
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["deterministic"])
        # The sessions of each data set: kind of env, number, and how many events are in the file.
        self.recorded: dict[str, list[tuple[str, int, int]]] = {}
        self.killed: Counter[str] = Counter()
        self.oldest_lost = 0.0

    def kill_one(self, session: int) -> None:
        draw = self._random
        kind = draw.choice(["CartPole", "Frames"])
        name = kind if draw.random() < 0.8 else f"{kind}-{session}"
        stage = draw.choice(["begin", "begun", "event", "event", "event", "close"])
        count = draw.randint(1, 1500 if kind == "CartPole" else 300)
        options: dict[str, Any] = {"largest_journal": draw.choice([1 << 14, 1 << 26])}
        if stage == "close":
            options["count"] = count
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=record, args=(self.path, kind, session, name, theirs), kwargs=options
        )
        process.start()
        theirs.close()
        told = Told()
        while told.take(ours) and not (
            told.stage == stage and (stage != "event" or len(told.events) >= count)
        ):
            pass
        # Not to wait for anything: to hit what comes after the message now here, now there.
        time.sleep(draw.random() ** 3 * 0.05)
        killed_at = time.monotonic()
        process.kill()
        while told.take(ours):  # what it did while we slept
            pass
        process.join()
        self.killed[told.stage] += process.exitcode != 0
        assert process.exitcode == (0 if told.stage == "closed" and process.exitcode == 0 else -9)
        self._note(kind, name, session, told, killed_at)
        self.check()

    def _note(self, kind: str, name: str, session: int, told: Told, killed_at: float) -> None:
        if not self.path.exists():
            assert not told.has_begun
            return
        if name not in list_datasets(self.path):
            assert not told.has_begun
            return
        before = self.recorded.setdefault(name, [])
        with HDF5Reader(self.path, name) as reader:
            found = len(reader) + reader.nsteps - sum(count for _, _, count in before)
        # The last event may have happened without being told.
        assert told.flushed <= found <= len(told.events) + 1
        before.append((kind, session, found))
        for moment in told.events[found : found + 1]:
            self.oldest_lost = max(self.oldest_lost, killed_at - moment)

    def check(self) -> None:
        """Assert that all that was found once is there, just as the bare env gives it, and nothing else."""
        for name, sessions in self.recorded.items():
            episodes = [episode for session in sessions for episode in expected(*session)]
            with HDF5Reader(self.path, name) as reader:
                assert len(reader) == len(episodes)
                for found, episode in zip(reader, episodes, strict=True):
                    assert_same_episode(found, episode)
        if self.path.exists():
            assert set(list_datasets(self.path)) == set(self.recorded)


def kill(folder: Path, cycles: int, seed: int) -> Killing:
    killing = Killing(folder / "recording.h5", seed)
    for session in range(cycles):
        killing.kill_one(session)
    # A last one is let live.
    ours, theirs = multiprocessing.Pipe(duplex=False)
    record(killing.path, "CartPole", cycles, "CartPole", theirs, count=200)
    ours.close()
    theirs.close()
    killing.recorded.setdefault("CartPole", []).append(("CartPole", cycles, 200))
    killing.check()
    h5py.File(killing.path, "r").close()
    assert [file.name for file in folder.iterdir()] == ["recording.h5"]
    return killing


def test_nothing_is_lost_when_processes_are_killed(tmp_path: Path, record_property: Any) -> None:
    killing = kill(tmp_path, 12, seed=1)
    record_property("oldest_lost_seconds", killing.oldest_lost)
    assert killing.killed.total() >= 10


@pytest.mark.exhaustive
@pytest.mark.parametrize("seed", range(2, 8))
def test_nothing_is_lost_when_processes_are_killed_exhaustively(
    tmp_path: Path, seed: int, record_property: Any
) -> None:
    killing = kill(tmp_path, 25, seed)
    record_property("oldest_lost_seconds", killing.oldest_lost)
    print(killing.killed, killing.oldest_lost)
    assert killing.killed.total() >= 20
