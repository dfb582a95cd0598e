"""Envs that do the same each time, played by a fixed rule, for other processes to record and tests to check.

Nothing here is slow to import, as each process that is killed imports it anew.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from recorded import Played

from gymbag.recording import RecordingWrapper
from gymbag.storage import hdf5_store
from gymbag.storage.hdf5_writer import HDF5Writer


class Frames(gymnasium.Env[Any, Any]):
    """Gives images, no two the same, and large enough to be made into blocks in another thread."""

    observation_space = gymnasium.spaces.Box(0, 255, (40, 40, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self._seed, self._t = seed or 0, 0
        return self._frame(), {}

    def _frame(self) -> Any:
        pixels = np.arange(self._t, self._t + 4800, dtype=np.int64) * (self._seed + 1) % 251
        return pixels.astype(np.uint8).reshape(40, 40, 3)

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._t += 1
        return self._frame(), self._t / 7 + action, False, self._t == 50, {"t": self._t}


ENVS: dict[str, Callable[[], Any]] = {"CartPole": CartPoleEnv, "Frames": Frames}


def events(env: Any, session: int) -> Iterator[tuple[Any, ...]]:
    """Play without end; yield the seed and what reset gave, or the action and what step gave."""
    for number in range(1 << 40):
        seed = 1000 * session + number
        yield (seed, *env.reset(seed=seed))
        ended, t = False, 0
        while not ended:
            action = (t * t + number + session) // 3 % 2
            result = env.step(action)
            yield (action, *result)
            ended, t = result[2] or result[3], t + 1


def expected(kind: str, session: int, count: int) -> list[Played]:
    """Return the episodes that so many events make, as the bare env gives them."""
    episodes: list[Played] = []
    played = events(ENVS[kind](), session)
    for _ in range(count):
        first, observation, *rest = next(played)
        if len(rest) == 1:
            episodes.append(Played([observation], [], [], [rest[0]], [], "unfinished", seed=first))
            continue
        reward, terminated, truncated, info = rest
        episode = episodes[-1]
        episode.observations.append(observation)
        episode.actions.append(first)
        episode.rewards.append(reward)
        episode.infos.append(info)
        episode.ending = "terminated" if terminated else "truncated" if truncated else "unfinished"
    return episodes


def assert_same_episode(found: Any, episode: Played) -> None:
    """Assert that an episode that was read is the one that the bare env gave, but for its times."""
    assert (found.seed, len(found), found.ending) == (episode.seed, len(episode), episode.ending)
    stacked = np.stack(episode.observations)
    assert found.observations.dtype == stacked.dtype
    assert found.observations.tobytes() == stacked.tobytes()
    assert found.actions.tolist() == episode.actions
    assert found.rewards.tolist() == episode.rewards
    assert list(found.infos) == episode.infos


def record(path: Path, kind: str, session: int, name: str, connection: Any, **options: Any) -> None:
    """Record until killed, and tell so: "begin", then ("event", N), ("flushed", N) and at last "close".

    Args:
        path: The file.
        kind: Which of the envs.
        session: What decides what happens.
        name: Of the data set.
        connection: Where to send the messages.
        options: `count`, after how many events to close, and `largest_journal`, in bytes.
    """
    hdf5_store._LARGEST_JOURNAL = options.get("largest_journal", 1 << 26)
    connection.send(("begin", time.monotonic()))
    writer = HDF5Writer(path, flush_seconds=0.05)
    env = RecordingWrapper(ENVS[kind](), writer, name=name)
    connection.send(("begun", 0))
    stream, done = writer.stream, 0
    flush = stream.flush

    def flush_and_tell() -> None:
        before = done
        flush()
        connection.send(("flushed", before))

    stream.flush = flush_and_tell  # type: ignore[method-assign]
    played = events(env, session)
    while done != options.get("count"):
        next(played)
        done += 1
        connection.send(("event", time.monotonic()))
    connection.send(("close", time.monotonic()))
    env.close()
    connection.send(("closed", done))
