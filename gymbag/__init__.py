"""Record any Gym environment, keep all of it in one portable file, and get it back.

    env = gymbag.record_hdf5(gymnasium.make("CartPole-v1"), "cartpole.h5")    # record
    for episode in gymbag.HDF5Reader("cartpole.h5"): ...                      # read
    env = gymbag.PlaybackEnv(gymbag.HDF5Reader("cartpole.h5"))                # replay
    dataset = gymbag.get_dataset("cartpole.h5")                               # train

Importing gymbag is light: each name loads its module when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gymbag.driving import PlaybackAgent, RandomAgent, drive_env, get_actions, run_episode
    from gymbag.episode import Episode, Step
    from gymbag.errors import (
        ChoiceError,
        DamagedFileError,
        DataNotFoundError,
        DataSetNotFoundError,
        DownloadError,
        FileInUseError,
        GymbagError,
        MissingExtraError,
        OtherSourceWarning,
        PlaceError,
        PlaybackError,
        RecordingError,
        RecordingStoppedWarning,
        RomError,
        SpaceError,
        StorageError,
        UnavailableError,
        UnfinishedRecordingWarning,
        UnknownArgumentError,
    )
    from gymbag.for_gymnasium import PlaybackEnv, RandomEnv
    from gymbag.infos import UnstorableInfoWarning
    from gymbag.recording import RecordingWrapper, record_from_iter, record_hdf5
    from gymbag.salvaging import Salvage, salvage
    from gymbag.spaces import register_space
    from gymbag.storage.base import Header, Reader, Writer
    from gymbag.storage.hdf5_reader import HDF5Reader, get_dataset, list_datasets
    from gymbag.storage.hdf5_writer import HDF5Writer
    from gymbag.storage.memory import MemoryWriter
    from gymbag.storage.repair import repair
    from gymbag.testing.comparison import Comparison, compare
    from gymbag.testing.generate import generate_monotonic, generate_random

__version__ = "1.1.0"

_MODULES = {
    "ChoiceError": "errors",
    "Comparison": "testing.comparison",
    "DamagedFileError": "errors",
    "DataNotFoundError": "errors",
    "DataSetNotFoundError": "errors",
    "DownloadError": "errors",
    "Episode": "episode",
    "FileInUseError": "errors",
    "GymbagError": "errors",
    "HDF5Reader": "storage.hdf5_reader",
    "HDF5Writer": "storage.hdf5_writer",
    "Header": "storage.base",
    "MemoryWriter": "storage.memory",
    "MissingExtraError": "errors",
    "OtherSourceWarning": "errors",
    "PlaceError": "errors",
    "PlaybackAgent": "driving",
    "PlaybackEnv": "for_gymnasium",
    "PlaybackError": "errors",
    "RandomAgent": "driving",
    "RandomEnv": "for_gymnasium",
    "Reader": "storage.base",
    "RecordingError": "errors",
    "RecordingStoppedWarning": "errors",
    "RecordingWrapper": "recording",
    "RomError": "errors",
    "Salvage": "salvaging",
    "SpaceError": "errors",
    "Step": "episode",
    "StorageError": "errors",
    "UnavailableError": "errors",
    "UnfinishedRecordingWarning": "errors",
    "UnknownArgumentError": "errors",
    "UnstorableInfoWarning": "infos",
    "Writer": "storage.base",
    "compare": "testing.comparison",
    "drive_env": "driving",
    "generate_monotonic": "testing.generate",
    "generate_random": "testing.generate",
    "get_actions": "driving",
    "get_dataset": "storage.hdf5_reader",
    "list_datasets": "storage.hdf5_reader",
    "record_from_iter": "recording",
    "record_hdf5": "recording",
    "register_space": "spaces",
    "repair": "storage.repair",
    "run_episode": "driving",
    "salvage": "salvaging",
}

__all__ = [
    "ChoiceError",
    "Comparison",
    "DamagedFileError",
    "DataNotFoundError",
    "DataSetNotFoundError",
    "DownloadError",
    "Episode",
    "FileInUseError",
    "GymbagError",
    "HDF5Reader",
    "HDF5Writer",
    "Header",
    "MemoryWriter",
    "MissingExtraError",
    "OtherSourceWarning",
    "PlaceError",
    "PlaybackAgent",
    "PlaybackEnv",
    "PlaybackError",
    "RandomAgent",
    "RandomEnv",
    "Reader",
    "RecordingError",
    "RecordingStoppedWarning",
    "RecordingWrapper",
    "RomError",
    "Salvage",
    "SpaceError",
    "Step",
    "StorageError",
    "UnavailableError",
    "UnfinishedRecordingWarning",
    "UnknownArgumentError",
    "UnstorableInfoWarning",
    "Writer",
    "compare",
    "drive_env",
    "generate_monotonic",
    "generate_random",
    "get_actions",
    "get_dataset",
    "list_datasets",
    "record_from_iter",
    "record_hdf5",
    "register_space",
    "repair",
    "run_episode",
    "salvage",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'gymbag' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"gymbag.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
