"""A recording as the flat arrays that offline reinforcement learning takes, after D4RL's conventions.

Only here do D4RL's words `terminals` and `timeouts` appear. See Fu et al., "D4RL: Datasets for Deep
Data-Driven Reinforcement Learning" (2020); its `qlearning_dataset` and `sequence_dataset` take this
dict.
"""

from __future__ import annotations

import functools
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from gymbag.columns import Column
from gymbag.info_arrays import InfoArrays
from gymbag.workers import workers

# From this size on an array is copied in so many parts, by several threads.
_MANY_BYTES = 1 << 26
_PARTS = 32


@dataclass(frozen=True)
class FlatRecording:
    """Every step of a recording, one after the other: N steps in E episodes.

    Attributes:
        observations: A stack of N (see `columns`): what the agent saw before each action.
        actions: A stack of N.
        rewards: (N,) float64.
        terminated: (N,) bool.
        truncated: (N,) bool.
        lengths: (E,) int64, the steps of each episode.
        final_observations: A stack of E: what the agent saw after each episode's last action.
        infos: What came with each reward, key by key; empty if it was not asked for.
        annotations: What was said of each step, likewise.
    """

    observations: Any
    actions: Any
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    lengths: np.ndarray
    final_observations: Any
    infos: InfoArrays
    annotations: InfoArrays


def flatten(
    recording: FlatRecording,
    observation_column: Column,
    action_column: Column,
    dtype: Any = None,
    infos: bool | Collection[str] = False,
    annotations: bool | Collection[str] = False,
) -> dict[str, Any]:
    """Make a D4RL-style dict of arrays of N rows; see `storage.base.Reader.get_dataset`."""
    has_steps = recording.lengths > 0
    last_rows = np.cumsum(recording.lengths)[has_steps] - 1

    def follow(rows: Any, finals: Any) -> Any:
        """Take the observation after each row's: the next row's, or at an episode's end the final one."""
        if isinstance(rows, np.ndarray):
            following = np.empty_like(rows)
            _copy(rows[1:], following[:-1])
            following[last_rows] = finals[has_steps]
            return following
        after = [*rows[1:], None]
        for row, episode in zip(last_rows, np.flatnonzero(has_steps), strict=True):
            after[row] = finals[episode]
        return tuple(after[: len(rows)])

    def cast(rows: Any) -> Any:
        is_float = isinstance(rows, np.ndarray) and rows.dtype.kind == "f"
        return rows.astype(dtype) if dtype is not None and is_float else rows

    next_observations = observation_column.map(follow, recording.observations, recording.final_observations)
    # D4RL tells episodes apart by these two flags alone, so every end, a cut too, shows in just one of them.
    timeouts = np.zeros_like(recording.terminated)
    timeouts[last_rows] = ~recording.terminated[last_rows]
    dataset = {
        "observations": observation_column.map(cast, recording.observations),
        "actions": action_column.map(cast, recording.actions),
        "rewards": cast(recording.rewards),
        "terminals": recording.terminated,
        "timeouts": timeouts,
        "next_observations": observation_column.map(cast, next_observations),
    }
    for group, arrays, choice in (
        ("infos", recording.infos, infos),
        ("annotations", recording.annotations, annotations),
    ):
        if choice is not False:
            chosen = arrays if choice is True else arrays.choose(choice)
            dataset.update({f"{group}/{name}": array for name, array in chosen.items()})
    return dataset


def check_choice(name: str, choice: bool | Collection[str]) -> None:
    """Refuse a string where a list of keys is expected.

    Raises:
        TypeError: It is one.
    """
    if isinstance(choice, str):
        raise TypeError(f"expected {name}=True, False or a list of keys, found the string {choice!r}")


def _copy(source: np.ndarray, target: np.ndarray) -> None:
    """Copy rows, those of frames in several threads: it takes as long as reading them did."""
    if source.nbytes < _MANY_BYTES:
        target[...] = source
        return
    part = -(-len(source) // _PARTS)
    workers.run(
        functools.partial(np.copyto, target[start : start + part], source[start : start + part])
        for start in range(0, len(source), part)
    )
