"""With Stable-Baselines3 and PyTorch: their loops are recorded and replayed as any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from gymbag import HDF5Reader, MemoryWriter, PlaybackEnv, RecordingWrapper, compare, record_hdf5

pytestmark = [
    pytest.mark.peers,
    # Of the peers, not of what is tested here.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]

torch = pytest.importorskip("torch")
pytest.importorskip("stable_baselines3")

from stable_baselines3 import PPO  # noqa: E402 - after the check that it is there
from stable_baselines3.common.callbacks import BaseCallback  # noqa: E402
from stable_baselines3.common.env_checker import check_env  # noqa: E402
from stable_baselines3.common.monitor import Monitor  # noqa: E402
from stable_baselines3.common.vec_env import DummyVecEnv  # noqa: E402

STEPS = 512


class Noting(BaseCallback):
    """Notes what the training loop saw of the only env, step by step."""

    def __init__(self) -> None:
        super().__init__()
        self.actions: list[int] = []
        self.rewards: list[float] = []
        self.dones: list[bool] = []
        self.observations: list[np.ndarray] = []  # after each step: an episode's last, or else the next
        self.ends: list[dict[str, float]] = []

    def _on_step(self) -> bool:
        (info,) = self.locals["infos"]
        (done,) = self.locals["dones"]
        self.actions.append(int(self.locals["actions"][0]))
        self.rewards.append(float(self.locals["rewards"][0]))
        self.dones.append(bool(done))
        self.observations.append(info["terminal_observation"] if done else self.locals["new_obs"][0].copy())
        if done:
            self.ends.append(info["episode"])
        return True


def train(env: Any, callback: BaseCallback | None = None) -> PPO:
    model = PPO("MlpPolicy", env, n_steps=128, batch_size=64, n_epochs=1, seed=1, device="cpu")
    return model.learn(STEPS, callback=callback)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Noting]:
    """A recording of a training, and what a callback noted of it."""
    path = tmp_path_factory.mktemp("training") / "training.h5"
    env = DummyVecEnv([lambda: Monitor(record_hdf5(gymnasium.make("CartPole-v1"), path))])
    noting = Noting()
    train(env, noting)
    env.close()
    return path, noting


def test_their_check_env_passes_on_a_recording_env():
    check_env(RecordingWrapper(gymnasium.make("CartPole-v1"), MemoryWriter()))


def test_their_check_env_passes_on_a_replay(trained):
    check_env(PlaybackEnv(HDF5Reader(trained[0])))


def test_the_recording_of_a_training_equals_what_a_callback_saw(trained):
    path, noting = trained
    reader = HDF5Reader(path)
    assert reader.nsteps == STEPS
    episodes = [episode for episode in reader if len(episode)]
    assert np.concatenate([episode.actions for episode in episodes]).tolist() == noting.actions
    assert np.concatenate([episode.rewards for episode in episodes]).tolist() == noting.rewards
    observations = np.concatenate([episode.observations[1:] for episode in episodes])
    assert observations.tobytes() == np.stack(noting.observations).tobytes()
    dones = np.concatenate(
        [[step.done for step in episode][1:] for episode in episodes],
    )
    assert dones.tolist() == noting.dones
    finished = [episode for episode in episodes if episode.finished]
    assert [(episode.total_reward, len(episode)) for episode in finished] == [
        (end["r"], end["l"]) for end in noting.ends
    ]


def test_training_on_the_same_env_again_is_recorded_equally(trained):
    writer = MemoryWriter()
    env = DummyVecEnv([lambda: Monitor(RecordingWrapper(gymnasium.make("CartPole-v1"), writer))])
    train(env)
    env.close()
    outcome = compare(trained[0], writer.reader())
    assert outcome, outcome


def test_a_replay_can_be_trained_on(tmp_path):
    path = tmp_path / "recording.h5"
    env = record_hdf5(gymnasium.make("CartPole-v1"), path)
    steps = 0
    while steps < 2 * STEPS:
        env.reset(seed=steps)
        over = False
        while not over:
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            over, steps = terminated or truncated, steps + 1
    env.close()
    reader = HDF5Reader(path)
    noting = Noting()
    model = train(Monitor(PlaybackEnv(reader)), noting)
    assert model.num_timesteps == STEPS
    recorded = np.concatenate([episode.observations[1:] for episode in reader])[:STEPS]
    assert np.stack(noting.observations).tobytes() == recorded.tobytes()


class Episodes(torch.utils.data.Dataset):  # type: ignore[misc,name-defined]  # torch publishes it untyped
    """Episodes of a file, padded to the longest."""

    def __init__(self, path: Path) -> None:
        self.reader = HDF5Reader(path)
        self.longest = max(len(episode) for episode in self.reader)

    def __len__(self) -> int:
        return len(self.reader)

    def __getitem__(self, index: int) -> dict[str, Any]:
        episode = self.reader[index]
        padding = ((0, self.longest - len(episode)), (0, 0))
        return {
            "index": index,
            "length": len(episode),
            "observations": torch.from_numpy(np.pad(episode.observations[1:], padding)),
        }


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_a_data_loader_s_workers_read_one_file(start_method, trained):
    path, _ = trained
    dataset = Episodes(path)
    assert len(dataset) > 4
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=3, num_workers=2, multiprocessing_context=start_method, persistent_workers=True
    )
    for _ in range(2):  # the second time with the workers of the first
        found = {}
        for batch in loader:
            for index, length, observations in zip(
                batch["index"], batch["length"], batch["observations"], strict=True
            ):
                found[int(index)] = observations[: int(length)].numpy()
        assert sorted(found) == list(range(len(dataset)))
        for episode in HDF5Reader(path):
            assert found[episode.index].tobytes() == episode.observations[1:].tobytes()
