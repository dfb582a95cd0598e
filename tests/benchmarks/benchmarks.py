"""The benchmarks: what each table measures, row by row."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from measure import STATUS, Prepare, StepTimer, seconds_of, time_pairs
from memory import memory_of
from readers import (
    GYMBAG_STEPS,
    NAIVE_STEPS,
    ORIGINAL_STEPS,
    read_columns,
    read_first_step,
    seconds_of_random_episodes,
)
from recorders import (
    BARE,
    GYMBAG,
    GYMBAG_ZSTD,
    MINARI,
    NAIVE,
    ORIGINAL,
    Recorder,
    missing_package,
    prepared,
)
from recordings import Recordings
from workloads import (
    ANT,
    ANT_DICT,
    ANT_INFOS,
    BREAKOUT,
    CARTPOLE,
    INSTANT,
    Instant,
    Scale,
    Workload,
    actions_of,
)

from gymbag import HDF5Reader, get_dataset

Cell = str | int | float
Row = tuple[Cell, ...]
RATIO = "recorded / bare"
TARGET = "target"
WARM_UP_STEPS = 20  # so that loading modules is not timed


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: What the command line calls it.
        title: Its heading.
        explanation: What was measured, in Markdown.
        columns: The headings of its columns.
        rows: Measures them one by one. A row that ends early could not be measured, and says why.
    """

    name: str
    title: str
    explanation: str
    columns: tuple[str, ...]
    rows: Callable[[Scale, Recordings], Iterator[Row]]


def _not_installed(package: str) -> str:
    return f"not installed: {package}"


def _target(limit: float) -> str:
    return f"≤ {limit:g}"


