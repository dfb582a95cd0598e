"""An epoch in a shard of RL Unplugged: the DQN Replay data as DeepMind keeps it, episode by episode.

A shard is a TFRecord file, compressed with gzip. Each record is an episode of T steps:

    observations       T PNGs of 84 x 84 grey pixels: the frame before each action
    actions            T int64, numbers in the game's minimal action set
    clipped_rewards    T float32, what came of each action, clipped to [-1, 1]
    unclipped_rewards  T float32, see below
    discounts          T float32: the last is 0 if the episode terminated
    checkpoint_idx, episode_idx, episode_return, clipped_episode_return, which we have no use for

So that an epoch looks the same wherever it is from, three rows of padding stand before each episode, as in
the files of a replay buffer.

Despite their name, the unclipped rewards may be clipped: TensorFlow Datasets reads these shards, and has come
to say so of all of them. We give what the shard has.

See `rl_unplugged/atari_utils.py` in https://github.com/tensorflow/datasets.
"""

from __future__ import annotations

import functools
import itertools
import struct
import zlib
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from gymbag.atari.epoch import FRAME_SHAPE, PADDING_ROWS, STEPS_LIMIT, Epoch, EpochTable, FrameReader
from gymbag.atari.tfrecords import Record, RecordFile, read_features
from gymbag.episode import Ending
from gymbag.errors import DamagedFileError, MissingExtraError
from gymbag.workers import workers

# The lists that have a number for each step, and the dtype of each.
_NUMBERS: dict[str, np.dtype[Any]] = {
    "actions": np.dtype(np.int64),
    "clipped_rewards": np.dtype(np.float32),
    "unclipped_rewards": np.dtype(np.float32),
    "discounts": np.dtype(np.float32),
}
# A whole shard has about a million steps. Without a limit, a small file could fill the memory.
_MOST_STEPS = 1 << 21
# The full action set of the Atari 2600.
_MOST_ACTIONS = 18

# How the PNG of every frame begins: 84 x 84 pixels of 8 bits, grey, not interlaced. What begins so can
# neither ask for more memory than a frame has, nor become something else.
_IHDR = struct.pack(">4s2I5B", b"IHDR", *FRAME_SHAPE, 8, 0, 0, 0, 0)
_PNG_HEAD = b"\x89PNG\r\n\x1a\n" + struct.pack(f">I{len(_IHDR)}sI", len(_IHDR) - 4, _IHDR, zlib.crc32(_IHDR))
# A frame of noise has 7,200 bytes.
_MOST_PNG_BYTES = 64 << 10

# How many rows a thread decodes at a time: enough to be worth handing over, few enough for all to have some.
_BATCH_ROWS = 64


class RLUnpluggedEpoch(Epoch):
    """An epoch in a shard of RL Unplugged.

    Args:
        path: The shard.
        origin: Where it comes from, for people to read.
    """

    def __init__(self, path: Path, origin: str) -> None:
        self.origin = origin
        self.path = path

    @cached_property
    def table(self) -> EpochTable:
        """All but the frames; read once, and kept. `unclipped_rewards` are what the shard calls so.

        Raises:
            DamagedFileError: It cannot be read, or is not what such data promises.
            MissingExtraError: A package is needed that is not installed.
        """
        columns: dict[str, list[np.ndarray]] = {name: [] for name in _NUMBERS}
        with RecordFile(self.path) as file:
            for record in file:
                for name, values in _read_numbers(record).items():
                    columns[name] += np.zeros(PADDING_ROWS, values.dtype), values
        lengths = np.array([len(values) for values in columns["actions"][1::2]])
        ends = np.cumsum(lengths + PADDING_ROWS)
        terminated = np.array([values[-1] == 0 for values in columns.pop("discounts")[1::2]])
        terminals = np.zeros(ends[-1], bool)
        terminals[ends - 1] = terminated
        endings = np.where(terminated, Ending.TERMINATED, Ending.TRUNCATED)
        # The game goes on behind the last episode of a shard, unless it is known to have ended there.
        endings[-1:][~terminated[-1:]] = Ending.UNFINISHED
        endings[lengths == STEPS_LIMIT] = Ending.TRUNCATED
        return EpochTable(
            np.concatenate(columns["actions"]),
            np.concatenate(columns["clipped_rewards"]),
            terminals,
            np.concatenate(columns["unclipped_rewards"]),
            ends - lengths,
            lengths,
            endings.astype(np.uint8),
        )

    def open_frames(self) -> RLUnpluggedFrames:
        """Return a reader of the R frames, from the first on.

        Raises:
            DamagedFileError: They cannot be read.
            MissingExtraError: A package is needed that is not installed.
        """
        return RLUnpluggedFrames(self.path)


