"""Stacks of frames: a sequence of views, as d4rl-atari's list has them."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atari_files import ReplayBuffer, checkpoint_files, d4rl_atari_stacks, play, save_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from gymbag.atari.dataset import load_dataset
from gymbag.atari.dopamine_files import DopamineEpoch
from gymbag.atari.frame_stacks import FrameStacks
from gymbag.errors import DamagedFileError

FRAMES = np.random.default_rng(1).integers(0, 256, (30, 3, 2), np.uint8)
FIRST = np.array([4, 0, 26, 7, 7, 12])


def stacks() -> FrameStacks:
    return FrameStacks(FRAMES.copy(), FIRST.copy())


def expected() -> np.ndarray:
    return np.stack([FRAMES[first : first + 4] for first in FIRST])


def test_it_is_a_sequence_of_read_only_views() -> None:
    found = stacks()
    assert isinstance(found, Sequence)
    assert (len(found), found.shape, found.ndim, found.dtype) == (6, (6, 4, 3, 2), 4, np.uint8)
    for index in range(-6, 6):
        assert (found[index] == expected()[index]).all()
        assert not found[index].flags.owndata
        with pytest.raises(ValueError, match="read-only"):
            found[index][0, 0, 0] = 1
    assert np.shares_memory(found[3], found[4])
    assert all((one == other).all() for one, other in zip(found, expected(), strict=True))
    assert (np.array(list(found)) == expected()).all()
    assert (next(reversed(found)) == expected()[-1]).all()


@pytest.mark.parametrize("index", [6, -7, np.int64(6), np.array([0, 6])])
def test_there_is_nothing_beyond_the_ends(index: Any) -> None:
    with pytest.raises(IndexError):
        stacks()[index]


@pytest.mark.parametrize("index", [1.0, "1", None, (0, 1)])
def test_an_index_is_a_number(index: Any) -> None:
    with pytest.raises((TypeError, IndexError)):
        stacks()[index]


@given(
    st.one_of(
        st.slices(6),
        st.lists(st.integers(-6, 5), min_size=1).map(np.array),
        st.lists(st.integers(0, 5), min_size=1).map(lambda numbers: np.array(numbers, np.uint8)),
        st.lists(st.integers(-6, 5), min_size=1),
        st.lists(st.booleans(), min_size=6, max_size=6).map(np.array),
    )
)
@settings(deadline=None)
def test_slices_and_batches(index: Any) -> None:
    found = stacks()[index]
    assert isinstance(found, FrameStacks) == isinstance(index, slice)
    batch = np.asarray(found)
    assert batch.shape == expected()[index].shape
    assert (batch == expected()[index]).all()


def test_a_batch_is_writable_and_its_own() -> None:
    found = stacks()
    batch = found[np.array([0, 0])]
    batch[...] = 0
    assert (np.asarray(found) == expected()).all()
    array = np.asarray(found)
    array[...] = 0
    assert (found[0] == expected()[0]).all()
    assert np.asarray(found, dtype=np.float32).dtype == np.float32


def test_pickling_takes_no_more_frames_than_are_used() -> None:
    whole = stacks()
    for part in (whole, whole[3:5], whole[::2], whole[:0]):
        copied = pickle.loads(pickle.dumps(part))
        assert (np.asarray(copied) == np.asarray(part)).all()
        assert copied.shape == part.shape
    frames = np.zeros((1000, 84, 84), np.uint8)
    assert len(pickle.dumps(FrameStacks(frames, np.arange(900))[10:12])) < 8 * 84 * 84


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_the_stacks_of_a_data_set_are_those_of_d4rl_atari(tmp_path: Path, seed: int, compat: bool) -> None:
    random = np.random.default_rng(seed)
    buffer = ReplayBuffer(tmp_path, capacity=int(random.integers(20, 60)))
    # Short episodes, so that all of the ways to end at the end of a checkpoint occur.
    for episode in play([*random.integers(1, 8, 40).tolist(), -9], seed):
        buffer.add(episode)
    epochs = [
        DopamineEpoch(checkpoint_files(tmp_path, number), f"checkpoint {number}")
        for number in range(len(buffer.spans))
    ]
    each = []
    for epoch in epochs:
        raw = load_dataset([epoch], compat=True)
        true = np.array(list(d4rl_atari_stacks(raw["observations"][:, 0], raw["terminals"])))
        each.append(true if compat else true[epoch.table.rows])
    for number, epoch in enumerate(epochs):
        assert (
            np.asarray(load_dataset([epoch], stack=True, compat=compat)["observations"]) == each[number]
        ).all()
    together = load_dataset(epochs, stack=True, compat=compat)
    apart = load_dataset(epochs, compat=compat)
    # d4rl-atari stacks all epochs at once: to it, an epoch begins in the middle of an episode.
    true = (
        np.array(list(d4rl_atari_stacks(apart["observations"][:, 0], apart["terminals"])))
        if compat
        else np.concatenate(each)
    )
    assert (np.asarray(together["observations"]) == true).all()
    for name in apart.keys() - {"observations"}:
        assert (apart[name] == together[name]).all()
    newest = np.asarray(together["observations"])[:, 3]
    assert (newest == (apart["observations"][:, 0] if compat else apart["observations"])).all()


def test_compat_gives_the_arrays_of_the_files(tmp_path: Path) -> None:
    buffer = ReplayBuffer(tmp_path, capacity=40)
    for episode in play([10, 5, 30]):
        buffer.add(episode)
    epoch = DopamineEpoch(checkpoint_files(tmp_path, 0), "checkpoint 0")
    dataset = load_dataset([epoch], compat=True)
    assert dataset.keys() == {"observations", "actions", "rewards", "terminals"}
    # The buffer is as it was saved but for the rows added since, which are those of the second pass.
    assert {name: (rows.shape, rows.dtype.name) for name, rows in dataset.items()} == {
        "observations": ((40, 1, 84, 84), "uint8"),
        "actions": ((40,), "int32"),
        "rewards": ((40,), "float32"),
        "terminals": ((40,), "uint8"),
    }
    assert not dataset["observations"][[0, 1, 2, 13, 14, 15]].any()
    assert (dataset["actions"][3:13] == buffer.episodes[0].actions).all()


@pytest.mark.parametrize("seed", range(5))
def test_compat_takes_any_rows_as_they_are(tmp_path: Path, seed: int) -> None:
    """Also those of a buffer that had no padding."""
    random = np.random.default_rng(seed)
    epochs, frames, terminals = [], [], []
    for number, rows in enumerate((30, 1, 20)):
        columns = {
            "observation": random.integers(0, 2, (rows, 84, 84), np.uint8),
            "action": random.integers(0, 4, rows, np.int32),
            "reward": random.integers(-1, 2, rows).astype(np.float32),
            "terminal": (random.random(rows) < 0.3).astype(np.uint8),
        }
        save_checkpoint(tmp_path, number, columns)
        files = checkpoint_files(tmp_path, number)
        epochs.append(DopamineEpoch({name: files[name] for name in columns}, f"checkpoint {number}"))
        frames.append(columns["observation"])
        terminals.append(columns["terminal"])
    with pytest.raises(DamagedFileError, match=r"get_dataset\(compat=True\) takes rows as they are"):
        load_dataset(epochs)
    plain, stacked = (load_dataset(epochs, stack=stack, compat=True) for stack in (False, True))
    assert (plain["observations"][:, 0] == np.concatenate(frames)).all()
    assert (plain["terminals"] == np.concatenate(terminals)).all()
    true = np.array(list(d4rl_atari_stacks(np.concatenate(frames), np.concatenate(terminals))))
    assert (np.asarray(stacked["observations"]) == true).all()
