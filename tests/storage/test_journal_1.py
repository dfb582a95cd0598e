"""Journals of version 1, as a gymbag left them that knew no power cuts: read, repaired and gone on with.

`data/journal_1` has two files, each of which holds the first of three episodes. The journal of `blocks.h5`
holds the others, one in each of its last two blocks; that of `redo.h5` was to be put into the file just then.
"""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from damage import copy_recording, flip
from recorded import Played, assert_recorded, write
from story import ACTIONS, SPACE

from gymbag import repair
from gymbag.errors import DamagedFileError
from gymbag.storage.base import Header
from gymbag.storage.hdf5_reader import HDF5Reader
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import journal_path

pytestmark = pytest.mark.filterwarnings("ignore::gymbag.errors.UnfinishedRecordingWarning")

FOLDER = Path(__file__).parents[1] / "data" / "journal_1"
SECOND_BLOCK, THIRD_BLOCK = 357, 2315  # where they begin in the journal of blocks.h5


def play(number: int, length: int, ending: str) -> Played:
    """Return an episode as it was recorded."""
    base = 1000 * number
    return Played(
        [np.array([base + t, -t, 0.5 if t > 1 else 0], np.float32) for t in range(length + 1)],
        [np.int64((7 * t + number) % 100) for t in range(length)],
        [base + t / 7 for t in range(length)],
        [{"number": base + t} if t % 3 else {} for t in range(length + 1)],
        [1e9 + base + t / 3 for t in range(length + 1)],
        ending,
        seed=base,
        options={"number": number} if number % 2 else None,
    )


EPISODES = [play(0, 3, "terminated"), play(1, 7, "truncated"), play(2, 2, "terminated")]


@pytest.fixture(params=["blocks.h5", "redo.h5"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    copy_recording(FOLDER / request.param, tmp_path / "recording.h5")
    return tmp_path / "recording.h5"


def test_an_old_journal_is_read(path: Path) -> None:
    assert_recorded(HDF5Reader(path), EPISODES)


def test_an_old_journal_is_put_into_the_file(path: Path) -> None:
    assert repair(path)
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    with h5py.File(path) as file:
        assert file["A"]["episodes/length"][:].tolist() == [3, 7, 2]
    assert_recorded(HDF5Reader(path), EPISODES)


def test_a_file_with_an_old_journal_is_gone_on_with(path: Path) -> None:
    more = play(3, 4, "unfinished")
    write(HDF5Writer(path, chunk_rows=4), Header("A", SPACE, ACTIONS), [more])
    assert_recorded(HDF5Reader(path), [*EPISODES, more])


@pytest.mark.parametrize("path", ["blocks.h5"], indirect=True)
def test_the_last_block_of_an_old_journal_may_be_cut_off(path: Path) -> None:
    os.truncate(journal_path(path), THIRD_BLOCK + 500)
    assert_recorded(HDF5Reader(path), EPISODES[:2])
    flip(journal_path(path), THIRD_BLOCK + 30, 1)
    assert repair(path)
    assert_recorded(HDF5Reader(path), EPISODES[:2])


@pytest.mark.parametrize("path", ["blocks.h5"], indirect=True)
@pytest.mark.parametrize("offset", [0, 5, 21, 40], ids=["magic", "size", "checksum", "contents"])
def test_another_block_of_an_old_journal_is_damaged(path: Path, offset: int) -> None:
    flip(journal_path(path), SECOND_BLOCK + offset, 1)
    with pytest.raises(DamagedFileError, match=f"block at byte {SECOND_BLOCK} is damaged"):
        HDF5Reader(path)
