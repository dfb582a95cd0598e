"""The source of an epoch: the files that have it, found or fetched.

These places are tried, in this order:

    1  replay_logs   GAME/RUN/replay_logs/$store$_COLUMN_ckpt.EPOCH.gz, add_count_ckpt.EPOCH.gz
    2  dataset_dir   GAME/RUN/EPOCH/COLUMN.gz, add_count.gz
    3  mirror        a server of 1; what it has goes into 2
    4  rl_unplugged  GAME/run_RUN-SHARD-of-SHARDS, in a folder, or below dataset_dir, or else from a server

A COLUMN is one of observation, action, reward and terminal; an epoch without all four is not there. Nothing
is asked of a server as long as a place before it has the epoch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from gymbag.atari.dopamine_files import DopamineEpoch
from gymbag.atari.download import RemoteFile, download
from gymbag.atari.epoch import Epoch
from gymbag.atari.games import EPOCHS, Game
from gymbag.atari.places import Places, below
from gymbag.atari.rl_unplugged import RLUnpluggedEpoch
from gymbag.atari.server import PATIENCE, Patience
from gymbag.errors import DataNotFoundError, DownloadError, OtherSourceWarning, UnavailableError

#: What an epoch consists of.
COLUMNS = ("observation", "action", "reward", "terminal")
#: How many rows the agent had written by then; without it, the rows of a final buffer cannot be told apart.
ADD_COUNT = "add_count"


def shard_of(game: Game, epoch: int) -> int:
    """Return the number of the shard of RL Unplugged that has the steps of a checkpoint.

    Shard s has the same million steps as checkpoint s. There are 51 checkpoints, but 50 shards, or 49: so
    the last two checkpoints, or three, share the last shard.
    """
    return min(epoch, game.rl_unplugged_shards - 1)


def find_epoch(
    game: Game,
    run: int,
    epoch: int,
    places: Places,
    *,
    unclipped_rewards: bool = False,
    patience: Patience = PATIENCE,
) -> Epoch:
    """Find the files of an epoch, and download them if need be.

    Where a place was passed over that should have had it, because files were missing or a server did not
    answer, an `OtherSourceWarning` tells.

    Args:
        game: The game.
        run: Which of its five runs, from 1 on.
        epoch: Number of the checkpoint, from 0 to 50.
        places: Where to look, and where to download to.
        unclipped_rewards: Whether to look for unclipped rewards, which only RL Unplugged has.
        patience: When to give up with a server.

    Raises:
        DataNotFoundError: No place has it; the message has them all, and how to supply files by hand.
        DownloadError: A server has it, but it could not be downloaded.
    """
    return _Search(game, run, epoch, places, unclipped_rewards, patience).find()


class _Search:
    """A search for the files of an epoch; see `find_epoch` for the arguments."""

    def __init__(
        self, game: Game, run: int, epoch: int, places: Places, unclipped_rewards: bool, patience: Patience
    ) -> None:
        self._game, self._run, self._epoch = game, run, epoch
        self._places, self._patience = places, patience
        self._unclipped_rewards = unclipped_rewards
        self._what = f"{game.folder}, run {run}, epoch {epoch}"
        self._logs = (game.folder, str(run), "replay_logs")
        self._cache = places.dataset_dir / game.folder / str(run) / str(epoch)
        # The name counts the shards of the game, which are 49 for some; so tensorflow-datasets reads them.
        self._shard = f"run_{run}-{shard_of(game, epoch):05d}-of-{game.rl_unplugged_shards:05d}"
        self._shards = places.dataset_dir / "rl_unplugged" / game.folder
        self._notes: list[str] = []
        self._warnings: list[str] = []

    def find(self) -> Epoch:
        """Try the places in order."""
        found = self._in_dopamine_files() or self._in_rl_unplugged()
        if found is None:
            raise DataNotFoundError(self._failure())
        if self._warnings:
            warnings.warn(
                OtherSourceWarning(
                    f"{self._what}: {'; '.join(self._warnings)}; used instead: {found.origin}"
                ),
                stacklevel=3,
            )
        return found

    # What looks in a place returns None, and takes a note, if the epoch is not there.

    def _note(self, note: str, warn: bool = False) -> None:
        self._notes.append(note)
        if warn:
            self._warnings.append(note)

    def _in_dopamine_files(self) -> DopamineEpoch | None:
        if self._unclipped_rewards:
            self._note("Dopamine's and d4rl-atari's files: their rewards are clipped")
            return None
        return (
            self._in_replay_logs()
            or self._dopamine_files(self._cache, "{}.gz".format, "d4rl-atari's files")
            or self._on_mirror()
        )

    def _in_replay_logs(self) -> DopamineEpoch | None:
        root = self._places.replay_logs
        if root is None:
            self._note("Dopamine's files: no folder is set (replay_logs, GYMBAG_ATARI_REPLAY_LOGS)")
            return None
        folder = _descend(root, self._logs)
        if folder is None:
            note = f"Dopamine's files: {root} has no {'/'.join(self._logs)}, nor is it one of these itself"
            stray = any(root.glob("$store$_*"))
            if stray:
                note += "; it has files, but their path does not tell that they are of this game and run"
            self._note(note, warn=stray)
            return None
        return self._dopamine_files(folder, self._dopamine_name, "Dopamine's files")

    def _on_mirror(self) -> DopamineEpoch | None:
        root = self._places.mirror
        if root is None:
            self._note("mirror: none is set (mirror, GYMBAG_ATARI_MIRROR)")
            return None
        # The count comes first, lest the columns be there without it.
        files = [
            RemoteFile(
                below(root, *self._logs, self._dopamine_name(column)), f"{column}.gz", column == ADD_COUNT
            )
            for column in (ADD_COUNT, *COLUMNS)
        ]
        if not self._download(files, self._cache, "mirror"):
            return None
        return self._dopamine_files(self._cache, "{}.gz".format, f"files downloaded from {root},")

    def _in_rl_unplugged(self) -> RLUnpluggedEpoch | None:
        if not self._game.rl_unplugged_shards:
            self._note(f"RL Unplugged: has no {self._game.folder}")
            return None
        root = self._places.rl_unplugged
        folders = [self._shards]
        if isinstance(root, Path):
            folders.insert(0, _descend(root, (self._game.folder,)) or root / self._game.folder)
        for folder in folders:
            path = folder / self._shard
            if path.is_file():
                return RLUnpluggedEpoch(path, f"a shard of RL Unplugged, {path}")
            self._note(f"RL Unplugged: no {path}")
        if isinstance(root, Path):
            return None
        url = below(root, self._game.folder, self._shard)
        if not self._download([RemoteFile(url, self._shard)], self._shards, "RL Unplugged"):
            return None
        return RLUnpluggedEpoch(path, f"a shard of RL Unplugged, downloaded from {url} to {path}")

    def _dopamine_name(self, column: str) -> str:
        stored = column if column == ADD_COUNT else f"$store$_{column}"
        return f"{stored}_ckpt.{self._epoch}.gz"

    def _dopamine_files(self, folder: Path, name: Callable[[str], str], kind: str) -> DopamineEpoch | None:
        """Find the files of the epoch in a folder, given how those of a column are named there."""
        columns = {column: folder / name(column) for column in COLUMNS}
        lacking = [path.name for path in columns.values() if not path.is_file()]
        if lacking:
            note = f"{kind}: {folder} lacks {', '.join(lacking)}"
            self._note(note, warn=len(lacking) < len(columns))
            return None
        add_count = folder / name(ADD_COUNT)
        files = {**columns, ADD_COUNT: add_count} if add_count.is_file() else columns
        return DopamineEpoch(files, f"{kind} in {folder}", is_final=self._epoch == EPOCHS[-1])

    def _download(self, files: Sequence[RemoteFile], folder: Path, place: str) -> bool:
        """Download files, and tell whether the server had them."""
        try:
            download(files, folder, self._patience)
        except UnavailableError as error:
            self._note(f"{place}: {error}", warn=True)
            return False
        except DownloadError as error:
            raise DownloadError(f"{self._what}: {error}\n{self._by_hand()}") from error
        return True

    def _failure(self) -> str:
        """Tell what was looked for where, why it may not be there, and what to do."""
        lines = [f"{self._what}: expected in one of these places, found in none:"]
        lines += (f"  - {note}" for note in self._notes)
        if (self._run, self._epoch) in self._game.missing_checkpoints:
            lines.append(
                f"Checkpoint {self._epoch} of run {self._run} of {self._game.folder} was never published."
            )
        if not self._game.in_dqn_replay:
            lines.append(f"The DQN Replay data was published without {self._game.folder}.")
        lines.append(
            "The bucket that it came from, gs://atari-replay-datasets, has answered 403 since April 2025."
        )
        return "\n".join([*lines, self._by_hand()])

    def _by_hand(self) -> str:
        columns = ", ".join(f"{column}.gz" for column in COLUMNS)
        dopamine_names = f"{'/'.join(self._logs)}/{self._dopamine_name(COLUMNS[0])}"
        ways = [
            f"put {columns} and, if you have it, {ADD_COUNT}.gz into {self._cache}",
            f"set GYMBAG_ATARI_REPLAY_LOGS to a folder that has {dopamine_names} and so on",
        ]
        if self._game.rl_unplugged_shards:
            ways.append(f"put {self._shard} of RL Unplugged into {self._shards}")
        return f"To supply files by hand, {'; or '.join(ways)}."


def _descend(root: Path, names: tuple[str, ...]) -> Path | None:
    """Return the folder with these names, one in the other, below a folder, which may be among them."""
    # It may be a link to one, or have .. in it, so that only its true path tells which it is.
    for parts in (root.parts, root.resolve().parts):
        for known in range(len(names) + 1):
            if parts[len(parts) - known :] == names[:known]:
                folder = root.joinpath(*names[known:])
                if folder.is_dir():
                    return folder
    return None
