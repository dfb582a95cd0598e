"""What tests have other processes do: functions that a pool can call by name."""

from __future__ import annotations

import os
import signal
from typing import Any

from recorded import write_episodes

from gymbag.errors import FileInUseError
from gymbag.storage import hdf5_store
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.lock import is_locked


def summarize(reader: Any, index: int) -> tuple[int, list[float], list[Any]]:
    """Read an episode: its length, its rewards, and its infos step by step."""
    episode = reader[index]
    return len(episode), episode.rewards.tolist(), [step.info for step in episode]


def summarize_episode(episode: Any) -> tuple[int, list[float], list[Any]]:
    return len(episode), episode.rewards.tolist(), [step.info for step in episode]


def try_to_write(path: Any, header: Any) -> str:
    try:
        HDF5Writer(path).begin(header)
    except FileInUseError as error:
        return str(error)
    return "written"


def try_to_read(path: Any) -> str:
    try:
        return f"{len(HDF5Reader(path))} episodes"
    except FileInUseError as error:
        return str(error)


def record_and_die(
    path: Any, header: Any, episodes: Any, flush_each: bool, largest_journal: int, options: Any
) -> None:
    """Record episodes, flush after each or never, and have the process killed."""
    hdf5_store._LARGEST_JOURNAL = largest_journal
    writer = HDF5Writer(path, **options)
    writer.begin(header)
    for episode in episodes:
        write_episodes(writer, [episode])
        if flush_each:
            writer.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def collect_followed(path: Any) -> list[tuple[int, int, str, list[float]]]:
    """Follow a recording to its end."""
    reader = HDF5Reader(path, follow=True)
    return [(e.index, len(e), e.ending, e.rewards.tolist()) for e in reader]


def probe_until(journal: Any, stop: Any) -> int:
    """Look whether a journal is locked, again and again, until a file appears; count how often."""
    count = 0
    while not stop.exists():
        is_locked(journal)
        count += 1
    return count
