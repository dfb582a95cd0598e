"""Checkpoints of replay buffers: which rows count, where episodes begin, and how they end."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from atari_files import COLUMNS, ReplayBuffer, checkpoint_files, play, save_checkpoint, save_column

from gymbag.atari.dataset import load_dataset
from gymbag.atari.dopamine_files import DopamineEpoch
from gymbag.atari.epoch import STEPS_LIMIT
from gymbag.episode import Ending
from gymbag.errors import DamagedFileError

T, U, L = Ending.TERMINATED, Ending.UNFINISHED, Ending.TRUNCATED


def epoch_at(folder: Path, number: int = 0, **options: Any) -> DopamineEpoch:
    return DopamineEpoch(checkpoint_files(folder, number), f"checkpoint {number}", **options)


def outline(epoch: DopamineEpoch) -> list[tuple[int, int, Ending]]:
    table = epoch.table
    columns = (table.first_rows, table.lengths, table.endings)
    return [(first, length, Ending(ending)) for first, length, ending in zip(*columns, strict=True)]


def test_the_first_checkpoint(tmp_path: Path) -> None:
    buffer = ReplayBuffer(tmp_path, capacity=40)
    for episode in play([10, 5, 30]):
        buffer.add(episode)
    assert outline(epoch_at(tmp_path)) == [(3, 10, T), (16, 5, T), (24, 15, U)]


def test_a_checkpoint_that_begins_in_the_middle_of_an_episode_and_of_its_padding(tmp_path: Path) -> None:
    for folder, lengths, expected in (
        ("episode", [31, 8, 20], [(0, 5, T), (8, 20, T), (31, 8, U)]),
        ("padding", [32, 1, 20], [(2, 20, T), (25, 14, U)]),
    ):
        buffer = ReplayBuffer(tmp_path / folder, capacity=40)
        for episode in play([*lengths, 40]):
            buffer.add(episode)
        assert outline(epoch_at(tmp_path / folder, 1)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_every_row_of_a_run_is_found_where_it_belongs(tmp_path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    buffer = ReplayBuffer(tmp_path, capacity=int(random.integers(20, 60)))
    lengths = random.integers(1, 15, 25).tolist()
    for episode in play([*lengths, -9], seed):
        buffer.add(episode)
    buffer.save_final()
    assert len(buffer.spans) > 2
    for number, span in enumerate(buffer.spans):
        played = [label for label in buffer.labels[span.start : span.stop] if label is not None]
        epoch = epoch_at(tmp_path, number)
        dataset = load_dataset([epoch])
        for name, attribute in (("observations", "frames"), ("actions", "actions"), ("rewards", "rewards")):
            expected = np.array([getattr(buffer.episodes[one], attribute)[step] for one, step in played])
            assert dataset[name].dtype == expected.dtype
            assert (dataset[name] == expected).all()
        parts = [list(labels) for _, labels in itertools.groupby(played, key=lambda label: label[0])]
        whole = [buffer.episodes[labels[-1][0]] for labels in parts]
        is_over = [
            episode.is_over and labels[-1][1] == len(episode) - 1
            for episode, labels in zip(whole, parts, strict=True)
        ]
        assert epoch.table.lengths.tolist() == [len(labels) for labels in parts]
        assert epoch.table.endings.tolist() == [T if over else U for over in is_over]
        last_rows = np.cumsum([len(labels) for labels in parts]) - 1
        ends = dataset["terminals"] | dataset["timeouts"]
        assert np.flatnonzero(ends).tolist() == last_rows.tolist()
        assert dataset["terminals"][last_rows].tolist() == is_over


def test_only_the_rows_of_the_last_pass_count_in_the_final_checkpoint(tmp_path: Path) -> None:
    buffer = ReplayBuffer(tmp_path, capacity=40)
    for episode in play([60, 5]):
        buffer.add(episode)
    buffer.save_final()
    assert outline(epoch_at(tmp_path, 1)) == [(0, 23, T), (26, 5, T)]


@pytest.mark.parametrize("looks_like_padding", [False, True], ids=["by numbers", "by frames"])
def test_without_its_count_a_final_checkpoint_ends_where_no_padding_follows(
    tmp_path: Path, looks_like_padding: bool
) -> None:
    buffer = ReplayBuffer(tmp_path, capacity=40)
    for episode in play([60, 5, 3]):
        if looks_like_padding:
            episode.actions[:], episode.rewards[:] = 0, 0
        buffer.add(episode)
    buffer.save_final()
    files = {name: checkpoint_files(tmp_path, 1)[name] for name in COLUMNS}
    epoch = DopamineEpoch(files, "checkpoint 50", is_final=True)
    assert outline(epoch) == [(0, 23, T), (26, 5, T), (34, 3, T)]
    assert len(load_dataset([epoch])["actions"]) == 31


def test_without_its_count_all_rows_but_the_last_of_any_other_checkpoint_are_new(tmp_path: Path) -> None:
    save_small(tmp_path)
    files = {name: checkpoint_files(tmp_path, 0)[name] for name in COLUMNS}
    assert outline(DopamineEpoch(files, "checkpoint 0")) == [(3, 10, T), (16, 5, T), (24, 15, U)]


@pytest.mark.parametrize(
    ("before", "length", "ending"),
    [
        (3, STEPS_LIMIT, L),
        (3, STEPS_LIMIT - 1, T),
        # It may have had any number of steps in the epoch before.
        (0, STEPS_LIMIT, T),
    ],
    ids=["whole", "one step less", "begun earlier"],
)
def test_the_limit_of_steps_is_a_timeout_where_it_can_be_told(
    tmp_path: Path, before: int, length: int, ending: Ending
) -> None:
    rows = before + length
    frames = np.ones((rows, 84, 84), np.uint8)
    frames[:before] = 0
    columns = {
        "observation": frames,
        "action": np.zeros(rows, np.int32),
        "reward": np.zeros(rows, np.float32),
        "terminal": np.arange(rows) == rows - 1,
        "add_count": np.array(2 * rows),
    }
    save_checkpoint(tmp_path, 0, columns)
    epoch = epoch_at(tmp_path)
    assert outline(epoch) == [(before, length, ending)]
    dataset = load_dataset([epoch])
    assert (dataset["terminals"][-1], dataset["timeouts"][-1]) == (ending is T, ending is L)


@pytest.mark.parametrize("rows", [1, 2, 3, 4])
@pytest.mark.parametrize("is_over", [False, True])
def test_few_rows_of_a_final_buffer_may_be_new(tmp_path: Path, rows: int, is_over: bool) -> None:
    buffer = ReplayBuffer(tmp_path, capacity=40)
    length = 40 - 3 + rows
    for episode in play([length if is_over else -length]):
        buffer.add(episode)
    buffer.save_final()
    assert outline(epoch_at(tmp_path, 1)) == [(0, rows, T if is_over else U)]


@pytest.mark.parametrize("count", [None, 0, 5])
@pytest.mark.parametrize("is_final", [False, True])
def test_files_without_rows_have_no_episodes(tmp_path: Path, count: int | None, is_final: bool) -> None:
    buffer = ReplayBuffer(tmp_path, capacity=0)
    save_checkpoint(
        tmp_path, 0, buffer.store if count is None else {**buffer.store, "add_count": np.array(count)}
    )
    files = checkpoint_files(tmp_path, 0)
    if count is None:
        del files["add_count"]
    epoch = DopamineEpoch(files, "checkpoint 0", is_final)
    assert outline(epoch) == []
    for stack in (False, True):
        assert {len(column) for column in load_dataset([epoch], stack=stack).values()} == {0}


def save_small(folder: Path) -> dict[str, Path]:
    buffer = ReplayBuffer(folder, capacity=40)
    for episode in play([10, 5, 30]):
        buffer.add(episode)
    return checkpoint_files(folder, 0)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(data)


def save(column: np.ndarray) -> Callable[[Path], None]:
    return lambda path: save_column(path, column)


def pickle_inside(path: Path) -> None:
    with gzip.open(path, "wb") as file:
        np.save(file, np.array([{}], object), allow_pickle=True)


FRAMES = np.ones((40, 84, 84), np.uint8)
DAMAGE = {
    "not there": ("observation", Path.unlink, "cannot be opened"),
    "a folder": ("action", lambda path: (path.unlink(), path.mkdir()), "cannot be opened"),
    "empty": ("action", lambda path: path.write_bytes(b""), "expected an array of numpy.save"),
    "text": ("reward", lambda path: path.write_text("rewards"), "expected an array of numpy.save"),
    "frames cut short": ("observation", cut, "rows .* of 40 cannot be read"),
    "numbers cut short": ("terminal", cut, "the end-of-stream marker"),
    "a byte flipped in frames": ("observation", flip, "rows .* of 40 cannot be read"),
    "objects": ("action", pickle_inside, "expected an array of numbers in C order, found .*O"),
    "in Fortran order": (
        "observation",
        save(np.asfortranarray(FRAMES)),
        "expected an array of numbers in C order, found .*True",
    ),
    "frames of another size": ("observation", save(FRAMES[:, :42]), r"found uint8 of shape \(40, 42, 84\)"),
    "frames of another dtype": ("observation", save(FRAMES.astype(float)), "found float64"),
    "fewer frames": ("observation", save(FRAMES[:39]), "expected columns of equal length, found .*39"),
    "more actions": ("action", save(np.zeros(41, np.int32)), "expected columns of equal length"),
    "actions of another dtype": ("action", save(np.zeros(40)), r"expected int32 of shape \(R,\)"),
    "actions too large": ("action", save(np.full(40, 2**32)), "expected numbers of int32, found 4294967296"),
    "rewards of two axes": (
        "reward",
        save(np.zeros((40, 2), np.float32)),
        r"found float32 of shape \(40, 2\)",
    ),
    "a count that is none": ("add_count", save(np.zeros(3, int)), "expected one integer"),
    "a negative count": ("add_count", save(np.array(-1)), "expected a count, found -1"),
    "no padding": ("action", save(np.ones(40, np.int32)), "expected 3 rows of zeros behind each terminal"),
    "no black frames": ("observation", save(FRAMES), "expected a black frame in row 13"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(tmp_path: Path, case: str) -> None:
    column, damage, message = DAMAGE[case]
    files = save_small(tmp_path)
    damage(files[column])
    for stack in (False, True):
        with pytest.raises(DamagedFileError, match=message):
            load_dataset([epoch_at(tmp_path)], stack=stack)


def test_whatever_byte_of_the_frames_is_flipped_they_are_right_or_refused(tmp_path: Path) -> None:
    files = save_small(tmp_path)
    path = files["observation"]
    # Fewer bytes to flip: each frame repeats a pattern of its own.
    patterns = np.random.default_rng(1).integers(1, 256, (40, 98), np.uint8)
    patterns[~load_raw(path).any((1, 2))] = 0
    save_column(path, np.tile(patterns, 72).reshape(40, 84, 84))
    true = load_dataset([epoch_at(tmp_path)])["observations"]
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        data = bytearray(whole)
        data[position] ^= 1 << (position % 8)
        path.write_bytes(data)
        try:
            found = load_dataset([epoch_at(tmp_path)])["observations"]
        except DamagedFileError:
            refused += 1
        else:
            assert (found == true).all()
    assert refused > len(whole) * 0.9


def load_raw(path: Path) -> np.ndarray:
    with gzip.open(path) as file:
        return np.load(file)
