"""Measuring time and memory: pairs of runs, single steps, and what a process holds."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium

STATUS = Path("/proc/self/status")  # Linux only

# Prepares a run, and cleans up after it; neither is timed.
Prepare = Callable[[], AbstractContextManager[Callable[[], Any]]]


def seconds_of(run: Callable[[], Any]) -> float:
    """Time one call."""
    started = time.perf_counter()
    result = run()
    seconds = time.perf_counter() - started
    del result  # giving back its memory is not timed
    return seconds


def megabytes_of(field: str) -> float:
    """Return what this process holds, in MB: `VmRSS` now, `VmHWM` at most so far."""
    lines = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return int(lines[field].split()[0]) * 1024 / 1e6


@dataclass(frozen=True)
class Pairs:
    """Medians of runs that took turns.

    Attributes:
        first: Seconds of the first of each pair.
        second: Seconds of the second.
        difference: Second less first, the median of each pair's.
        ratio: Second to first, the median of each pair's ratio: a machine that slows down meanwhile, as
            shared ones do, slows both runs of a pair.
    """

    first: float
    second: float
    difference: float
    ratio: float


def time_pairs(first: Prepare, second: Prepare, count: int) -> Pairs:
    """Time two things in turn."""
    pairs = [(_time_prepared(first), _time_prepared(second)) for _ in range(count)]
    firsts, seconds = zip(*pairs, strict=True)
    differences = [second - first for first, second in pairs]
    ratios = [second / first for first, second in pairs]
    return Pairs(*map(statistics.median, (firsts, seconds, differences, ratios)))


def _time_prepared(prepare: Prepare) -> float:
    with prepare() as run:
        gc.collect()  # what earlier runs left behind is not this one's to clean up
        return seconds_of(run)


class StepTimer(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Times each step of an env, resets excluded."""

    def __init__(self, env: Any) -> None:
        super().__init__(env)
        self.seconds: list[float] = []

    def step(self, action: Any) -> Any:
        started = time.perf_counter()
        result = self.env.step(action)
        self.seconds.append(time.perf_counter() - started)
        return result
