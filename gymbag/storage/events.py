"""What a writer has collected and not yet handed on: resets and steps, in the order in which they happened.

    ListedEvents    any values, as they were frozen, in a flat list
    PackedEvents    values that take few bytes, always the same number: one after the other in a buffer

Both are handed on as `Block`. A buffer lies in the processor's cache, becomes arrays without a look at each
value, and leaves nothing behind to be freed: a small env notices the difference.

One thread adds events. Another may take them meanwhile, if it is the only one to do so.
"""

from __future__ import annotations

import itertools
import struct
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from gymbag.columns import ArrayColumn, Column, NumberColumn

# The outcome of a step is 0 if the episode goes on, else its `Ending`; that of a reset is this.
RESET = 4

# How many events make a block. What is done for each block is not in the processor's cache by then, so that
# few are better; but then objects would not be there either, which a packed row does without.
_LISTED, _PACKED = 1 << 10, 1 << 13
# A block is full, too, with about this many bytes of values, or of texts.
_BLOCK_BYTES = 1 << 21
# Large rows do not stay in the cache anyway, so that blocks of them may be larger: two chunks, as a step that
# has to wait for more would be noticed.
_LARGE_BLOCK_BYTES = 7 << 19

#: Rows from this size on are kept as they are; making blocks of them takes longer than having a thread do it.
LARGE_ROW_BYTES = 1 << 12


@dataclass(frozen=True)
class Block:
    """Events, column by column. What a reset has of actions, rewards and infos means nothing.

    Attributes:
        observations: What each event returned: frozen values, or rows of an array.
        actions: What each step was given, likewise.
        rewards: float64.
        outcomes: uint8.
        times: float64.
        infos: Those of the steps, encoded; None if all are empty.
        resets: Of each reset, by the number of its event: its arguments and its info, encoded.
    """

    observations: list[Any] | np.ndarray
    actions: list[Any] | np.ndarray
    rewards: np.ndarray
    outcomes: np.ndarray
    times: np.ndarray
    infos: list[bytes] | None
    resets: Mapping[int, tuple[bytes, bytes]]

    def frozen_observations(self, events: np.ndarray) -> list[Any]:
        """Return what some events returned, frozen."""
        if not isinstance(self.observations, np.ndarray):
            return [self.observations[event] for event in events.tolist()]
        rows = self.observations[events]
        data, size = rows.tobytes(), rows[:1].nbytes
        return [data[row * size : (row + 1) * size] for row in range(len(rows))]

    def observations_before(self, latest: Any) -> list[Any] | np.ndarray:
        """Return what came before each event, given what came before the first, frozen; None for nothing."""
        observations = self.observations
        if not isinstance(observations, np.ndarray):
            return [latest, *observations[:-1]]
        before = np.empty_like(observations)
        before[1:] = observations[:-1]
        if latest is not None:
            before[:1] = np.frombuffer(latest, before.dtype).reshape(before[:1].shape)
        return before


class Events(ABC):
    """Collects resets and steps.

    Attributes:
        plain_dtype: Of the observations that may be added as `tobytes` gives them; None if none may.
        plain_shape: Their shape.
        action_dtype: Of the arrays that may be added as actions in the same way.
        action_shape: Their shape.
        number_type: The type of the numbers that may be added as actions, besides ints from `smallest` to
            `largest`; None if none may.
    """

    __slots__ = ()

    plain_dtype: np.dtype[Any] | None = None
    plain_shape: tuple[int, ...] = ()
    action_dtype: np.dtype[Any] | None = None
    action_shape: tuple[int, ...] = ()
    number_type: type | None = None
    smallest, largest = 1, 0

    @property
    @abstractmethod
    def is_full(self) -> bool:
        """Whether the events should be taken."""

    @abstractmethod
    def add_reset(self, observation: Any, arguments: bytes, time: float, info: bytes) -> None:
        """Add a reset: what it returned and was given, frozen."""

    @abstractmethod
    def add_step(
        self, observation: Any, action: Any, reward: float, outcome: int, time: float, info: bytes
    ) -> None:
        """Add a step: what it returned and was given, frozen."""

    @abstractmethod
    def take(self) -> Block | None:
        """Return all events that were not taken yet, or None if there are none."""

    def take_block(self) -> Block | None:
        """Do as `take`, but some of the latest events may be left for the next block."""
        return self.take()


