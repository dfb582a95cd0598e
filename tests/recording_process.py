"""A process that records what it is told to, one order after the other, and can be killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from recorded import Played, write_episodes

from gymbag.storage import hdf5_store
from gymbag.storage.hdf5_writer import HDF5Writer


class _Recorder:
    """Carries out the orders, in the other process."""

    def __init__(self) -> None:
        self._writer: Any = None

    def begin(self, path: Any, header: Any, **options: Any) -> None:
        self._writer = HDF5Writer(path, **options)
        self._writer.begin(header)

    def write(self, *episodes: Played) -> None:
        write_episodes(self._writer, episodes)

    def reset(self, episode: Played) -> None:
        observation, info, time = episode.observations[0], episode.infos[0], episode.times[0]
        self._writer.write_reset(time, observation, info, episode.seed, episode.options)

    def step(self, episode: Played, t: int) -> None:
        last = t == len(episode) - 1
        self._writer.write_step(
            episode.times[t + 1],
            episode.observations[t + 1],
            episode.actions[t],
            episode.rewards[t],
            last and episode.terminated,
            last and episode.truncated,
            episode.infos[t + 1],
        )

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()

    def limit_journal(self, size: int) -> None:
        """Have the journal put into the file when it is larger than that."""
        hdf5_store._LARGEST_JOURNAL = size

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def _serve(connection: Any) -> None:
    recorder = _Recorder()
    while True:
        try:
            order, arguments, options = connection.recv()
        except EOFError:
            return
        try:
            getattr(recorder, order)(*arguments, **options)
        except Exception as error:
            connection.send(error)
        else:
            connection.send(None)


class RecordingProcess:
    """Passes orders on: `process("close")` has it close its writer. See `_Recorder` for what there is."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()

    def tell(self, order: str, *arguments: Any, **options: Any) -> None:
        """Give an order, and do not wait."""
        self._connection.send((order, arguments, options))

    def wait(self) -> None:
        """Wait until an order was carried out; raise what it raised."""
        error = self._connection.recv()
        if error is not None:
            raise error

    def is_done(self) -> bool:
        """Tell whether an answer is there."""
        return bool(self._connection.poll())

    def __call__(self, order: str, *arguments: Any, **options: Any) -> None:
        """Give an order, and wait until it was carried out."""
        self.tell(order, *arguments, **options)
        self.wait()

    def die(self) -> None:
        """Have it killed."""
        self.tell("die")
        self._process.join()
        assert self._process.exitcode == -signal.SIGKILL

    def stop(self) -> None:
        self._process.kill()
        self._process.join()
        self._connection.close()


@contextmanager
def recording_process() -> Iterator[RecordingProcess]:
    """Give a process that ends with the block."""
    process = RecordingProcess()
    try:
        yield process
    finally:
        process.stop()
