"""Made-up episodes, writing them straight to a writer, and checking that a reader has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from cases import VALUES, SpaceCase
from same import assert_same

from gymbag.storage.base import Header, Reader, Writer

INFOS = [VALUES[name] for name in ("empty", "plain", "nested", "arrays of floats", "dollar keys")]


@dataclass
class Played:
    """An episode as it happened: T actions and rewards; T+1 observations, infos and times."""

    observations: list[Any]
    actions: list[Any]
    rewards: list[float]
    infos: list[dict[str, Any]]
    times: list[float]
    ending: str
    seed: Any = None
    options: dict[str, Any] | None = None

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def terminated(self) -> bool:
        return "terminated" in self.ending

    @property
    def truncated(self) -> bool:
        return "truncated" in self.ending


def play(
    case: SpaceCase,
    shape: Sequence[tuple[int, str]],
    actions: SpaceCase | None = None,
    infos: bool = False,
    first: int = 0,
) -> list[Played]:
    """Make up episodes of these lengths and endings; observations and actions are samples.

    Args:
        case: The space of the observations.
        shape: The length and the ending of each episode.
        actions: The space of the actions; by default that of the observations.
        infos: Whether infos hold anything.
        first: Number of the first episode, from which its seed and the samples follow.
    """
    steps = sum(length for length, _ in shape)
    observations = iter(case.samples(steps + len(shape), seed=first + 1))
    acted = iter((actions or case).samples(steps, seed=first + 2))
    episodes = []
    for number, (length, ending) in enumerate(shape, first):
        rewards = [(-1.5) ** (step % 40) + number for step in range(length)]
        if length > 1:
            rewards[1] = float("-inf")
        episodes.append(
            Played(
                [next(observations) for _ in range(length + 1)],
                [next(acted) for _ in range(length)],
                rewards,
                [INFOS[(number + step) % len(INFOS)] if infos else {} for step in range(length + 1)],
                [1e9 + number + step / 7 for step in range(length + 1)],
                ending,
                (None, 7, 2**70, np.int64(3))[number % 4],
                (None, {}, {"start": np.arange(2), "mode": ("a", None)})[number % 3],
            )
        )
    return episodes


def header_of(case: SpaceCase, actions: SpaceCase | None = None, **facts: Any) -> Header:
    return Header(facts.pop("name", "Data-v0"), case.describe(), (actions or case).describe(), **facts)


def write(writer: Writer, header: Header, episodes: Sequence[Played], close: bool = True) -> None:
    """Record episodes as a wrapper would."""
    writer.begin(header)
    write_episodes(writer, episodes)
    if close:
        writer.close()


def write_episodes(writer: Writer, episodes: Sequence[Played]) -> None:
    for episode in episodes:
        writer.write_reset(
            episode.times[0], episode.observations[0], episode.infos[0], episode.seed, episode.options
        )
        for t in range(len(episode)):
            last = t == len(episode) - 1
            writer.write_step(
                episode.times[t + 1],
                episode.observations[t + 1],
                episode.actions[t],
                episode.rewards[t],
                last and episode.terminated,
                last and episode.truncated,
                episode.infos[t + 1],
            )


def assert_recorded(reader: Reader, episodes: Sequence[Played]) -> None:
    """Assert that a reader has these episodes and no others, by arrays and step by step."""
    assert len(reader) == len(episodes)
    assert reader.nsteps == sum(map(len, episodes))
    for index, (found, played) in enumerate(zip(reader, episodes, strict=True)):
        assert (found.index, len(found)) == (index, len(played))
        assert_same_ending(found, played)
        assert_same(found.seed, played.seed)
        assert_same(found.options, played.options)
        assert_same_arrays(found, played, reader)
        assert_same_steps(found, played, reader)


def assert_same_ending(found: Any, played: Played) -> None:
    assert (found.terminated, found.truncated) == (played.terminated, played.truncated)
    assert found.finished == (played.ending != "unfinished")
    assert found.ending == played.ending


def assert_same_arrays(found: Any, played: Played, reader: Reader) -> None:
    stacks = (
        (reader.observation_column, found.observations, played.observations),
        (reader.action_column, found.actions, played.actions),
    )
    for column, stack, values in stacks:
        rows = column.iterate(stack)
        assert_same([next(rows) for _ in values], values, exact_types=False)
    assert_same(found.rewards, np.array(played.rewards, np.float64))
    assert_same(found.times, np.array(played.times, np.float64))
    assert_same(found.infos, tuple(played.infos))


def assert_same_steps(found: Any, played: Played, reader: Reader) -> None:
    steps = list(found)
    assert len(steps) == len(played) + 1
    observations, actions = [step.observation for step in steps], [step.action for step in steps]
    assert_same(observations, played.observations, exact_types=False)
    assert_same(actions, [reader.action_column.null(), *played.actions], exact_types=False)
    assert_same([step.reward for step in steps], [float("nan"), *played.rewards])
    assert_same([step.time for step in steps], played.times)
    assert_same([step.info for step in steps], [info or None for info in played.infos])
    finished = played.ending != "unfinished"
    assert [step.done for step in steps] == [False] * len(played) + [finished]


def overwrite(value: Any) -> None:
    """Change in place whatever of a value can be changed."""
    if isinstance(value, np.ndarray):
        value[...] = 1
    elif isinstance(value, dict):
        for item in value.values():
            overwrite(item)
        value.clear()
    elif isinstance(value, tuple | list):
        for item in value:
            overwrite(item)
