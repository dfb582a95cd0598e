"""A stream of episodes in flat arrays, wherever those arrays are kept.

A stream owns two tables, each a set of columns (see `columns`) whose rows belong together:

    steps      row t of an episode: the observation before action t, action t, and what came of it:
               reward t, terminated t, truncated t, time t+1, info t+1
    episodes   where its steps begin, how many there are, how it ended; its reset: arguments, time,
               info; the final observation, which no action followed; the session that recorded it

and a column of sessions, a row for each time a writer was opened. An `ArraySource` to read from and
an `ArrayStore` to write to are all that a backend with flat arrays has to offer.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np

from gymbag.columns import ArraySpec, Column, DataColumn, Rows, ScalarColumn, ValueColumn
from gymbag.compound_columns import below, join
from gymbag.errors import DamagedFileError
from gymbag.info_kinds import NUMERIC, Kind, arrays_of, check_rows, from_json, is_plain
from gymbag.space_columns import column_of
from gymbag.storage.base import Header


class ArraySource(ABC):
    """A set of arrays, each under a path such as `observations/position`, to read from."""

    @abstractmethod
    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        """Return rows start to stop of an array, as a new array."""

    @abstractmethod
    def length(self, path: str) -> int:
        """Count the rows of an array; an array that was not made has none."""

    @abstractmethod
    def dtypes(self) -> Mapping[str, np.dtype[Any]]:
        """Tell which arrays there are, and their dtypes."""

    def has(self, path: str) -> bool:
        """Tell whether there is an array of that path."""
        return path in self.dtypes()

    def refresh(self) -> bool:
        """Take in what was added since the arrays were opened; tell whether there was anything."""
        return False

    @property
    def state(self) -> object:
        """Something that changes when the last rows may have been replaced; rows before them never are."""
        return None

    def close(self) -> None:
        """Let go of what is held; whatever was appended is kept for good first."""
        return


class ArrayStore(ArraySource):
    """A set of arrays that grow."""

    @abstractmethod
    def create(self, specs: Mapping[str, ArraySpec], rows: Mapping[str, int] | None = None) -> None:
        """Make arrays.

        Args:
            specs: What they hold, by their paths.
            rows: How many rows some of them have from the start, of their fill value, which take no room.
                `flush` comes first.
        """

    @abstractmethod
    def widen(self, specs: Mapping[str, ArraySpec]) -> None:
        """Rewrite arrays with these dtypes, which hold all of their values exactly."""

    @abstractmethod
    def append(self, path: str, rows: Rows) -> None:
        """Add rows to an array; the store copies them, or is done with them when this returns.

        Args:
            path: The array.
            rows: An array of rows, or, if they are large, a list of such arrays: `columns.join_rows` makes
                one of them.
        """

    @property
    def block_rows(self) -> int:
        """Of how many steps the store makes a chunk at least: large rows that fill some, it need not copy."""
        return 1

    @property
    def is_full(self) -> bool:
        """Whether so much waits for `flush` that it should come soon."""
        return False

    def flush(self, open_rows: Mapping[str, Rows]) -> None:  # most have nothing to do
        """Keep everything that was appended, even if the process should be killed.

        Args:
            open_rows: What is to stand behind the last rows of some arrays, until the next flush: the row of
                the episode that is under way, as it would be if it were cut now.
        """

    def sync(self) -> None:  # most have nothing to do
        """Have what was flushed survive the loss of power; any thread may call this, at any time.

        Raises:
            StorageError: That is not sure. Nothing may be written any more.
        """


#: The names of the columns of the table of steps.
STEP_COLUMNS = ("observations", "actions", "rewards", "terminated", "truncated", "times", "infos")


def step_columns(observations: Column, actions: Column) -> dict[str, Column]:
    """List the columns of the table of steps, those of `STEP_COLUMNS`."""
    return {
        "observations": observations,
        "actions": actions,
        "rewards": ScalarColumn(np.float64),
        "terminated": ScalarColumn(np.bool_),
        "truncated": ScalarColumn(np.bool_),
        "times": ScalarColumn(np.float64),
        "infos": ValueColumn(),
    }


#: The names of the columns of the table of episodes.
EPISODE_COLUMNS = tuple(
    f"episodes/{name}"
    for name in (
        *("first_row", "length", "ending", "session"),
        *("reset_arguments", "reset_time", "reset_info", "final_observation"),
    )
)


def episode_columns(observations: Column) -> dict[str, Column]:
    """List the columns of the table of episodes, those of `EPISODE_COLUMNS`."""
    return {
        "episodes/first_row": ScalarColumn(np.int64),
        "episodes/length": ScalarColumn(np.int64),
        "episodes/ending": ScalarColumn(np.uint8),
        "episodes/session": ScalarColumn(np.int64),
        "episodes/reset_arguments": ValueColumn(),
        "episodes/reset_time": ScalarColumn(np.float64),
        "episodes/reset_info": ValueColumn(),
        "episodes/final_observation": observations,
    }


#: The tables of kinds, by the name of the group that they are about.
KIND_TABLES = {"infos": "info_kinds", "annotations": "annotation_kinds"}


def read_kinds(source: ArraySource, name: str) -> list[Kind]:
    """Read the table of kinds of the infos or the annotations; the first is number 1."""
    table = KIND_TABLES[name]
    count = source.length(f"{table}/ends") if source.has(f"{table}/ends") else 0
    texts = DataColumn().unpack(below(source.read, table), 0, count) if count else ()
    return list(map(from_json, texts))


def array_specs(columns: Mapping[str, Column]) -> dict[str, ArraySpec]:
    """List the arrays of a table, by their paths."""
    return {
        join(name, path): spec for name, column in columns.items() for path, spec in column.arrays().items()
    }


def _check_ends(source: ArraySource, path: str, specs: Mapping[str, ArraySpec]) -> None:
    """Make sure that the last end is where the arrays end that it is about."""
    rows = source.length(path)
    last = source.read(path, max(rows - 1, 0), rows)
    if last.dtype.kind not in "iu" or last.ndim != 1:
        raise DamagedFileError(f"expected integers in {path}, found {last.dtype} of shape {last.shape}")
    end = int(last[0]) if rows else 0
    base = path.removesuffix("ends")
    for other in specs:
        parts = other.removeprefix(base).split("/") if other.startswith(base) else [""]
        direct = parts == ["data"] or (parts[0] == "items" and not {"items", "data"} & set(parts[1:]))
        if direct and source.length(other) != end:
            raise DamagedFileError(f"{path} goes to {end}, and {other} to {source.length(other)}")


def _check_info_arrays(source: ArraySource, name: str) -> None:
    """Make sure that the arrays of infos, or of annotations, are as long as they should be, of numbers."""
    table, steps = KIND_TABLES[name], source.length("rewards")
    specs = {path: ArraySpec(dtype) for path, dtype in source.dtypes().items()}
    for path, spec in specs.items():
        if path.startswith((f"{name}/", f"{table}/")):
            if not is_plain(spec.dtype):
                raise DamagedFileError(f"expected numbers in {path}, found {spec.dtype}")
            if path.startswith(f"{name}/") and not path.endswith("/data") and source.length(path) != steps:
                raise DamagedFileError(f"rewards has {steps} rows, and {path} {source.length(path)}")
            if path.endswith("/ends"):
                _check_ends(source, path, specs)
    for leaf in itertools.chain.from_iterable(read_kinds(source, name)):
        for array in arrays_of(leaf):
            if f"{name}/{array}" not in specs:
                raise DamagedFileError(f"expected the array {name}/{array} of {leaf}, found none")
        if leaf.type in NUMERIC:
            check_rows(leaf, source.read(f"{name}/{leaf.array}", 0, 0), 0)


def check_arrays(source: ArraySource, header: Header) -> None:
    """Make sure that the arrays of each table are equally long, of the right shape, and cover each other.

    Raises:
        DamagedFileError: They are not, or do not.
    """
    observations = column_of(header.observation_space)
    tables = (
        ("rewards", step_columns(observations, column_of(header.action_space))),
        ("episodes/length", episode_columns(observations)),
    )
    for name, columns in tables:
        rows = source.length(name)
        for path, spec in array_specs(columns).items():
            shape = source.read(path, 0, 0).shape[1:]
            if shape != spec.shape:
                raise DamagedFileError(f"{path} has rows of shape {shape}, not {spec.shape}")
            parts = path.split("/")
            # Below these there is a row for each item, or for each byte.
            if "items" not in parts and "data" not in parts and source.length(path) != rows:
                raise DamagedFileError(f"{name} has {rows} rows, and {path} {source.length(path)}")
            if spec.cumulative:
                _check_ends(source, path, array_specs(columns))
    for name in KIND_TABLES:
        _check_info_arrays(source, name)
    count = source.length("episodes/length")
    covered = 0
    if count:
        names = ("episodes/first_row", "episodes/length")
        covered = int(sum(source.read(name, count - 1, count)[0] for name in names))
    if covered != source.length("rewards"):
        raise DamagedFileError(f"the episodes have {covered} steps, and there are {source.length('rewards')}")
