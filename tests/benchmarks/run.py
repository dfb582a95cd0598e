"""Measures gymbag against bare envs, its targets and its peers: `python tests/benchmarks/run.py`.

Tables are printed as they are measured. With `--output docs/benchmarks.md` they also become a page of the
documentation, with a plot beside it. Everything takes about half an hour, and 8 GB of memory for Atari
data. A package that is not installed is named in its row.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import atari
import reading_tables
import recording_tables
import report
from recordings import Recordings
from workloads import FULL, QUICK

TABLES = [*recording_tables.TABLES, *reading_tables.TABLES, *atari.TABLES]


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure gymbag; see the top of this file.")
    names = [table.name for table in TABLES]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="measure these tables only")
    parser.add_argument("--quick", action="store_true", help="check that all runs; the figures mean little")
    parser.add_argument("--long", action="store_true", help="measure memory over 10 million steps, too")
    parser.add_argument("--output", type=Path, help="write a page here, and a plot to _static/ beside it")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    """Measure what the command line asks for."""
    options = _parse(arguments)
    if options.output:
        importlib.import_module("matplotlib")  # better to fail now than after all is measured
        options.output.parent.mkdir(parents=True, exist_ok=True)
    scale = QUICK if options.quick else FULL
    if options.long:
        scale = dataclasses.replace(scale, memory_steps=(*scale.memory_steps, 10_000_000))
    tables = {table.name: table for table in TABLES if table.name in options.only}
    print(*(f"- {fact}" for fact in report.machine()), sep="\n", end="\n\n")
    with TemporaryDirectory() as folder:
        recordings = Recordings(Path(folder))
        rows = {
            name: report.print_rows(table, table.rows(scale, recordings)) for name, table in tables.items()
        }
    if options.output:
        options.output.write_text(report.page(list(tables.values()), rows), encoding="utf-8")
        if "recording" in rows:
            report.plot(tables["recording"], rows["recording"], options.output.parent / report.PLOT)


if __name__ == "__main__":
    main(sys.argv[1:])
