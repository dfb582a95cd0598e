"""Turning an epoch into a recording of gymbag's own: a file that need not fit into memory to be used.

    source --EpisodeFrames--> blocks of frames --record_from_iter--> NAME.h5.part --rename--> NAME.h5

What the source does not have, the recording cannot: times are NaN, and the frame that the last action of an
episode led to is black, with `{"observation_stored": False}` as its info.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gymbag.atari.dataset import choose_rewards
from gymbag.atari.episode_frames import EpisodeFrames
from gymbag.atari.epoch import FRAME_SHAPE, Epoch
from gymbag.atari.notices import notify
from gymbag.atari.turns import wait_for_turn
from gymbag.episode import Ending, Step
from gymbag.errors import RecordingError, StorageError
from gymbag.recording import record_from_iter
from gymbag.spaces import Description, describe_space
from gymbag.storage.base import Header
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path

# How many frames are read at once.
_BLOCK_ROWS = 256
# Batches of training are drawn at random, and each draw restores a chunk. Less to a chunk would be faster to
# draw from, but frames are kept as what they differ from those before, and would take more room.
_CHUNK_ROWS = 16


def convert(
    epoch: Epoch,
    path: Path,
    name: str,
    actions: int,
    metadata: Mapping[str, Any],
    unclipped_rewards: bool = False,
) -> None:
    """Write the episodes of an epoch to an HDF5 file, if that is not there yet.

    The file appears when it is whole. A conversion that was interrupted begins anew. If another process is at
    the same one, waits for it.

    Args:
        epoch: The epoch.
        path: The file.
        name: Name of the data set in it.
        actions: How many actions there are in the game's minimal set.
        metadata: What else to keep with it.
        unclipped_rewards: Whether to keep the game's own rewards instead of those clipped to [-1, 1].

    Raises:
        DamagedFileError: The epoch cannot be read.
        StorageError: The file cannot be written, or there are no unclipped rewards.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = wait_for_turn(path.with_name(f"{path.name}.lock"), f"making {path}")
        try:
            if not path.exists():
                _convert(epoch, path, name, actions, metadata, unclipped_rewards)
        finally:
            lock.close(remove=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the operating system or the writer raises about a file into an error with a remedy."""
    try:
        yield
    except (OSError, RecordingError) as error:
        raise StorageError(
            f"cannot write {path}: {error}; make room, or make it writable, or choose another folder "
            "(dataset_dir, D4RL_DATASET_DIR)"
        ) from error


def _convert(
    epoch: Epoch,
    path: Path,
    name: str,
    actions: int,
    metadata: Mapping[str, Any],
    unclipped_rewards: bool,
) -> None:
    part = path.with_name(f"{path.name}.part")
    header = Header(name, *_describe_spaces(actions), epoch.origin, metadata=metadata)
    rewards = choose_rewards(epoch) if unclipped_rewards else epoch.table.rewards
    _remove(part)
    notify(f"converting {epoch.table.nsteps:,} steps, {epoch.origin}, to {path}")
    try:
        record_from_iter(
            HDF5Writer(part, chunk_rows={"observations": _CHUNK_ROWS}), _stream(epoch, rewards), header
        )
        part.rename(path)
    except Exception:
        _remove(part)  # nobody would go on with it
        raise


def _remove(part: Path) -> None:
    for file in (part, journal_path(part)):
        file.unlink(missing_ok=True)


def _describe_spaces(actions: int) -> tuple[Description, Description]:
    """Describe the spaces as those of gymnasium; a reader may build either library's."""
    from gymnasium.spaces import Box, Discrete

    return describe_space(Box(0, 255, FRAME_SHAPE, np.uint8)), describe_space(Discrete(actions))


class _StreamedEpisode:
    """An episode that can be iterated once, in its turn, as its frames go by.

    Attributes:
        terminated: Whether the game was over at its last step.
        truncated: Whether the limit of steps cut it.
    """

    def __init__(
        self,
        frames: EpisodeFrames,
        epoch: Epoch,
        rewards: np.ndarray,
        first_row: int,
        length: int,
        ending: Ending,
    ) -> None:
        self._frames, self._epoch, self._rewards = frames, epoch, rewards
        self._first_row, self._length = first_row, length
        self.terminated, self.truncated = ending is Ending.TERMINATED, ending is Ending.TRUNCATED

    def __iter__(self) -> Iterator[Step]:
        rows = slice(self._first_row, self._first_row + self._length)
        actions = self._epoch.table.actions[rows].tolist()
        rewards = self._rewards[rows].tolist()
        observations = self._observations()
        yield Step(np.nan, next(observations), 0, np.nan, False, None)
        for observation, action, reward in itertools.islice(
            zip(observations, actions, rewards, strict=False), self._length - 1
        ):
            yield Step(np.nan, observation, action, reward, False, None)
        black = np.zeros(FRAME_SHAPE, np.uint8)
        is_over = self.terminated or self.truncated
        yield Step(np.nan, black, actions[-1], rewards[-1], is_over, {"observation_stored": False})

    def _observations(self) -> Iterator[np.ndarray]:
        self._frames.begin(self._first_row)
        block = np.empty((min(self._length, _BLOCK_ROWS), *FRAME_SHAPE), np.uint8)
        for start in range(0, self._length, _BLOCK_ROWS):
            frames = block[: self._length - start]
            self._frames.read_into(frames)
            yield from frames


def _stream(epoch: Epoch, rewards: np.ndarray) -> Iterator[_StreamedEpisode]:
    table = epoch.table
    with epoch.open_frames() as reader, tqdm(total=table.nsteps, unit="step", unit_scale=True) as progress:
        frames = EpisodeFrames(epoch, reader)
        columns = (table.first_rows, table.lengths, table.endings)
        for first_row, length, ending in zip(*(column.tolist() for column in columns), strict=True):
            yield _StreamedEpisode(frames, epoch, rewards, first_row, length, Ending(ending))
            progress.update(length)
        frames.finish()
