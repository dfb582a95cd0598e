"""Collecting events: whatever is added and whenever it is taken, blocks hold the events, in order."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gymbag.columns import ArrayColumn, Column, NumberColumn, TextColumn
from gymbag.storage.events import RESET, Events

FLOATS = ArrayColumn(np.dtype("f4"), (2,))
SHORTS = NumberColumn(np.dtype("i2"))
TEXTS = TextColumn()

# (number of the event, whether it is a reset, its text), or None: everything so far is taken
SCRIPTS = st.lists(
    st.one_of(
        st.none(),
        st.tuples(
            st.integers(-(2**15), 2**15 - 1), st.booleans(), st.sampled_from([b"", b"{}", b"long" * 9])
        ),
    )
)


def frozen(column: Column, number: int) -> Any:
    return column.freeze(f"{number}" if column is TEXTS else np.array([number, -number], "f4"))


def add(collected: Events, column: Column, number: int, is_reset: bool, text: bytes) -> None:
    observation, time = frozen(column, number), float(number)
    if is_reset:
        collected.add_reset(observation, time, text, text[::-1])
        return
    plan = collected.plans[1] if text else collected.plain
    values = plan.values(text) if text else ()
    collected.add_step(observation, number, number / 2, time, abs(number) % 4, plan, values)


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
            continue
        plan = collected.plans[block.plans[event]]
        info = (
            b"" if plan.info.rest is None else block.kept.pop(int(block.rows_of(plan)[plan.info.rest][event]))
        )
        found.append(
            (observation, outcome, time, int(block.actions[event]), float(block.rewards[event]), info)
        )
    assert not block.kept, "something is kept that no row leads to"
    return found


def expected(column: Column, number: int, is_reset: bool, text: bytes) -> tuple[Any, ...]:
    observation = frozen(column, number)
    if is_reset:
        return observation, RESET, float(number), text, text[::-1]
    return observation, abs(number) % 4, float(number), number, number / 2, text


@pytest.mark.parametrize("column", [FLOATS, TEXTS], ids=["packed", "aside"])
@given(script=SCRIPTS)
def test_blocks_hold_what_was_added_in_order(
    column: Column, script: list[tuple[int, bool, bytes] | None]
) -> None:
    collected = Events(column, SHORTS)
    collected._limit = collected.due = 3 * collected.stride  # so that the buffer is used anew
    found = []
    for event in script:
        if event is not None:
            add(collected, column, *event)
        if event is None or collected.is_full:
            found += take(collected)
    found += take(collected)
    assert found == [expected(column, *event) for event in script if event is not None]


def test_an_event_that_cannot_be_packed_never_was() -> None:
    collected = Events(FLOATS, SHORTS)
    add(collected, FLOATS, 1, True, b"first")
    with pytest.raises(struct.error):
        collected.add_step(frozen(FLOATS, 2), 1 << 20, 0.0, 0.0, 0, collected.plain, ())
    assert take(collected) == [expected(FLOATS, 1, True, b"first")]
    add(collected, FLOATS, 3, False, b"")
    add(collected, FLOATS, 4, False, b"fourth")
    assert take(collected) == [expected(FLOATS, 3, False, b""), expected(FLOATS, 4, False, b"fourth")]


def test_whole_steps_are_taken_and_the_rest_is_left() -> None:
    collected = Events(ArrayColumn(np.dtype("u1"), (4096,)), SHORTS, steps=3, whole_steps=4)
    observation = bytes(4096)
    for number in range(8):
        if number % 3 == 0:
            collected.add_reset(observation, 0.0, b"", b"")
        collected.add_step(observation, number, 0.0, 0.0, 0, collected.plain, ())
    block = collected.take_block()
    assert block is not None
    assert block.actions[block.outcomes != RESET].tolist() == [0, 1, 2, 3, 4]
    rest = collected.take()
    assert rest is not None
    assert rest.actions[rest.outcomes != RESET].tolist() == [5, 6, 7]


def test_much_that_is_kept_aside_makes_a_block_full() -> None:
    collected = Events(FLOATS, SHORTS)
    add(collected, FLOATS, 1, False, b"x" * (1 << 22))
    assert collected.is_full
    take(collected)
    add(collected, FLOATS, 2, False, b"x")
    assert not collected.is_full


@pytest.mark.parametrize(
    ("observations", "actions", "packed"),
    [
        pytest.param(FLOATS, SHORTS, True, id="small"),
        pytest.param(FLOATS, ArrayColumn(np.dtype(">f8"), (3,)), True, id="big-endian-array"),
        pytest.param(FLOATS, NumberColumn(np.dtype(">i4")), False, id="big-endian-number"),
        pytest.param(ArrayColumn(np.dtype("u1"), (4096,)), SHORTS, False, id="large"),
        pytest.param(TEXTS, SHORTS, False, id="ragged"),
    ],
)
def test_small_rows_of_one_size_are_packed(observations: Any, actions: Any, packed: bool) -> None:
    assert Events(observations, actions).takes_rows is packed
