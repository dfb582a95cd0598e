"""Who records: gymbag, and what people use or write otherwise."""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from collecting import CollectingRecorder
from naive import NaiveRecorder
from original import OriginalRecorder
from workloads import Workload, actions_of, play

from gymbag import record_hdf5

FILENAME = "recording.h5"


def _close(env: Any) -> None:
    env.close()


@dataclass(frozen=True)
class Recorder:
    """A way to record an env.

    Attributes:
        name: What tables call it.
        start: Wraps an env so that it is recorded to a folder.
        finish: Ends the recording; all of it is in the folder then.
        packages: What it needs beyond what gymbag needs.
        reset_options: What to pass to each reset.
    """

    name: str
    start: Callable[[Any, Path], Any]
    finish: Callable[[Any], None] = _close
    packages: tuple[str, ...] = ()
    reset_options: dict[str, Any] | None = None

    def record(self, env: Any, actions: Iterable[Any], folder: Path) -> None:
        """Record an env to a folder, from the constructor to the close."""
        recorded = self.start(env, folder)
        play(recorded, actions, self.reset_options)
        self.finish(recorded)


def missing_package(*needing: Recorder | Workload) -> str | None:
    """Name a package that is needed and not installed, or import them all, so that it is not timed."""
    for package in (package for one in needing for package in one.packages):
        try:
            importlib.import_module(package)
        except ModuleNotFoundError as error:
            if error.name != package:
                raise
            return package
    return None


@contextmanager
def prepared(
    recorder: Recorder, workload: Workload, steps: int, parent: Path
) -> Iterator[Callable[[], None]]:
    """Make env, actions and a folder, which are not to be timed, and yield the recording, which is."""
    with TemporaryDirectory(dir=parent) as folder:
        yield partial(recorder.record, workload.make_seeded(), actions_of(workload, steps), Path(folder))


def _start_gymbag(env: Any, folder: Path, **options: Any) -> Any:
    return record_hdf5(env, folder / FILENAME, **options)


def _start_minari(env: Any, folder: Path) -> Any:
    import minari

    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    return minari.DataCollector(env)


def _finish_minari(collector: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about authors and links that the data set lacks
        collector.create_dataset("benchmarks/recording-v0")
    collector.close()


BARE = Recorder("bare", lambda env, folder: env)
GYMBAG = Recorder("gymbag", _start_gymbag)
GYMBAG_ZSTD = Recorder("gymbag, zstd", partial(_start_gymbag, compression="zstd"), packages=("zstandard",))
NAIVE = Recorder("h5py by hand", lambda env, folder: NaiveRecorder(env, folder / FILENAME))
COLLECTING = Recorder(
    "h5py by hand, infos as columns", lambda env, folder: CollectingRecorder(env, folder / FILENAME)
)
ORIGINAL = Recorder(
    "Gymbag 0.4.9", lambda env, folder: OriginalRecorder(env, folder / FILENAME), packages=("tables",)
)
MINARI = Recorder(
    "Minari",
    _start_minari,
    _finish_minari,
    # Its extras `create` and `hdf5` bring JAX; Pillow it takes for granted.
    packages=("minari", "jax", "PIL"),
    # Otherwise it would seed the env anew at every reset, which the bare loop does not.
    reset_options={"minari_autoseed": False},
)
