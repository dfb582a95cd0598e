"""Measures Atari data against d4rl-atari's way: `python tests/benchmarks/atari.py [--rows N]`.

The epoch is Breakout, played at random and repeated. With a million rows, processes hold 8 GB, one at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import importlib.util
import io
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import report
from atari_process import D4RL_ATARI, GYMBAG, GYMBAG_COMPAT, Found, measured
from made_up_envs import SEED
from measure import STATUS
from recordings import Recordings
from table import TARGET, Row, Table
from workloads import FULL, Scale

PADDING_ROWS = 3
BATCH_SIZES = (32, 256)


def _play(rows: int) -> dict[str, np.ndarray]:
    """Play Breakout as the agents of the DQN Replay data did, but at random, for at least so many rows.

    Returns:
        The columns of a replay buffer: whole episodes, with rows of zeros before each.
    """
    import ale_py
    import gymnasium
    from gymnasium.wrappers import AtariPreprocessing

    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    gymnasium.register_envs(ale_py)
    env: Any = AtariPreprocessing(gymnasium.make("ALE/Breakout-v5", frameskip=1), noop_max=0)
    env.action_space.seed(SEED)
    played: list[tuple[Any, ...]] = []
    while len(played) < rows:
        played += [(np.zeros((84, 84), np.uint8), 0, 0, 0)] * PADDING_ROWS
        frame, _ = env.reset(seed=SEED if len(played) == PADDING_ROWS else None)
        is_over = False
        while not is_over:
            action = env.action_space.sample()
            before = frame
            frame, reward, is_over, _, _ = env.step(action)
            played.append((before, action, np.clip(reward, -1, 1), is_over))
    env.close()
    dtypes = {"observation": np.uint8, "action": np.int32, "reward": np.float32, "terminal": np.uint8}
    return {
        name: np.array(column, dtype)
        for (name, dtype), column in zip(dtypes.items(), zip(*played, strict=True), strict=True)
    }


def _save(path: Path, sample: np.ndarray, rows: int) -> None:
    """Save an array of so many rows, the sample over and over.

    It is compressed once: what gzip wrote may follow itself, and is read as if it were one.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": sample.dtype.str, "fortran_order": False, "shape": (rows, *sample.shape[1:])}
    )
    whole, rest = divmod(rows, len(sample))
    compressed = gzip.compress(sample.tobytes()) if whole else b""
    with path.open("wb") as file:
        file.write(gzip.compress(header.getvalue()))
        for _ in range(whole):
            file.write(compressed)
        file.write(gzip.compress(sample[:rest].tobytes()))


def _checkpoint(scale: Scale, recordings: Recordings) -> Path:
    """Return a folder with a checkpoint as d4rl-atari keeps it, made when first asked for."""
    folder = recordings.folder / f"datasets-{scale.atari_rows}" / "Breakout" / "1" / "1"
    if not folder.exists():
        folder.mkdir(parents=True)
        for name, column in _play(scale.atari_sample_rows).items():
            _save(folder / f"{name}.gz", column, scale.atari_rows)
    return folder


def _if_possible(measure: Callable[[Scale, Recordings], Iterator[Row]]) -> Callable[..., Iterator[Row]]:
    """Return what measures, or yields a row that says what is not there."""

    def rows(scale: Scale, recordings: Recordings) -> Iterator[Row]:
        missing = [package for package in ("ale_py", "cv2") if importlib.util.find_spec(package) is None]
        if missing:
            yield GYMBAG, f"not installed: {', '.join(missing)}"
        elif not STATUS.exists():
            yield GYMBAG, f"not measured: no {STATUS}"
        else:
            yield from measure(scale, recordings)

    return rows


def _in_turn(ways: Sequence[str], measure: Callable[[str], Found], count: int) -> Iterator[tuple[str, Found]]:
    """Measure each way in turn, so many times; yield the medians, and the ratio of seconds to the first."""
    rounds = [{way: measure(way) for way in ways} for _ in range(count)]
    for way in ways:
        found = {name: statistics.median(one[way][name] for one in rounds) for name in rounds[0][way]}
        found["ratio"] = statistics.median(one[way]["seconds"] / one[ways[0]]["seconds"] for one in rounds)
        yield way, found


