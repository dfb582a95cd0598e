"""A run's data, from whichever place has it: in memory, on disk, as episodes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from atari_files import COLUMNS, ReplayBuffer, checkpoint_files, play
from loopback import Loopback, Served, serving
from rl_unplugged_shards import play_breakout, write_shard

import gymbag
import gymbag.atari
from gymbag.atari import Experience
from gymbag.errors import ChoiceError, DataNotFoundError

SHARD = "run_1-{:05d}-of-00050"
NOWHERE = "http://127.0.0.1:9/nothing"


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of Dopamine's files: epochs 0 to 2 of Breakout, run 1."""
    folder = tmp_path_factory.mktemp("logs") / "Breakout" / "1" / "replay_logs"
    buffer = ReplayBuffer(folder, capacity=60)
    for episode in play([10, 1, 2, 3, 4, 30, 25, 2, 40, 60, 30]):
        buffer.add(episode)
    assert len(buffer.spans) > 2
    return folder.parents[2]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of RL Unplugged: epoch 1 of Breakout, run 1."""
    folder = tmp_path_factory.mktemp("shards")
    (folder / "Breakout").mkdir()
    write_shard(folder / "Breakout" / SHARD.format(1), play_breakout([7, 5, 9]))
    return folder


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the user's own data, and servers, out of the tests."""
    for name in ("REPLAY_LOGS", "MIRROR"):
        monkeypatch.delenv(f"GYMBAG_ATARI_{name}", raising=False)
    monkeypatch.setenv("GYMBAG_ATARI_RL_UNPLUGGED", NOWHERE)
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "datasets"))
    monkeypatch.setenv("no_proxy", "*")


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert list(one) == list(other)
    for name in one:
        assert one[name].dtype == other[name].dtype
        assert np.array_equal(np.asarray(one[name]), np.asarray(other[name]))


def fill_cache(logs: Path, datasets: Path, epoch: int) -> None:
    """Put files where d4rl-atari had them."""
    target = datasets / "Breakout" / "1" / str(epoch)
    target.mkdir(parents=True)
    for column in COLUMNS:
        files = checkpoint_files(logs / "Breakout" / "1" / "replay_logs", epoch)
        shutil.copy(files[column], target / f"{column}.gz")


def test_the_data_is_the_same_from_every_place(logs: Path, tmp_path: Path) -> None:
    expected = Experience("breakout", replay_logs=logs).get_dataset()
    assert expected["observations"].shape == (len(expected["actions"]), 84, 84)
    fill_cache(logs, tmp_path / "datasets", 1)
    assert_same(Experience("Breakout").get_dataset(), expected)
    with serving() as server:
        serve(server, logs)
        served = Experience("breakout", mirror=f"{server.url}/dqn", dataset_dir=tmp_path / "elsewhere")
        assert_same(served.get_dataset(), expected)
    assert_same(served.get_dataset(), expected)  # it is kept


def serve(server: Loopback, logs: Path) -> None:
    for path in logs.rglob("*.gz"):
        server.files[f"/dqn/{path.relative_to(logs)}"] = Served(path.read_bytes())


@pytest.mark.parametrize("stack", [False, True])
@pytest.mark.parametrize("epochs", [(0, 0), (1, 1), (0, 2)])
def test_what_is_on_disk_is_what_would_be_in_memory(logs: Path, epochs: tuple[int, int], stack: bool) -> None:
    experience = Experience("breakout", 1, epochs, replay_logs=logs)
    assert_same(experience.get_dataset(stack=stack, lazy=True), experience.get_dataset(stack=stack))
    # It needs the source no longer.
    converted = Experience("breakout", 1, epochs)
    assert_same(converted.get_dataset(stack=stack, lazy=True), experience.get_dataset(stack=stack))


