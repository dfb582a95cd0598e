"""Which infos get columns: as many as can be, but never without bound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from same import assert_same

from gymbag import HDF5Reader, MemoryWriter, RecordingWrapper, json_values, record_hdf5
from gymbag.info_kinds import MOST_COLUMNS, MOST_KINDS
from gymbag.storage.hdf5_store import HDF5Store
from gymbag.storage.stream_writer import StreamWriter


class Informing(gymnasium.Env[Any, Any]):
    """Gives the infos that it is told to."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, inform: Callable[[int], dict[Any, Any]]) -> None:
        self._inform, self._t = inform, 0

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:
        self._t += 1
        return np.zeros(2, np.float32), 1.0, False, self._t % 50 == 0, self._inform(self._t)


def record(path: Path, inform: Callable[[int], dict[Any, Any]], steps: int) -> list[str]:
    """Record infos, check that they come back, and return the names of the arrays of keys."""
    env = record_hdf5(Informing(inform), path)
    for t in range(steps):
        if t % 50 == 0:
            env.reset()
        env.step(0)
    env.close()
    found = [info for episode in HDF5Reader(path) for info in episode.infos[1:]]
    assert_same(found, [inform(t + 1) for t in range(steps)])
    with h5py.File(path) as file:
        arrays: list[str] = []
        file["Informing/infos"].visititems(
            lambda name, node: arrays.append(name) if isinstance(node, h5py.Dataset) else None
        )
        return [name for name in arrays if name not in ("data", "ends", "kind")]


def big(t: int) -> np.ndarray:
    return np.full(600, t, np.float64)


CASES: dict[str, tuple[Callable[[int], dict[Any, Any]], int]] = {
    "alternating kinds": (lambda t: {"a": 1.5} if t % 2 else {"b": t}, 2),
    "a type that changes": (lambda t: {"x": (t, t / 2, f"{t}", None, [t])[t % 5]}, 1),
    "arrays of any length": (lambda t: {"x": np.zeros(t % 7)}, 1),
    "integers of any size": (lambda t: {"n": 2 ** (t % 90), "text": f"{t}"}, 3),
    "keys that are no strings": (lambda t: {t % 3: "a", "b": 1}, 0),
    "dicts in dicts": (lambda t: {"a": {"b": {"c": t, "d": {}}}, "e": {} if t % 2 else {"f": 1.0}}, 2),
    "a large array each step": (lambda t: {"big": big(t), "t": t}, 2),
    "a large array at times": (lambda t: {"big": big(t), "t": t} if t % 10 == 0 else {"t": t}, 1),
    "a large array alone, at times": (lambda t: {"big": big(t)} if t % 10 == 0 else {}, 0),
    "a surrogate alone": (lambda t: {"\ud83d": t, "x": t / 2}, 2),
    "many keys": (lambda t: {f"key{number}": number / t for number in range(100)}, 100),
}


@pytest.mark.parametrize(("inform", "count"), CASES.values(), ids=CASES)
def test_infos_come_back_from_a_few_arrays(
    tmp_path: Path, inform: Callable[[int], dict[Any, Any]], count: int
) -> None:
    assert len(record(tmp_path / "recording.h5", inform, 300)) == count


def test_a_key_for_each_step_makes_no_array_for_each(tmp_path: Path) -> None:
    assert len(record(tmp_path / "recording.h5", lambda t: {f"step_{t}": t}, 400)) < 50


def test_columns_are_bounded(tmp_path: Path) -> None:
    keys = MOST_COLUMNS + 30
    arrays = record(tmp_path / "recording.h5", lambda t: {f"k{number}": t for number in range(keys)}, 20)
    assert MOST_COLUMNS - 10 < len(arrays) <= MOST_COLUMNS


def test_an_info_with_many_values_in_no_column_is_json_as_a_whole(tmp_path: Path) -> None:
    keys = 4 * MOST_COLUMNS
    path = tmp_path / "recording.h5"
    assert not record(path, lambda t: {f"k{number}": t / 2 for number in range(keys)}, 3)
    with h5py.File(path) as file:
        assert "info_kinds" not in file["Informing"]


def test_kinds_are_bounded(tmp_path: Path) -> None:
    kinds = MOST_KINDS + 200
    # Each kind comes twice; every other is one of keys that there are already.
    record(
        tmp_path / "recording.h5",
        lambda t: {f"{bit}": t for bit in range(11) if t % kinds >> bit & 1},
        2 * kinds,
    )
    with h5py.File(tmp_path / "recording.h5") as file:
        assert len(file["Informing/info_kinds/ends"]) <= MOST_KINDS
        assert 0 in file["Informing/infos/kind"][:]


