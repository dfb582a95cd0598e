"""ROMs: the user's own is played in place of ale-py's, and what is no ROM is said so before it does harm."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import ale_py.roms
import gymnasium
import numpy as np
import pytest

import gymbag.atari
from gymbag.atari.games import find_game
from gymbag.atari.roms import find_rom
from gymbag.errors import RomError

assert gymbag.atari.register
BREAKOUT = find_game("breakout")


def rom_of(name: str) -> bytes:
    return Path(ale_py.roms.get_rom_path(name)).read_bytes()


def changed_rom() -> bytes:
    """Breakout with other bricks."""
    rom = bytearray(rom_of("breakout"))
    rom[0x700] ^= 0xFF
    return bytes(rom)


def play(rom_path: Path | None) -> np.ndarray:
    env = gymnasium.make("breakout-mixed-v0", rom_path=rom_path)
    frames = [env.reset(seed=1)[0], *(env.step(number % 4)[0] for number in range(30))]
    return np.stack([*frames, env.reset(seed=2)[0]])


def test_a_rom_of_the_user_s_own_is_played(tmp_path: Path) -> None:
    path = tmp_path / "My old ROM (PAL).a26"
    path.write_bytes(rom_of("breakout"))
    expected = play(None)
    assert (play(path) == expected).all()
    path.write_bytes(changed_rom())
    found = play(path)
    differ = (found != expected).any(axis=(1, 2))
    assert differ.all()
    # Another ROM of the same game, then: most of the picture is the same.
    assert (found == expected).mean() > 0.95


def test_the_file_is_read_once(tmp_path: Path) -> None:
    path = tmp_path / "breakout.bin"
    path.write_bytes(rom_of("breakout"))
    env = gymnasium.make("breakout-mixed-v0", rom_path=path)
    path.unlink()
    first, _ = env.reset(seed=1)
    assert (env.reset(seed=1)[0] == first).all()


def test_ale_py_s_own_is_the_default() -> None:
    assert find_rom(BREAKOUT).content is None


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "my.bin").write_bytes(rom_of("breakout"))
    assert find_rom(BREAKOUT, "~/my.bin").content == rom_of("breakout")


def test_a_path_that_can_be_none_is_said_so() -> None:
    with pytest.raises(RomError, match="expected the ROM of breakout at rom_path; embedded null"):
        find_rom(BREAKOUT, "my\0.bin")


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        pytest.param(lambda path: None, "No such file or directory", id="missing"),
        pytest.param(lambda path: path.mkdir(), "(?i)is a directory|permission", id="directory"),
        pytest.param(lambda path: path.write_bytes(b""), "0 bytes, which ale-py cannot load", id="empty"),
        pytest.param(
            lambda path: path.write_bytes(b"no game" * 100),
            "700 bytes, which ale-py cannot load: .*Unrecognized cartridge",
            id="no ROM",
        ),
        pytest.param(lambda path: path.write_bytes(bytes(2 << 20)), "which is larger", id="too large"),
        pytest.param(
            lambda path: path.write_bytes(rom_of("pong")),
            "expected the ROM of breakout, found that of pong",
            id="another game",
        ),
    ],
)
def test_what_is_no_rom_of_the_game_is_said_so(
    prepare: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "breakout.bin"
    prepare(path)
    with pytest.raises(RomError, match=message) as error:
        gymnasium.make("breakout-mixed-v0", rom_path=path)
    assert str(path) in str(error.value)
