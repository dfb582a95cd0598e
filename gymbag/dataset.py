"""A recording as the flat arrays that offline reinforcement learning takes, after D4RL's conventions.

Only here do D4RL's words `terminals` and `timeouts` appear. See Fu et al., "D4RL: Datasets for Deep
Data-Driven Reinforcement Learning" (2020); its `qlearning_dataset` and `sequence_dataset` take this
dict.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gymbag.columns import Column
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
        infos: What came with each reward: N infos, or none at all if they were not asked for.
        lengths: (E,) int64, the steps of each episode.
        final_observations: A stack of E: what the agent saw after each episode's last action.
    """

    observations: Any
    actions: Any
    rewards: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    infos: Sequence[dict[str, Any]]
    lengths: np.ndarray
    final_observations: Any


def flatten(
    recording: FlatRecording,
    observation_column: Column,
    action_column: Column,
    dtype: Any = None,
    infos: bool | Collection[str] = False,
) -> dict[str, Any]:
    """Make a D4RL-style dict of arrays of N rows; see `storage.base.Reader.get_dataset`."""
    if isinstance(infos, str):
        raise TypeError(f"expected infos=True, False or a list of keys, found the string {infos!r}")
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
    chosen = None if isinstance(infos, bool) else infos
    if infos is not False:
        dataset.update(_stack_infos(recording.infos, chosen))
    return dataset


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


def _stack_infos(infos: Sequence[dict[str, Any]], chosen: Collection[str] | None) -> dict[str, np.ndarray]:
    found: dict[tuple[str, ...], dict[int, Any]] = {}
    for row, info in enumerate(infos):
        for path, value in _values_with_paths(info, ()):
            found.setdefault(path, {})[row] = value
    uses = Counter(map("/".join, found))
    named = {}
    for path, values in found.items():
        # A key that has a slash of its own gives way to nested keys that look the same.
        unique = uses["/".join(path)] == 1
        named["/".join(path if unique else (key.replace("/", "%2F") for key in path))] = values
    if chosen is not None:
        named = {
            name: named.get(name, {})
            for choice in chosen
            for name in [name for name in named if name == choice or name.startswith(f"{choice}/")]
            or [choice]
        }
    return {f"infos/{name}": _stack_values(values, len(infos)) for name, values in named.items()}


def _values_with_paths(info: dict[Any, Any], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in info.items():
        here = (*path, str(key))
        if isinstance(value, dict):
            yield from _values_with_paths(value, here)
        else:
            yield here, value


def _stack_values(values: dict[int, Any], rows: int) -> np.ndarray:
    """Stack values by row: a typed array if they are alike and none is missing (NaN fills in for floats)."""
    arrays = {
        row: np.asarray(value)
        for row, value in values.items()
        if isinstance(value, int | float | complex | np.generic | np.ndarray)
    }
    kinds = {(array.dtype, array.shape) for array in arrays.values()}
    if len(arrays) == len(values) and len(kinds) == 1:
        ((dtype, shape),) = kinds
        if dtype.kind in "biufc" and (len(arrays) == rows or dtype.kind == "f"):
            stacked = np.full((rows, *shape), np.nan if dtype.kind == "f" else 0, dtype=dtype)
            for row, array in arrays.items():
                stacked[row] = array
            return stacked
    stacked = np.full(rows, None, dtype=object)
    for row, value in values.items():
        stacked[row] = value
    return stacked
