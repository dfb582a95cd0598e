"""What can go wrong, each with its remedy.

Every error raised on purpose derives from `GymbagError`. Its message says what was expected, what
was found, where (file, data set, episode, step) and what to do about it.
"""

from __future__ import annotations


class GymbagError(Exception):
    """Base class of every error that gymbag raises on purpose."""


class RecordingError(GymbagError):
    """An env was used in a way that cannot be recorded, such as `step` before `reset`."""


class SpaceError(GymbagError):
    """A space has no storable form, or a value does not fit the space it was declared to be in."""


class PlaybackError(GymbagError):
    """A replay was asked for a step or an episode that the recording does not have."""


class StorageError(GymbagError):
    """A recording cannot be opened, read or written."""


class DamagedFileError(StorageError):
    """A file is not what its format promises; nothing was changed."""


class FileInUseError(StorageError):
    """Another writer has the file open; nothing was changed."""


class DataSetNotFoundError(StorageError, LookupError):
    """A file has no data set of that name, or several and none was chosen."""


class MissingExtraError(GymbagError, ImportError):
    """An optional package is needed; the message names the extra that installs it."""


class ChoiceError(GymbagError, ValueError):
    """An argument is none of what it can be, such as an unknown game; the message says what it can."""


class UnknownArgumentError(GymbagError, TypeError):
    """A keyword argument is not known; the message lists those that are."""


class RomError(GymbagError):
    """A file is not the ROM of the game that is to be played."""


class PlaceError(GymbagError, ValueError):
    """What was set as a place to look for data is none: a folder that does not exist, say, or no URL."""


class DataNotFoundError(GymbagError, FileNotFoundError):
    """Data is in none of the places where it was looked for."""


class DownloadError(GymbagError, OSError):
    """A file could not be downloaded whole; nothing was put in its place."""


class UnavailableError(DownloadError):
    """A server does not have a file, does not give it to us, or does not answer at all.

    Attributes:
        status: The HTTP status, or None where there was no answer, or none that can be used.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RecordingStoppedWarning(UserWarning):
    """Recording has stopped, on a full disk for example; the env goes on, and `close` will raise."""


class UnfinishedRecordingWarning(UserWarning):
    """A process that recorded to a file was killed; what it left was put into the file."""


class OtherSourceWarning(UserWarning):
    """Data was found, but not where it was looked for first: a folder lacks files, say."""
