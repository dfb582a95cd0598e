"""Envs whose steps are all alike: one that is as slow as wanted, one that takes no time."""

from __future__ import annotations

import itertools
import time
from typing import Any

import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

SEED = 1


class AntLike(gymnasium.Env[Any, Any]):
    """Steps that take as long, and give as much, as those of MuJoCo's Ant.

    Args:
        as_dict: Whether observations are dicts of four arrays rather than one array.
        with_infos: Whether infos hold ten numbers, like those of Ant.
    """

    STEP_SECONDS = 20e-6
    EPISODE_STEPS = 1_000
    PARTS = (("positions", 13), ("velocities", 14), ("forces", 48), ("torques", 30))
    INFO_KEYS = (
        *("x_position", "y_position", "distance_from_origin", "x_velocity", "y_velocity"),
        *("reward_forward", "reward_ctrl", "reward_contact", "reward_survive", "reward_total"),
    )

    def __init__(self, as_dict: bool = False, with_infos: bool = False) -> None:
        self.action_space = Box(-1.0, 1.0, (8,), np.float32)
        parts = {name: Box(-np.inf, np.inf, (size,), np.float64) for name, size in self.PARTS}
        size = sum(size for _, size in self.PARTS)
        self.observation_space = Dict(parts) if as_dict else Box(-np.inf, np.inf, (size,), np.float64)
        self._as_dict, self._with_infos = as_dict, with_infos
        self._states = np.random.default_rng(SEED).normal(size=(4_096, size))
        self._steps = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._steps = 0
        return self._observe(), self._inform()

    def step(self, action: Any) -> Any:
        end = time.perf_counter() + self.STEP_SECONDS
        self._steps += 1
        observation, info = self._observe(), self._inform()
        while time.perf_counter() < end:
            pass
        return observation, 1.0, False, self._steps == self.EPISODE_STEPS, info

    def _observe(self) -> Any:
        state = self._states[self._steps].copy()
        if not self._as_dict:
            return state
        ends = itertools.accumulate(size for _, size in self.PARTS)
        return {name: state[end - size : end] for (name, size), end in zip(self.PARTS, ends, strict=True)}

    def _inform(self) -> dict[str, Any]:
        return dict(zip(self.INFO_KEYS, self._states[self._steps], strict=False)) if self._with_infos else {}


class Instant(gymnasium.Env[Any, Any]):
    """Steps that take no time, to make long files.

    Args:
        info_keys: How many floats infos hold, no two of them alike.
    """

    EPISODE_STEPS = 100

    def __init__(self, info_keys: int = 0) -> None:
        self.action_space = Discrete(2)
        self.observation_space = Box(-np.inf, np.inf, (4,), np.float32)
        self._random = np.random.default_rng(SEED)
        self._observations = list(self._random.normal(size=(1_000, 4)).astype(np.float32))
        self._info_keys = tuple(f"value_{number}" for number in range(info_keys))
        self._steps = self._total = 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        self._steps = 0
        return self._observations[0], self._inform()

    def step(self, action: Any) -> Any:
        self._steps += 1
        self._total += 1
        ends = self._steps == self.EPISODE_STEPS
        return self._observations[self._total % 1_000], 1.0, ends, False, self._inform()

    def _inform(self) -> dict[str, float]:
        keys = self._info_keys
        return dict(zip(keys, self._random.normal(size=len(keys)).tolist(), strict=True)) if keys else {}