def test_what_cannot_be_stored_does_not_keep_the_rest_from_columns() -> None:
    writer = MemoryWriter()
    env = RecordingWrapper(Informing(lambda t: {"x": t / 2, "env": object()}), writer)
    env.reset()
    with pytest.warns(UserWarning, match=r"info\['env'\] is a builtins.object"):
        env.step(0)
    env.step(0)
    env.close()
    assert_same(writer.reader()[0].info_arrays["x"], np.array([0.5, 1.0]))


def cyclic(t: int) -> dict[str, Any]:
    info: dict[str, Any] = {"x": t}
    info["itself"] = info
    return info


UNSTORABLE: dict[str, tuple[Callable[[int], dict[Any, Any]], Callable[[int], dict[Any, Any]]]] = {
    "at times": (
        lambda t: {"x": t, "f": len if t % 3 else [t], "at": {"y": 0.5, "g": len}},
        lambda t: {"x": t, **({} if t % 3 else {"f": [t]}), "at": {"y": 0.5}},
    ),
    "inside a list at times": (
        lambda t: {"x": t, "f": [len] if t % 3 else [t]},
        lambda t: {"x": t, **({} if t % 3 else {"f": [t]})},
    ),
    "in a dict inside a list": (lambda t: {"x": t, "f": [{"g": len}]}, lambda t: {"x": t, "f": [{}]}),
    "itself": (cyclic, lambda t: {"x": t, "itself": {"x": t}}),
    "beside keys that are no strings": (lambda t: {1: t, "f": len}, lambda t: {1: t}),
}


@pytest.mark.filterwarnings("ignore::gymbag.UnstorableInfoWarning")
@pytest.mark.parametrize(("inform", "expect"), UNSTORABLE.values(), ids=UNSTORABLE)
def test_all_but_what_cannot_be_stored_comes_back(
    inform: Callable[[int], dict[Any, Any]], expect: Callable[[int], dict[Any, Any]]
) -> None:
    writer = MemoryWriter()
    env = RecordingWrapper(Informing(inform), writer)
    env.reset()
    for _ in range(49):
        env.step(0)
    env.close()
    assert_same(list(writer.reader()[0].infos[1:]), [expect(t) for t in range(1, 50)])


def test_a_kind_that_is_known_is_found_without_writing_json(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MemoryWriter()
    env = RecordingWrapper(Informing(lambda t: {"n": {"x": t} if t % 2 else {"y": t / 2}}), writer)
    env.reset()
    for _ in range(4):
        env.step(0)
    monkeypatch.setattr(json_values, "encode", None)
    for _ in range(40):
        env.step(0)
    env.close()
    assert writer.reader()[0].infos[-1] == {"n": {"y": 22.0}}


def test_columns_of_many_keys_are_made_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created: list[Any] = []
    create = HDF5Store.create
    monkeypatch.setattr(HDF5Store, "create", lambda *each: (created.append(each), create(*each)))
    arrays = record(tmp_path / "recording.h5", lambda t: {f"key_{t // 2}": t}, 100)
    assert len(arrays) > 40
    assert len(created) <= 3


def test_nothing_is_kept_of_an_info_that_does_not_fit_its_plan() -> None:
    writer = MemoryWriter()
    env = RecordingWrapper(Informing(lambda t: {"name": "text", "id": 2**70 if t % 2 else t}), writer)
    env.reset()
    for _ in range(49):
        env.step(0)
    writer.flush()
    assert not writer.stream._events._kept
    env.close()
    assert [info["id"] for info in writer.reader()[0].infos[1:5]] == [2**70, 2, 2**70, 4]


def test_blocks_are_smaller_where_rows_have_many_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    writer = MemoryWriter()
    arrays = {f"array {number}": np.full(500, 0.5) for number in range(100)}
    env = RecordingWrapper(Informing(lambda t: {} if t > 1 else arrays), writer)
    sizes: list[int] = []
    write_block = StreamWriter._write_block
    monkeypatch.setattr(
        StreamWriter,
        "_write_block",
        lambda stream, block: (sizes.append(len(block.times)), write_block(stream, block)),
    )
    for t in range(1000):
        if t % 50 == 0:
            env.reset()
        env.step(0)
    env.close()
    assert sum(sizes) == 1020
    assert max(sizes) * 100 * 500 * 8 < 32 << 20


def test_two_surrogates_are_not_taken_for_the_key_that_they_encode(tmp_path: Path) -> None:
    env = record_hdf5(
        Informing(lambda t: {"\ud83d\ude00": t, "\U0001f600": t / 2, "x": t}), tmp_path / "recording.h5"
    )
    env.reset()
    for _ in range(3):
        env.step(0)
    env.close()
    assert [info["x"] for info in HDF5Reader(tmp_path / "recording.h5")[0].infos[1:]] == [1, 2, 3]
