"""Info dicts on their way into a recording: what is kept of them, and the warning about what cannot be."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

from gymbag import json_values
from gymbag.errors import RecordingError

#: Which infos to record: all of them, none, or those keys.
InfoChoice = bool | Iterable[str]


class UnstorableInfoWarning(UserWarning):
    """A value of an info cannot be stored; the rest of the info is."""


class InfoEncoder:
    """Writes infos as bytes; no bytes at all stand for an empty info (as in `columns.ValueColumn`).

    Args:
        label: What to call the dict in the warning.

    >>> InfoEncoder()({"lives": 3})
    b'{"lives":3}'
    """

    def __init__(self, label: str = "info") -> None:
        self._label = label
        self._warned: set[str] = set()

    def storable(self, info: Mapping[str, Any]) -> dict[Any, Any]:
        """Return an info without the values that cannot be stored, with a warning once for each such key."""
        kept = dict(info)
        unstorable: list[tuple[tuple[Any, ...], Any]] = []
        json_values.encode(kept, lambda *found: unstorable.append(found))
        for path, value in unstorable:
            self.warn(path, value)
            _leave_out(kept, path)
        return kept

    def __call__(self, info: Mapping[str, Any]) -> bytes:
        """Encode an info, leaving out what cannot be stored, with a warning once for each such key."""
        if not info:
            return b""
        text = json_values.encode_bytes(info if type(info) is dict else dict(info), self.warn)
        return b"" if text == b"{}" else text

    def warn(self, path: tuple[Any, ...], value: Any) -> None:
        """Warn of a value that cannot be stored, once for each path to one."""
        key = self._label + "".join(f"[{part!r}]" for part in path)
        if key in self._warned:
            return
        self._warned.add(key)
        warnings.warn(
            f"{key} is a {type(value).__module__}.{type(value).__qualname__}, which cannot be "
            "recorded, so it is left out; dicts, lists, tuples, strings, bytes, numbers, bools, None, "
            "NumPy scalars and arrays can be",
            UnstorableInfoWarning,
            stacklevel=_stacklevel_of_caller(),
        )


def _leave_out(info: dict[Any, Any], path: tuple[Any, ...]) -> None:
    """Take a value out of nested dicts, which are copied on the way; what lies in a list stays."""
    *above, key = path
    for name in above:
        inner = info[name]
        if not isinstance(inner, dict):
            return
        info[name] = info = dict(inner)
    del info[key]


def _stacklevel_of_caller() -> int:
    """Count the frames up to the first that is not ours, so that a warning points at the user's line."""
    frame, level = sys._getframe(1), 0
    while frame.f_back is not None and frame.f_globals["__name__"].startswith("gymbag."):
        frame, level = frame.f_back, level + 1
    return level


class InfoFilter:
    """Picks what is recorded of each info.

    Args:
        choice: True for all of it, False for nothing, or the keys to keep.

    >>> InfoFilter(["lives"])({"lives": 3, "frame": 7})
    {'lives': 3}
    """

    def __init__(self, choice: InfoChoice) -> None:
        if isinstance(choice, str):
            raise TypeError(f"expected info=True, False or a list of keys, found the string {choice!r}")
        self._keys = None if choice is True else () if choice is False else tuple(choice)
        #: Whether it returns dicts as they are.
        self.takes_all = self._keys is None

    def __call__(self, info: Any) -> Mapping[str, Any]:
        """Pick from an info; None, which old envs return, is an empty one."""
        if info is None:
            return {}
        if type(info) is not dict and not isinstance(info, Mapping):  # the first is the faster check
            raise RecordingError(f"expected info to be a dict, found {info!r}")
        if self._keys is None:
            return info
        return {key: info[key] for key in self._keys if key in info}
