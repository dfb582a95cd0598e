"""The games that d4rl-atari has ids for, and what there is of each.

The DQN Replay data has five runs of a game. What is kept of a run are its checkpoints, 0 to 50, of about a
million steps each; d4rl-atari calls them epochs, and has ids for 1 to 50.
"""

from __future__ import annotations

import difflib
import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from gymbag.errors import ChoiceError

#: The runs of every game; the ids end in v0 to v4 for them.
RUNS = range(1, 6)
#: The epochs of every run.
EPOCHS = range(51)
#: The epochs that have a name in ids.
NAMED_EPOCHS = {"mixed": 1, "medium": 10, "expert": 50}


@dataclass(frozen=True)
class Game:
    """A game, and what there is of it.

    Attributes:
        name: As it stands in ids, such as "space-invaders".
        actions: How many actions there are in its minimal set.
        in_dqn_replay: Whether the DQN Replay data has it.
        rl_unplugged_shards: How many files of each run RL Unplugged has; 0 where it lacks the game.
        missing_checkpoints: The run and the number of each that the DQN Replay data lacks.
        rom: How the ROM that the data was made with, atari-py's, relates to ale-py's. "same": as far as is
            known no frame differs, but for a few in ten thousand; "details": a few pixels differ, such as
            the maker's name; "version": the picture differs, and sometimes the rewards; "PAL": it was the
            European version, of 250 lines rather than 210.
    """

    name: str
    actions: int
    in_dqn_replay: bool = True
    rl_unplugged_shards: int = 50
    missing_checkpoints: tuple[tuple[int, int], ...] = ()
    rom: Literal["same", "details", "version", "PAL"] = "same"

    @property
    def folder(self) -> str:
        """The name in the folders of the data, such as "SpaceInvaders"; ALE's envs have it, too."""
        return "".join(part.capitalize() for part in self.name.split("-"))

    @property
    def rom_name(self) -> str:
        """The name of its ROM, such as "space_invaders"."""
        return self.name.replace("-", "_")

    @property
    def rom_differs(self) -> bool:
        """Whether playing it with ale-py's ROM shows other frames than the data has."""
        return self.rom != "same"


#: All 62, by name.
#:
#: Which there are: https://github.com/takuseno/d4rl-atari, d4rl_atari/__init__.py. Those of RL Unplugged:
#: https://github.com/tensorflow/datasets, rl_unplugged/atari_utils.py. The ROMs were compared by playing
#: those of atari-py 0.2.5 beside those of ale-py 0.12.1, with the same actions.
GAMES: tuple[Game, ...] = (
    Game("adventure", 18, in_dqn_replay=False, rl_unplugged_shards=0),
    Game("air-raid", 6, rl_unplugged_shards=0),
    Game("alien", 18),
    Game("amidar", 10, rom="PAL"),
    Game("assault", 7, rom="PAL"),
    Game("asterix", 9),
    Game("asteroids", 14, rl_unplugged_shards=0),
    Game("atlantis", 4),
    Game("bank-heist", 18, rom="PAL"),
    Game("battle-zone", 18, rom="version"),
    Game("beam-rider", 9),
    Game("berzerk", 18, rl_unplugged_shards=0, rom="details"),
    Game("bowling", 6, rl_unplugged_shards=0),
    Game("boxing", 18),
    Game("breakout", 4, missing_checkpoints=((5, 50),)),
    Game("carnival", 6, rl_unplugged_shards=49, missing_checkpoints=((1, 50),), rom="PAL"),
    Game("centipede", 18, missing_checkpoints=((1, 50),), rom="PAL"),
    Game("chopper-command", 18),
    Game("crazy-climber", 9),
    Game("defender", 18, in_dqn_replay=False, rl_unplugged_shards=0),
    Game("demon-attack", 6),
    Game("double-dunk", 18, rom="PAL"),
    Game("elevator-action", 18, rl_unplugged_shards=0),
    Game("enduro", 9),
    Game("fishing-derby", 18),
    Game("freeway", 3),
    Game("frostbite", 18),
    Game("gopher", 8, rom="PAL"),
    Game("gravitar", 18, rl_unplugged_shards=49, rom="version"),
    Game("hero", 18),
    Game("ice-hockey", 18, missing_checkpoints=((1, 50),), rom="details"),
    Game("jamesbond", 18),
    Game("journey-escape", 16, rl_unplugged_shards=0),
    Game("kangaroo", 18),
    Game("krull", 18, rom="version"),
    Game("kung-fu-master", 14),
    Game("montezuma-revenge", 18, rl_unplugged_shards=0),
    Game("ms-pacman", 9),
    Game("name-this-game", 6, rom="details"),
    Game("phoenix", 8),
    Game("pitfall", 18, rl_unplugged_shards=0, rom="details"),
    Game("pong", 6),
    Game("pooyan", 6, rom="PAL"),
    Game("private-eye", 18, rl_unplugged_shards=0),
    Game("qbert", 6),
    Game("riverraid", 18, rom="details"),
    Game("road-runner", 18, rom="version"),
    Game("robotank", 18),
    Game("seaquest", 18),
    Game("skiing", 3, rl_unplugged_shards=0, rom="PAL"),
    Game("solaris", 18, rl_unplugged_shards=0),
    Game("space-invaders", 6),
    Game("star-gunner", 18, rl_unplugged_shards=49, missing_checkpoints=((1, 50),)),
    Game("tennis", 18, rl_unplugged_shards=0, rom="PAL"),
    Game("time-pilot", 10),
    Game("tutankham", 8, rl_unplugged_shards=0, rom="PAL"),
    Game("up-n-down", 6),
    Game("venture", 18, rl_unplugged_shards=0),
    Game("video-pinball", 9, missing_checkpoints=((1, 50),), rom="PAL"),
    Game("wizard-of-wor", 10, rom="PAL"),
    Game("yars-revenge", 18, missing_checkpoints=((1, 50),)),
    Game("zaxxon", 18),
)

