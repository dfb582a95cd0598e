"""Damage to files, and a process of its own that reads what is left of them.

A reader must never give other values than those recorded, fall, hang, or take much memory. To notice all of
that, a worker process reads everything there is, with little memory, and gives an answer for each thing it
asked: the value, or the error. The parent waits for it only so long.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import multiprocessing
import resource
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from recorded import Played, write

from gymbag.errors import GymbagError
from gymbag.salvaging import salvage
from gymbag.storage.base import Header
from gymbag.storage.hdf5_reader import HDF5Reader, list_datasets
from gymbag.storage.hdf5_writer import HDF5Writer

#: How long a worker may take for one file, in seconds. It needs a small fraction of one.
PATIENCE = 60
#: What a worker may take of memory beyond what it has when it starts.
_MORE_MEMORY = 512 << 20

#: What was asked, and what came back: a value that can be compared, or an error.
Answers = dict[str, Any]


@dataclass(frozen=True)
class Trouble:
    """An error that reading raised.

    Attributes:
        is_ours: Whether it derives from `GymbagError`.
        text: What it says.
        kind: The name of its class.
    """

    is_ours: bool
    text: str
    kind: str


def plain(value: Any) -> Any:
    """Turn a value into one that is equal only to the same one of the same type, and can be sent."""
    if isinstance(value, dict):
        return type(value).__name__, tuple((plain(key), plain(item)) for key, item in value.items())
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple(map(plain, value))
    if isinstance(value, np.ndarray) and value.dtype.hasobject:
        return "objects", value.shape, tuple(map(plain, value.flat))
    if isinstance(value, np.ndarray | np.generic):
        return type(value).__name__, str(value.dtype), value.shape, value.tobytes()
    return type(value).__name__, repr(value)


def read_episode(episode: Any) -> Any:
    """Read all that there is of an episode."""
    steps = [
        (step.time, step.observation, step.action, step.reward, step.done, step.info) for step in episode
    ]
    facts = len(episode), episode.ending, episode.seed, episode.options
    arrays = episode.observations, episode.actions, episode.rewards, episode.times, episode.infos
    return [facts, steps, arrays]


def read_all(path: Path, names: list[str]) -> Answers:
    """Read everything in a file that has these data sets, episodes one after the other and one by one."""
    answers: Answers = {}
    _ask(answers, "data sets", lambda: list_datasets(path))
    for name in names:
        try:
            reader = HDF5Reader(path, name)
        except Exception as error:
            answers[f"open {name}"] = _trouble(error)
        else:
            with reader:
                _read_data_set(answers, reader, name)
    return answers


def _ask(answers: Answers, question: str, read: Callable[[], Any]) -> None:
    try:
        answers[question] = plain(read())
    except Exception as error:
        answers[question] = _trouble(error)


def _read_data_set(answers: Answers, reader: HDF5Reader, name: str) -> None:
    ask = functools.partial(_ask, answers)
    ask(f"header of {name}", lambda: list(vars(reader.header).values()))
    ask(f"spaces of {name}", lambda: [repr(reader.observation_space), repr(reader.action_space)])
    ask(f"sessions of {name}", lambda: reader.sessions)
    ask(f"steps of {name}", lambda: reader.nsteps)
    ask(f"count of {name}", lambda: len(reader))
    count = 0
    with contextlib.suppress(GymbagError):
        count = len(reader)
    for number in range(count):
        ask(f"episode {number} of {name}", lambda number=number: read_episode(reader[number]))
    ask(f"all episodes of {name}", lambda: list(map(read_episode, reader)))
    ask(f"flat {name}", lambda: reader.get_dataset(infos=True))


def _trouble(error: Exception) -> Trouble:
    return Trouble(isinstance(error, GymbagError), str(error), type(error).__name__)


def salvage_and_read(path: Path, target: Path, names: list[str]) -> tuple[Any, Any, Answers]:
    """Salvage a file; return what was saved and lost, or the error twice, and what the new file has."""
    try:
        found = salvage(path, target)
    except Exception as error:
        return _trouble(error), _trouble(error), {}
    return found.saved, found.lost, read_all(target, names) if target.exists() else {}


def append(path: Path, header: Header, episodes: Sequence[Played]) -> Trouble | None:
    """Record more to a file; return what went wrong."""
    try:
        write(HDF5Writer(path), header, episodes)
    except Exception as error:
        return _trouble(error)
    return None


def _serve(connection: Any) -> None:
    """Do what the parent asks for, with little memory."""
    importlib.import_module("gymnasium")  # which is not to count
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MORE_MEMORY,) * 2)
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        connection.send(function(*arguments))


class FallenError(AssertionError):
    """A worker died or did not answer."""


@dataclass
class ReadingProcess:
    """A process that reads, and may die of it."""

    _process: Any = field(default=None, init=False)
    _connection: Any = field(default=None, init=False)

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Have it do something.

        Raises:
            FallenError: It died of that, or took too long.
        """
        if self._process is None:
            self._start()
        try:
            self._connection.send((function, arguments))
            if self._connection.poll(PATIENCE):
                return self._connection.recv()
            reason = f"gave no answer in {PATIENCE} s"
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            reason = f"died with exit code {self._process.exitcode}"
        self.stop()
        raise FallenError(f"the reading process {reason}")

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None


@contextlib.contextmanager
def reading_process() -> Iterator[ReadingProcess]:
    """Give a process that ends with the block."""
    process = ReadingProcess()
    try:
        yield process
    finally:
        process.stop()


def copy_recording(source: Path, target: Path) -> None:
    """Copy a file and the journal beside it, in place of what is there."""
    for suffix in ("", ".journal"):
        found, copied = source.with_name(source.name + suffix), target.with_name(target.name + suffix)
        if found.exists():
            shutil.copyfile(found, copied)
        else:
            copied.unlink(missing_ok=True)


def flip(path: Path, offset: int, mask: int) -> None:
    """Change a byte."""
    with path.open("r+b") as file:
        file.seek(offset)
        (byte,) = file.read(1)
        file.seek(offset)
        file.write(bytes([byte ^ mask]))