def _measure_loading(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    folder = _checkpoint(scale, recordings)
    ways = (D4RL_ATARI, GYMBAG, GYMBAG_COMPAT)
    for way, found in _in_turn(ways, lambda way: measured("load", way, folder), scale.slow_pairs):
        memory = found["peak"] / found["loaded"]
        target = "" if way == D4RL_ATARI else "≤ 0.25, ≤ 1.02"
        yield way, scale.atari_rows, found["seconds"], found["peak"], memory, found["ratio"], target


def _measure_stacking(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    folder = _checkpoint(scale, recordings)
    ways = (D4RL_ATARI, GYMBAG)
    for way, found in _in_turn(ways, lambda way: measured("stack", way, folder), scale.slow_pairs):
        target = "≤ 50, ≤ 8" if way == GYMBAG else ""
        yield way, scale.atari_rows, found["seconds"] * 1e3, found["held"], target


def _measure_batches(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    folder = _checkpoint(scale, recordings)
    for size in BATCH_SIZES:

        def measure(way: str, size: int = size) -> Found:
            return measured("batches", way, folder, size, scale.atari_batches)

        for way, found in _in_turn((D4RL_ATARI, GYMBAG), measure, scale.slow_pairs):
            target = "≤ 0.6" if way == GYMBAG else ""
            yield way, scale.atari_rows, size, found["seconds"] * 1e6, found["ratio"], target


def _measure_lazy(scale: Scale, recordings: Recordings) -> Iterator[Row]:
    folder = _checkpoint(scale, recordings)
    size, count = BATCH_SIZES[0], scale.atari_lazy_batches
    converting = measured("lazy", GYMBAG, folder, size, 0)
    yield "converting", scale.atari_rows, converting["seconds"] * 1e3, "", converting["peak"], ""
    found = measured("lazy", GYMBAG, folder, size, count)
    target = "≤ 50, ≤ 200"
    yield (
        f"opening, and drawing {count:,} batches of {size}",
        *(scale.atari_rows, found["seconds"] * 1e3, found["batch"] * 1e6, found["peak"], target),
    )


def _measure_importing(scale: Scale, _: Recordings) -> Iterator[Row]:
    codes = {D4RL_ATARI: f"d4rl_atari_way.register({scale.atari_games})", GYMBAG: "import gymbag.atari"}
    for way, found in _in_turn(tuple(codes), lambda way: _time_code(codes[way]), scale.slow_pairs):
        yield way, found["seconds"] * 1e3, "≤ 100" if way == GYMBAG else ""


def _time_code(code: str) -> Found:
    """Run code in a fresh process that has imported gymnasium and ale_py; find its seconds."""
    program = (
        f"import sys, time; sys.path.append({str(Path(__file__).parent)!r}); "
        "import ale_py, gymnasium, d4rl_atari_way; started = time.perf_counter(); "
        f"{code}; print(time.perf_counter() - started)"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.PIPE, text=True)
    return {"seconds": float(found.stdout)}


TABLES = [
    Table(
        "atari-loading",
        "Loading Atari data",
        "Reading a checkpoint of a replay buffer, in a fresh process each. d4rl-atari's way is `numpy.load` "
        "from `gzip.open`. By default gymbag leaves out what belongs to no episode; with `compat=True` it "
        "gives d4rl-atari's arrays.",
        (
            *("who", "rows", "seconds", "at most, MB", "at most / what was loaded"),
            *("seconds / d4rl-atari's", TARGET),
        ),
        _if_possible(_measure_loading),
    ),
    Table(
        "atari-stacks",
        "Stacks of Atari frames",
        "Making stacks of four of frames that are in memory, with all that `get_dataset(stack=True)` does "
        "but reading; and the memory they take beyond the frames.",
        ("who", "rows", "ms", "more memory, MB", TARGET),
        _if_possible(_measure_stacking),
    ),
    Table(
        "atari-batches",
        "Batches of stacks",
        "Drawing a batch of stacks at random from an epoch in memory.",
        ("who", "rows", "batch", "µs a batch", "time / d4rl-atari's", TARGET),
        _if_possible(_measure_batches),
    ),
    Table(
        "atari-lazy",
        "Atari data on disk",
        "With `lazy=True`, an epoch is converted once; later, stacks are read from disk as they are drawn.",
        ("what", "rows", "ms", "µs a batch", "at most, MB", TARGET),
        _if_possible(_measure_lazy),
    ),
    Table(
        "atari-importing",
        "Importing gymbag.atari",
        "What it takes beyond importing gymnasium and ale_py, in a fresh process. d4rl-atari's way is "
        "`gymnasium.register` for each of 16,430 ids.",
        ("who", "ms", TARGET),
        _if_possible(_measure_importing),
    ),
]


def main(arguments: list[str]) -> None:
    """Measure what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure Atari data; see the top of this file.")
    parser.add_argument("--rows", type=int, default=FULL.atari_rows, help="how many rows the epoch has")
    scale = dataclasses.replace(FULL, atari_rows=parser.parse_args(arguments).rows)
    print(*(f"- {fact}" for fact in report.machine()), sep="\n", end="\n\n")
    with TemporaryDirectory() as folder:
        recordings = Recordings(Path(folder))
        for table in TABLES:
            report.print_rows(table, table.rows(scale, recordings))


if __name__ == "__main__":
    main(sys.argv[1:])
