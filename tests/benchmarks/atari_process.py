"""What is measured of Atari data in a fresh process each: `measured` starts it; this file is its program."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import d4rl_atari_way
import numpy as np
from measure import megabytes_of, seconds_of

from gymbag.atari.dataset import load_dataset
from gymbag.atari.dopamine_files import DopamineEpoch
from gymbag.atari.epoch import Epoch, EpochTable, FrameReader
from gymbag.atari.experience import Experience

D4RL_ATARI, GYMBAG, GYMBAG_COMPAT = "d4rl-atari", "gymbag", "gymbag, compat=True"
SEED = 1

#: Names of what was found, and its figures.
Found = dict[str, float]


def measured(what: str, way: str, folder: Path, *numbers: int) -> Found:
    """Measure in a fresh process.

    Args:
        what: One of `MEASURES`.
        way: One of those above.
        folder: A checkpoint, as d4rl-atari keeps it.
        numbers: What else that measure wants.
    """
    command = [sys.executable, __file__, what, way, str(folder), *map(str, numbers)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: Found = json.loads(found.stdout)
    return result


def _epoch(folder: Path) -> Epoch:
    return DopamineEpoch({path.stem: path for path in folder.glob("*.gz")}, "the sample")


def _load(way: str, folder: Path) -> Found:
    """Load the checkpoint: seconds, MB held at most, and MB that were loaded."""
    _have_memory(len(_epoch(folder).table) * 84 * 84)
    started = time.perf_counter()
    if way == D4RL_ATARI:
        dataset = d4rl_atari_way.load(folder)
    else:
        dataset = load_dataset([_epoch(folder)], compat=way == GYMBAG_COMPAT)
    return {
        "seconds": time.perf_counter() - started,
        "peak": megabytes_of("VmHWM"),
        "loaded": sum(column.nbytes for column in dataset.values()) / 1e6,
    }


def _have_memory(size: int) -> None:
    """Have the system have so many bytes at hand.

    A virtual machine may get its memory from the host when it is first touched. That takes several times as
    long as loading, for whoever comes first.
    """
    np.full(size, 1, np.uint8)
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew


class _Untouched(Epoch, FrameReader):
    """An epoch of frames that nobody has written to, so that the system gives them no memory."""

    origin = "nowhere"
    table: Any = None

    def __init__(self, table: EpochTable) -> None:
        self.table = table

    def open_frames(self) -> FrameReader:
        return self

    def read_into(self, frames: np.ndarray) -> None:
        pass

    def close(self) -> None:
        pass


def _stack(way: str, folder: Path) -> Found:
    """Stack frames that take no memory themselves: seconds, and MB that stacks take."""
    table = _epoch(folder).table
    count = len(table.rows if way == GYMBAG else table)  # and the table keeps its rows, stacked or not
    frames = np.zeros((len(table), 84, 84), np.uint8)
    before = megabytes_of("VmRSS")
    started = time.perf_counter()
    if way == D4RL_ATARI:
        stacks: Any = d4rl_atari_way.stack(frames, table.terminals)
        others: dict[str, np.ndarray] = {}
    else:
        others = load_dataset([_Untouched(table)], stack=True, compat=way == GYMBAG_COMPAT)
        stacks = others.pop("observations")
    seconds = time.perf_counter() - started
    assert len(stacks) == count
    held = megabytes_of("VmRSS") - before - sum(column.nbytes for column in others.values()) / 1e6
    return {"seconds": seconds, "held": held}


def _batches(way: str, folder: Path, size: int, count: int) -> Found:
    """Draw batches of stacks at random: seconds for one, the median."""
    dataset = load_dataset([_epoch(folder)], stack=way == GYMBAG, compat=way == D4RL_ATARI)
    if way == D4RL_ATARI:
        stacks = d4rl_atari_way.stack(dataset["observations"][:, 0], dataset["terminals"])
        draw: Callable[[np.ndarray], Any] = partial(d4rl_atari_way.draw, stacks)
    else:
        draw = dataset["observations"].__getitem__
    random = np.random.default_rng(SEED)
    batches = [random.integers(0, len(dataset["rewards"]), size) for _ in range(count)]
    return {"seconds": statistics.median(seconds_of(partial(draw, numbers)) for numbers in batches)}


def _lazy(way: str, folder: Path, size: int, count: int) -> Found:
    """Open the data set, converting it the first time, and draw stacks at random.

    Returns:
        Seconds to open it, seconds for a batch, the median, and MB held at most.
    """
    experience = Experience("breakout", dataset_dir=folder.parents[2])
    started = time.perf_counter()
    dataset = experience.get_dataset(lazy=True, stack=True)
    opening = time.perf_counter() - started
    random = np.random.default_rng(SEED)
    batches = [random.integers(0, len(dataset["rewards"]), size) for _ in range(count)]
    drawing = [seconds_of(partial(dataset["observations"].__getitem__, numbers)) for numbers in batches]
    return {
        "seconds": opening,
        "batch": statistics.median(drawing) if drawing else 0.0,
        "peak": megabytes_of("VmHWM"),
    }


MEASURES: dict[str, Callable[..., Found]] = {
    "load": _load,
    "stack": _stack,
    "batches": _batches,
    "lazy": _lazy,
}

if __name__ == "__main__":
    print(json.dumps(MEASURES[sys.argv[1]](sys.argv[2], Path(sys.argv[3]), *map(int, sys.argv[4:]))))
