"""The experience of one run of the DQN agent with one game: its data, from wherever it is to be had."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from gymbag.atari.conversion import convert
from gymbag.atari.dataset import load_dataset
from gymbag.atari.epoch import Epoch
from gymbag.atari.games import as_integer, check_epochs, check_run, find_game
from gymbag.atari.places import Places
from gymbag.atari.sources import find_epoch
from gymbag.atari.stored_frames import open_dataset
from gymbag.errors import ChoiceError
from gymbag.storage.hdf5_reader import HDF5Reader


class Experience:
    """Epochs of a run: about a million steps each.

    The data is looked for when it is asked for; see `sources` for where.

    Args:
        game: The game, such as "breakout" or "Breakout".
        run: Which of its five runs, from 1 to 5.
        epochs: The first and the last of the epochs, from 0 to 50.
        replay_logs: Folder with Dopamine's files; else what `GYMBAG_ATARI_REPLAY_LOGS` says, else none.
        dataset_dir: Folder with d4rl-atari's files, to which files are downloaded and converted, too; else
            what `D4RL_DATASET_DIR` says, else `~/.d4rl/datasets`.
        mirror: URL of a server with Dopamine's files; else what `GYMBAG_ATARI_MIRROR` says, else none.
        rl_unplugged: Folder or URL with the files of RL Unplugged; else what `GYMBAG_ATARI_RL_UNPLUGGED`
            says, else Google's server.

    Raises:
        ChoiceError: There is no such game, run or epoch.
        PlaceError: A folder does not exist, or a URL is none that can be used.
    """

    def __init__(
        self,
        game: str,
        run: int = 1,
        epochs: tuple[int, int] = (1, 1),
        *,
        replay_logs: str | os.PathLike[str] | None = None,
        dataset_dir: str | os.PathLike[str] | None = None,
        mirror: str | None = None,
        rl_unplugged: str | os.PathLike[str] | None = None,
    ) -> None:
        self.game = find_game(game)
        self.run = check_run(run)
        first, last = check_epochs(epochs)
        self.epochs = range(first, last + 1)
        self.places = Places.chosen(replay_logs, dataset_dir, mirror, rl_unplugged)

    def get_dataset(
        self,
        *,
        stack: bool = False,
        compat: bool = False,
        lazy: bool = False,
        unclipped_rewards: bool = False,
    ) -> dict[str, Any]:
        """Return all epochs as one D4RL-style dict of arrays of N rows.

        Args:
            stack: Whether an observation is four frames, the oldest first, rather than one.
            compat: Whether to give just what d4rl-atari gave: with the rows of padding and the stale ones,
                frames of shape (1, 84, 84), terminals as uint8, and no timeouts.
            lazy: Whether to leave the observations on disk. The first time, each epoch is converted to a file
                of gymbag's own, which takes some seconds.
            unclipped_rewards: Whether to give the game's own rewards instead of those clipped to [-1, 1].
                RL Unplugged alone has them.

        Returns:
            `observations`, (N, 84, 84) uint8, or with `stack` a sequence of N stacks (4, 84, 84); `actions`,
            (N,) int32; `rewards`, (N,) float32; `terminals`, (N,) bool, whether the game was over;
            `timeouts`, (N,) bool, whether the limit of steps or the end of an epoch cut the episode here.

        Raises:
            DataNotFoundError: No place has the data; the message tells how to supply it.
            DownloadError: It could not be downloaded.
            DamagedFileError: It cannot be read, or is not what it promises.
            StorageError: It cannot be converted, or there are no unclipped rewards.
            ChoiceError: Both `compat` and `lazy` are asked for.
        """
        if not lazy:
            epochs = [self._find(epoch, unclipped_rewards) for epoch in self.epochs]
            return load_dataset(epochs, stack=stack, compat=compat, unclipped_rewards=unclipped_rewards)
        if compat:
            raise ChoiceError(
                "expected compat or lazy, found both: what is converted has no padding and no stale rows"
            )
        return open_dataset([self._convert(epoch, unclipped_rewards) for epoch in self.epochs], stack=stack)

    def open_reader(self, epoch: int | None = None, *, unclipped_rewards: bool = False) -> HDF5Reader:
        """Open an epoch as a recording, to be read as episodes, replayed, compared or copied.

        It is converted the first time; see `conversion` for what is not known of it.

        Args:
            epoch: Which of the epochs; by default the first.
            unclipped_rewards: Whether it shall have the game's own rewards.

        Raises:
            GymbagError: As `get_dataset` does.
        """
        chosen = self.epochs[0] if epoch is None else as_integer(epoch)
        if chosen not in self.epochs:
            raise ChoiceError(
                f"expected an epoch from {self.epochs[0]} to {self.epochs[-1]}, found {epoch!r}"
            )
        return HDF5Reader(self._convert(chosen, unclipped_rewards))

    def _find(self, epoch: int, unclipped_rewards: bool) -> Epoch:
        return find_epoch(self.game, self.run, epoch, self.places, unclipped_rewards=unclipped_rewards)

    def _convert(self, epoch: int, unclipped_rewards: bool) -> Path:
        """Return the file to which an epoch is converted, once it is."""
        kind = "-unclipped" if unclipped_rewards else ""
        folder = self.places.dataset_dir / "gymbag" / self.game.folder / str(self.run)
        path = folder / f"{epoch}{kind}.h5"
        if not path.exists():
            name = f"{self.game.name}-epoch-{epoch}-v{self.run - 1}"
            found = self._find(epoch, unclipped_rewards)
            facts = {"game": self.game.folder, "run": self.run, "epoch": epoch, "origin": found.origin}
            convert(found, path, name, self.game.actions, facts, unclipped_rewards)
        return path
