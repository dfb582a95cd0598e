"""Files to read."""

from __future__ import annotations

from pathlib import Path
from tempfile import mkdtemp

from recorders import FILENAME, Recorder
from workloads import Workload, actions_of


class Recordings:
    """Files to read, each made when it is first asked for and kept until the end of the run.

    Args:
        folder: Where they lie. What is only written, and not read, may go there too.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[tuple[str, str, int], Path] = {}

    def folder_of(self, recorder: Recorder, workload: Workload, steps: int) -> Path:
        """Return the folder of a recording."""
        key = recorder.name, workload.name, steps
        if key not in self._made:
            made = Path(mkdtemp(dir=self.folder))
            recorder.record(workload.make_seeded(), actions_of(workload, steps), made)
            self._made[key] = made
        return self._made[key]

    def path_of(self, recorder: Recorder, workload: Workload, steps: int) -> Path:
        """Return the path of a recording."""
        return self.folder_of(recorder, workload, steps) / FILENAME
