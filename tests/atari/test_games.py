"""The table of games: which there are, what there is of each, and how they are asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ale_py
import ale_py.roms
import gymnasium
import numpy as np
import pytest

from gymbag.atari.games import EPOCHS, GAMES, RUNS, Game, check_epochs, check_run, find_game
from gymbag.errors import ChoiceError, GymbagError


def test_there_are_the_games_that_gym_had() -> None:
    assert len(GAMES) == len({game.name for game in GAMES}) == 62
    assert all(f"{game.folder}NoFrameskip-v4" in gymnasium.registry for game in GAMES)
    assert {game.rom_name for game in GAMES} <= set(ale_py.roms.get_all_rom_ids())


def test_what_there_is_of_each() -> None:
    assert [game.folder for game in GAMES if not game.in_dqn_replay] == ["Adventure", "Defender"]
    shards = [game.rl_unplugged_shards for game in GAMES]
    assert (shards.count(0), shards.count(49), shards.count(50)) == (16, 3, 43)
    assert all(game.in_dqn_replay for game in GAMES if game.rl_unplugged_shards)
    assert sum(len(game.missing_checkpoints) for game in GAMES) == 7
    for run, checkpoint in (pair for game in GAMES for pair in game.missing_checkpoints):
        assert run in RUNS
        assert checkpoint in EPOCHS
    assert [game.rom for game in GAMES].count("PAL") == 13
    assert [game.rom_differs for game in GAMES].count(True) == 22


@pytest.mark.parametrize("game", GAMES, ids=lambda game: game.name)
def test_a_game_is_found_by_either_name(game: Game) -> None:
    assert find_game(game.name) is find_game(game.folder) is game


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("brekout", "breakout"),
        ("spaceinvaders", "space-invaders"),
        ("space_invaders", "space-invaders"),
        ("SpaceInvader", "SpaceInvaders"),
        ("PONG", None),
        ("", None),
        (None, None),
        (3, None),
    ],
)
def test_an_unknown_game_is_an_error_that_says_which_there_are(name: Any, nearest: str | None) -> None:
    with pytest.raises(ChoiceError, match=r"There are 62: adventure, .*, zaxxon") as error:
        find_game(name)
    assert (f"did you mean {nearest!r}?" if nearest else f"found {name!r}\n") in str(error.value)
    assert isinstance(error.value, (GymbagError, ValueError))


@pytest.mark.parametrize("run", [1, 5, np.int64(3)])
def test_runs_are_numbered_from_1_to_5(run: Any) -> None:
    assert check_run(run) == run
    assert type(check_run(run)) is int


@pytest.mark.parametrize("run", [0, 6, -1, 1.0, "1", None])
def test_an_unknown_run_is_an_error_that_says_which_there_are(run: Any) -> None:
    with pytest.raises(ChoiceError, match=f"expected a run from 1 to 5, found {run!r}"):
        check_run(run)


@pytest.mark.parametrize("epochs", [(0, 50), (1, 1), [3, 4], (np.int64(3), 4)])
def test_epochs_are_the_first_and_the_last(epochs: Any) -> None:
    assert check_epochs(epochs) == tuple(epochs)
    assert [type(number) for number in check_epochs(epochs)] == [int, int]


@pytest.mark.parametrize(
    "epochs", [(0, 51), (-1, 3), (2, 1), (1,), (1, 2, 3), 1, "12", ("1", "2"), (1.0, 2), None, range(2)]
)
def test_unknown_epochs_are_an_error_that_says_which_there_are(epochs: Any) -> None:
    with pytest.raises(ChoiceError, match=r"from 0 to 50, such as \(1, 1\)") as error:
        check_epochs(epochs)
    assert str(error.value).endswith(f"found {epochs!r}")


def test_the_documentation_lists_what_there_is() -> None:
    page = (Path(__file__).parents[2] / "docs" / "atari.md").read_text(encoding="utf-8")
    roms = {"same": "the same", "details": "other details", "version": "another version", "PAL": "not PAL"}
    for game in GAMES:
        shards = f"{game.rl_unplugged_shards} shards" if game.rl_unplugged_shards else "no"
        missing = ", ".join(f"{checkpoint} of run {run}" for run, checkpoint in game.missing_checkpoints)
        cells = (game.name, shards, missing if game.in_dqn_replay else "all", roms[game.rom])
        assert f"| {' | '.join(cells)} |\n" in page


def test_games_have_the_actions_of_their_minimal_set() -> None:
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    for game in GAMES:
        ale = ale_py.ALEInterface()
        ale.loadROM(ale_py.roms.get_rom_path(game.rom_name))
        assert len(ale.getMinimalActionSet()) == game.actions
