"""HDF5 files that h5py reads and writes by way of Python objects, closed before the interpreter is gone.

HDF5 closes by itself, at the very end of a process, whatever is open still, and there calls an interpreter
that is no more, which crashes. So it would be with files that threads hold which never end, and, in a forked
process, with those that other threads of its parent held.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import os
import weakref
from typing import Any

import h5py

_to_read: weakref.WeakValueDictionary[int, h5py.File] = weakref.WeakValueDictionary()
_to_write: weakref.WeakValueDictionary[int, h5py.File] = weakref.WeakValueDictionary()


def open_to_read(raw: io.RawIOBase) -> h5py.File:
    """Open a file to read; at the interpreter's exit, and in a forked process, it is closed."""
    file = _to_read[id(raw)] = h5py.File(raw, "r")
    return file


def open_for_writer(raw: io.RawIOBase, mode: str, **options: Any) -> h5py.File:
    """Open a file for a writer, who closes it even at exit; in a forked process it is closed at once.

    What h5py then writes must go nowhere.
    """
    file = _to_write[id(raw)] = h5py.File(raw, mode, **options)
    return file


def _close(files: weakref.WeakValueDictionary[int, h5py.File]) -> None:
    for file in list(files.values()):
        with contextlib.suppress(Exception):  # there is nobody to tell
            file.close()


def _leave_to_parent() -> None:
    _close(_to_read)
    _close(_to_write)


atexit.register(_close, _to_read)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)
