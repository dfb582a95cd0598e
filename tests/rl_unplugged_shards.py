"""Writes shards of RL Unplugged from real play, in code of its own: nothing of what reads them is used.

The format is that of TFRecord files and of `tf.train.Example`; `gymbag.atari.tfrecords` describes both.
Numbers are written packed, as TensorFlow does it, unless told otherwise.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import google_crc32c
import gymnasium
import numpy as np

#: The values of a feature: bytes, or one array of float32 or int64.
Values = Sequence[bytes] | np.ndarray


@dataclass(frozen=True)
class PlayedEpisode:
    """What happened in T steps.

    Attributes:
        frames: (T, 84, 84) uint8, before each action.
        actions: (T,) int64.
        rewards: (T,) float32, not clipped.
        discounts: (T,) float32.
    """

    frames: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    discounts: np.ndarray

    def features(self, number: int = 0) -> dict[str, Values]:
        """Return it as shards have it."""
        clipped = np.clip(self.rewards, -1, 1)
        return {
            "checkpoint_idx": np.array([0]),
            "episode_idx": np.array([number]),
            "discounts": self.discounts,
            "unclipped_rewards": self.rewards,
            "episode_return": np.array([self.rewards.sum()], np.float32),
            "clipped_rewards": clipped,
            "clipped_episode_return": np.array([clipped.sum()], np.float32),
            "observations": [encode_png(frame) for frame in self.frames],
            "actions": self.actions,
        }


def play_breakout(lengths: Iterable[int], seed: int = 0) -> list[PlayedEpisode]:
    """Play Breakout at random, and cut what happened into episodes of these lengths, each of which ends.

    The reward of each step is made up: Breakout gives few.
    """
    import ale_py

    gymnasium.register_envs(ale_py)
    env = gymnasium.make("ALE/Breakout-v5", frameskip=4, obs_type="grayscale")
    random = np.random.default_rng(seed)
    env.action_space.seed(seed)
    screen, _ = env.reset(seed=seed)
    episodes = []
    for length in lengths:
        frames, actions = np.empty((length, 84, 84), np.uint8), np.empty(length, np.int64)
        for step in range(length):
            frames[step] = cv2.resize(screen, (84, 84), interpolation=cv2.INTER_AREA)
            actions[step] = env.action_space.sample()
            screen, _, terminated, truncated, _ = env.step(actions[step])
            if terminated or truncated:
                screen, _ = env.reset()
        rewards = random.choice([0, 1, 4, 7, -1, -3], length).astype(np.float32)
        discounts = np.full(length, 0.99, np.float32)
        discounts[-1] = 0
        episodes.append(PlayedEpisode(frames, actions, rewards, discounts))
    env.close()
    return episodes


def encode_png(frame: np.ndarray) -> bytes:
    """Return an image as a PNG."""
    done, png = cv2.imencode(".png", frame)
    assert done
    return bytes(png)


def encode_varint(value: int) -> bytes:
    """Return a number as messages have it, seven bits a byte; one below zero as 64 bits."""
    value &= 2**64 - 1
    data = b""
    while value > 0x7F:
        data += bytes([value & 0x7F | 0x80])
        value >>= 7
    return data + bytes([value])


def encode_field(number: int, value: bytes | int | np.float32) -> bytes:
    """Return a field of a message: bytes, an integer, or a float32."""
    if isinstance(value, bytes):
        return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value
    if isinstance(value, np.float32):
        return encode_varint(number << 3 | 5) + value.tobytes()
    return encode_varint(number << 3) + encode_varint(value)


def encode_feature(values: Values, packed: bool = True) -> bytes:
    """Return the list that a feature holds."""
    if not isinstance(values, np.ndarray):
        return encode_field(1, b"".join(encode_field(1, value) for value in values))
    is_float = values.dtype == np.float32
    items: list[Any] = list(values) if is_float else values.tolist()
    if not packed:
        data = b"".join(encode_field(1, item) for item in items)
    elif is_float:
        data = encode_field(1, values.tobytes())
    else:
        data = encode_field(1, b"".join(map(encode_varint, items)))
    return encode_field(2 if is_float else 3, data)


def encode_example(features: Mapping[str, Values], packed: bool = True) -> bytes:
    """Return a `tf.train.Example`."""
    entries = [
        encode_field(1, name.encode()) + encode_field(2, encode_feature(values, packed))
        for name, values in features.items()
    ]
    return encode_field(1, b"".join(encode_field(1, entry) for entry in entries))


def encode_record(data: bytes) -> bytes:
    """Return a record of a TFRecord file."""
    length = struct.pack("<Q", len(data))
    return length + masked_crc32c(length) + data + masked_crc32c(data)


def masked_crc32c(data: bytes) -> bytes:
    """Return the checksum that TFRecord files have."""
    checksum = google_crc32c.value(data)
    return struct.pack("<I", ((checksum >> 15) + (checksum << 17) + 0xA282EAD8) % 2**32)


def write_records(path: Path, records: Iterable[bytes], compressed: bool = True) -> None:
    """Write a TFRecord file."""
    data = b"".join(map(encode_record, records))
    path.write_bytes(gzip.compress(data, 1) if compressed else data)


def write_shard(path: Path, episodes: Iterable[PlayedEpisode]) -> None:
    """Write a shard of RL Unplugged."""
    write_records(path, [encode_example(episode.features(number)) for number, episode in enumerate(episodes)])
