"""The frames of the episodes of an epoch, in their order, without what stands between them."""

from __future__ import annotations

import numpy as np

from gymbag.atari.epoch import FRAME_SHAPE, Epoch, FrameReader, skip_rows
from gymbag.errors import DamagedFileError


class EpisodeFrames:
    """The frames of an epoch's episodes, read in their order.

    Args:
        epoch: The epoch.
        reader: Reads its frames; none has been read yet.
    """

    def __init__(self, epoch: Epoch, reader: FrameReader) -> None:
        self._epoch, self._reader = epoch, reader
        self._row = 0

    def begin(self, first_row: int) -> None:
        """Pass over the padding before an episode.

        Args:
            first_row: The row with which it begins.

        Raises:
            DamagedFileError: The frames there are not black.
        """
        padding = np.empty((first_row - self._row, *FRAME_SHAPE), np.uint8)
        self._reader.read_into(padding)
        check_black(self._epoch, self._row, padding)
        self._row = first_row

    def read_into(self, frames: np.ndarray) -> None:
        """Read the next frames of the episode into an array (K, 84, 84), contiguous."""
        self._reader.read_into(frames)
        self._row += len(frames)

    def finish(self) -> None:
        """Read what is left, so that checksums at the end of files are looked at."""
        skip_rows(self._reader, len(self._epoch.table) - self._row)


def check_black(epoch: Epoch, first_row: int, padding: np.ndarray) -> None:
    """Make sure that what stands between episodes is padding.

    Args:
        epoch: The epoch, for the error to name.
        first_row: The first of the rows.
        padding: Their frames.

    Raises:
        DamagedFileError: One is not black.
    """
    if padding.any():
        row = first_row + int(np.flatnonzero(padding.any((1, 2)))[0])
        raise DamagedFileError(
            f"{epoch.origin}: expected a black frame in row {row}, between two episodes, found another; "
            "get_dataset(compat=True) takes rows as they are"
        )
