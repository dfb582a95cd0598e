"""Shards of RL Unplugged: rows as in the files of a replay buffer, every frame, and what is refused."""

from __future__ import annotations

import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rl_unplugged_shards import (
    PlayedEpisode,
    encode_example,
    encode_field,
    encode_png,
    play_breakout,
    write_records,
    write_shard,
)

from gymbag.atari.epoch import STEPS_LIMIT
from gymbag.atari.rl_unplugged import RLUnpluggedEpoch
from gymbag.episode import Ending
from gymbag.errors import DamagedFileError, MissingExtraError

LENGTHS = [40, 1, 130, 3, 75]


@pytest.fixture(scope="module")
def played() -> list[PlayedEpisode]:
    return play_breakout(LENGTHS)


@pytest.fixture
def path(tmp_path: Path, played: list[PlayedEpisode]) -> Path:
    path = tmp_path / "run_1-00000-of-00050"
    write_shard(path, played)
    return path


def pad(parts: list[np.ndarray]) -> np.ndarray:
    """Put three rows of zeros before each."""
    return np.concatenate(
        [np.concatenate([np.zeros((3, *part.shape[1:]), part.dtype), part]) for part in parts]
    )


def read_frames(epoch: RLUnpluggedEpoch, rows: int, block: int) -> np.ndarray:
    frames = np.full((rows, 84, 84), 77, np.uint8)
    with epoch.open_frames() as reader:
        for start in range(0, rows, block):
            reader.read_into(frames[start : start + block])
    return frames


def read_all(path: Path) -> None:
    epoch = RLUnpluggedEpoch(path, "here")
    read_frames(epoch, len(epoch.table), 100)


def test_the_table_has_the_rows_of_a_replay_buffer(path: Path, played: list[PlayedEpisode]) -> None:
    epoch = RLUnpluggedEpoch(path, "here")
    table = epoch.table
    expected = {
        "actions": pad([episode.actions for episode in played]).astype(np.int32),
        "rewards": pad([np.clip(episode.rewards, -1, 1) for episode in played]),
        "unclipped_rewards": pad([episode.rewards for episode in played]),
        "terminals": pad([episode.discounts == 0 for episode in played]),
        "first_rows": np.array([3, 46, 50, 183, 189]),
        "lengths": np.array(LENGTHS),
        "endings": np.full(5, Ending.TERMINATED, np.uint8),
    }
    for name, values in expected.items():
        found = getattr(table, name)
        np.testing.assert_array_equal(found, values, err_msg=name)
        assert found.dtype == values.dtype, name
    assert epoch.table is table
    assert epoch.origin == "here"


@pytest.mark.parametrize("block", [1, 2, 7, 64, 65, 100, 1000])
def test_every_frame_comes_back_in_blocks_of_any_size(
    path: Path, played: list[PlayedEpisode], block: int
) -> None:
    epoch = RLUnpluggedEpoch(path, "here")
    expected = pad([episode.frames for episode in played])
    np.testing.assert_array_equal(read_frames(epoch, len(expected), block), expected)


def test_several_read_at_once(path: Path, played: list[PlayedEpisode]) -> None:
    epoch = RLUnpluggedEpoch(path, "here")
    first, second = (np.empty((1, 84, 84), np.uint8) for _ in range(2))
    with epoch.open_frames() as one, epoch.open_frames() as other:
        for expected in pad([episode.frames for episode in played])[:60]:
            one.read_into(first)
            other.read_into(second)
            np.testing.assert_array_equal(first[0], expected)
            np.testing.assert_array_equal(second[0], expected)


