"""Atari datasets: d4rl-atari's environments and their data, on today's gym.

Importing this registers d4rl-atari's ids with gymnasium, and does nothing else:

    import gymnasium as gym
    import gymbag.atari

    env = gym.make("breakout-mixed-v0")

With gym 0.26, `gymbag.atari.register(gym)` does it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium

from gymbag.atari.registration import register

if TYPE_CHECKING:
    from gymbag.atari.experience import Experience

__all__ = ["Experience", "register"]

register(gymnasium)


def __getattr__(name: str) -> Any:
    if name != "Experience":
        raise AttributeError(f"module 'gymbag.atari' has no attribute {name!r}")
    from gymbag.atari.experience import Experience

    return Experience