_BY_NAME = {game.name: game for game in GAMES} | {game.folder: game for game in GAMES}


def find_game(name: str) -> Game:
    """Find a game by its name in ids, or by that of its folder.

    Raises:
        ChoiceError: There is no such game.

    >>> find_game("SpaceInvaders").name
    'space-invaders'
    >>> find_game("star-gunner").rl_unplugged_shards
    49
    """
    if name not in _BY_NAME:
        games = ", ".join(game.name for game in GAMES)
        raise ChoiceError(
            f"expected the name of a game, or of its folder, found {name!r}{suggest(name, _BY_NAME)}\n"
            f"There are {len(GAMES)}: {games}"
        )
    return _BY_NAME[name]


def suggest(name: object, names: Iterable[str]) -> str:
    """Return "; did you mean 'this'?" for the nearest of some names, or nothing if none is near.

    >>> suggest("brekout", ["breakout", "pong"])
    "; did you mean 'breakout'?"
    """
    nearest = difflib.get_close_matches(str(name), names, n=1)
    return f"; did you mean {nearest[0]!r}?" if nearest else ""


def check_run(run: Any) -> int:
    """Return the number of a run.

    Raises:
        ChoiceError: There is no such run.
    """
    number = as_integer(run)
    if number not in RUNS:
        raise ChoiceError(f"expected a run from {RUNS[0]} to {RUNS[-1]}, found {run!r}")
    return number


def check_epochs(epochs: Any) -> tuple[int, int]:
    """Return the first and the last of some consecutive epochs.

    Args:
        epochs: The two numbers; the same twice for one epoch.

    Raises:
        ChoiceError: They are not two numbers of epochs in their order.
    """
    numbers = tuple(map(as_integer, epochs)) if isinstance(epochs, list | tuple) else ()
    if len(numbers) != 2 or not EPOCHS[0] <= numbers[0] <= numbers[1] <= EPOCHS[-1]:
        raise ChoiceError(
            f"expected the first and the last epoch, from {EPOCHS[0]} to {EPOCHS[-1]}, such as (1, 1) or "
            f"(46, 50); found {epochs!r}"
        )
    return numbers


def as_integer(value: Any) -> int:
    """Return an integer of Python or NumPy as an int, and -1 for what is none."""
    try:
        return operator.index(value)
    except TypeError:
        return -1