@pytest.mark.parametrize(
    ("last_discounts", "endings"),
    [
        pytest.param([0, 0, 0], [Ending.TERMINATED] * 3, id="all terminated"),
        pytest.param(
            [0.99, 1, 0], [Ending.TRUNCATED, Ending.TRUNCATED, Ending.TERMINATED], id="cut in the middle"
        ),
        pytest.param(
            [0, 0.99, 0.99], [Ending.TERMINATED, Ending.TRUNCATED, Ending.UNFINISHED], id="cut at the end"
        ),
    ],
)
def test_the_last_discount_tells_how_an_episode_ended(
    tmp_path: Path, played: list[PlayedEpisode], last_discounts: list[float], endings: list[Ending]
) -> None:
    episodes = []
    for episode, last in zip(played, last_discounts, strict=False):
        discounts = episode.discounts.copy()
        discounts[-1] = last
        episodes.append(replace(episode, discounts=discounts))
    write_shard(tmp_path / "shard", episodes)
    table = RLUnpluggedEpoch(tmp_path / "shard", "here").table
    assert table.endings.tolist() == endings
    assert table.terminals.nonzero()[0].tolist() == [
        end - 1
        for end, last in zip((table.first_rows + table.lengths).tolist(), last_discounts, strict=True)
        if not last
    ]


@pytest.mark.parametrize(
    ("length", "last_discount", "ending"),
    [
        (STEPS_LIMIT - 1, 0, Ending.TERMINATED),
        (STEPS_LIMIT, 0, Ending.TRUNCATED),
        (STEPS_LIMIT, 0.99, Ending.TRUNCATED),
        (STEPS_LIMIT - 1, 0.99, Ending.UNFINISHED),
    ],
)
def test_the_limit_of_steps_is_truncation(
    tmp_path: Path, played: list[PlayedEpisode], length: int, last_discount: float, ending: Ending
) -> None:
    discounts = np.ones(length, np.float32)
    discounts[-1] = last_discount
    numbers = np.zeros(length, np.float32)
    features = {
        **played[0].features(),
        "observations": [encode_png(played[0].frames[0])] * length,
        "actions": np.zeros(length, np.int64),
        "clipped_rewards": numbers,
        "unclipped_rewards": numbers,
        "discounts": discounts,
    }
    write_records(tmp_path / "shard", [encode_example(features)])
    assert RLUnpluggedEpoch(tmp_path / "shard", "here").table.endings.tolist() == [ending]


def test_a_shard_without_compression_is_read(tmp_path: Path, played: list[PlayedEpisode]) -> None:
    path = tmp_path / "shard"
    write_records(path, [encode_example(episode.features(), packed=False) for episode in played], False)
    frames = read_frames(RLUnpluggedEpoch(path, "here"), 3 + LENGTHS[0], 50)
    np.testing.assert_array_equal(frames, pad([played[0].frames]))


def damaged_png() -> bytes:
    png = bytearray(encode_png(np.zeros((84, 84), np.uint8)))
    png[50] ^= 1
    return bytes(png)


