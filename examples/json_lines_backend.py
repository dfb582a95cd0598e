"""A backend of your own: a text file with a line of JSON for each call of the writer.

["header", {...}]
["reset", time, observation, info, seed, options]
["step", time, observation, action, reward, terminated, truncated, info]
"""

import warnings
from itertools import pairwise
from math import nan
from pathlib import Path

from gymbag import Header, Reader, RecordingError, Step, StorageError, Writer
from gymbag.episode import Ending, ListEpisode
from gymbag.infos import UnstorableInfoWarning
from gymbag.json_values import decode, encode


class JSONLinesWriter(Writer):
    """Records to a new file. Turning a value into text at once is also what copies it."""

    def __init__(self, path):
        self.path, self._file = Path(path), None

    def begin(self, header):
        if self._file is not None or self.path.exists():
            raise StorageError(f"expected to make a new file, found {self.path}")
        self._file = self.path.open("x", encoding="ascii")
        self._write("header", vars(header))

    def write_reset(self, time, observation, info, seed, options):
        self._write("reset", time, observation, info, seed, options)

    def write_step(self, time, observation, action, reward, terminated, truncated, info):
        flags = bool(terminated), bool(truncated)
        self._write("step", time, observation, action, float(reward), *flags, info)

    def _write(self, *values):
        if self._file is None or self._file.closed:
            raise RecordingError("this writer is not recording; call begin() first")
        self._file.write(encode(list(values), self._warn) + "\n")

    def _warn(self, keys, value):
        warnings.warn(f"{keys} is left out: {value!r}", UnstorableInfoWarning, stacklevel=2)

    def close(self):
        if self._file is not None:
            self._file.close()


class JSONLinesReader(Reader):
    """Keeps the lines, and decodes those of an episode when it is asked for."""

    def __init__(self, path):
        header, *lines = Path(path).read_text(encoding="ascii").splitlines()
        self._header = Header(**decode(header)[1])
        begins = [number for number, line in enumerate(lines) if line.startswith('["reset"')]
        self._episodes = [lines[slice(*ends)] for ends in pairwise([*begins, None])]

    @property
    def header(self):
        return self._header

    @property
    def nsteps(self):
        return sum(len(lines) - 1 for lines in self._episodes)

    def __len__(self):
        return len(self._episodes)

    def read_episode(self, index):
        reset, *rows = map(decode, self._episodes[index])
        _, time, observation, info, seed, options = reset
        steps, ending = [Step(time, observation, None, nan, False, info)], Ending.UNFINISHED
        for _, time, observation, action, reward, terminated, truncated, info in rows:
            steps.append(Step(time, observation, action, reward, terminated or truncated, info))
            ending = Ending(Ending.TERMINATED * terminated | Ending.TRUNCATED * truncated)
        columns = self.observation_column, self.action_column
        return ListEpisode(index, steps, ending, *columns, seed, options)


if __name__ == "__main__":
    import gymnasium

    from gymbag import RecordingWrapper, drive_env

    env = RecordingWrapper(gymnasium.make("CartPole-v1"), JSONLinesWriter("cartpole.jsonl"))
    for _ in drive_env(env, episodes=3):
        pass
    print(*JSONLinesReader("cartpole.jsonl"), sep="\n")
