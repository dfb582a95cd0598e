"""What tests have other processes do: functions that a pool can call by name."""

from __future__ import annotations

from typing import Any

from gymbag.errors import FileInUseError
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer


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
