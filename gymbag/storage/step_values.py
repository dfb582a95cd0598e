"""Rewards and ends as they are stored, whatever the types that an env has for them."""

from __future__ import annotations

from typing import Any

import numpy as np

from gymbag.errors import SpaceError

#: Types of rewards that a double holds exactly, and `struct` takes as they are.
PLAIN_REWARDS = frozenset(
    (float, np.float64, np.float32, bool, np.bool_, np.int8, np.int16, np.int32, np.uint8, np.uint16)
)
# Up to here a double holds every integer.
_EXACT = 1 << 53


def as_reward(reward: Any) -> float:
    """Return a reward as a Python float.

    Raises:
        SpaceError: It is no single number, or one that float64 does not hold.
    """
    if type(reward) in PLAIN_REWARDS:
        return float(reward)
    if type(reward) is int and -_EXACT <= reward <= _EXACT:
        return float(reward)
    array = np.asarray(reward)
    if array.size == 1 and array.dtype.kind in "biuf":
        number = float(array.item())
        if number == array.item() or np.isnan(number):
            return number
    raise SpaceError(f"expected a reward that is one number, which float64 holds, found {reward!r}")


def as_outcome(terminated: Any, truncated: Any) -> int:
    """Return the `Ending` of an episode that ends so, or 0 if it goes on.

    Raises:
        SpaceError: A flag is neither true nor false.
    """
    if type(terminated) is bool and type(truncated) is bool:
        return terminated + 2 * truncated
    return int(_as_bool(terminated, "terminated")) + 2 * int(_as_bool(truncated, "truncated"))


def _as_bool(flag: Any, name: str) -> bool:
    if type(flag) is bool or type(flag) is np.bool_:
        return bool(flag)
    array = np.asarray(flag)
    if array.size == 1 and array.dtype.kind in "biu" and array.item() in (0, 1):
        return bool(array.item())
    raise SpaceError(f"expected {name} to be True or False, found {flag!r}")
