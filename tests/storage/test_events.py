"""Collecting events: whatever is added and whenever it is taken, blocks hold the events, in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymbag.columns import ArrayColumn, NumberColumn, TextColumn
from gymbag.storage import events
from gymbag.storage.events import RESET, Events, ListedEvents, PackedEvents, events_of

FLOATS = ArrayColumn(np.dtype("f4"), (2,))
SHORTS = NumberColumn(np.dtype("i2"))

# (number of the event, whether it is a reset, its text), or None: everything so far is taken
SCRIPTS = st.lists(
    st.one_of(
        st.none(),
        st.tuples(
            st.integers(-(2**15), 2**15 - 1), st.booleans(), st.sampled_from([b"", b"{}", b"long" * 9])
        ),
    )
)


def frozen(number: int) -> bytes:
    return FLOATS.freeze(np.array([number, -number], "f4"))  # type: ignore[return-value]  # it is small


def add(collected: Events, number: int, is_reset: bool, text: bytes) -> None:
    if is_reset:
        collected.add_reset(frozen(number), text, float(number), text[::-1])
    else:
        collected.add_step(frozen(number), number, number / 2, abs(number) % 4, float(number), text)


def take(collected: Events) -> list[tuple[Any, ...]]:
    block = collected.take()
    if block is None:
        return []
    found = []
    observations = block.frozen_observations(np.arange(len(block.outcomes)))
    for event, (observation, outcome) in enumerate(zip(observations, block.outcomes.tolist(), strict=True)):
        time = float(block.times[event])
        if outcome == RESET:
            found.append((observation, RESET, time, *block.resets[event]))
        else:
            info = b"" if block.infos is None else block.infos[event]
            found.append(
                (observation, outcome, time, int(block.actions[event]), float(block.rewards[event]), info)
            )
    return found


def expected(number: int, is_reset: bool, text: bytes) -> tuple[Any, ...]:
    if is_reset:
        return frozen(number), RESET, float(number), text, text[::-1]
    return frozen(number), abs(number) % 4, float(number), number, number / 2, text


@pytest.mark.parametrize("kind", ["listed", "packed"])
@given(script=SCRIPTS)
def test_blocks_hold_what_was_added_in_order(kind: str, script: list[tuple[int, bool, bytes] | None]) -> None:
    collected: Events = ListedEvents(8) if kind == "listed" else PackedEvents(FLOATS, SHORTS)
    if isinstance(collected, PackedEvents):
        collected.limit = 3 * collected.size  # so that the buffer is used anew
    found = []
    for event in script:
        if event is not None:
            add(collected, *event)
        if event is None or collected.is_full:
            found += take(collected)
    found += take(collected)
    assert found == [expected(*event) for event in script if event is not None]


def test_a_text_whose_event_never_came_belongs_to_no_other() -> None:
    collected = PackedEvents(FLOATS, SHORTS)
    add(collected, 1, True, b"first")
    with pytest.raises(events.struct.error):  # as if interrupted, after the text was noted
        collected.add_step(frozen(2), 1 << 20, 0.0, 0, 0.0, b"lost")
    assert take(collected) == [expected(1, True, b"first")]
    add(collected, 3, False, b"")
    add(collected, 4, False, b"fourth")
    assert take(collected) == [expected(3, False, b""), expected(4, False, b"fourth")]


@pytest.mark.parametrize(
    ("observations", "actions", "packed"),
    [
        pytest.param(FLOATS, SHORTS, True, id="small"),
        pytest.param(FLOATS, ArrayColumn(np.dtype(">f8"), (3,)), True, id="big-endian-array"),
        pytest.param(FLOATS, NumberColumn(np.dtype(">i4")), False, id="big-endian-number"),
        pytest.param(ArrayColumn(np.dtype("u1"), (4096,)), SHORTS, False, id="large"),
        pytest.param(TextColumn(), SHORTS, False, id="ragged"),
    ],
)
def test_small_rows_of_one_size_are_packed(observations: Any, actions: Any, packed: bool) -> None:
    assert isinstance(events_of(observations, actions, 0, 1), PackedEvents) is packed
