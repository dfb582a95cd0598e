"""Notices to the user, on stderr: what is about to take long, and why."""

from __future__ import annotations

import sys

from tqdm import tqdm


def notify(text: str) -> None:
    """Write a line, above a progress bar if there is one."""
    tqdm.write(f"gymbag: {text}", file=sys.stderr)
    sys.stderr.flush()
