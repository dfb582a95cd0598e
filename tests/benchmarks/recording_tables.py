"""What recording costs: time, the worst steps, memory, and the size of what is written."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from measure import STATUS, Pairs, StepTimer, seconds_of, time_pairs
from memory import memory_of
from readers import bytes_of_infos
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
from table import RATIO, TARGET, Row, Table, at_most, not_installed
from workloads import (
    ACROBOT,
    ANT,
    ANT_LIKE,
    ANT_LIKE_DICT,
    ANT_LIKE_INFOS,
    BLACKJACK,
    BREAKOUT,
    BREAKOUT_RAM,
    CARTPOLE,
    CLIFF_WALKING,
    FROZEN_LAKE,
    HALF_CHEETAH,
    HOPPER,
    HUMANOID,
    INVERTED_PENDULUM,
    MOUNTAIN_CAR,
    MOUNTAIN_CAR_CONTINUOUS,
    PENDULUM,
    REACHER,
    SWIMMER,
    TAXI,
    WALKER,
    Scale,
    Workload,
)

WARM_UP_STEPS = 20  # so that loading modules is not timed
# What is recorded: an env, as many steps as take a second or two bare, and the target of recorded / bare.
# CartPole comes first: what is added to others is compared with what is added to it.
RECORDED: tuple[tuple[Workload, int, float | None], ...] = (
    (CARTPOLE, 200_000, 1.25),
    (MOUNTAIN_CAR, 120_000, 1.13),
    (ACROBOT, 40_000, 1.08),
    (MOUNTAIN_CAR_CONTINUOUS, 400_000, None),
    (PENDULUM, 120_000, 1.18),
    (FROZEN_LAKE, 200_000, 1.33),
    (CLIFF_WALKING, 200_000, 1.33),
    (TAXI, 150_000, 1.4),
    (BLACKJACK, 40_000, 1.08),
    (HALF_CHEETAH, 30_000, 1.07),
    (HOPPER, 15_000, 1.07),
    (WALKER, 15_000, 1.07),
    (SWIMMER, 25_000, 1.07),
    (REACHER, 35_000, 1.07),
    (INVERTED_PENDULUM, 45_000, None),
    (ANT, 6_000, 1.03),
    (HUMANOID, 5_000, 1.03),
    (BREAKOUT, 4_000, 1.15),
    (BREAKOUT_RAM, 4_000, 1.03),
    (ANT_LIKE, 50_000, 1.25),
    (ANT_LIKE_DICT, 50_000, 1.3),
    (ANT_LIKE_INFOS, 50_000, 1.3),
)
PEERS = {
    CARTPOLE: (ORIGINAL, NAIVE, MINARI),
    FROZEN_LAKE: (MINARI,),
    HALF_CHEETAH: (MINARI,),
    BREAKOUT: (ORIGINAL, NAIVE, MINARI),
    ANT_LIKE: (NAIVE,),
}


def _measure_recording(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    added_to_cartpole = 0.0
    for workload, all_steps, limit in RECORDED:
        steps = round(all_steps * scale.recording_share)
        missing = missing_package(workload)
        if missing:
            yield workload.name, GYMBAG.name, not_installed(missing)
            continue
        found = _time_recording(workload, GYMBAG, steps, scale.pairs, recordings)
        targets = [] if limit is None else [at_most(limit)]
        if workload is CARTPOLE:
            added_to_cartpole = found.difference / steps
        else:
            allowed = _allowed_seconds(workload, added_to_cartpole)
            targets.append(at_most(round(allowed * 1e6, 1), " µs"))
        yield _row_of(workload, GYMBAG, steps, scale.pairs, found, ", ".join(targets))
        few = min(steps, scale.slow_steps)
        for recorder in PEERS.get(workload, ()):
            missing = missing_package(recorder)
            if missing:
                yield workload.name, recorder.name, not_installed(missing)
                continue
            found = _time_recording(workload, recorder, few, scale.slow_pairs, recordings)
            yield _row_of(workload, recorder, few, scale.slow_pairs, found, "")


def _time_recording(
    workload: Workload, recorder: Recorder, steps: int, pairs: int, recordings: Recordings
) -> Pairs:
    with prepared(recorder, workload, WARM_UP_STEPS, recordings.folder) as run:
        run()
    bare, recorded = (partial(prepared, one, workload, steps, recordings.folder) for one in (BARE, recorder))
    return time_pairs(bare, recorded, pairs)


def _row_of(workload: Workload, recorder: Recorder, steps: int, pairs: int, found: Pairs, target: str) -> Row:
    bare, recorded, added = (
        seconds / steps * 1e6 for seconds in (found.first, found.second, found.difference)
    )
    return workload.name, recorder.name, steps, pairs, bare, recorded, found.ratio, added, target


def _allowed_seconds(workload: Workload, added_to_cartpole: float) -> float:
    """Return what may be added to a step, given what was added to one of CartPole."""
    env = workload.make_seeded()
    observation, *_, info = env.step(env.action_space.sample())
    env.close()
    copying = 0.0
    if isinstance(observation, np.ndarray):  # the only observations that may be large
        copying = statistics.median(seconds_of(observation.copy) for _ in range(100))
    return added_to_cartpole * (1 + _count_of_numbers(info) / 10) + copying


def _count_of_numbers(info: Any) -> int:
    if isinstance(info, dict):
        return sum(map(_count_of_numbers, info.values()))
    return np.size(info)


def _measure_worst_steps(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    missing = missing_package(BREAKOUT)
    if missing:
        yield BREAKOUT.name, not_installed(missing)
        return
    for recorder, steps, target in (
        (GYMBAG, scale.step_times, at_most(2)),
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
        yield CARTPOLE.name, steps, bare.peak, recorded.peak, grown, recorded.peak - bare.peak, at_most(64)


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
                yield workload.name, recorder.name, not_installed(missing)
                continue
            files = recordings.folder_of(recorder, workload, steps).rglob("*")
            size = sum(file.stat().st_size for file in files if file.is_file())
            limit = targets.get((workload.name, recorder.name))
            yield workload.name, recorder.name, steps, size / 1e6, at_most(limit) if limit else ""


def _measure_info_sizes(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    steps = scale.info_steps
    for workload, limit in ((TAXI, None), (HALF_CHEETAH, 27.8), (HUMANOID, 119.8)):
        missing = missing_package(workload)
        if missing:
            yield workload.name, not_installed(missing)
            continue
        size = bytes_of_infos(recordings.path_of(GYMBAG, workload, steps))
        yield workload.name, steps, size / steps, at_most(limit) if limit else ""


TABLES = [
    Table(
        "recording",
        "What recording costs",
        "The time of a run that is recorded, over that of the same run bare. Both take turns; making the "
        "recorder and closing it count. Minari's time includes `create_dataset`; by default it keeps no "
        "infos (it cannot keep those of MuJoCo's envs, whose keys differ between reset and step), and frames "
        "as JPEG, which is lossy. Recording by hand keeps no infos either. The second target is for what is "
        "added: what is added to CartPole, a tenth of that for each number in infos, and a copy of the "
        "observation.",
        (
            *("env", "recorder", "steps", "pairs", "bare, µs a step", "recorded, µs a step"),
            *(RATIO, "added, µs a step", TARGET),
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
        "info-sizes",
        "Size of infos",
        "What the infos of a step take in gymbag's files. The targets are what they took as JSON.",
        ("env", "steps", "bytes a step", TARGET),
        _measure_info_sizes,
    ),
]
