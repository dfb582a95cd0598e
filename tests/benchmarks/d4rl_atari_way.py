"""What d4rl-atari does, by the methods it uses, on today's gymnasium and NumPy."""

from __future__ import annotations

import gzip
from pathlib import Path

import gymnasium
import numpy as np

COLUMNS = ("observation", "action", "reward", "terminal")
FRAMES = 4
EPOCHS = {"mixed": 1, "medium": 10, "expert": 50, **{f"epoch-{epoch}": epoch for epoch in range(1, 51)}}
RUNS = 5


def load(folder: Path) -> dict[str, np.ndarray]:
    """Read a checkpoint: each file whole, by NumPy, from Python's gzip."""
    columns = {}
    for name in COLUMNS:
        with gzip.open(folder / f"{name}.gz") as file:
            columns[name] = np.load(file)
    columns["observation"] = columns["observation"].reshape(-1, 1, 84, 84)
    return columns


def stack(frames: np.ndarray, terminals: np.ndarray) -> list[np.ndarray]:
    """Return a list with a stack for each frame: a view, or a copy below which there is black."""
    stacks = []
    age = 1
    for index in range(len(frames)):
        if age < FRAMES:
            black = np.zeros((FRAMES - age, *frames.shape[1:]), np.uint8)
            stacks.append(np.vstack([black, frames[index - age + 1 : index + 1]]))
        else:
            stacks.append(frames[index - FRAMES + 1 : index + 1])
        age = 1 if terminals[index] else age + 1
    return stacks


def draw(stacks: list[np.ndarray], numbers: np.ndarray) -> np.ndarray:
    """Return a batch, as those who train on the list do."""
    return np.stack([stacks[number] for number in numbers])


def register(games: int) -> None:
    """Register the ids of as many games, one by one; their names make no difference."""
    for game in range(games):
        for run in range(RUNS):
            for mode, epoch in EPOCHS.items():
                gymnasium.register(
                    id=f"d4rlgame{game}-{mode}-v{run}",
                    entry_point="d4rl_atari.envs:OfflineAtariEnv",
                    max_episode_steps=108_000,
                    kwargs={"game": game, "index": run + 1, "start_epoch": epoch, "last_epoch": epoch},
                )
