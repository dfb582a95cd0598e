"""What a writer has collected and not yet handed on: resets and steps, in the order in which they happened.

An event is a row of bytes in a buffer, packed in one call:

    observation  action  reward  time  code  |  values of the info  values of the annotation

All events have the first part. The second is laid out by the plan of the step (see `plans`), whose code is
that of the event, but for the outcome. Values of no fixed size, and large ones, are kept aside; their row has
a number that leads to them. A buffer lies in the processor's cache, becomes arrays without a look at each
value, and leaves nothing behind to be freed: a small env notices the difference.

One thread adds events. Another may take them meanwhile, if it is the only one to do so.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gymbag.columns import LARGE_ROW_BYTES, Column, NumberColumn
from gymbag.info_arrays import RowNumbers, group_rows
from gymbag.storage.plans import ASIDE, Example, InfoSlot, Plan, make_plan, slot_of, slot_of_text

# The outcome of a step is 0 if the episode goes on, else its `Ending`; that of a reset is this. The code of
# an event is that of its plan, a multiple of the unit, plus its outcome.
RESET = 4
PLAN_UNIT = 8
#: How many plans there may be.
MOST_PLANS = 1 << 12

# How many events make a block: of those with objects, which cost memory each, and of those without. What is
# done for each block is not in the processor's cache by then, so that few are better.
_WITH_OBJECTS, _PACKED = 1 << 10, 1 << 13
# A block is full, too, with about this many bytes of values, or of what is kept aside.
_BLOCK_BYTES = 1 << 21
# So many bytes may the columns of a block have, a value in each row, if only one that stands for none.
_FILLED_BYTES = 1 << 24
# Of large rows about a chunk makes a block, as a step that has to wait for more would be noticed.
_LARGE_BLOCK_BYTES = 7 << 18

_INTEGERS: frozenset[type] = frozenset((int, *(np.dtype(code).type for code in "bhilqBHILQ")))

_ndarray = np.ndarray  # found faster than by way of its module


@dataclass(frozen=True)
class Block:
    """Events, column by column. What a reset has of actions and rewards means nothing.

    Attributes:
        observations: What each event returned: frozen values, or an array of their packing.
        has_bytes: Whether frozen observations are bytes, rather than numbers.
        actions: What each step was given, likewise.
        rewards: float64.
        outcomes: uint8.
        times: float64.
        plans: Number of the plan of each event.
        resets: Of each reset, by the number of its event: its arguments and its info, encoded.
        kept: What the rows of the steps have aside, by its number.
        data: The rows, as they were packed.
        stride: How far one lies behind the other.
    """

    observations: list[Any] | np.ndarray
    has_bytes: bool
    actions: list[Any] | np.ndarray
    rewards: np.ndarray
    outcomes: np.ndarray
    times: np.ndarray
    plans: np.ndarray
    resets: Mapping[int, tuple[bytes, bytes]]
    kept: dict[int, Any]
    data: bytes
    stride: int

    def rows_of(self, plan: Plan) -> np.ndarray:
        """Return all rows as those of a plan, which means nothing for events of other plans."""
        return _rows(self.data, 0, len(self.data), self.stride, plan)

    def steps_by_plan(
        self, plans: Sequence[Plan], is_step: np.ndarray
    ) -> list[tuple[Plan, RowNumbers, np.ndarray]]:
        """Return each plan, which of the steps it has packed (a slice if all), and the rows of these."""
        events = np.flatnonzero(is_step)
        return [
            (plans[number], steps, self.rows_of(plans[number])[events[steps]])
            for number, steps in group_rows(self.plans[events])
        ]

    def frozen_observations(self, events: np.ndarray) -> list[Any]:
        """Return what some events returned, frozen."""
        if not isinstance(self.observations, _ndarray):
            return [self.observations[event] for event in events.tolist()]
        rows = self.observations[events]
        if not self.has_bytes:
            numbers: list[Any] = rows.tolist()
            return numbers
        data, size = rows.tobytes(), rows[:1].nbytes
        return [data[row * size : (row + 1) * size] for row in range(len(rows))]

    def observations_before(self, events: np.ndarray, latest: Any) -> list[Any] | np.ndarray:
        """Return what came before some events, given what came before the first of all, frozen."""
        observations: Any = self.observations
        if not isinstance(observations, _ndarray):
            return [observations[event - 1] if event else latest for event in events.tolist()]
        before: np.ndarray = observations[events - 1]
        if len(events) and events[0] == 0:
            first = before[:1]
            first[...] = np.frombuffer(latest, first.dtype).reshape(first.shape) if self.has_bytes else latest
        return before


def _rows(buffer: Any, start: int, end: int, stride: int, plan: Plan) -> np.ndarray:
    return np.ndarray(((end - start) // stride,), plan.dtype, buffer, start, (stride,))


def _take_nothing() -> None:
    """Do nothing, as there are no events yet."""


class Events:
    """Collects resets and steps.

    A row counts once `end` has moved behind it. Who adds most of the rows does so by itself, if `is_ready`:

        plan.pack(buffer, end, observation, action, reward, time, plan.code + outcome, *values)

    then moves `end` on by `stride`, and has the events taken when it has come to `due`.

    Args:
        observations: The column of the observations.
        actions: The column of the actions.
        steps: How many steps there are already.
        whole_steps: `take_block` gives so many steps, counted from the very first, or a multiple.

    Attributes:
        takes_rows: Whether observations and actions are packed, and not kept aside.
        is_ready: Whether the next step may be packed without further ado, as far as is known before it.
        freeze_observation: Of the column of the observations.
        freeze_action: Of the column of the actions.
        plain_actions: The types of actions that are added as they are: numbers, which nobody can change, and
            which are checked as they are packed.
        known: Plans by the signatures of steps: that of the info, or a pair with that of the annotation.
        plain: The plan of steps without info and annotation; its code is 0.
        pack_plain: What it packs rows with.
        plans: All plans. The second is for steps with an info that is given as text.
        buffer: The rows.
        stride: How far one row lies behind the other: the size of the largest plan's.
        end: Where the next row goes.
        due: Where `end` is when the events should be taken.

    >>> from gymbag.columns import ArrayColumn, NumberColumn
    >>> events = Events(ArrayColumn(np.dtype("f4"), (2,)), NumberColumn(np.dtype("i8")))
    >>> events.add_reset(np.zeros(2, "f4").tobytes(), 7.0, b"", b"")
    >>> events.add_step(np.ones(2, "f4").tobytes(), 1, 0.5, 8.0, 0, events.plans[0], ())
    >>> block = events.take()
    >>> block.observations, block.outcomes
    (array([[0., 0.],
           [1., 1.]], dtype=float32), array([4, 0], dtype=uint8))
    """

    __slots__ = (
        *(
            "_fields",
            "_format",
            "_has_aside",
            "_has_bytes",
            "_kept",
            "_kept_bytes",
            "_limit",
            "_most",
            "_null_action",
        ),
        *("_numbers", "_steps", "_taken", "_whole_steps"),
        *("buffer", "due", "end", "freeze_action", "freeze_observation", "is_ready", "known"),
        "pack_plain",
        *("plain", "plain_actions", "plans", "stride", "takes_rows"),
    )

    def __init__(self, observations: Column, actions: Column, steps: int = 0, whole_steps: int = 1) -> None:
        packings = [column.packing for column in (observations, actions)]
        self._has_aside = [packing is None for packing in packings]
        self.takes_rows = not any(self._has_aside)
        row_bytes = observations.row_bytes + actions.row_bytes
        most_bytes = _LARGE_BLOCK_BYTES if row_bytes >= LARGE_ROW_BYTES else _BLOCK_BYTES
        most = _PACKED if self.takes_rows else _WITH_OBJECTS
        self._most = max(1, min(most, most_bytes // max(row_bytes, 1)))
        self._steps, self._whole_steps = steps, whole_steps if whole_steps <= self._most else 1
        formats, dtypes = zip(*(packing or ASIDE for packing in packings), strict=True)
        self._format = f"={''.join(formats)}ddH"
        names = ("observation", "action", "reward", "time", "code")
        numbers = map(np.dtype, (np.float64, np.float64, np.uint16))
        self._fields = list(zip(names, (*dtypes, *numbers), strict=True))
        self._has_bytes = formats[0].endswith("s")
        self._null_action: Any = b"" if formats[1].endswith("s") else 0  # `struct` fills up with zeros
        self._kept: dict[int, Any] = {}
        self._kept_bytes = 0
        self._numbers = itertools.count()
        self.is_ready = False
        self.freeze_observation, self.freeze_action = observations.freeze, actions.freeze
        is_number = isinstance(actions, NumberColumn) and self.takes_rows
        self.plain_actions = _INTEGERS if is_number else frozenset()
        self.known: dict[Any, Plan] = {}
        self.plans: list[Plan] = []
        self.stride = self.end = self._taken = 0
        self.plain = self._add_plan(InfoSlot(), InfoSlot(), _take_nothing)
        self.pack_plain = self.plain.pack
        self._add_plan(slot_of_text("info", self.keep), InfoSlot(), _take_nothing)

    def add_plan(
        self, info: Example | None, annotation: Example | None, take_all: Callable[[], None]
    ) -> Plan:
        """Make a plan for steps with such an info and annotation; no other thread may take events meanwhile.

        Args:
            info: The info; None for those that are given as JSON text.
            annotation: The annotation; likewise.
            take_all: Has all events taken. It is called if rows become larger.
        """
        slots: list[InfoSlot] = []
        for name, example in (("info", info), ("annotation", annotation)):
            before = struct.calcsize(self._format + "".join(slot.format for slot in slots))
            if example is None:
                slots.append(slot_of_text(name, self.keep))
            else:
                slots.append(slot_of(name, example, self.keep, before))
        return self._add_plan(slots[0], slots[1], take_all)

    def _add_plan(self, info: InfoSlot, annotation: InfoSlot, take_all: Callable[[], None]) -> Plan:
        plan = make_plan(len(self.plans) * PLAN_UNIT, self._format, self._fields, info, annotation)
        if plan.size > self.stride:
            take_all()
            self._make_buffer(plan.size)
        self.plans.append(plan)
        return plan

    def _make_buffer(self, stride: int) -> None:
        self.stride = stride
        room = min(_PACKED, _BLOCK_BYTES // stride)
        self._most = max(1, min(self._most, room))
        # Of rows with objects there is room for several blocks, as slots of blocks may be left.
        self._limit = stride * (self._most if self.takes_rows else max(self._most, room))
        self.buffer = bytearray(self._limit)
        self.end = self._taken = 0
        self.due = stride * self._most

    def limit_block(self, row_bytes: int) -> None:
        """Make blocks so small that they fit into memory if each row has so many bytes, a value a column."""
        self._most = max(1, min(self._most, _FILLED_BYTES // max(row_bytes, 1)))
        self.due = min(self.due, self._taken + self._most * self.stride)

    def keep(self, value: Any, size: int) -> int:
        """Keep a value of about so many bytes aside; return the number that leads to it."""
        number = next(self._numbers)
        self._kept[number] = value
        self._kept_bytes += size
        if self._kept_bytes > _BLOCK_BYTES:
            self.due = 0
        return number

    def add_reset(self, observation: Any, time: float, arguments: bytes, info: bytes) -> None:
        """Add a reset: what it returned and was given, frozen."""
        # It has no reward, but in its place the number of its texts; -1 for none.
        texts = self.keep((arguments, info), len(arguments) + len(info)) if arguments or info else -1
        if self._has_aside[0]:
            observation = self.keep(observation, 0)
        end = self.end
        self.pack_plain(self.buffer, end, observation, self._null_action, texts, time, RESET)
        self.end = end + self.stride

    def add_step(
        self,
        observation: Any,
        action: Any,
        reward: float,
        time: float,
        outcome: int,
        plan: Plan,
        values: Sequence[Any],
    ) -> None:
        """Add a step: what it returned and was given, frozen, and what the plan made of info and annotation.

        Raises:
            struct.error: A number is larger than there is room for.
        """
        if self._has_aside[0]:
            observation = self.keep(observation, 0)
        if self._has_aside[1]:
            action = self.keep(action, 0)
        end = self.end
        plan.pack(self.buffer, end, observation, action, reward, time, plan.code + outcome, *values)
        self.end = end + self.stride

    @property
    def has_steps(self) -> bool:
        """Whether there is a step, or may be one, as there are more events than a single reset."""
        return self._steps > 0 or self.end > self._taken + self.stride

    @property
    def is_full(self) -> bool:
        """Whether the events should be taken."""
        return self.end >= self.due

    def take(self) -> Block | None:
        """Return all events that were not taken yet, or None if there are none."""
        return self._take(self.end)

    def take_block(self) -> Block | None:
        """Do as `take`, but some of the latest events may be left for the next block."""
        start, end = self._taken, self.end
        if self._whole_steps > 1 and end < self._limit:
            is_step = _rows(self.buffer, start, end, self.stride, self.plain)["code"] % PLAN_UNIT != RESET
            ends = np.flatnonzero(is_step & ((self._steps + np.cumsum(is_step)) % self._whole_steps == 0))
            if len(ends):
                end = start + (int(ends[-1]) + 1) * self.stride
        return self._take(end)

    def _take(self, end: int) -> Block | None:
        start = self._taken
        if start == end:
            return None
        data = bytes(memoryview(self.buffer)[start:end])
        # Nobody is adding a row right now if there is no room for one.
        if end == self._limit:
            self.end = self._taken = 0
        else:
            self._taken = end
        self._kept_bytes = 0
        self.due = min(self._taken + self._most * self.stride, self._limit)
        rows = _rows(data, 0, len(data), self.stride, self.plain)
        outcomes, rewards = (rows["code"] % PLAN_UNIT).astype(np.uint8), rows["reward"]
        resets = {
            event: (b"", b"") if rewards[event] < 0 else self._kept.pop(int(rewards[event]))
            for event in np.flatnonzero(outcomes == RESET).tolist()
        }
        self._steps += len(rows) - len(resets)
        observations: Any = rows["observation"]
        actions: Any = rows["action"]
        if self._has_aside[0]:
            observations = [self._kept.pop(number) for number in observations.tolist()]
        if self._has_aside[1]:
            numbers = enumerate(actions.tolist())
            actions = [None if event in resets else self._kept.pop(number) for event, number in numbers]
        plans = rows["code"] // PLAN_UNIT
        return Block(
            *(observations, self._has_bytes, actions, rewards, outcomes, rows["time"], plans, resets),
            *(self._kept, data, self.stride),
        )


def choose(values: Any, chosen: np.ndarray) -> Any:
    """Return those values, of a list or an array, for which `chosen` is true."""
    if isinstance(values, _ndarray):
        return values[chosen]
    return list(itertools.compress(values, chosen.tolist()))