def huge_png() -> bytes:
    """Return a PNG that says it has a hundred million pixels."""
    head = struct.pack(">4s2I5B", b"IHDR", 10_000, 10_000, 8, 0, 0, 0, 0)
    png = encode_png(np.zeros((84, 84), np.uint8))
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param(
            {"actions": np.zeros(39, np.int64)}, "'observations': 40, 'actions': 39", id="an action less"
        ),
        pytest.param({"discounts": np.zeros(41, np.float32)}, "'discounts': 41", id="a discount more"),
        pytest.param({"clipped_rewards": np.zeros(0, np.float32)}, "'clipped_rewards': 0", id="no rewards"),
        pytest.param({"observations": []}, "'observations': 0", id="no frames"),
        pytest.param({"actions": np.full(40, 18)}, "0 to 17, found 18 to 18", id="action too large"),
        pytest.param({"actions": np.full(40, -1)}, "0 to 17, found -1", id="action below zero"),
        pytest.param({"actions": np.full(40, 2**32)}, "0 to 17, found", id="action of 33 bits"),
        pytest.param({"actions": np.zeros(40, np.float32)}, "actions of int64, found float32", id="floats"),
        pytest.param({"discounts": [b"0"] * 40}, "discounts of float32, found bytes", id="bytes"),
        pytest.param({"observations": np.zeros(40, np.int64)}, "'observations': 1", id="numbers for frames"),
        pytest.param({"observations": [b""] * 40}, "PNG", id="empty frames"),
        pytest.param({"observations": [encode_png(np.zeros((84, 85), np.uint8))] * 40}, "PNG", id="wide"),
        pytest.param(
            {"observations": [encode_png(np.zeros((84, 84, 3), np.uint8))] * 40}, "PNG", id="colours"
        ),
        pytest.param({"observations": [encode_png(np.zeros((84, 84), np.uint16))] * 40}, "PNG", id="16 bits"),
        pytest.param({"observations": [huge_png()] * 40}, "PNG", id="huge"),
        pytest.param({"observations": [damaged_png()] * 40}, "PNG for row 46", id="damaged PNG"),
        pytest.param(
            {"observations": [encode_png(np.zeros((84, 84), np.uint8)) + bytes(1 << 16)] * 40},
            "PNG",
            id="long",
        ),
    ],
)
def test_what_is_no_episode_is_refused(
    tmp_path: Path, played: list[PlayedEpisode], change: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "shard"
    features = [played[0].features(), played[0].features() | change]
    write_records(path, [encode_example(episode) for episode in features])
    with pytest.raises(DamagedFileError, match=f"shard.*{reason}") as caught:
        read_all(path)
    assert "record 1" in str(caught.value) or "row 4" in str(caught.value)


def test_a_small_file_does_not_fill_the_memory(tmp_path: Path) -> None:
    discounts = encode_field(2, encode_field(1, bytes(1_000_000)) * 50)
    features = encode_field(1, encode_field(1, b"discounts") + encode_field(2, discounts))
    path = tmp_path / "shard"
    write_records(path, [encode_field(1, features)])
    assert path.stat().st_size < 400_000
    tracemalloc.start()
    with pytest.raises(DamagedFileError, match="at most 2,097,152 steps, found more discounts"):
        _ = RLUnpluggedEpoch(path, "here").table
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 20e6


def test_an_episode_without_steps_is_refused(tmp_path: Path, played: list[PlayedEpisode]) -> None:
    features = {name: values[:0] for name, values in played[0].features().items()}
    write_records(tmp_path / "shard", [encode_example(features)])
    with pytest.raises(DamagedFileError, match="record 0"):
        read_all(tmp_path / "shard")


@pytest.mark.parametrize("read", [lambda epoch: epoch.table, lambda epoch: epoch.open_frames()])
def test_a_missing_file_is_an_error_of_ours(tmp_path: Path, read: Callable[[RLUnpluggedEpoch], Any]) -> None:
    with pytest.raises(DamagedFileError, match="run_9"):
        read(RLUnpluggedEpoch(tmp_path / "run_9", "here"))


def test_a_shard_that_is_cut_off_says_so(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedFileError, match="run_1"):
            read_all(path)


def test_more_frames_than_there_are_cannot_be_read(path: Path) -> None:
    epoch = RLUnpluggedEpoch(path, "here")
    with pytest.raises(DamagedFileError, match=f"more rows than {len(epoch.table)}"):
        read_frames(epoch, len(epoch.table) + 1, 50)


def test_a_reader_closes_twice(path: Path) -> None:
    reader = RLUnpluggedEpoch(path, "here").open_frames()
    reader.read_into(np.empty((5, 84, 84), np.uint8))
    reader.close()
    reader.close()


def test_a_missing_package_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r'opencv-python-headless.*"gymbag\[atari\]"'):
        RLUnpluggedEpoch(path, "here").open_frames()


def test_a_long_episode_is_never_held_in_memory(tmp_path: Path, played: list[PlayedEpisode]) -> None:
    steps = 4000
    noise = encode_png(np.random.default_rng(0).integers(0, 256, (84, 84), np.uint8))
    numbers = np.zeros(steps, np.float32)
    features = {
        **played[0].features(),
        "observations": [noise] * steps,
        "actions": np.zeros(steps, np.int64),
        "clipped_rewards": numbers,
        "unclipped_rewards": numbers,
        "discounts": numbers,
    }
    write_records(tmp_path / "shard", [encode_example(features)])
    epoch = RLUnpluggedEpoch(tmp_path / "shard", "here")
    frames = np.empty((steps + 3, 84, 84), np.uint8)
    tracemalloc.start()
    try:
        assert len(epoch.table) == len(frames)
        with epoch.open_frames() as reader:
            reader.read_into(frames)
        assert tracemalloc.get_traced_memory()[1] < steps * len(noise) / 3
    finally:
        tracemalloc.stop()
