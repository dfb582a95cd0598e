"""The command line: `gymbag demo` shows what gymbag does, `gymbag info FILE` what a file holds."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from gymbag import nested
from gymbag.driving import RandomAgent, drive_env
from gymbag.errors import GymbagError
from gymbag.recording import RecordingWrapper, record_hdf5
from gymbag.storage.base import Reader
from gymbag.storage.hdf5_reader import HDF5Reader, list_datasets
from gymbag.storage.memory import MemoryWriter

_DEMO_ENV = "CartPole-v1"
_BARS = "▁▂▃▄▅▆▇█"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit status."""
    parser = argparse.ArgumentParser(
        prog="gymbag", description="Record Gym environments, and get everything back."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    demo = commands.add_parser("demo", help=f"record {_DEMO_ENV}, read the file and replay it")
    demo.add_argument("--file", type=Path, default=Path("cartpole.h5"), help="default: %(default)s")
    demo.add_argument("--episodes", type=int, default=100, help="default: %(default)s")
    info = commands.add_parser("info", help="list the data sets of a file")
    info.add_argument("file", type=Path)
    chosen = parser.parse_args(arguments)
    try:
        return _demo(chosen.file, chosen.episodes) if chosen.command == "demo" else _info(chosen.file)
    except GymbagError as error:
        print(f"gymbag: {error}", file=sys.stderr)
        return 1


def _demo(file: Path, episodes: int) -> int:
    import gymnasium

    memory = MemoryWriter()
    env = RecordingWrapper(gymnasium.make(_DEMO_ENV), memory)
    env = record_hdf5(env, file, description="random actions, recorded by gymbag demo")
    began = time.perf_counter()
    agent = RandomAgent(env.action_space)
    # Nothing but the loop itself: every episode runs as the next one is asked for.
    for _ in tqdm(drive_env(env, agent, episodes), f"Recording {_DEMO_ENV}", episodes, unit="episode"):
        pass
    seconds = time.perf_counter() - began
    recorded = memory.reader()
    reader = HDF5Reader(file, _DEMO_ENV)
    first = len(reader) - len(recorded)
    print(f"\nRecorded to {file}" + (f", after the {first:,} episodes it had" if first else ""))
    _print_facts(recorded, {"steps per second": f"{recorded.nsteps / seconds:,.0f}"})
    print(f"  {'file size':<18}{file.stat().st_size / 1000:,.1f} kB\n")
    steps, differing = _replay(reader, recorded, first)
    if differing:
        print(f"Replayed {steps:,} steps: {differing:,} differ from what was recorded.")
        return 1
    print(f"Replayed {steps:,} steps from the file: every one equals the recorded one.\n")
    print(f"Next:  gymbag.HDF5Reader({str(file)!r})   gymbag.get_dataset({str(file)!r})")
    return 0


def _replay(reader: Reader, recorded: Reader, first: int) -> tuple[int, int]:
    """Replay the episodes from number `first` on, and count the steps and those that are not as recorded."""
    from gymbag.for_gymnasium import PlaybackEnv

    env = PlaybackEnv(reader)
    count = differing = 0
    for number, episode in enumerate(recorded, start=first):
        observation, info = env.reset(options={"episode": number})
        replayed: list[Any] = [(observation, np.nan, False, info)]
        while not env.episode_over:
            observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
            replayed.append((observation, reward, terminated or truncated, info))
        steps = [(step.observation, step.reward, step.done, step.info or {}) for step in episode]
        count += len(episode)
        differing += abs(len(steps) - len(replayed))
        differing += sum(map(bool, map(nested.difference, steps, replayed)))
    env.close()
    return count, differing


def _info(file: Path) -> int:
    names = list_datasets(file)
    print(f"{file}: {len(names)} data set{'' if len(names) == 1 else 's'}")
    for name, description in names.items():
        with HDF5Reader(file, name) as reader:
            print(f"\n{name}" + (f"  ({description})" if description else ""))
            _print_facts(reader, {})
    return 0


def _print_facts(reader: Reader, further: dict[str, str]) -> None:
    returns = np.array([episode.total_reward for episode in reader])
    facts = {"episodes": f"{len(reader):,}", "steps": f"{reader.nsteps:,}"}
    if len(returns):
        facts["returns"] = (
            f"mean {returns.mean():.1f}, lowest {returns.min():.1f}, highest {returns.max():.1f}"
        )
        if np.isfinite(returns).all() and _can_print(_BARS):
            facts["over time"] = _sparkline(returns)
    for name, value in (facts | further).items():
        print(f"  {name:<18}{value}")


def _can_print(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def _sparkline(values: np.ndarray, width: int = 50) -> str:
    """Draw values as a line of bars, the mean of several to a bar if there are more than fit.

    >>> _sparkline(np.arange(8.0))
    '▁▂▃▄▅▆▇█'
    """
    means = np.array([part.mean() for part in np.array_split(values, min(width, len(values)))])
    low, high = means.min(), means.max()
    heights = np.zeros(len(means)) if high == low else (means - low) / (high - low)
    return "".join(_BARS[round(float(height) * (len(_BARS) - 1))] for height in heights)


if __name__ == "__main__":
    sys.exit(main())
