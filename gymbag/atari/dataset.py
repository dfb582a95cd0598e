"""An epoch, or several, as the flat arrays of d4rl-atari: what offline reinforcement learning trains on.

By default the arrays are clean: rows of padding and stale rows are left out, and every episode ends in a row
with one of two flags, as everywhere in gymbag. `compat` gives d4rl-atari's own arrays, padding and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gymbag.atari.episode_frames import EpisodeFrames, check_black
from gymbag.atari.epoch import (
    FRAME_SHAPE,
    PADDING_ROWS,
    STACK_FRAMES,
    Epoch,
    EpochColumns,
)
from gymbag.atari.frame_stacks import FrameStacks
from gymbag.episode import Ending
from gymbag.errors import StorageError


def load_dataset(
    epochs: Sequence[Epoch], *, stack: bool = False, compat: bool = False, unclipped_rewards: bool = False
) -> dict[str, Any]:
    """Read epochs into memory, one after the other.

    Args:
        epochs: The epochs, at least one.
        stack: Whether an observation is four frames, the oldest first, rather than one.
        compat: Whether to give d4rl-atari's arrays: with the rows of padding and the stale ones, frames of
            shape (1, 84, 84), terminals as uint8, and no timeouts.
        unclipped_rewards: Whether to give the game's own rewards instead of those clipped to [-1, 1].

    Returns:
        `observations`, (N, 84, 84) uint8, or with `stack` a `FrameStacks` of shape (N, 4, 84, 84); `actions`,
        (N,) int32; `rewards`, (N,) float32; `terminals`, (N,) bool, whether the game was over; `timeouts`,
        (N,) bool, whether the limit of steps or the end of an epoch cut the episode here.

    Raises:
        DamagedFileError: The data cannot be read, or is not what it promises.
        StorageError: The rewards are known as clipped ones only.
    """
    columns: list[EpochColumns] = [epoch.columns if compat else epoch.table for epoch in epochs]
    chosen = [slice(None) if compat else epoch.table.rows for epoch in epochs]
    rewards = [
        choose_rewards(epoch) if unclipped_rewards else of.rewards
        for epoch, of in zip(epochs, columns, strict=True)
    ]
    dataset = {
        "actions": np.concatenate([of.actions[rows] for of, rows in zip(columns, chosen, strict=True)]),
        "rewards": np.concatenate([of[rows] for of, rows in zip(rewards, chosen, strict=True)]),
    }
    observations: Any
    if compat:
        terminals = np.concatenate([of.terminals for of in columns])
        observations = _load_all_stacks(epochs, terminals) if stack else _load_all(epochs)[:, None]
        dataset["terminals"] = terminals.astype(np.uint8)
    else:
        observations = _load_stacks(epochs) if stack else _load_episodes(epochs)
        lengths = np.concatenate([epoch.table.lengths for epoch in epochs])
        dataset.update(mark_ends(lengths, np.concatenate([epoch.table.endings for epoch in epochs])))
    return {"observations": observations, **dataset}


def mark_ends(lengths: np.ndarray, endings: np.ndarray) -> dict[str, np.ndarray]:
    """Return the flags `terminals` and `timeouts`, (N,) bool; one of them marks the last row of an episode.

    Args:
        lengths: (E,), the rows of each episode, at least one.
        endings: (E,), the values of `episode.Ending`.
    """
    last_rows = np.cumsum(lengths) - 1
    terminals, timeouts = np.zeros((2, lengths.sum()), bool)
    terminals[last_rows] = endings == Ending.TERMINATED
    timeouts[last_rows] = endings != Ending.TERMINATED
    return {"terminals": terminals, "timeouts": timeouts}


def choose_rewards(epoch: Epoch) -> np.ndarray:
    """Return the game's own rewards.

    Raises:
        StorageError: They are not known.
    """
    rewards = epoch.columns.unclipped_rewards
    if rewards is None:
        raise StorageError(
            f"{epoch.origin} has rewards clipped to [-1, 1] only; RL Unplugged alone may have the game's own"
        )
    return rewards


def _load_episodes(epochs: Sequence[Epoch]) -> np.ndarray:
    """Read the frames of all episodes, each right behind the one before."""
    frames = np.empty((sum(epoch.table.nsteps for epoch in epochs), *FRAME_SHAPE), np.uint8)
    position = 0
    for epoch in epochs:
        with epoch.open_frames() as reader:
            episodes = EpisodeFrames(epoch, reader)
            table = epoch.table
            for first_row, length in zip(table.first_rows.tolist(), table.lengths.tolist(), strict=True):
                episodes.begin(first_row)
                episodes.read_into(frames[position : position + length])
                position += length
            episodes.finish()
    return frames


def _load_all(epochs: Sequence[Epoch]) -> np.ndarray:
    """Read all frames there are."""
    frames = np.empty((sum(len(epoch.columns) for epoch in epochs), *FRAME_SHAPE), np.uint8)
    _read_all_into(frames, epochs)
    return frames


def _read_all_into(frames: np.ndarray, epochs: Sequence[Epoch]) -> None:
    position = 0
    for epoch in epochs:
        end = position + len(epoch.columns)
        with epoch.open_frames() as reader:
            reader.read_into(frames[position:end])
        position = end


def _load_all_stacks(epochs: Sequence[Epoch], terminals: np.ndarray) -> FrameStacks:
    """Read all frames there are, and tell which stacks d4rl-atari makes of them.

    It sees black before whatever comes first after a terminal, and nothing where an epoch begins.

    0   0   0   0   row 0   row 1  ...  row N-1   0   0   0   row t   row t+1   row t+2  ...
    '- black one -'                               '-- where row t, after a terminal, is not padding --'
    """
    count = len(terminals)
    begins = np.flatnonzero(terminals) + 1
    begins = begins[begins < count]
    # What is not needed of the room behind the rows is never touched, and so takes no memory.
    room = STACK_FRAMES + count + len(begins) * 2 * PADDING_ROWS
    frames = np.empty((room, *FRAME_SHAPE), np.uint8)
    frames[:STACK_FRAMES] = 0
    spare = STACK_FRAMES + count
    rows = frames[STACK_FRAMES:spare]
    _read_all_into(rows, epochs)
    # Those that end with each row. Numbers of 64 bits would take twice the memory.
    stacks = np.arange(1, 1 + count, dtype=np.int32)
    for begin in begins.tolist():
        first = rows[begin : begin + PADDING_ROWS]
        if first.any():
            copies = frames[spare : spare + 2 * PADDING_ROWS]
            copies[:PADDING_ROWS] = 0
            copies[PADDING_ROWS : PADDING_ROWS + len(first)] = first
            stacks[begin : begin + len(first)] = np.arange(spare, spare + len(first))
            spare += len(copies)
        else:
            stacks[begin : begin + len(first)] = 0
    return FrameStacks(frames[:spare], stacks)


def _load_stacks(epochs: Sequence[Epoch]) -> FrameStacks:
    """Read all frames there are, with black ones before those of each epoch, and tell which stacks to take.

    0   0   0   0   row 0   row 1  ...  row R-1   0   0   0   0   row 0  ...
    """
    frames = np.empty((sum(STACK_FRAMES + len(epoch.table) for epoch in epochs), *FRAME_SHAPE), np.uint8)
    first_frames = []
    black = 0
    for epoch in epochs:
        table = epoch.table
        rows = frames[black + STACK_FRAMES : black + STACK_FRAMES + len(table)]
        frames[black : black + STACK_FRAMES] = 0
        with epoch.open_frames() as reader:
            reader.read_into(rows)
        begins = np.concatenate([[0], table.first_rows + table.lengths])[:-1]
        for begin, end in zip(begins.tolist(), table.first_rows.tolist(), strict=True):
            check_black(epoch, begin, rows[begin:end])
        # Those that end with each row. Numbers of 64 bits would take twice the memory.
        first_frames.append(np.arange(black + 1, black + 1 + len(table), dtype=np.int32)[table.rows])
        black += STACK_FRAMES + len(table)
    return FrameStacks(frames, np.concatenate(first_frames))
