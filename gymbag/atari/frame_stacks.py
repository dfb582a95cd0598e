"""Stacks of frames, as the agents of the data saw them: four in a row, the oldest first, none of them copied.

Each frame lies in memory once. A stack is a window over frames that lie one behind the other:

    frames   0   0   0   0   o0   o1   o2   o3   o4   0   0   0   o0 ...
                 '---- stack 0 ---'
                     '---- stack 1 ----'
                              '---- stack 4 ----'

Three black frames before each episode make its first stacks what they should be.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np

from gymbag.atari.epoch import STACK_FRAMES


class FrameStacks(Sequence[np.ndarray]):
    """N stacks of four frames: a read-only sequence of arrays (4, H, W).

    An item is a view, a slice is a sequence of views, and an array of B numbers, or of N bools, gives a
    batch of its own, (B, 4, H, W). `numpy.asarray` makes an array of all, four times as large as the frames.

    Args:
        frames: (M, H, W), the frames. They belong to this object from now on.
        first_frames: (N,) integers, the first frame of each stack.

    Attributes:
        shape: (N, 4, H, W).
        dtype: That of the frames.

    >>> frames = np.arange(6, dtype=np.uint8).repeat(4).reshape(6, 2, 2)
    >>> stacks = FrameStacks(frames, np.array([0, 2]))
    >>> stacks.shape
    (2, 4, 2, 2)
    >>> stacks[1][:, 0, 0]
    array([2, 3, 4, 5], dtype=uint8)
    >>> stacks[np.array([1, 0, 1])].shape
    (3, 4, 2, 2)
    """

    def __init__(self, frames: np.ndarray, first_frames: np.ndarray) -> None:
        self._frames = frames
        self._first_frames = first_frames
        # Every window there is, whether a stack or not. It refers to the frames, and has none of its own.
        self._windows = np.lib.stride_tricks.as_strided(
            frames,
            (max(len(frames) - STACK_FRAMES + 1, 0), STACK_FRAMES, *frames.shape[1:]),
            (frames.strides[0], *frames.strides),
            writeable=False,
        )

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 4, H, W)."""
        return len(self), *self._windows.shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the frames."""
        return self._frames.dtype

    @property
    def ndim(self) -> int:
        """How many axes the shape has."""
        return self._windows.ndim

    def __len__(self) -> int:
        """Count the stacks."""
        return len(self._first_frames)

    @overload
    def __getitem__(self, index: int | np.ndarray | Sequence[int]) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> FrameStacks: ...
    def __getitem__(self, index: Any) -> Any:
        """Return a stack, a sequence of some for a slice, or a batch for an array of numbers or bools.

        Raises:
            IndexError: There is no such stack.
        """
        if isinstance(index, slice):
            return FrameStacks(self._frames, self._first_frames[index])
        if isinstance(index, np.ndarray | list):
            return self._windows[self._first_frames[index]]
        return self._windows[self._first_frames[operator.index(index)]]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield the stacks."""
        return map(self._windows.__getitem__, self._first_frames)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return an array (N, 4, H, W) of its own.

        Raises:
            ValueError: None of its own is wanted.
        """
        if copy is False:
            raise ValueError("stacks share their frames, so an array of them is always a copy")
        array: np.ndarray = self._windows[self._first_frames]
        return array if dtype is None else array.astype(dtype, copy=False)

    def __reduce__(self) -> Any:
        """Be pickled with no more frames than are used."""
        if not len(self):
            return FrameStacks, (self._frames[:0], self._first_frames)
        first = int(self._first_frames.min())
        last = int(self._first_frames.max()) + STACK_FRAMES
        return FrameStacks, (self._frames[first:last], self._first_frames - first)

    def __repr__(self) -> str:
        """Tell shape and dtype."""
        return f"<FrameStacks of shape {self.shape}, {self.dtype}>"
