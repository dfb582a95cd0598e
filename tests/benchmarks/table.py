"""A table of the report, and what its cells say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from recordings import Recordings
from workloads import Scale

Cell = str | int | float
Row = tuple[Cell, ...]
RATIO = "recorded / bare"
TARGET = "target"


@dataclass(frozen=True)
class Table:
    """A table of the report.

    Attributes:
        name: What the command line calls it.
        title: Its heading.
        explanation: What was measured, in Markdown.
        columns: The headings of its columns.
        rows: Measures them one by one. A row that ends early could not be measured, and says why.
    """

    name: str
    title: str
    explanation: str
    columns: tuple[str, ...]
    rows: Callable[[Scale, Recordings], Iterator[Row]]


def not_installed(package: str) -> str:
    """Return the cell that says why a row has no figures."""
    return f"not installed: {package}"


def at_most(limit: float, unit: str = "") -> str:
    """Return the cell of a target."""
    return f"≤ {limit:g}{unit}"


def at_least(limit: float) -> str:
    """Return the cell of a target."""
    return f"≥ {limit:g}"
