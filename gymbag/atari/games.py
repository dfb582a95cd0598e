"""The games of the Atari datasets, and which data there is of each."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Game:
    """A game.

    Attributes:
        name: As in ids of environments, such as "ms-pacman".
        folder: As in names of files, such as "MsPacman".
        in_dqn_replay: Whether the DQN Replay data has it.
        in_rl_unplugged: Whether RL Unplugged has it.
        rl_unplugged_shards: In how many files RL Unplugged has each of its runs.
    """

    name: str
    folder: str
    in_dqn_replay: bool
    in_rl_unplugged: bool
    rl_unplugged_shards: int
