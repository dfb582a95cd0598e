"""Epochs as recordings of gymbag's own, and data sets that stay on disk."""

from __future__ import annotations

import functools
import os
import pickle
import re
import signal
import subprocess
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from atari_files import ReplayBuffer, checkpoint_files, play
from hypothesis import given, settings
from hypothesis import strategies as st

import gymbag
from gymbag.atari.conversion import convert
from gymbag.atari.dataset import load_dataset
from gymbag.atari.dopamine_files import DopamineEpoch
from gymbag.atari.stored_frames import StoredFrames, open_dataset
from gymbag.errors import DamagedFileError, StorageError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two checkpoints, and what they were converted to."""
    folder = tmp_path_factory.mktemp("epochs")
    buffer = ReplayBuffer(folder, capacity=90)
    for episode in play([10, 1, 2, 3, 4, 30, 25, 2, 40, 60]):
        buffer.add(episode)
    for number in range(2):
        convert(epoch_at(folder, number), folder / f"{number}.h5", f"game-{number}", 4, {"run": 1})
    return folder


def epoch_at(folder: Path, number: int) -> DopamineEpoch:
    return DopamineEpoch(checkpoint_files(folder, number), f"checkpoint {number}")


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert list(found) == list(expected)
    for name, rows in expected.items():
        assert (found[name].shape, found[name].dtype) == (rows.shape, rows.dtype)
        assert (np.asarray(found[name]) == np.asarray(rows)).all()


def test_the_recording_has_the_episodes(folder: Path) -> None:
    epoch = epoch_at(folder, 0)
    dataset = load_dataset([epoch])
    with gymbag.HDF5Reader(folder / "0.h5") as reader:
        assert (reader.name, reader.description) == ("game-0", "checkpoint 0")
        assert reader.header.metadata == {"run": 1}
        assert reader.observation_space == gymnasium.spaces.Box(0, 255, (84, 84), np.uint8)
        assert reader.action_space == gymnasium.spaces.Discrete(4)
        assert [len(episode) for episode in reader] == epoch.table.lengths.tolist()
        first = 0
        for episode in reader:
            rows = slice(first, first + len(episode))
            first = rows.stop
            assert (episode.observations[:-1] == dataset["observations"][rows]).all()
            assert not episode.observations[-1].any()
            assert (episode.actions == dataset["actions"][rows]).all()
            assert (episode.rewards == dataset["rewards"][rows]).all()
            assert np.isnan(episode.times).all()
            assert episode.infos[-1] == {"observation_stored": False}
            assert not any(episode.infos[:-1])
            assert episode.terminated == dataset["terminals"][rows][-1]
        assert not reader[-1].finished


def test_the_recording_can_be_used_like_any_other(folder: Path, tmp_path: Path) -> None:
    with gymbag.HDF5Reader(folder / "0.h5") as reader:
        gymbag.record_from_iter(gymbag.HDF5Writer(tmp_path / "copy.h5", compression="lzf"), reader)
        assert gymbag.compare(folder / "0.h5", tmp_path / "copy.h5", ignore=())
        env = gymbag.PlaybackEnv(reader)
        observation, _ = env.reset()
        assert (observation == reader[0].observations[0]).all()
        observation, reward, *_ = env.step(env.action_space.sample())
        assert (observation == reader[0].observations[1]).all()
        assert reward == reader[0].rewards[0]
    with h5py.File(folder / "0.h5") as file:
        assert file["game-0/observations"].shape == (sum(epoch_at(folder, 0).table.lengths), 84, 84)


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("numbers", [[0], [1], [0, 1], [1, 1, 0]])
def test_the_data_set_on_disk_is_that_in_memory(folder: Path, numbers: list[int], stack: bool) -> None:
    expected = load_dataset([epoch_at(folder, number) for number in numbers], stack=stack)
    found = open_dataset([folder / f"{number}.h5" for number in numbers], stack=stack)
    assert_same(found, expected)
    assert all(
        (one == other).all()
        for one, other in zip(found["observations"], expected["observations"], strict=True)
    )


COUNT = 148


@functools.cache
def both(folder: Path, stack: bool) -> tuple[np.ndarray, StoredFrames]:
    """Return the observations of two epochs in memory, and on disk."""
    dataset = load_dataset([epoch_at(folder, number) for number in range(2)], stack=stack)
    assert len(dataset["actions"]) == COUNT
    stored = open_dataset([folder / f"{number}.h5" for number in range(2)], stack=stack)
    return np.asarray(dataset["observations"]), stored["observations"]


@given(
    st.one_of(
        st.slices(COUNT),
        st.integers(-COUNT, COUNT - 1),
        st.lists(st.integers(-COUNT, COUNT - 1)).map(lambda numbers: np.array(numbers, int)),
        st.lists(st.integers(0, 100), min_size=1).map(lambda numbers: np.array(numbers, np.uint8)),
        st.lists(st.integers(-COUNT, COUNT - 1), min_size=1),
        st.lists(st.integers(-COUNT, COUNT - 1), max_size=6).map(
            lambda numbers: np.array([numbers] * 2, int)
        ),
        st.integers(-COUNT, COUNT - 1).map(np.array),
        st.lists(st.booleans(), min_size=COUNT, max_size=COUNT).map(np.array),
    ),
    st.slices(COUNT),
)
@settings(deadline=None, max_examples=50)
def test_what_is_read_is_what_would_be_in_memory(folder: Path, index: Any, part: slice) -> None:
    for stack in (False, True):
        expected, found = both(folder, stack)
        assert (np.asarray(found[index]) == expected[index]).all()
        assert isinstance(found[index], StoredFrames) == isinstance(index, slice)
        assert (np.asarray(found[part]) == expected[part]).all()
        count = len(expected[part])
        if count:
            assert (found[part][[0, -1, count // 2]] == expected[part][[0, -1, count // 2]]).all()


@pytest.mark.parametrize("index", [10**9, -(10**9), np.array([0, 10**9]), np.array([True]), np.array([0.5])])
def test_there_is_nothing_else(folder: Path, index: Any) -> None:
    with pytest.raises(IndexError):
        open_dataset([folder / "0.h5"])["observations"][index]


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs to see which files are open")
def test_opening_leaves_no_file_open_until_observations_are_read(folder: Path) -> None:
    def count_open() -> int:
        return sum(
            entry.readlink() == folder / "0.h5"
            for entry in Path("/proc/self/fd").iterdir()
            if entry.is_symlink()
        )

    before = count_open()
    datasets = [open_dataset([folder / "0.h5"]) for _ in range(3)]
    assert count_open() <= before + len(datasets)


def draw(observations: StoredFrames, numbers: np.ndarray) -> np.ndarray:
    return observations[numbers]


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_draw_batches(folder: Path, method: str) -> None:
    observations = open_dataset([folder / "0.h5", folder / "1.h5"], stack=True)["observations"]
    numbers = np.array([5, 3, 140, 3])
    expected = observations[numbers]  # so that a forked process finds the file open
    with get_context(method).Pool(2) as pool:
        for found in pool.starmap(draw, [(observations, numbers)] * 4):
            assert (found == expected).all()
    assert len(pickle.dumps(observations)) < 2000


def test_a_conversion_that_exists_is_left_alone(folder: Path) -> None:
    before = (folder / "0.h5").stat()
    convert(epoch_at(folder, 1), folder / "0.h5", "other", 4, {})
    after = (folder / "0.h5").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_conversion_that_fails_leaves_no_file_and_can_be_repeated(folder: Path, tmp_path: Path) -> None:
    class NoFrames(DopamineEpoch):
        def open_frames(self) -> Any:
            frames = super().open_frames()
            frames.read_into(np.empty((50, 84, 84), np.uint8))
            return frames

    epoch = NoFrames(checkpoint_files(folder, 0), "checkpoint 0")
    vars(epoch)["table"] = epoch_at(folder, 0).table
    path = tmp_path / "deep" / "0.h5"
    with pytest.raises(DamagedFileError):
        convert(epoch, path, "game", 4, {})
    assert not path.exists()
    convert(epoch_at(folder, 0), path, "game", 4, {})
    assert [entry.name for entry in path.parent.iterdir()] == ["0.h5"]
    assert gymbag.compare(gymbag.HDF5Reader(path), gymbag.HDF5Reader(folder / "0.h5"))


PROGRAM = """
import sys
sys.path[:0] = {paths!r}
from pathlib import Path
from test_conversion import epoch_at
from gymbag.atari.conversion import convert
epoch = epoch_at(Path({folder!r}), 0)
frames = type(epoch.open_frames())
read = frames.read_into
calls = []
def read_and_wait(self, rows):
    calls.append(None)
    if len(calls) == 12:
        print("half done", flush=True)
        sys.stdin.read()
    read(self, rows)
