"""The benchmarks run, be their peers installed or not; what they measure is not looked at."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).parent / "benchmarks" / "run.py"


def test_quick_run_fills_every_table(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, RUN, "--quick"],
        check=False,
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, f"benchmarks failed:\n{result.stdout}"
    sections = result.stdout.split("\n## ")[1:]
    assert len(sections) == 13
    for section in sections:
        # What was measured comes last but one, before the target; "not installed" rows have nothing there.
        assert re.search(r"\d \|[^|]*\|$", section, re.MULTILINE), f"nothing measured in:\n{section}"
