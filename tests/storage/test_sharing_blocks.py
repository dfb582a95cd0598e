"""Who makes blocks of large rows: the heartbeat, or who records."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gymbag.storage import store_writer


class Sharing:
    """A stream and a heartbeat that only take notes, and a clock that is set."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.is_behind, self.block_seconds = 0.0, False, 0.001
        self.done: list[str] = []
        monkeypatch.setattr(store_writer, "time", SimpleNamespace(monotonic=lambda: self.now))
        heartbeat: Any = SimpleNamespace(hurry=lambda: self.done.append("left to the heartbeat"))
        self._make_block = store_writer._sharing(self, heartbeat)  # type: ignore[arg-type]

    def flush_block(self) -> None:
        self.now += self.block_seconds
        self.done.append("made")

    def make_block(self, now: float, is_behind: bool) -> str:
        self.now, self.is_behind = now, is_behind
        self._make_block()
        return self.done.pop()


def test_blocks_are_left_to_the_heartbeat_while_it_keeps_up(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = Sharing(monkeypatch)
    assert {sharing.make_block(now, False) for now in range(10)} == {"left to the heartbeat"}


def test_who_records_makes_quick_blocks_for_a_while_if_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = Sharing(monkeypatch)
    found = [sharing.make_block(now, now == 1.0) for now in (0.9, 1.0, 1.1, 1.9, 2.1, 2.2)]
    assert found == ["left to the heartbeat", *["made"] * 3, *["left to the heartbeat"] * 2]


def test_blocks_that_take_long_are_left_to_the_heartbeat_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sharing = Sharing(monkeypatch)
    sharing.block_seconds = 0.1
    assert sharing.make_block(1.0, True) == "made"
    assert sharing.make_block(1.2, False) == "left to the heartbeat"
    assert sharing.make_block(1.3, True) == "made"
