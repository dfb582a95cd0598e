"""ROMs: the program of a game, as ale-py brings it, or from a file of the user's own.

ALE tells a ROM by its MD5, else by the name of its file. What it cannot load makes it end the process, so a
ROM that it does not know is tried in another process first.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gymbag.atari.games import Game
from gymbag.errors import MissingExtraError, RomError

# No ROM of an Atari 2600 is larger.
_LARGEST_ROM = 1 << 20
_SECONDS_TO_TRY = 20
_TRY = """
import json, sys
sys.path[:] = json.loads(sys.argv[2])
import ale_py
ale = ale_py.ALEInterface()
ale.loadROM(sys.argv[1])
ale.reset_game()
ale.act(0)
"""


def import_ale() -> Any:
    """Return the package ale_py.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        import ale_py
        import ale_py.roms
    except ImportError as error:
        raise MissingExtraError(
            f'playing Atari games needs ale-py: pip install "gymbag[atari]" ({error})'
        ) from error
    return ale_py


@dataclass(frozen=True)
class Rom:
    """The ROM of a game.

    Attributes:
        game: Whose it is.
        content: All of it if it is the user's own, None for that of ale-py.
    """

    game: Game
    content: bytes | None

    def load_into(self, ale: Any) -> None:
        """Have an `ALEInterface` begin with this game; it is seeded anew, too."""
        if self.content is None:
            ale.loadROM(import_ale().roms.get_rom_path(self.game.rom_name))
            return
        with tempfile.TemporaryDirectory(prefix="gymbag-") as folder:
            ale.loadROM(_write(self.game.rom_name, self.content, folder))


def find_rom(game: Game, path: str | os.PathLike[str] | None = None) -> Rom:
    """Return a game's ROM.

    Args:
        game: The game.
        path: Where the user's own is; its name does not matter. By default, that of ale-py.

    Raises:
        RomError: There is no such file, or it is not the game's ROM.
        MissingExtraError: ale-py is not installed.
    """
    ale_py = import_ale()
    if path is None:
        return Rom(game, None)
    path = Path(path).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_ROM + 1)
    except (OSError, ValueError) as error:  # ValueError, if there is a null in the path
        raise RomError(f"expected the ROM of {game.name} at rom_path; {error}") from error
    if len(content) > _LARGEST_ROM:
        raise RomError(f"expected the ROM of {game.name}, of some kilobytes; found {path}, which is larger")
    # ALE's own list of them is not up to date.
    digests = json.loads(Path(ale_py.roms.__file__).with_name("md5.json").read_bytes())
    digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
    known = next((Path(name).stem for name in digests if digests[name] == digest), None)
    if known is None:
        _try(game.rom_name, content, path)
    elif known != game.rom_name:
        raise RomError(f"expected the ROM of {game.name}, found that of {known} in {path}")
    return Rom(game, content)


@functools.lru_cache(maxsize=64)
def _try(name: str, content: bytes, path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="gymbag-") as folder:
        command = [sys.executable, "-c", _TRY, str(_write(name, content, folder)), json.dumps(sys.path)]
        try:
            tried = subprocess.run(command, capture_output=True, timeout=_SECONDS_TO_TRY)
        except subprocess.TimeoutExpired as error:
            raise RomError(f"expected a ROM of {name}, found {path}, with which ale-py hangs") from error
    if tried.returncode:
        said = " ".join(tried.stderr.decode(errors="replace").split())
        raise RomError(
            f"expected a ROM of {name}, found {path}, {len(content)} bytes, which ale-py cannot load: {said}"
        )


def _write(name: str, content: bytes, folder: str) -> Path:
    """Write a ROM into a folder, named as ALE wants it."""
    path = Path(folder, f"{name}.bin")
    path.write_bytes(content)
    return path