class ListedEvents(Events):
    """Collects any values.

    They lie in one flat list, for each event

        observation, action, reward, outcome, time, info

    where a reset has its arguments in place of an action. A flat list that is split by slicing is the fastest
    way to collect objects that there is in Python; and its `extend` is one instruction: an event is there or
    it is not, whatever interrupts.

    Args:
        row_bytes: About how many bytes an event has.
        steps: How many steps there are already.
        whole_steps: `take_block` gives so many steps, counted from the very first, or a multiple.
    """

    __slots__ = ("_items", "_most_items", "_steps", "_text_bytes", "_whole_steps")
    _WIDTH = 6

    def __init__(self, row_bytes: int, steps: int = 0, whole_steps: int = 1) -> None:
        self._items: list[Any] = []
        most_bytes = _LARGE_BLOCK_BYTES if row_bytes >= LARGE_ROW_BYTES else _BLOCK_BYTES
        most = max(1, min(_LISTED, most_bytes // max(row_bytes, 1)))
        self._most_items = self._WIDTH * most
        self._steps, self._whole_steps = steps, whole_steps if 2 * whole_steps <= most else 1
        self._text_bytes = 0

    @property
    def is_full(self) -> bool:
        return len(self._items) >= self._most_items or self._text_bytes > _BLOCK_BYTES

    @property
    def is_overfull(self) -> bool:
        """Whether there are several blocks of them."""
        return len(self._items) > 2 * self._most_items

    def add_reset(self, observation: Any, arguments: bytes, time: float, info: bytes) -> None:
        self._items.extend((observation, arguments, 0.0, RESET, time, info))

    def add_step(
        self, observation: Any, action: Any, reward: float, outcome: int, time: float, info: bytes
    ) -> None:
        self._text_bytes += len(info)
        self._items.extend((observation, action, reward, outcome, time, info))

    def take(self) -> Block | None:
        return self._take(len(self._items))

    def take_block(self) -> Block | None:
        outcomes = self._items[3 :: self._WIDTH]
        count = len(outcomes)
        excess = (self._steps + count - outcomes.count(RESET)) % self._whole_steps
        while excess and count:
            count -= 1
            excess -= outcomes[count] != RESET
        return self._take(self._WIDTH * (count or len(outcomes)))

    def _take(self, count: int) -> Block | None:
        items = self._items[:count]
        del self._items[:count]
        self._text_bytes = 0
        if not items:
            return None
        observations, actions, rewards, outcomes, times, infos = (
            items[position :: self._WIDTH] for position in range(self._WIDTH)
        )
        outcome = np.frombuffer(bytearray(outcomes), np.uint8)
        resets = {
            event: (actions[event], infos[event]) for event in np.flatnonzero(outcome == RESET).tolist()
        }
        self._steps += len(outcome) - len(resets)
        return Block(observations, actions, np.array(rewards), outcome, np.array(times), infos, resets)


# Behind the outcome of an event that has a text: an info, or the arguments of a reset.
_HAS_TEXT = 8


class PackedEvents(Events):
    """Collects values of two columns whose rows have few bytes each, and always the same number.

    They lie one after the other in a buffer, as rows of a structured array; texts, which are rare, in a list.
    A row counts once `end` has moved behind it, and the buffer is used anew once all of it is taken. Who
    adds most of the rows may do so by itself:

        pack(buffer, end, observation.tobytes(), action, reward, outcome, time), then end += size

    and must have the events taken when `end` has come to `limit`.

    Args:
        observations: The column of the observations.
        actions: The column of the actions.

    >>> events = PackedEvents(ArrayColumn(np.dtype("f4"), (2,)), NumberColumn(np.dtype("i8")))
    >>> events.add_reset(np.zeros(2, "f4").tobytes(), b"", 7.0, b"")
    >>> events.add_step(np.ones(2, "f4").tobytes(), 1, 0.5, 0, 8.0, b"{}")
    >>> block = events.take()
    >>> block.observations, block.outcomes, block.infos
    (array([[0., 0.],
           [1., 1.]], dtype=float32), array([4, 0], dtype=uint8), [b'', b'{}'])
    """

    __slots__ = (
        *("_dtype", "_no_action", "_taken", "_text_bytes", "_texts"),
        *(
            "action_dtype",
            "action_shape",
            "buffer",
            "end",
            "largest",
            "limit",
            "number_type",
            "pack",
            "plain_dtype",
            "plain_shape",
        ),
        *("size", "smallest"),
    )

    def __init__(self, observations: Column, actions: Column) -> None:
        assert isinstance(observations, ArrayColumn)
        assert isinstance(actions, ArrayColumn | NumberColumn)
        self.plain_dtype, self.plain_shape = observations.dtype, observations.shape
        self.action_dtype, self.action_shape = None, ()
        shape: tuple[int, ...] = ()
        if isinstance(actions, NumberColumn):
            self.number_type, self.smallest, self.largest = (
                actions.dtype.type,
                actions.smallest,
                actions.largest,
            )
            self._no_action: Any = 0
            code = _INTEGERS[actions.dtype.itemsize]
            action_format = code.upper() if actions.dtype.kind == "u" else code
        else:
            self.number_type, self.smallest, self.largest = None, 1, 0
            self.action_dtype, self.action_shape = actions.dtype, actions.shape
            self._no_action = b""
            action_format, shape = f"{actions.row_bytes}s", actions.shape
        row = struct.Struct(f"={observations.row_bytes}s{action_format}dBd")
        self._dtype = np.dtype(
            [
                ("observation", observations.dtype, observations.shape),
                ("action", actions.dtype, shape),
                ("reward", np.float64),
                ("outcome", np.uint8),
                ("time", np.float64),
            ]
        )
        assert row.size == self._dtype.itemsize
        self.pack, self.size = row.pack_into, row.size
        self.limit = row.size * min(_PACKED, _BLOCK_BYTES // row.size)
        self.buffer = bytearray(self.limit)
        self.end = self._taken = 0
        # For each event with a text: its number, arguments of a reset, info.
        self._texts: list[tuple[int, bytes, bytes]] = []
        self._text_bytes = 0

    @property
    def is_full(self) -> bool:
        return self.end >= self.limit or self._text_bytes > _BLOCK_BYTES

    def add_reset(self, observation: Any, arguments: bytes, time: float, info: bytes) -> None:
        self._add(observation, self._no_action, 0.0, RESET, time, arguments, info)

    def add_step(
        self, observation: Any, action: Any, reward: float, outcome: int, time: float, info: bytes
    ) -> None:
        self._add(observation, action, reward, outcome, time, b"", info)

    def _add(
        self,
        observation: Any,
        action: Any,
        reward: float,
        outcome: int,
        time: float,
        arguments: bytes,
        info: bytes,
    ) -> None:
        end = self.end
        if arguments or info:
            # Should this be broken off before the row counts, then the text of its number that comes last
            # does; and none does for an event that is said to have none.
            self._texts.append((end // self.size, arguments, info))
            self._text_bytes += len(arguments) + len(info)
            outcome |= _HAS_TEXT
        self.pack(self.buffer, end, observation, action, reward, outcome, time)
        self.end = end + self.size

    def take(self) -> Block | None:
        start, end = self._taken, self.end
        if start == end:
            return None
        first = start // self.size
        rows = np.frombuffer(self.buffer, self._dtype)[first : end // self.size].copy()
        texts = self._take_texts(end // self.size)
        # Nobody is adding a row right now if there is no room for one.
        if end == self.limit:
            self.end = self._taken = 0
        else:
            self._taken = end
        outcomes = rows["outcome"]
        infos, resets = None, dict.fromkeys(np.flatnonzero(outcomes == RESET).tolist(), (b"", b""))
        if texts:
            infos = [b""] * len(rows)
            for event in np.flatnonzero(outcomes & _HAS_TEXT).tolist():
                arguments, info = texts[first + event]
                if outcomes[event] & RESET:
                    resets[event] = arguments, info
                else:
                    infos[event] = info
            outcomes = outcomes & ~np.uint8(_HAS_TEXT)
        return Block(
            rows["observation"], rows["action"], rows["reward"], outcomes, rows["time"], infos, resets
        )

    def _take_texts(self, stop: int) -> dict[int, tuple[bytes, bytes]]:
        """Return the texts of the events before that number."""
        if not self._texts:
            return {}
        count = len(self._texts)
        # The last may belong to an event that is being added.
        while count and self._texts[count - 1][0] >= stop:
            count -= 1
        taken = self._texts[:count]
        del self._texts[:count]
        self._text_bytes = 0
        return {event: (arguments, info) for event, arguments, info in taken}


# The codes of the module `struct` for signed integers, by their bytes.
_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}


def events_of(observations: Column, actions: Column, steps: int, whole_steps: int) -> Events:
    """Choose how to collect values of these columns; see `ListedEvents` and `PackedEvents`."""
    row_bytes = observations.row_bytes + actions.row_bytes
    if (
        row_bytes < LARGE_ROW_BYTES
        and isinstance(observations, ArrayColumn)
        and isinstance(actions, ArrayColumn | NumberColumn)
        and (isinstance(actions, ArrayColumn) or actions.dtype.isnative)
    ):
        return PackedEvents(observations, actions)
    return ListedEvents(row_bytes, steps, whole_steps)


def choose(values: Any, chosen: np.ndarray) -> Any:
    """Return those values, of a list or an array, for which `chosen` is true."""
    if isinstance(values, np.ndarray):
        return values[chosen]
    return list(itertools.compress(values, chosen.tolist()))
