"""Checkpoints as Dopamine's logged replay buffer writes them: made here by the same rules, row by row.

The rules were compared with files that the real dopamine-rl 4.1.2 wrote: the buffer is a ring; three rows of
zeros go before each episode; it is saved when all rows but the last have been added, and once more at the
end of the run, with the count of the last pass alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

COLUMNS = ("observation", "action", "reward", "terminal")


@dataclass
class Played:
    """An episode of T steps; `frames` has no frame for what came after the last."""

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    is_over: bool = True

    def __len__(self) -> int:
        return len(self.actions)


def play(lengths: Sequence[int], seed: int = 1) -> list[Played]:
    """Make episodes of noise; the last is still going on if its length is negative."""
    random = np.random.default_rng(seed)
    return [
        Played(
            random.integers(1, 256, (abs(length), 84, 84), np.uint8),
            random.integers(0, 4, abs(length), np.int32),
            random.integers(-1, 2, abs(length)).astype(np.float32),
            length > 0,
        )
        for length in lengths
    ]


@dataclass
class ReplayBuffer:
    """A ring of rows that is saved to a folder, checkpoint after checkpoint."""

    folder: Path
    capacity: int
    add_count: int = 0
    store: dict[str, np.ndarray] = field(default_factory=dict)
    # What each row ever added is, (episode, step) or None for padding; and which rows were new in each
    # checkpoint.
    labels: list[tuple[int, int] | None] = field(default_factory=list)
    spans: list[range] = field(default_factory=list)
    episodes: list[Played] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = {
            "observation": np.zeros((self.capacity, 84, 84), np.uint8),
            "action": np.zeros(self.capacity, np.int32),
            "reward": np.zeros(self.capacity, np.float32),
            "terminal": np.zeros(self.capacity, np.uint8),
        }

    def _add_row(self, label: tuple[int, int] | None, *values: object) -> None:
        self.labels.append(label)
        for name, value in zip(COLUMNS, values, strict=True):
            self.store[name][self.add_count % self.capacity] = value
        self.add_count += 1

    def add(self, episode: Played) -> None:
        number = len(self.episodes)
        self.episodes.append(episode)
        for step in range(len(episode)):
            if step == 0:
                for _ in range(3):
                    self._add_row(None, np.zeros((84, 84), np.uint8), 0, 0.0, 0)
            is_last = step == len(episode) - 1
            values = episode.frames[step], episode.actions[step], episode.rewards[step]
            self._add_row((number, step), *values, episode.is_over and is_last)
            if self.add_count % self.capacity == self.capacity - 1:
                self.save(self.add_count)

    def save(self, add_count: int) -> None:
        save_checkpoint(self.folder, len(self.spans), {**self.store, "add_count": np.array(add_count)})
        self.spans.append(range((self.add_count - 1) // self.capacity * self.capacity, self.add_count))

    def save_final(self) -> None:
        self.save(self.add_count % self.capacity)


def save_checkpoint(folder: Path, number: int, columns: dict[str, np.ndarray]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, column in columns.items():
        save_column(checkpoint_files(folder, number)[name], column)


def save_column(path: Path, column: np.ndarray) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        np.save(file, column, allow_pickle=False)


def checkpoint_files(folder: Path, number: int) -> dict[str, Path]:
    files = {name: folder / f"$store$_{name}_ckpt.{number}.gz" for name in COLUMNS}
    return {**files, "add_count": folder / f"add_count_ckpt.{number}.gz"}


def d4rl_atari_stacks(frames: np.ndarray, terminals: np.ndarray) -> Iterator[np.ndarray]:
    """Yield what d4rl-atari makes of frames: black for what would come from before a terminal."""
    since = 1
    for row in range(len(frames)):
        kept = min(since, 4)
        stack = np.zeros((4, 84, 84), np.uint8)
        stack[4 - kept :] = frames[row + 1 - kept : row + 1]
        yield stack
        since = 1 if terminals[row] else since + 1