def _measure_recording(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    slow = scale.slow_steps, scale.slow_pairs
    frames = scale.frames, scale.slow_pairs
    cases: list[tuple[Workload, Recorder, tuple[int, int], str]] = [
        (CARTPOLE, GYMBAG, (scale.cartpole_steps, scale.pairs), _target(1.15)),
        (CARTPOLE, ORIGINAL, slow, ""),
        (CARTPOLE, NAIVE, slow, ""),
        (CARTPOLE, MINARI, slow, ""),
        (BREAKOUT, GYMBAG, (scale.frames, scale.pairs), _target(1.06)),
        (BREAKOUT, ORIGINAL, frames, ""),
        (BREAKOUT, NAIVE, frames, ""),
        (BREAKOUT, MINARI, frames, ""),
        (ANT, GYMBAG, (scale.ant_steps, scale.pairs), _target(1.25)),
        (ANT, NAIVE, slow, ""),
        (ANT_DICT, GYMBAG, (scale.ant_steps, scale.pairs), _target(1.25)),
        (ANT_INFOS, GYMBAG, (scale.ant_steps, scale.pairs), _target(1.35)),
    ]
    for workload, recorder, (steps, count), target in cases:
        missing = missing_package(workload, recorder)
        if missing:
            yield workload.name, recorder.name, _not_installed(missing)
            continue
        with prepared(recorder, workload, WARM_UP_STEPS, recordings.folder) as run:
            run()
        bare, recorded = (
            partial(prepared, one, workload, steps, recordings.folder) for one in (BARE, recorder)
        )
        found = time_pairs(bare, recorded, count)
        per_step = found.first / steps * 1e6, found.second / steps * 1e6
        yield workload.name, recorder.name, steps, count, *per_step, found.ratio, target


def _measure_worst_steps(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    missing = missing_package(BREAKOUT)
    if missing:
        yield BREAKOUT.name, _not_installed(missing)
        return
    for recorder, steps, target in (
        (GYMBAG, scale.step_times, _target(2)),
        (NAIVE, scale.frames, ""),
    ):
        pairs = [
            [_worst_milliseconds(one, steps, recordings) for one in (BARE, recorder)]
            for _ in range(scale.slow_pairs)
        ]
        bare, recorded = (statistics.median(column) for column in zip(*pairs, strict=True))
        difference = statistics.median(recorded - bare for bare, recorded in pairs)
        yield BREAKOUT.name, recorder.name, steps, bare, recorded, difference, target


def _worst_milliseconds(recorder: Recorder, steps: int, recordings: Recordings) -> float:
    timers = []

    def start(env: Any, folder: Any) -> Any:
        timers.append(StepTimer(recorder.start(env, folder)))
        return timers[-1]

    timed = Recorder(recorder.name, start)
    with prepared(timed, BREAKOUT, steps, recordings.folder) as run:
        run()
    return float(np.percentile(timers[0].seconds, 99.9)) * 1e3


def _measure_memory(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    for steps in scale.memory_steps:
        if not STATUS.exists():
            yield CARTPOLE.name, steps, f"not measured: no {STATUS}"
            continue
        bare, recorded = memory_of(BARE, steps), memory_of(GYMBAG, steps)
        grown = recorded.before_close - bare.before_close
        yield CARTPOLE.name, steps, bare.peak, recorded.peak, grown, recorded.peak - bare.peak, _target(64)


def _measure_sizes(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    targets = {
        (BREAKOUT.name, GYMBAG.name): 2.6,
        (CARTPOLE.name, GYMBAG.name): 0.35,
        (BREAKOUT.name, GYMBAG_ZSTD.name): 0.45,
        (CARTPOLE.name, GYMBAG_ZSTD.name): 0.34,
    }
    for workload, steps in ((CARTPOLE, scale.size_steps), (BREAKOUT, scale.frames)):
        for recorder in (GYMBAG, GYMBAG_ZSTD, ORIGINAL, NAIVE, MINARI):
            missing = missing_package(workload, recorder)
            if missing:
                yield workload.name, recorder.name, _not_installed(missing)
                continue
            files = recordings.folder_of(recorder, workload, steps).rglob("*")
            size = sum(file.stat().st_size for file in files if file.is_file())
            limit = targets.get((workload.name, recorder.name))
            yield workload.name, recorder.name, steps, size / 1e6, _target(limit) if limit else ""


def _always(run: Callable[[], Any]) -> Prepare:
    return lambda: nullcontext(run)


def _measure_steps_read(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    for workload, steps, target in (
        (CARTPOLE, scale.cartpole_steps, "≥ 8"),
        (BREAKOUT, scale.frames, "≥ 10"),
    ):
        for other in (ORIGINAL_STEPS, NAIVE_STEPS):
            missing = missing_package(workload, other.recorder)
            if missing:
                yield workload.name, other.recorder.name, _not_installed(missing)
                continue
            ours, theirs = (
                _always(partial(one.read_all, recordings.path_of(one.recorder, workload, steps)))
                for one in (GYMBAG_STEPS, other)
            )
            found = time_pairs(ours, theirs, scale.pairs)
            per_step = found.second / steps * 1e6, found.first / steps * 1e6
            goal = target if other is ORIGINAL_STEPS else ""
            yield workload.name, other.recorder.name, steps, *per_step, found.ratio, goal


def _measure_datasets(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    for workload, steps, target in (
        (CARTPOLE, scale.dataset_steps, _target(0.7)),
        (BREAKOUT, scale.dataset_frames, _target(0.4)),
    ):
        missing = missing_package(workload)
        if missing:
            yield workload.name, _not_installed(missing)
            continue
        path = recordings.path_of(GYMBAG, workload, steps)
        with HDF5Reader(path) as reader:
            name = reader.name
        plain, ours = _always(partial(read_columns, path, name)), _always(partial(get_dataset, path))
        found = time_pairs(plain, ours, scale.slow_pairs)
        yield workload.name, steps, found.first * 1e3, found.second * 1e3, found.ratio, target


def _measure_long_file(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    episodes = scale.long_episodes
    steps = episodes * Instant.EPISODE_STEPS
    path = recordings.path_of(GYMBAG, INSTANT, steps)
    # Appending comes last, as it changes the file.
    cases: list[tuple[str, Callable[[], list[float]], float]] = [
        (
            "open, read the first step of the last episode",
            lambda: _seconds_of_each(partial(read_first_step, path, episodes - 1), scale.openings),
            10,
        ),
        (
            "read the arrays of a random episode of an open file",
            lambda: seconds_of_random_episodes(path, scale.random_episodes),
            2,
        ),
        (
            "open, append an episode, close",
            lambda: _seconds_of_each(partial(_append, path), scale.openings),
            10,
        ),
    ]
    for what, measure, limit in cases:
        yield what, episodes, steps, statistics.median(measure()) * 1e3, _target(limit)


def _seconds_of_each(run: Callable[[], Any], count: int) -> list[float]:
    return [seconds_of(run) for _ in range(count)]


def _append(path: Path) -> None:
    GYMBAG.record(Instant(), actions_of(INSTANT, Instant.EPISODE_STEPS), path.parent)


TABLES = [
    Table(
        "recording",
        "What recording costs",
        "The time of a run that is recorded, over that of the same run bare. Both take turns; making the "
        "recorder and closing it count. Minari's time includes `create_dataset`; by default it keeps no "
        "infos, and frames as JPEG, which is lossy. Recording by hand keeps no infos either.",
        (
            *("env", "recorder", "steps", "pairs", "bare, µs a step", "recorded, µs a step"),
            *(RATIO, TARGET),
        ),
        _measure_recording,
    ),
    Table(
        "worst-steps",
        "The worst steps",
        "The 99.9th percentile of the times of single steps: one step in a thousand takes longer.",
        ("env", "recorder", "steps", "bare, ms", "recorded, ms", "more, ms", TARGET),
        _measure_worst_steps,
    ),
    Table(
        "memory",
        "Memory",
        "What a process that records holds beyond one that does not. Both have imported the same.",
        (
            *("env", "steps", "bare, at most, MB", "recorded, at most, MB"),
            *("more before closing, MB", "more at most, MB", TARGET),
        ),
        _measure_memory,
    ),
    Table(
        "sizes",
        "Size of the files",
        "Everything that a recorder writes. Gymbag 0.4.9 keeps all numbers as float32; Minari keeps frames "
        "as JPEG, and neither infos nor times; recording by hand keeps neither, too.",
        ("env", "recorder", "steps", "MB", TARGET),
        _measure_sizes,
    ),
    Table(
        "steps",
        "Reading step by step",
        "Opening a file and iterating all steps of all episodes. Each reader reads the same steps, from the "
        "file of the recorder it belongs to. By hand is a slice of each h5py dataset for each episode.",
        ("env", "other", "steps", "other, µs a step", "gymbag, µs a step", "other / gymbag", TARGET),
        _measure_steps_read,
    ),
    Table(
        "datasets",
        "Reading everything",
        "`get_dataset` against plain h5py that reads the same columns of the same file. `get_dataset` also "
        "makes `next_observations`.",
        ("env", "steps", "h5py, ms", "gymbag, ms", "gymbag / h5py", TARGET),
        _measure_datasets,
    ),
    Table(
        "long-file",
        "A long file",
        f"Medians on a file of many episodes, {Instant.EPISODE_STEPS} steps each.",
        ("what", "episodes", "steps", "ms", TARGET),
        _measure_long_file,
    ),
]
