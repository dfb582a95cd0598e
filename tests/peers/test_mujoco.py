"""With MuJoCo: every number of its infos comes back, from a column of its own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from same import assert_same

from gymbag import HDF5Reader, get_dataset, record_hdf5

pytestmark = [
    pytest.mark.peers,
    # Of MuJoCo, not of what is tested here.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

pytest.importorskip("mujoco")

ENVS = ("HalfCheetah-v5", "Hopper-v5", "Ant-v5", "Humanoid-v5", "Reacher-v5", "InvertedPendulum-v5")
STEPS = 300


def record(name: str, path: Path) -> list[list[Any]]:
    """Record some steps; return for each episode what reset and step returned."""
    env = record_hdf5(gymnasium.make(name), path)
    env.action_space.seed(3)
    episodes: list[list[Any]] = []
    done = True
    for _ in range(STEPS):
        if done:
            episodes.append([copy.deepcopy(env.reset(seed=len(episodes)))])
        env.annotate(policy_value=np.float32(len(episodes)))
        result = env.step(env.action_space.sample())
        episodes[-1].append(copy.deepcopy(result))
        done = result[2] or result[3]
    env.close()
    return episodes


@pytest.mark.parametrize("name", ENVS)
def test_everything_comes_back_from_columns(tmp_path: Path, name: str) -> None:
    episodes = record(name, tmp_path / "recording.h5")
    reader = HDF5Reader(tmp_path / "recording.h5")
    assert len(reader) == len(episodes)
    for found, played in zip(reader, episodes, strict=True):
        assert_same(found.observations, np.stack([result[0] for result in played]))
        assert_same(found.rewards, np.array([result[1] for result in played[1:]], np.float64))
        assert_same(found.infos, tuple(result[-1] for result in played))
        assert_same([step.info or {} for step in found], [result[-1] for result in played])
        assert_same(found.annotation_arrays["policy_value"], np.full(len(found), found.index + 1, np.float32))
    infos = [result[-1] for played in episodes for result in played[1:]]
    dataset = get_dataset(tmp_path / "recording.h5", infos=True)
    with h5py.File(tmp_path / "recording.h5") as file:
        group = file[name]
        assert group["infos/data"].shape == (0,), "something of these infos is JSON"
        for key in infos[0]:
            expected = np.array([info[key] for info in infos])
            assert_same(group[f"infos/{key}"][:], expected)
            assert_same(dataset[f"infos/{key}"], expected)
