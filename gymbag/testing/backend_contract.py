"""The contract of a backend, as tests that every backend inherits.

    class TestMyBackend(BackendContract):
        def open_writer(self, folder): return MyWriter(folder / "recording")
        def open_reader(self, folder): return MyReader(folder / "recording")

pytest then runs the tests below, each in a folder of its own. What passes keeps what `Writer` and `Reader`
promise, for the spaces it stores.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from gymbag import nested
from gymbag.errors import GymbagError
from gymbag.spaces import VERSION, Description
from gymbag.storage.base import Header, Reader, Writer

_Space = Mapping[str, Any]

_BOX: _Space = {"type": "Box", "dtype": "<f4", "shape": [3], "low": "-inf", "high": "inf"}
_IMAGE: _Space = {"type": "Box", "dtype": "|u1", "shape": [4, 5, 3], "low": 0, "high": 255}
_DOUBLE: _Space = {"type": "Box", "dtype": "<f8", "shape": [], "low": "-inf", "high": "inf"}
_DISCRETE: _Space = {"type": "Discrete", "n": 4, "start": 0, "dtype": "<i8"}
_TEXT: _Space = {"type": "Text", "min_length": 0, "max_length": 9, "characters": "abcdefghi"}


def _describe(space: _Space) -> Description:
    return {"version": VERSION, "library": "gymnasium", "space": dict(space)}


def _header(observations: _Space, actions: _Space, **facts: Any) -> Header:
    return Header("contract", _describe(observations), _describe(actions), **facts)


def _float32(*numbers: float) -> np.ndarray:
    return np.array(numbers, dtype=np.float32)


class BackendContract(ABC):
    """Tests that every pair of writer and reader passes; see the module."""

    #: Spaces beyond a plain Box and Discrete that the backend stores: by name, the description of a
    #: space and three values of it. Take away what yours does not store.
    spaces: ClassVar[dict[str, tuple[_Space, list[Any]]]] = {
        "images": (_IMAGE, [np.full((4, 5, 3), value, dtype=np.uint8) for value in (0, 7, 255)]),
        "numbers": (_DISCRETE, [np.int64(value) for value in (3, 0, 1)]),
        "float64 of shape ()": (_DOUBLE, [np.array(value) for value in (0.1, -0.0, 5e-324)]),
        "text": (_TEXT, ["", "abc", "ihg"]),
        "dict": (
            {"type": "Dict", "spaces": [["position", _BOX], ["lives", _DISCRETE]]},
            [
                {"position": _float32(1, 2, 3), "lives": np.int64(2)},
                {"position": _float32(4, 5, np.nan), "lives": np.int64(1)},
                {"position": _float32(7, 8, 9), "lives": np.int64(0)},
            ],
        ),
        "tuple": (
            {"type": "Tuple", "spaces": [_DISCRETE, _TEXT]},
            [(np.int64(1), "a"), (np.int64(2), ""), (np.int64(3), "abc")],
        ),
        "sequence": (
            {"type": "Sequence", "space": _BOX, "stack": False},
            [(), (_float32(1, 2, 3),), (_float32(4, 5, 6), _float32(7, 8, 9))],
        ),
    }

    @abstractmethod
    def open_writer(self, folder: Path) -> Writer:
        """Return a new writer that records into this folder."""

    @abstractmethod
    def open_reader(self, folder: Path) -> Reader:
        """Return a new reader of what was recorded into this folder, after the writer was closed."""

    def _record(self, folder: Path, episodes: int = 3, steps: int = 4, **facts: Any) -> None:
        """Record episodes whose numbers tell where they belong; the last step of each terminates it."""
        writer = self.open_writer(folder)
        writer.begin(_header(_BOX, _DISCRETE, **facts))
        for episode in range(episodes):
            writer.write_reset(100.0 * episode, _float32(episode, 0, 0), {"reset": episode}, episode, None)
            for step in range(1, steps + 1):
                writer.write_step(
                    100.0 * episode + step,
                    _float32(episode, step, 0),
                    step % 4,
                    float(step),
                    step == steps,
                    False,
                    {"step": step},
                )
        writer.close()

    def test_arrays_are_aligned(self, tmp_path: Path) -> None:
        """T actions and rewards, T+1 observations, times and infos."""
        self._record(tmp_path)
        episode = self.open_reader(tmp_path)[1]
        assert len(episode) == 4
        assert episode.observations.dtype == np.float32
        np.testing.assert_array_equal(episode.observations[:, :2], [[1, step] for step in range(5)])
        np.testing.assert_array_equal(episode.actions, [1, 2, 3, 0])
        assert episode.actions.dtype == np.int64
        np.testing.assert_array_equal(episode.rewards, [1.0, 2.0, 3.0, 4.0])
        assert episode.rewards.dtype == np.float64
        np.testing.assert_array_equal(episode.times, [100.0, 101.0, 102.0, 103.0, 104.0])
        assert episode.infos == ({"reset": 1}, *({"step": step} for step in range(1, 5)))
        assert episode.total_reward == 10.0
        assert (episode.index, episode.seed, episode.options) == (1, 1, None)

    def test_steps_begin_with_the_reset(self, tmp_path: Path) -> None:
        """T+1 steps; the first has the null action, the reward NaN, and done False."""
        self._record(tmp_path)
        first, second, *_, last = self.open_reader(tmp_path)[2]
        assert (first.time, first.action, first.done, first.info) == (200.0, 0, False, {"reset": 2})
        assert np.isnan(first.reward)
        np.testing.assert_array_equal(first.observation, [2, 0, 0])
        assert (second.time, second.action, second.reward, second.done) == (201.0, 1, 1.0, False)
        np.testing.assert_array_equal(second.observation, [2, 1, 0])
        assert last.done

    def test_endings_are_told_apart(self, tmp_path: Path) -> None:
        """Terminated, truncated, both, cut by a reset, cut before the first step, cut by close."""
        writer = self.open_writer(tmp_path)
        writer.begin(_header(_BOX, _DISCRETE))
        for terminated, truncated in ((True, False), (False, True), (True, True), (False, False)):
            writer.write_reset(0.0, _float32(0, 0, 0), {}, None, None)
            writer.write_step(1.0, _float32(1, 1, 1), 0, 1.0, terminated, truncated, {})
        writer.write_reset(0.0, _float32(5, 5, 5), {}, None, None)
        writer.write_reset(0.0, _float32(6, 6, 6), {}, None, None)
        writer.write_step(1.0, _float32(7, 7, 7), 3, 1.0, False, False, {})
        writer.close()
        episodes = list(self.open_reader(tmp_path))
        endings = ["terminated", "truncated", "terminated and truncated"] + 3 * ["unfinished"]
        assert [episode.ending for episode in episodes] == endings
        assert [episode.finished for episode in episodes] == 3 * [True] + 3 * [False]
        assert [len(episode) for episode in episodes] == [1, 1, 1, 1, 0, 1]
        assert [step.done for episode in episodes for step in episode] == 3 * [False, True] + 5 * [False]
        np.testing.assert_array_equal(episodes[4].observations, [[5, 5, 5]])
        assert len(episodes[4].actions) == 0

    def test_values_come_back_as_they_were(self, tmp_path: Path) -> None:
        """Every space, as observation and as action, with the dtypes and the very bits."""
        for name, (space, values) in self.spaces.items():
            folder = tmp_path / name.replace(" ", "-")
            folder.mkdir()
            writer = self.open_writer(folder)
            writer.begin(_header(space, space))
            writer.write_reset(0.0, values[0], {}, None, None)
            writer.write_step(1.0, values[1], values[0], 0.0, False, False, {})
            writer.write_step(2.0, values[2], values[1], 0.0, True, False, {})
            writer.close()
            _, *steps = episode = list(self.open_reader(folder)[0])
            assert nested.difference([step.observation for step in episode], values) is None, name
            assert nested.difference([step.action for step in steps], values[:2]) is None, name

    def test_floats_keep_every_bit(self, tmp_path: Path) -> None:
        """NaN, infinities, the negative zero and denormal numbers, in observations and rewards."""
        odd = [np.nan, np.inf, -np.inf, -0.0, 5e-324, 0.1]
        writer = self.open_writer(tmp_path)
        writer.begin(_header(_DOUBLE, _DISCRETE))
        writer.write_reset(0.0, np.array(0.0), {}, None, None)
        for number in odd:
            writer.write_step(0.0, np.array(number), 0, number, False, False, {})
        writer.close()
        episode = self.open_reader(tmp_path)[0]
        assert episode.rewards.tobytes() == np.array(odd).tobytes()
        assert episode.observations[1:].tobytes() == np.array(odd).tobytes()

    def test_infos_come_back_as_they_were(self, tmp_path: Path) -> None:
        """Keys that come and go, types that change, NumPy values, nesting."""
        infos: list[dict[str, Any]] = [
            {},
            {"lives": 3, "name": "Zoë", "nothing": None, "flag": True},
            {"lives": np.int32(3), "nested": {"list": [1, 2.5, "x"], "pair": (1, 2)}},
            {"array": np.arange(6, dtype=np.int16).reshape(2, 3), "nan": float("nan"), "zero": -0.0},
        ]
        writer = self.open_writer(tmp_path)
        writer.begin(_header(_BOX, _DISCRETE))
        writer.write_reset(0.0, _float32(0, 0, 0), infos[1], 1, {"level": np.float32(2)})
        for info in infos:
            writer.write_step(0.0, _float32(0, 0, 0), 0, 0.0, False, False, info)
        writer.close()
        episode = self.open_reader(tmp_path)[0]
        assert nested.difference(episode.infos, (infos[1], *infos)) is None
        assert nested.difference(episode.options, {"level": np.float32(2)}) is None
        assert [step.info is None for step in episode] == [False, True, False, False, False]

    def test_writer_copies(self, tmp_path: Path) -> None:
        """An env may use the same buffers for every step."""
        observation, action, info = _float32(0, 0, 0), np.zeros(3, dtype=np.float32), {"list": [0]}
        writer = self.open_writer(tmp_path)
        writer.begin(_header(_BOX, _BOX))
        writer.write_reset(0.0, observation, info, None, None)
        for step in range(1, 4):
            observation[:], action[:], info["list"][0] = step, step, step
            writer.write_step(0.0, observation, action, 0.0, False, False, info)
        observation[:], action[:], info["list"][0] = -1, -1, -1
        writer.close()
        episode = self.open_reader(tmp_path)[0]
        np.testing.assert_array_equal(episode.observations[:, 0], [0, 1, 2, 3])
        np.testing.assert_array_equal(episode.actions[:, 0], [1, 2, 3])
        assert [info["list"] for info in episode.infos] == [[0], [1], [2], [3]]

    def test_annotations_are_kept_or_refused(self, tmp_path: Path) -> None:
        """What is said of a step comes back with it; a writer that keeps no annotations says so."""
        writer = self.open_writer(tmp_path)
        writer.begin(_header(_BOX, _DISCRETE))
        writer.write_reset(0.0, _float32(0, 0, 0), {}, None, None)
        if type(writer).annotate is Writer.annotate:
            _expect_error(lambda: writer.annotate({"value": 0.5}), "annotate()")
            writer.close()
            return
        given: list[dict[str, Any]] = [
            {"value": 0.5, "logits": _float32(1, 2)},
            {},
            {"value": np.float64(-0.0), "word": "Zoë", "nested": {"list": [1, (2,)]}},
        ]
        for annotation in given:
            if annotation:
                writer.annotate({"value": None})  # which the next replaces
                writer.annotate(annotation)
            writer.write_step(0.0, _float32(0, 0, 0), 0, 0.0, False, False, {"lives": 3})
        writer.annotate({"value": 7.0})  # of a step that never came
        writer.write_reset(0.0, _float32(0, 0, 0), {}, None, None)
        writer.write_step(0.0, _float32(0, 0, 0), 0, 0.0, True, False, {})
        writer.close()
        reader = self.open_reader(tmp_path)
        first, second = reader
        assert nested.difference(first.annotations, tuple(given)) is None
        assert nested.difference([step.annotation or {} for step in first], [{}, *given]) is None
        assert nested.difference(first.infos, ({}, *[{"lives": 3}] * 3)) is None
        assert second.annotations == ({},)
        np.testing.assert_array_equal(first.annotation_arrays["value"], [0.5, np.nan, -0.0])
        assert reader.annotation_keys == ["value", "logits", "word", "nested/list"]
        values = reader.get_dataset(annotations=["value"])["annotations/value"]
        np.testing.assert_array_equal(values, [0.5, np.nan, -0.0, np.nan])

    def test_reader_is_a_sequence(self, tmp_path: Path) -> None:
        """Length, indices from both ends, slices; each iteration starts anew."""
        self._record(tmp_path, episodes=5)
        reader = self.open_reader(tmp_path)
        assert (len(reader), reader.nsteps) == (5, 20)
        assert [reader[index].index for index in (0, 4, -1, -5)] == [0, 4, 4, 0]
        assert [episode.index for episode in reader[1:4]] == [1, 2, 3]
        assert [episode.index for episode in reader[::-2]] == [4, 2, 0]
        for index in (5, -6):
            try:
                reader[index]
            except IndexError:
                continue
            raise AssertionError(f"expected an IndexError for episode {index} of 5")
        pairs = [(outer.index, inner.index) for outer in reader for inner in reader]
        assert pairs == list(itertools.product(range(5), repeat=2))

    def test_header_is_kept(self, tmp_path: Path) -> None:
        """Name, spaces, description, spec, versions and metadata."""
        facts: dict[str, Any] = {
            "description": "half of it is luck",
            "spec": {"id": "contract"},
            "versions": {"python": "3"},
            "metadata": {"learning_rate": 0.1, "layers": (64, 64)},
        }
        self._record(tmp_path, **facts)
        reader = self.open_reader(tmp_path)
        assert reader.header == _header(_BOX, _DISCRETE, **facts)
        assert (reader.name, reader.description) == ("contract", facts["description"])

    def test_dataset_is_flat(self, tmp_path: Path) -> None:
        """D4RL-style arrays with each episode's true final observation."""
        self._record(tmp_path, episodes=2, steps=3)
        dataset = self.open_reader(tmp_path).get_dataset()
        rows = [(episode, step) for episode in range(2) for step in range(3)]
        np.testing.assert_array_equal(dataset["observations"][:, :2], rows)
        following = [(episode, step + 1) for episode, step in rows]
        np.testing.assert_array_equal(dataset["next_observations"][:, :2], following)
        np.testing.assert_array_equal(dataset["terminals"], 2 * [False, False, True])
        assert not dataset["timeouts"].any()

    def test_nothing_recorded_is_nothing_read(self, tmp_path: Path) -> None:
        """A recording that was begun and closed has no episodes."""
        self._record(tmp_path, episodes=0)
        reader = self.open_reader(tmp_path)
        assert (len(reader), list(reader), reader.nsteps) == (0, [], 0)
        dataset = reader.get_dataset()
        assert {len(rows) for rows in dataset.values()} == {0}

    def test_writing_out_of_turn_is_refused(self, tmp_path: Path) -> None:
        """Beginning twice, and writing after close; closing twice is harmless."""
        writer = self.open_writer(tmp_path)
        writer.begin(_header(_BOX, _DISCRETE))
        _expect_error(lambda: writer.begin(_header(_BOX, _DISCRETE)), "begin() twice")
        writer.close()
        writer.close()
        _expect_error(
            lambda: writer.write_reset(0.0, _float32(0, 0, 0), {}, None, None), "write_reset() after close()"
        )


def _expect_error(call: Any, what: str) -> None:
    try:
        call()
    except GymbagError:
        return
    raise AssertionError(f"expected a GymbagError from {what}")
