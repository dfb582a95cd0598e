"""The ids of d4rl-atari, such as "breakout-mixed-v0", in a gym library.

breakout-mixed-v0       breakout-epoch-7-v4
'------' '---' '-'      '------' '-----' '-'
 game    epoch run       game     epoch  run, counted from 0
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from gymbag.atari.games import EPOCHS, GAMES, NAMED_EPOCHS, RUNS
from gymbag.errors import ChoiceError

_EPOCHS_IN_IDS = NAMED_EPOCHS | {f"epoch-{number}": number for number in EPOCHS if number}


def name_spec(env_id: str) -> str:
    """Return the name that a library is to know the spec of an id by.

    Of an unknown id, the libraries say the nearest name. One without a run is near more often, and one of the
    five is enough: where several specs without a version share a name, the errors say less.

    >>> name_spec("breakout-mixed-v0"), name_spec("breakout-mixed-v1")
    ('breakout-mixed', 'breakout-mixed-v1')
    """
    name, _, run = env_id.rpartition("-v")
    return name if run == "0" else env_id


def register(library: ModuleType) -> None:
    """Register d4rl-atari's 16,430 ids: its 62 games, mixed, medium, expert or epoch-1 to -50, v0 to v4.

    Registering again changes nothing. From then on, other packages are slower to register ids, as the
    libraries search all there are for each.

    Args:
        library: The module `gymnasium`, or `gym` 0.26.

    Raises:
        ChoiceError: It is another module.
    """
    name = getattr(library, "__name__", None)
    if name not in ("gymnasium", "gym"):
        raise ChoiceError(f"expected the module gymnasium or gym, found {library!r}")
    if name == "gymnasium":
        # It registers hundreds of ids when it is imported: half a second's work, once ours are there.
        with contextlib.suppress(ImportError):
            importlib.import_module("ale_py")
    ours = f"gymbag.atari.for_{name}"
    spec_class = importlib.import_module(ours).RunSpec
    # The library's own way to register searches all ids for each, which takes seconds.
    importlib.import_module(f"{name}.envs.registration").registry.update(
        (
            env_id,
            spec_class(
                env_id,
                entry_point=f"{ours}:AtariEnv",
                order_enforce=False,
                disable_env_checker=True,
                kwargs=arguments,
            ),
        )
        for env_id, arguments in _describe_ids()
    )


def _describe_ids() -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each id, and the arguments of its env."""
    for game in GAMES:
        for run in RUNS:
            for name, epoch in _EPOCHS_IN_IDS.items():
                arguments = {"game": game.name, "run": run, "epochs": (epoch, epoch)}
                yield f"{game.name}-{name}-v{run - RUNS[0]}", arguments