epoch.table
frames.read_into = read_and_wait
convert(epoch, Path({path!r}), "game", 4, {{}})
"""


def begin(folder: Path, path: Path) -> subprocess.Popen[str]:
    """Convert the first checkpoint in another process, which stops when half done, until its input ends."""
    program = PROGRAM.format(paths=sys.path, folder=str(folder), path=str(path))
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )


@pytest.mark.parametrize("killed", [False, True])
def test_one_process_converts_and_another_waits(folder: Path, tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "0.h5"
    with begin(folder, path) as first, begin(folder, path) as second:
        processes = {process.stderr.readline(): process for process in (first, second)}
        ahead, waiting = (processes[told] for told in sorted(processes))
        try:
            assert [told.split()[1] for told in sorted(processes)] == ["converting", "waiting"]
            assert ahead.stdout.readline() == "half done\n"
            assert not path.exists()
            if killed:
                ahead.send_signal(signal.SIGKILL)
        finally:
            ahead.communicate()
            waiting.communicate()
    assert (ahead.returncode, waiting.returncode) == (-signal.SIGKILL if killed else 0, 0)
    assert [entry.name for entry in tmp_path.iterdir()] == ["0.h5"]
    assert gymbag.compare(gymbag.HDF5Reader(path), gymbag.HDF5Reader(folder / "0.h5"))


IN_THE_WAY = {
    "a file where the folder would be": lambda path: path.parent.write_bytes(b""),
    "a folder where the part would be": lambda path: Path(f"{path}.part").mkdir(parents=True),
    "a folder where the lock would be": lambda path: Path(f"{path}.lock").mkdir(parents=True),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_cannot_be_written_is_told_of(folder: Path, tmp_path: Path, case: str) -> None:
    path = tmp_path / "converted" / "0.h5"
    IN_THE_WAY[case](path)
    with pytest.raises(StorageError, match=r"cannot write .*0\.h5: .* choose another folder \(dataset_dir"):
        convert(epoch_at(folder, 0), path, "game", 4, {})


def test_a_full_disk_is_told_of_and_nothing_is_left_on_it(folder: Path, tmp_path: Path) -> None:
    script = f"""
import resource, sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from test_conversion import epoch_at
from gymbag.atari.conversion import convert
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
convert(epoch_at(Path({str(folder)!r}), 0), Path({str(tmp_path / "0.h5")!r}), "game", 4, {{}})
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert re.search(r"StorageError: cannot write .*0\.h5: .*File too large; make room", done.stderr)
    assert not list(tmp_path.iterdir())


def test_rewards_that_are_not_known_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"checkpoint 0 has rewards clipped to \[-1, 1\] only"):
        convert(epoch_at(folder, 0), tmp_path / "0.h5", "game", 4, {}, unclipped_rewards=True)
    with pytest.raises(StorageError, match="clipped"):
        load_dataset([epoch_at(folder, 0)], unclipped_rewards=True)
    assert not list(tmp_path.iterdir())
