"""Atari datasets: d4rl-atari's environments and their data, on today's gym.

Importing this registers d4rl-atari's ids with gymnasium, and does nothing else:

    import gymnasium as gym
    import gymbag.atari

    env = gym.make("breakout-mixed-v0")

With gym 0.26, `gymbag.atari.register(gym)` does it.
"""

from __future__ import annotations

import gymnasium

from gymbag.atari.registration import register

__all__ = ["register"]

register(gymnasium)
