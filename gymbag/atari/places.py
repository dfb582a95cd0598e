"""The places where to look for Atari data: folders and servers, from arguments or the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

from gymbag.errors import PlaceError

#: Where d4rl-atari keeps what it has downloaded.
DATASET_DIR = "~/.d4rl/datasets"
#: Where RL Unplugged has its episodes in the order in which they were played.
RL_UNPLUGGED = "https://storage.googleapis.com/rl_unplugged/atari_episodes_ordered"


@dataclass(frozen=True)
class Places:
    """Where to look for data, and where to put what is downloaded. `Places.chosen` makes one.

    Attributes:
        replay_logs: Folder with Dopamine's files, or None: `GAME/RUN/replay_logs/` below it. It may also be
            one of the folders GAME, RUN or replay_logs itself, of the game and the run that are looked for.
        dataset_dir: Folder with d4rl-atari's files, `GAME/RUN/EPOCH/`. Downloads go here.
        mirror: URL below which a server has Dopamine's files, `GAME/RUN/replay_logs/`, or None.
        rl_unplugged: Folder or URL with the files of RL Unplugged, `GAME/`.
    """

    replay_logs: Path | None
    dataset_dir: Path
    mirror: str | None
    rl_unplugged: Path | str

    @classmethod
    def chosen(
        cls,
        replay_logs: str | os.PathLike[str] | None = None,
        dataset_dir: str | os.PathLike[str] | None = None,
        mirror: str | None = None,
        rl_unplugged: str | os.PathLike[str] | None = None,
        environment: Mapping[str, str] = os.environ,
    ) -> Places:
        """Choose places: what is given, or else what the environment has, or else the usual ones.

        Args:
            replay_logs: Folder with Dopamine's files; else `GYMBAG_ATARI_REPLAY_LOGS`, else none.
            dataset_dir: Folder with d4rl-atari's files; else `D4RL_DATASET_DIR`, else `~/.d4rl/datasets`.
            mirror: URL with Dopamine's files; else `GYMBAG_ATARI_MIRROR`, else none.
            rl_unplugged: Folder or URL with RL Unplugged's files; else `GYMBAG_ATARI_RL_UNPLUGGED`, else
                Google's server.
            environment: Variables, those of the process if not given. An empty one counts as not set.

        Raises:
            PlaceError: A folder does not exist, or a URL is none that can be used.

        >>> Places.chosen(mirror="https://example.org/dqn/", environment={}).mirror
        'https://example.org/dqn'
        """
        logs = _Setting.read("replay_logs", replay_logs, "GYMBAG_ATARI_REPLAY_LOGS", environment)
        datasets = _Setting.read("dataset_dir", dataset_dir, "D4RL_DATASET_DIR", environment)
        server = _Setting.read("mirror", mirror, "GYMBAG_ATARI_MIRROR", environment)
        unplugged = _Setting.read("rl_unplugged", rl_unplugged, "GYMBAG_ATARI_RL_UNPLUGGED", environment)
        return cls(
            logs.folder() if logs.text else None,
            datasets.path() if datasets.text else Path(DATASET_DIR).expanduser(),
            server.url() if server.text else None,
            (unplugged.url() if "://" in unplugged.text else unplugged.folder())
            if unplugged.text
            else RL_UNPLUGGED,
        )


def below(root: str, *names: str) -> str:
    """Return the URL of what has these names, one in the other, below a URL.

    >>> below("https://example.org/dqn", "Pong", "$store$_action_ckpt.1.gz")
    'https://example.org/dqn/Pong/%24store%24_action_ckpt.1.gz'
    """
    return "/".join((root, *(quote(name, safe="") for name in names)))


@dataclass(frozen=True)
class _Setting:
    """What was set.

    Attributes:
        name: The argument or variable that has it.
        text: What it is; empty if nothing was set.
    """

    name: str
    text: str

    @classmethod
    def read(
        cls, name: str, given: str | os.PathLike[str] | None, variable: str, environment: Mapping[str, str]
    ) -> _Setting:
        if given is None:
            return cls(variable, environment.get(variable, ""))
        return cls(name, os.fspath(given))

    def path(self) -> Path:
        """Take it as a path."""
        if "://" in self.text:
            raise PlaceError(
                f"{self.name}: expected a folder, found {self.text!r}; for a server with Dopamine's files, "
                "set mirror (GYMBAG_ATARI_MIRROR)"
            )
        return Path(self.text).expanduser().absolute()

    def folder(self) -> Path:
        """Take it as a folder that exists."""
        path = self.path()
        if not path.is_dir():
            found = "a file" if path.exists() else "nothing"
            raise PlaceError(
                f"{self.name}: expected a folder, found {found} at {path}; correct it, or leave it out to "
                "look elsewhere"
            )
        return path

    def url(self) -> str:
        """Take it as the URL of a folder on a server."""
        scheme, _, rest = self.text.rpartition("://")
        remedy = ""
        if scheme == "gs":
            remedy = f"; for a bucket, that is https://storage.googleapis.com/{rest}"
        elif scheme in ("", "file"):
            remedy = "; for a folder, set replay_logs (GYMBAG_ATARI_REPLAY_LOGS)"
        try:
            parts = urlsplit(self.text)
            # `port` raises ValueError if it is no number.
            usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable or not re.fullmatch(r"[!-~]+", rest) or set(rest) & set("@?#\\"):
            found = "a password" if "@" in rest else repr(self.text)
            raise PlaceError(
                f"{self.name}: expected a URL like https://example.org/path, quoted, and without a password, "
                f"? or #; found {found}{remedy}"
            )
        return self.text.rstrip("/")
