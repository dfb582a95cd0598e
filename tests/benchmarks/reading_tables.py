"""What reading costs: step by step, everything at once, and in a long file."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from made_up_envs import Instant
from measure import Prepare, seconds_of, time_pairs
from readers import (
    COLLECTED_STEPS,
    GYMBAG_STEPS,
    NAIVE_STEPS,
    ORIGINAL_STEPS,
    StepReader,
    read_columns,
    read_first_step,
    seconds_of_random_episodes,
    texts_of_infos,
)
from recorders import GYMBAG, missing_package
from recordings import Recordings
from table import TARGET, Row, Table, at_least, at_most, not_installed
from workloads import (
    BREAKOUT,
    CARTPOLE,
    HALF_CHEETAH,
    HUMANOID,
    INSTANT,
    MANY_INFOS,
    TAXI,
    TEN_INFOS,
    Scale,
    Workload,
    actions_of,
)

from gymbag import get_dataset


def _always(run: Callable[[], Any]) -> Prepare:
    return lambda: nullcontext(run)


def _measure_steps_read(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    cases: list[tuple[Workload, int, StepReader, float | None]] = [
        (CARTPOLE, scale.cartpole_steps, ORIGINAL_STEPS, 8),
        (CARTPOLE, scale.cartpole_steps, NAIVE_STEPS, None),
        (BREAKOUT, scale.frames, ORIGINAL_STEPS, 10),
        (BREAKOUT, scale.frames, NAIVE_STEPS, None),
        # The targets are four times what was measured when infos were JSON only.
        (TAXI, scale.info_steps, COLLECTED_STEPS, 0.95),
        (HALF_CHEETAH, scale.info_steps, COLLECTED_STEPS, 0.56),
        (HUMANOID, scale.info_steps, COLLECTED_STEPS, 1.6),
    ]
    for workload, steps, other, limit in cases:
        missing = missing_package(workload, other.recorder)
        if missing:
            yield workload.name, other.recorder.name, not_installed(missing)
            continue
        ours, theirs = (
            _always(partial(one.read_all, recordings.path_of(one.recorder, workload, steps)))
            for one in (GYMBAG_STEPS, other)
        )
        found = time_pairs(ours, theirs, scale.pairs)
        per_step = found.second / steps * 1e6, found.first / steps * 1e6
        target = "" if limit is None else at_least(limit)
        yield workload.name, other.recorder.name, steps, *per_step, found.ratio, target


def _measure_datasets(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    cases: list[tuple[Workload, int, bool, str, Callable[[Path], Callable[[], Any]], float]] = [
        (CARTPOLE, scale.dataset_steps, False, "h5py", _reading_columns, 0.7),
        (BREAKOUT, scale.dataset_frames, False, "h5py", _reading_columns, 0.4),
        (TEN_INFOS, scale.dataset_steps, True, "h5py", _reading_columns, 1.2),
        # The target is a twentieth of what was measured when infos were JSON only.
        (MANY_INFOS, scale.many_info_steps, True, "json", _decoding_infos, 0.2),
    ]
    for workload, steps, infos, other, prepare, limit in cases:
        missing = missing_package(workload)
        if missing:
            yield workload.name, other, not_installed(missing)
            continue
        path = recordings.path_of(GYMBAG, workload, steps)
        theirs, ours = _always(prepare(path)), _always(partial(get_dataset, path, infos=infos))
        found = time_pairs(theirs, ours, scale.slow_pairs)
        yield workload.name, other, steps, found.first * 1e3, found.second * 1e3, found.ratio, at_most(limit)


def _reading_columns(path: Path) -> Callable[[], Any]:
    return partial(read_columns, path)


def _decoding_infos(path: Path) -> Callable[[], Any]:
    texts = texts_of_infos(path)
    return lambda: [json.loads(text) for text in texts]


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
        yield what, episodes, steps, statistics.median(measure()) * 1e3, at_most(limit)


def _seconds_of_each(run: Callable[[], Any], count: int) -> list[float]:
    return [seconds_of(run) for _ in range(count)]


def _append(path: Path) -> None:
    GYMBAG.record(Instant(), actions_of(INSTANT, Instant.EPISODE_STEPS), path.parent)


TABLES = [
    Table(
        "steps",
        "Reading step by step",
        "Opening a file and iterating all steps of all episodes. Each reader reads the same steps, from the "
        "file of the recorder it belongs to. By hand is a slice of each h5py dataset for each episode, "
        "and where infos are columns, a dict of its values for each step.",
        ("env", "other", "steps", "other, µs a step", "gymbag, µs a step", "other / gymbag", TARGET),
        _measure_steps_read,
    ),
    Table(
        "datasets",
        "Reading everything",
        "`get_dataset` against plain h5py that reads the same columns of the same file, or against decoding "
        "its infos, and nothing else, from JSON. `get_dataset` also makes `next_observations`; it gives "
        "infos where there are any.",
        ("env", "other", "steps", "other, ms", "gymbag, ms", "gymbag / other", TARGET),
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
