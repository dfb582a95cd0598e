"""The memory of a process that records: `memory_of` starts one, in which this file is the program."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from measure import megabytes_of
from recorders import BARE, GYMBAG, Recorder
from workloads import CARTPOLE, actions_of, play

RECORDERS = {recorder.name: recorder for recorder in (BARE, GYMBAG)}


@dataclass(frozen=True)
class Memory:
    """What a process held, in MB.

    Attributes:
        before_close: When all steps were done.
        peak: At most, closing included.
    """

    before_close: float
    peak: float


def memory_of(recorder: Recorder, steps: int) -> Memory:
    """Measure a fresh process that runs CartPole for that many steps."""
    command = [sys.executable, __file__, recorder.name, str(steps)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return Memory(**json.loads(found.stdout))


def _measure(recorder: Recorder, steps: int) -> Memory:
    with TemporaryDirectory() as folder:
        env = recorder.start(CARTPOLE.make_seeded(), Path(folder))
        play(env, actions_of(CARTPOLE, steps), recorder.reset_options)
        before_close = megabytes_of("VmRSS")
        recorder.finish(env)
        return Memory(before_close, megabytes_of("VmHWM"))


if __name__ == "__main__":
    print(json.dumps(vars(_measure(RECORDERS[sys.argv[1]], int(sys.argv[2])))))
