"""Writers of backends with flat arrays: what opens a store, writes a stream to it, and keeps it in time."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import time
import warnings
import weakref
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from gymbag.columns import ValueColumn
from gymbag.errors import RecordingError, RecordingStoppedWarning, StorageError
from gymbag.space_columns import column_of
from gymbag.storage.base import Header, RecordingState, Writer
from gymbag.storage.heartbeat import Heartbeat
from gymbag.storage.stream import ArrayStore
from gymbag.storage.stream_writer import StreamWriter
from gymbag.uninterrupted import Uninterrupted

# At which age of a step the heartbeat keeps what nobody kept at the end of a block: a part of how old it may
# become. A thread that wants its turn has the one that runs most of the time wake it at every opportunity,
# which costs more than what it then does: so it is left asleep if possible.
_OLDEST = 0.75

# How often what was kept is synced, if power cuts are to be survived: a part of how old a step may become.
# Who records keeps a step at less than half of that age; what the heartbeat keeps is synced at once.
_SYNC = 0.5


class StoreWriter(Writer):
    """A writer of a backend with flat arrays: what is left to a subclass is to open and close the store."""

    #: How old a step may become before it is kept for good; None if there is nothing to fear.
    flush_seconds: float | None = None
    #: Whether it is to be safe from the loss of power then, and so after `flush` and `close`.
    durable = False

    _stream: StreamWriter | None = None

    @abstractmethod
    def open_store(self, header: Header) -> ArrayStore:
        """Return the store to write to."""

    def begin(self, header: Header) -> None:
        """See `Writer.begin`. A writer that was closed may begin again, and goes on with its data.

        Raises:
            RecordingError: The writer is recording already.
        """
        if self._stream is not None:
            raise RecordingError(
                f"this {type(self).__name__} is recording already; use one writer for each env"
            )
        facts = {"spec": header.spec, "versions": header.versions, "metadata": header.metadata}
        # All that may complain about the header comes before anything is written.
        frozen = ValueColumn().freeze(facts)
        columns = column_of(header.observation_space), column_of(header.action_space)
        with Uninterrupted():
            store = self.open_store(header)
            try:
                stream = StreamWriter(store, *columns, frozen, self.flush_seconds or math.inf)
            except BaseException:
                store.close()
                raise
            self._stream = stream
            self._sync = functools.partial(_sync, stream, store)
            heartbeat = syncing = None
            if self.flush_seconds is not None:
                _bound_to_process.add(stream)
                if self.durable:
                    syncing = _start_syncing(stream, self._sync, self.flush_seconds)
                heartbeat = _start_heartbeat(self, stream, self.flush_seconds, syncing)
            # Runs when it is called, when the writer is forgotten, or at the interpreter's exit; once.
            self._finish = weakref.finalize(self, _finish, stream, store, heartbeat, syncing)
            # Calling the stream directly saves a call a step.
            self.write_reset = stream.write_reset  # type: ignore[method-assign]
            self.write_step = stream.write_step  # type: ignore[method-assign]

    @property
    def stream(self) -> StreamWriter:
        """The stream that is being written.

        Raises:
            RecordingError: The writer has not begun, or is closed.
        """
        if self._stream is None:
            raise RecordingError(f"this {type(self).__name__} is not recording; call begin() first")
        return self._stream

    def write_reset(
        self,
        time: float,
        observation: Any,
        info: Mapping[str, Any],
        seed: Any,
        options: Mapping[str, Any] | None,
    ) -> None:
        """See `Writer.write_reset`."""
        self.stream.write_reset(time, observation, info, seed, options)

    def write_step(
        self,
        time: float,
        observation: Any,
        action: Any,
        reward: Any,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
    ) -> None:
        """See `Writer.write_step`."""
        self.stream.write_step(time, observation, action, reward, terminated, truncated, info)

    def annotate(self, values: Mapping[str, Any]) -> None:
        """See `Writer.annotate`."""
        self.stream.annotate(values)

    def recorded_step(
        self,
        env: Any,
        clock: Callable[[], float],
        choose_info: Callable[[Any], Mapping[str, Any]],
        state: RecordingState,
    ) -> Callable[[Any], Any]:
        """See `Writer.recorded_step`."""
        return self.stream.recorded_step(env, clock, choose_info, state)

    def flush(self) -> None:
        """Keep everything recorded so far, and sync it if `durable`.

        When nothing is being recorded, do nothing.
        """
        self.flush_for_readers()
        if self._stream is not None and not self._stream.is_left_to_parent and self.durable:
            self._sync()

    def flush_for_readers(self) -> None:
        """Put everything recorded so far where readers find it; else as `flush`."""
        if self._stream is not None and not self._stream.is_left_to_parent:
            self._stream.flush()

    def close(self) -> None:
        """Keep everything for good; an open episode is kept unfinished. Closing again does nothing.

        Raises:
            RecordingError: Recording had stopped, on a full disk for example, or fails now.
        """
        if self._stream is not None:
            self._stream = None
            del self.write_reset, self.write_step
            self._finish()


# Streams to what processes cannot share.
_bound_to_process: weakref.WeakSet[StreamWriter] = weakref.WeakSet()


def _leave_to_parent() -> None:
    for stream in list(_bound_to_process):
        stream.leave_to_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


def _sync(stream: StreamWriter, store: ArrayStore) -> None:
    """Have what was kept survive the loss of power; if that is not sure, recording stops.

    No lock is held meanwhile that who records needs.
    """
    if stream.failure is None:
        try:
            store.sync()
        except Exception as error:
            stream.stop(error)


def _start_syncing(stream: StreamWriter, sync: Callable[[], None], seconds: float) -> Heartbeat:
    """Have a thread sync what was kept. Another keeps it, which is not to wait for the disk."""

    def beat() -> float | None:
        sync()
        return _SYNC * seconds if stream.failure is None else None

    return Heartbeat(beat, _SYNC * seconds, name="gymbag sync")


def _start_heartbeat(
    writer: StoreWriter, stream: StreamWriter, seconds: float, syncing: Heartbeat | None
) -> Heartbeat:
    """Start a thread that keeps what the recording thread has not kept in time."""
    reference = weakref.ref(writer)
    # Keeping it takes a while, too.
    oldest = _OLDEST * seconds

    def beat() -> float | None:
        # It is held as long as this runs: were it forgotten meanwhile, it would wait for itself.
        held = reference()
        if held is None:
            return None
        if time.monotonic() >= stream.kept_at + oldest:
            stream.flush()
            if syncing is not None:
                syncing.hurry()
        if stream.failure is not None:
            warnings.warn(
                f"recording has stopped, the env goes on: {stream.failure}",
                RecordingStoppedWarning,
                stacklevel=1,
            )
            return None
        return max(0.0, stream.kept_at + oldest - time.monotonic())

    return Heartbeat(beat, oldest)


def _finish(
    stream: StreamWriter, store: ArrayStore, heartbeat: Heartbeat | None, syncing: Heartbeat | None
) -> None:
    if stream.is_left_to_parent:
        return
    # The writer may be forgotten in the midst of a sync, by the garbage collector.
    later = functools.partial(_finish, stream, store, heartbeat, None)
    if syncing is not None and syncing.call_after(later):
        return
    with Uninterrupted():
        for thread in (heartbeat, syncing):
            if thread is not None:
                thread.stop()
        try:
            stream.finish()
        except BaseException:
            with contextlib.suppress(StorageError):  # of the same cause; what it leaves is not lost
                store.close()
            raise
        try:
            store.close()
        except StorageError as error:
            raise RecordingError(f"all is recorded, but could not be put into the file: {error}") from error
