"""Comparing two recordings: are they equal, and if not, where do they part first?"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

from gymbag import nested
from gymbag.storage.base import Reader
from gymbag.storage.hdf5_reader import HDF5Reader, list_datasets

#: A recording: a reader, or the path of an HDF5 file, all of whose data sets are then compared.
Recording = Reader | str | os.PathLike[str]

FIELDS = (
    "observation_space",
    "action_space",
    "episodes",
    "length",
    "ending",
    "seed",
    "options",
    "times",
    "observations",
    "actions",
    "rewards",
    "infos",
    "annotations",
)


@dataclass(frozen=True)
class Comparison:
    """The outcome of comparing two recordings; true if they are equal.

    Attributes:
        equal: Whether they are.
        data_set: Name of the data set in which they first differ; None if they are equal.
        episode: Number of the episode, or None if the difference is not in one.
        step: Number of the step, 0 being the reset; or None.
        field: One of `FIELDS`, or "data_set" if only one recording has it.
        path: Keys and indices that lead to the difference inside a nested value.
        left: What the first recording has there.
        right: What the second has.
    """

    equal: bool
    data_set: str | None = None
    episode: int | None = None
    step: int | None = None
    field: str | None = None
    path: tuple[Any, ...] = ()
    left: Any = None
    right: Any = None

    def __bool__(self) -> bool:
        """Tell whether the recordings are equal."""
        return self.equal

    def __str__(self) -> str:
        """Say it in a sentence."""
        if self.equal:
            return "equal"
        places = (f"{name} {getattr(self, name)!r}" for name in ("data_set", "episode", "step"))
        where = ", ".join(place for place in places if not place.endswith(" None"))
        what = f"{self.field}{''.join(f'[{key!r}]' for key in self.path)}"
        return f"{where}: {what} is {self.left!r} in the first and {self.right!r} in the second"


def compare(
    left: Recording, right: Recording, tolerance: float = 0.0, ignore: Collection[str] = ("times",)
) -> Comparison:
    """Compare two recordings, bit for bit unless a tolerance is given.

    Args:
        left: A reader, or the path of an HDF5 file. Of two files all data sets are compared, each
            with the one of the same name; of readers the names do not matter.
        right: The other.
        tolerance: How far two floating-point numbers may be apart, absolutely. NaN equals NaN.
        ignore: Which of `FIELDS` not to compare. Descriptions, metadata and versions never are.

    Raises:
        ValueError: A name to ignore is not among `FIELDS`.
        TypeError: A single name was given, rather than a list.
        StorageError: A file cannot be read.

    >>> print(Comparison(False, "CartPole-v1", 3, 7, "rewards", (), 1.0, 0.0))
    data_set 'CartPole-v1', episode 3, step 7: rewards is 1.0 in the first and 0.0 in the second
    """
    if isinstance(ignore, str):
        raise TypeError(f"expected a list of fields to ignore, found the string {ignore!r}")
    unknown = set(ignore) - set(FIELDS)
    if unknown:
        raise ValueError(f"expected fields to ignore from {FIELDS}, found {sorted(unknown)}")
    for name, one, other in _pairs(left, right):
        if one is None or other is None:
            missing = (name if one else nested.MISSING, name if other else nested.MISSING)
            return Comparison(False, name, None, None, "data_set", (), *missing)
        with one, other:
            for episode, step, field, one_value, other_value in _values(one, other):
                found = field not in ignore and nested.difference(one_value, other_value, tolerance)
                if found:
                    return Comparison(False, name, episode, step, field, *found)
    return Comparison(True)


def _pairs(left: Recording, right: Recording) -> Iterator[tuple[str, Reader | None, Reader | None]]:
    if isinstance(left, Reader) or isinstance(right, Reader):
        one, other = (item if isinstance(item, Reader) else HDF5Reader(item) for item in (left, right))
        yield one.name, one, other
        return
    ours, theirs = list_datasets(left), list_datasets(right)
    for name in [*ours, *(name for name in theirs if name not in ours)]:
        yield (
            name,
            HDF5Reader(left, name) if name in ours else None,
            HDF5Reader(right, name) if name in theirs else None,
        )


#: Episode, step, field, and the two values to compare.
_Values = tuple[int | None, int | None, str, Any, Any]


def _values(one: Reader, other: Reader) -> Iterator[_Values]:
    """Yield what to compare, in the order in which it was recorded."""
    for kind in ("observation_space", "action_space"):
        yield (
            None,
            None,
            kind,
            getattr(one.header, kind)["space"],
            getattr(other.header, kind)["space"],
        )
    for number, (left, right) in enumerate(zip(one, other, strict=False)):
        for field in ("seed", "options"):
            yield number, None, field, getattr(left, field), getattr(right, field)
        for step, (ours, theirs) in enumerate(zip(left, right, strict=False)):
            yield number, step, "times", ours.time, theirs.time
            yield number, step, "observations", ours.observation, theirs.observation
            yield number, step, "actions", ours.action, theirs.action
            yield number, step, "rewards", ours.reward, theirs.reward
            yield number, step, "infos", ours.info, theirs.info
            yield number, step, "annotations", ours.annotation, theirs.annotation
        yield number, None, "length", len(left), len(right)
        yield number, None, "ending", left.ending, right.ending
    yield None, None, "episodes", len(one), len(other)