def test_shards_have_other_rewards_too(shards: Path, logs: Path, tmp_path: Path) -> None:
    played = play_breakout([7, 5, 9])
    experience = Experience("breakout", rl_unplugged=shards, replay_logs=logs)
    dataset = experience.get_dataset(unclipped_rewards=True)
    assert (dataset["observations"] == np.concatenate([episode.frames for episode in played])).all()
    rewards = np.concatenate([episode.rewards for episode in played])
    assert np.abs(rewards).max() > 1
    assert (dataset["rewards"] == rewards).all()
    lazy = experience.get_dataset(unclipped_rewards=True, lazy=True)
    assert_same(lazy, dataset)
    with experience.open_reader(unclipped_rewards=True) as reader:
        assert [episode.total_reward for episode in reader] == [episode.rewards.sum() for episode in played]
    # The clipped ones are in files of their own, and those of Dopamine come first.
    assert len(experience.get_dataset(lazy=True)["actions"]) != len(rewards)
    clipped = Experience("breakout", rl_unplugged=shards, dataset_dir=tmp_path / "new").get_dataset(lazy=True)
    assert (clipped["rewards"] == np.clip(rewards, -1, 1)).all()


def test_an_epoch_is_a_recording(logs: Path, tmp_path: Path) -> None:
    experience = Experience("breakout", 1, (0, 1), replay_logs=logs)
    dataset = Experience("breakout", 1, (1, 1), replay_logs=logs).get_dataset()
    with experience.open_reader(1) as reader:
        assert reader.name == "breakout-epoch-1-v0"
        assert reader.action_space == gymnasium.spaces.Discrete(4)
        assert reader.header.metadata["epoch"] == 1
        assert reader.header.metadata["game"] == "Breakout"
        flat = reader.get_dataset()
        assert (flat["observations"] == dataset["observations"]).all()
        assert (flat["terminals"] == dataset["terminals"]).all()
        gymbag.record_from_iter(gymbag.HDF5Writer(tmp_path / "copy.h5"), reader)
        assert gymbag.compare(reader, gymbag.HDF5Reader(tmp_path / "copy.h5"), ignore=())
    assert experience.open_reader().name == "breakout-epoch-0-v0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"game": "brekout"}, "did you mean 'breakout'"),
        ({"run": 6}, "expected a run from 1 to 5, found 6"),
        ({"epochs": (1, 51)}, "expected the first and the last epoch, from 0 to 50"),
        ({"epochs": (2, 1)}, "expected the first and the last epoch"),
    ],
)
def test_what_there_is_not_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ChoiceError, match=message):
        Experience(**{"game": "breakout", **arguments})


def test_what_cannot_be_had_is_refused(logs: Path, tmp_path: Path) -> None:
    experience = Experience("breakout", 1, (0, 0), replay_logs=logs, rl_unplugged=tmp_path)
    with pytest.raises(ChoiceError, match="expected compat or lazy"):
        experience.get_dataset(compat=True, lazy=True)
    with pytest.raises(ChoiceError, match="expected an epoch from 0 to 0, found 1"):
        experience.open_reader(1)
    with pytest.raises(ChoiceError, match=r"expected an epoch from 0 to 0, found 0\.0"):
        experience.open_reader(0.0)  # type: ignore[arg-type]
    with pytest.raises(DataNotFoundError, match="their rewards are clipped"):
        experience.get_dataset(unclipped_rewards=True)
    with pytest.raises(DataNotFoundError, match="Pong, run 1, epoch 1: expected in one of these places"):
        Experience("pong", rl_unplugged=tmp_path).get_dataset(lazy=True)


def test_an_env_has_the_data(logs: Path) -> None:
    env = gymnasium.make("breakout-mixed-v0", replay_logs=logs, stack=True)
    dataset = env.get_dataset()
    assert_same(dataset, Experience("breakout", replay_logs=logs).get_dataset(stack=True))
    assert dataset["observations"].shape[1:] == env.observation_space.shape
    assert_same(env.get_dataset(lazy=True), dataset)
    assert env.get_dataset(compat=True)["terminals"].dtype == np.uint8
    with env.open_reader() as reader:
        assert reader.name == "breakout-epoch-1-v0"
    env.close()