def _read_numbers(record: Record) -> dict[str, np.ndarray]:
    """Return the lists of an episode that have a number for each step; actions become int32."""
    parts: dict[str, list[np.ndarray]] = {name: [np.zeros(0, dtype)] for name, dtype in _NUMBERS.items()}
    counts = dict.fromkeys(("observations", *_NUMBERS), 0)
    for name, values in read_features(record):
        if name == "observations":
            counts[name] += 1
        elif name in parts:
            if not isinstance(values, np.ndarray) or values.dtype != _NUMBERS[name]:
                found = values.dtype if isinstance(values, np.ndarray) else "bytes"
                raise record.damaged(f"expected {name} of {_NUMBERS[name]}, found {found}")
            counts[name] += len(values)
            if counts[name] > _MOST_STEPS:
                raise record.damaged(
                    f"expected an episode of at most {_MOST_STEPS:,} steps, found more {name}"
                )
            parts[name].append(values)
    columns = {name: np.concatenate(found) for name, found in parts.items()}
    if len(set(counts.values())) != 1 or not counts["observations"]:
        raise record.damaged(f"expected an episode, with as many of each for its steps; found {counts}")
    actions = columns["actions"]
    if actions.min() < 0 or actions.max() >= _MOST_ACTIONS:
        raise record.damaged(
            f"expected actions from 0 to {_MOST_ACTIONS - 1}, found {actions.min()} to {actions.max()}"
        )
    columns["actions"] = actions.astype(np.int32)
    return columns


class RLUnpluggedFrames(FrameReader):
    """Reads the frames of a shard, once, in the order of its rows.

    Args:
        path: The shard.

    Raises:
        DamagedFileError: The file is not there, or is no TFRecord file.
        MissingExtraError: A package is needed that is not installed.
    """

    def __init__(self, path: Path) -> None:
        self._decode = _import_cv2()
        self._file = RecordFile(path)
        self._pngs = self._read_pngs()
        self._rows_read = 0

    def _read_pngs(self) -> Iterator[bytes | None]:
        """Yield the PNG of each row, or None for padding."""
        for record in self._file:
            yield from (None,) * PADDING_ROWS
            for name, png in read_features(record):
                if name == "observations":
                    if (
                        not isinstance(png, bytes)
                        or not png.startswith(_PNG_HEAD)
                        or len(png) > _MOST_PNG_BYTES
                    ):
                        raise record.damaged(
                            "expected frames as PNGs of 84 x 84 grey pixels of 8 bits, "
                            f"found {png[: len(_PNG_HEAD)]!r}"
                        )
                    yield png

    def read_into(self, frames: np.ndarray) -> None:
        workers.run(self._batches(frames))

    def _batches(self, frames: np.ndarray) -> Iterator[Callable[[], None]]:
        """Read the PNGs of the next rows; yield what decodes some of them."""
        for start in range(0, len(frames), _BATCH_ROWS):
            batch = frames[start : start + _BATCH_ROWS]
            pngs = list(itertools.islice(self._pngs, len(batch)))
            if len(pngs) < len(batch):
                raise DamagedFileError(
                    f"{self._file.path}: expected more rows than {self._rows_read + len(pngs)}, "
                    "which are all there are; get the file anew, as it has changed or is damaged"
                )
            yield functools.partial(self._decode_batch, pngs, batch, self._rows_read)
            self._rows_read += len(batch)

    def _decode_batch(self, pngs: list[bytes | None], frames: np.ndarray, first_row: int) -> None:
        for row, (png, frame) in enumerate(zip(pngs, frames, strict=True), first_row):
            if png is None:
                frame[...] = 0
                continue
            decoded = self._decode(png)
            if decoded is None:
                raise DamagedFileError(
                    f"{self._file.path}: expected a PNG for row {row}, found {len(png)} bytes that are none; "
                    "get the file anew, as it is damaged"
                )
            frame[...] = decoded

    def close(self) -> None:
        self._file.close()


def _import_cv2() -> Callable[[bytes], Any]:
    """Return what decodes a PNG of grey pixels, or returns None if it is damaged."""
    try:
        import cv2
    except ImportError:
        raise MissingExtraError(
            "frames of RL Unplugged need the package opencv-python-headless to be read: "
            'pip install "gymbag[atari]"'
        ) from None
    # Upright, as metadata could have it turned.
    flags = cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION
    return lambda png: cv2.imdecode(np.frombuffer(png, np.uint8), flags)
