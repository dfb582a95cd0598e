"""PyTorch's DataLoader draws from Atari data sets, in memory and on disk, in worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atari_files import ReplayBuffer, play

from gymbag.atari import Experience

torch_data = pytest.importorskip("torch.utils.data")

pytestmark = pytest.mark.peers


class Transitions:
    """What a DataLoader draws from: a map-style dataset, which may be asked for many at once."""

    def __init__(self, dataset: dict[str, Any]) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset["actions"])

    def __getitem__(self, number: int) -> tuple[np.ndarray, Any]:
        return np.array(self.dataset["observations"][number]), self.dataset["actions"][number]

    def __getitems__(self, numbers: list[int]) -> list[tuple[np.ndarray, Any]]:
        observations = self.dataset["observations"][np.array(numbers)]
        return list(zip(observations, self.dataset["actions"][numbers], strict=True))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("lazy", [False, True])
def test_workers_draw_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lazy: bool, method: str
) -> None:
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "datasets"))
    buffer = ReplayBuffer(tmp_path / "logs" / "Breakout" / "1" / "replay_logs", capacity=90)
    for episode in play([10, 1, 2, 3, 4, 30, 25, 2, 40, 60]):
        buffer.add(episode)
    experience = Experience("breakout", 1, (0, 1), replay_logs=tmp_path / "logs")
    dataset = experience.get_dataset(stack=True, lazy=lazy)
    expected = np.asarray(dataset["observations"])
    loader = torch_data.DataLoader(
        Transitions(dataset), batch_size=16, num_workers=2, multiprocessing_context=method
    )
    drawn = list(loader)
    assert sum(len(actions) for _, actions in drawn) == len(expected)
    assert (np.concatenate([observations.numpy() for observations, _ in drawn]) == expected).all()
    assert (np.concatenate([actions.numpy() for _, actions in drawn]) == dataset["actions"]).all()
