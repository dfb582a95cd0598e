"""The report: tables as Markdown, the machine they were measured on, and a plot."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

import h5py
from table import RATIO, Cell, Row, Table

COMMAND = "python tests/benchmarks/run.py"
PLOT = Path("_static/benchmarks.svg")  # beside the page
_PACKAGES = (
    *("numpy", "gymnasium", "mujoco", "ale-py", "opencv-python-headless"),
    *("deflate", "isal", "zstandard", "minari", "tables"),
)


def heading_of(table: Table) -> str:
    """Return what comes before the first row of a table."""
    return "\n".join(
        [
            f"## {table.title}\n\n{table.explanation}\n",
            _line(table.columns),
            _line(["---"] * len(table.columns)),
        ]
    )


def print_rows(table: Table, rows: Iterable[Row]) -> list[Row]:
    """Print a table as its rows are measured; return them."""
    print(heading_of(table), flush=True)
    measured = []
    for row in rows:
        print(line_of(table, row), flush=True)
        measured.append(row)
    print()
    return measured


def line_of(table: Table, row: Row) -> str:
    """Return a row; one that ends early is filled up."""
    return _line([_text_of(cell) for cell in row] + [""] * (len(table.columns) - len(row)))


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _text_of(cell: Cell) -> str:
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 100 else f"{cell:.3g}" if abs(cell) < 1 else f"{cell:.2f}"
    return f"{cell:,}" if isinstance(cell, int) else cell


def machine() -> list[str]:
    """Say what the figures were measured on, and with which versions."""
    return [
        f"{_processor()}, {os.cpu_count()} cores",
        f"{_system()}, Python {platform.python_version()}",
        f"h5py {h5py.__version__} with HDF5 {h5py.version.hdf5_version}",
        ", ".join(f"{package} {_version(package)}" for package in _PACKAGES),
    ]


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux only
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:  # no Linux, or an unusual one
        return f"{platform.system()} {platform.release()}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def page(tables: Sequence[Table], rows: dict[str, list[Row]]) -> str:
    """Return the page of the documentation."""
    parts = [
        "# Benchmarks",
        f"Measured by `{COMMAND}` with gymbag {_version('gymbag')}, on:",
        "\n".join(f"- {fact}" for fact in machine()),
        "Trust ratios more than times. Times are medians.",
    ]
    if "recording" in rows:
        parts.append(f"![What recording costs: the time of a recorded run over that of a bare one]({PLOT})")
    parts += [
        "\n".join([heading_of(table), *(line_of(table, row) for row in rows[table.name])]) for table in tables
    ]
    return "\n\n".join(parts) + "\n"


def plot(table: Table, rows: Sequence[Row], path: Path) -> None:
    """Draw the ratios of the table of recording as bars."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    ratio = table.columns.index(RATIO)
    measured = [row for row in rows if len(row) > ratio][::-1]
    values = [float(row[ratio]) for row in measured]
    colors = ["#2a6fb0" if row[1] == "gymbag" else "#b8bec6" for row in measured]
    # The same figures give the same file.
    with plt.rc_context({"svg.hashsalt": "gymbag", "font.size": 9}):
        figure, axes = plt.subplots(figsize=(7.5, 0.32 * len(measured) + 0.9), layout="constrained")
        bars = axes.barh([f"{row[0]}: {row[1]}" for row in measured], values, color=colors)
        axes.bar_label(bars, [f"{value:.2f}" for value in values], padding=3)
        axes.set_xscale("log")
        axes.set_xlim(0.9, max(values) * 1.5)
        axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        axes.minorticks_off()
        axes.axvline(1, color="black", linewidth=0.8)
        axes.set_xlabel("time of a recorded run / time of a bare one")
        axes.spines[["top", "right"]].set_visible(False)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)
