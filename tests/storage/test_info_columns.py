"""Reading infos from columns: laid out by hand, as docs/format.md has them, and read in every way."""

from __future__ import annotations

import copy
import itertools
import math
import pickle
import random
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cases import space_case
from recorded import header_of, play, write
from same import assert_same

from gymbag import HDF5Reader, HDF5Writer, MemoryWriter, Reader, json_values
from gymbag.episode import Ending, ListEpisode, Step, annotate_step
from gymbag.errors import DamagedFileError
from gymbag.info_kinds import Form, Leaf, array_name, describe, is_free, to_json
from gymbag.space_columns import column_of
from gymbag.storage.stream import KIND_TABLES, ArraySource, check_arrays
from gymbag.storage.stream_reader import StreamReader

T, X = "terminated", "unfinished"
CASE = space_case("Discrete")

NAN = struct.unpack("<d", struct.pack("<Q", 0x7FF8_0000_DEAD_BEEF))[0]
NAN32 = np.uint32(0x7FC0_1234).view(np.float32)


class Arrays(ArraySource):
    """Arrays that refuse to read what is not there, as those of a file do."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def dtypes(self) -> dict[str, np.dtype[Any]]:
        return {path: rows.dtype for path, rows in self.arrays.items()}

    def length(self, path: str) -> int:
        if path not in self.arrays:
            raise DamagedFileError(f"found no array {path}")
        return len(self.arrays[path])

    def read(self, path: str, start: int, stop: int) -> np.ndarray:
        length = self.length(path)
        if not 0 <= start <= stop <= length:
            raise DamagedFileError(f"expected rows {start} to {stop} of {path}, found {length} rows")
        return self.arrays[path][start:stop].copy()


class LaidOut:
    """A recording whose infos, or annotations, are put into columns.

    Args:
        shape: Length and ending of each episode.
        columns: Whether to use columns at all, rather than JSON.

    Attributes:
        arrays: The arrays of the recording, to be changed at will.
    """

    def __init__(self, shape: Sequence[tuple[int, str]], columns: bool = True) -> None:
        self.header, self.columns = header_of(CASE), columns
        writer = MemoryWriter()
        write(writer, self.header, play(CASE, shape))
        store = writer.reader().store
        self.arrays = {path: store.read(path, 0, store.length(path)) for path in store.dtypes()}
        self.store = Arrays(self.arrays)

    @property
    def reader(self) -> StreamReader:
        spaces = self.header.observation_space, self.header.action_space
        return StreamReader(self.store, self.header.name, *spaces, "")

    def __setitem__(self, path: str, rows: np.ndarray) -> None:
        self.arrays[path] = rows

    def __getitem__(self, path: str) -> np.ndarray:
        return self.arrays[path]

    def __delitem__(self, path: str) -> None:
        del self.arrays[path]

    def put_texts(self, path: str, texts: Sequence[bytes]) -> None:
        self[f"{path}/data"] = np.frombuffer(b"".join(texts), np.uint8)
        self[f"{path}/ends"] = np.cumsum([len(text) for text in texts], dtype=np.int64)

    def put(self, name: str, infos: Sequence[dict[Any, Any]]) -> LaidOut:
        """Lay infos out, one a step; what does not suit the column of its key is an item of the JSON list."""
        forms: dict[str, Form] = {}
        numbers: dict[tuple[Leaf, ...], int] = {}
        values: dict[str, dict[int, Any]] = {}
        kinds, rest = [], []
        for row, info in enumerate(infos):
            found = describe(info) if self.columns and info else None
            if found is None:
                kinds.append(0)
                rest.append(json_values.encode(info).encode() if info else b"")
                continue
            leaves, items = [], []
            for form in found:
                value = info
                for key in form.path:
                    value = value[key]
                array = array_name(form.path)
                if form.type in ("none", "dict"):
                    leaves.append(Leaf(form.path, form.type))
                elif array is not None and self._fits(forms, f"{name}/{array}", form, name):
                    leaves.append(Leaf(form.path, form.type, array))
                    values.setdefault(f"{name}/{array}", {})[row] = value
                else:
                    leaves.append(Leaf(form.path, "json"))
                    items.append(value)
            kinds.append(numbers.setdefault(tuple(leaves), len(numbers) + 1))
            rest.append(json_values.encode(items).encode() if items else b"")
        self.put_texts(name, rest)
        if numbers:
            self[f"{name}/kind"] = np.array(kinds, np.uint16)
            self.put_texts(KIND_TABLES[name], [to_json(kind) for kind in numbers])
        for path, form in forms.items():
            if form.dtype is None:
                texts = [values[path].get(row, b"") for row in range(len(infos))]
                self.put_texts(
                    path, [t.encode("utf-8", "surrogatepass") if isinstance(t, str) else t for t in texts]
                )
                continue
            fill = np.nan if form.dtype.kind == "f" else 0
            rows = np.full((len(infos), *form.shape), fill, form.dtype)
            for row, value in values[path].items():
                rows[row] = value
            self[path] = rows
        return self

    @staticmethod
    def _fits(forms: dict[str, Form], path: str, form: Form, name: str) -> bool:
        """Tell whether values of a form go to an array, to which all others are alike."""
        if form.type == "json" or not is_free(path, forms, name):
            return False
        known = forms.setdefault(path, form)
        return (str(known.dtype), known.shape) == (str(form.dtype), form.shape)  # dtype("f8") == None


def laid_out(infos: Sequence[dict[Any, Any]], columns: bool = True, name: str = "infos") -> LaidOut:
    """A recording of one episode, with these infos."""
    return LaidOut([(len(infos), T)], columns).put(name, infos)


@pytest.fixture(params=["by hand", "in memory", "in a file"])
def read_back(request: Any, tmp_path: Path) -> Callable[[Sequence[dict[Any, Any]]], Reader]:
    """A function that lays infos out, one a step, and returns a reader."""

    def record(infos: Sequence[dict[Any, Any]]) -> Reader:
        if request.param == "by hand":
            return laid_out(infos).reader
        (episode,) = play(CASE, [(len(infos), T)])
        episode.infos[1:] = infos
        path = tmp_path / "recording.h5"
        writer = MemoryWriter() if request.param == "in memory" else HDF5Writer(path)
        write(writer, header_of(CASE), [episode])
        return HDF5Reader(path) if isinstance(writer, HDF5Writer) else writer.reader()

    return record


EXACT: dict[str, list[Any]] = {
    "bools": [True, False, True],
    "integers": [0, -(2**63), 2**63 - 1],
    "larger integers": [1, 2**63, 2],
    "floats": [0.0, -0.0, math.inf],
    "NaN": [NAN, 1.0, -NAN],
    "np.bool": [np.True_, np.False_, np.True_],
    "np.float64": [np.float64(0.1), np.float64(-0.0), np.float64(NAN)],
    "np.float32": [np.float32(0.1), np.float32(-0.0), NAN32],
    "np.float16": [np.float16(0.1), np.float16(-0.0), np.float16(math.inf)],
    "np.int64": [np.int64(1), np.int64(-(2**63)), np.int64(7)],
    "np.uint64": [np.uint64(1), np.uint64(2**64 - 1), np.uint64(7)],
    "np.int8": [np.int8(1), np.int8(-128), np.int8(7)],
    "arrays": [np.array([1, 2], np.int8), np.array([3, 4], np.int8), np.array([5, 6], np.int8)],
    "arrays of no axes": [np.array(1.5), np.array(-0.0), np.array(NAN)],
    "big-endian arrays": [np.array([1, 2], ">i4"), np.array([3, 4], ">i4"), np.array([3, 4], ">i4")],
    "masks": [np.array([[True, False]]), np.array([[False, False]]), np.array([[True, True]])],
    "arrays of several shapes": [np.zeros(2), np.zeros(3), np.zeros((2, 1))],
    "empty arrays": [np.zeros(0), np.zeros((2, 0)), np.zeros(0)],
    "arrays of strings": [np.array(["a"]), np.array(["bc"]), np.array(["a"])],
    "strings": ["", "Zoë", "\ud800 \0 lone"],
    "bytes": [b"", b"\0\xff", b"a"],
    "None": [None, None, None],
    "empty dicts": [{}, {}, {}],
    "lists": [[1, 2], [], [(3,)]],
    "tuples": [(1, 2), (), ("a",)],
    "bool and integer": [True, 1, False],
    "integer and float": [1, 1.0, 1],
    "float and np.float64": [1.0, np.float64(1.0), 1.0],
    "float and None": [1.0, None, 2.0],
    "value and dict": [1.0, {"x": 1.0}, 2.0],
    "complex": [1j, 2j, np.complex64(1)],
}


@pytest.mark.parametrize("values", EXACT.values(), ids=EXACT)
def test_every_type_comes_back(values: list[Any], read_back: Any) -> None:
    infos = [{"key": value} for value in values]
    (episode,) = read_back(infos)
    assert_same(episode.infos[1:], tuple(infos))
    assert [list(map(type, info.values())) for info in episode.infos[1:]] == [[type(v)] for v in values]
    assert_same([step.info for step in episode][1:], infos)


def bits(value: Any) -> bytes:
    return struct.pack("<d", value) if type(value) is float else value.tobytes()


@pytest.mark.parametrize("name", ["NaN", "np.float64", "np.float32", "floats", "arrays of no axes"])
def test_every_bit_of_a_float_comes_back(name: str, read_back: Any) -> None:
    infos = [{"key": value} for value in EXACT[name]]
    (episode,) = read_back(infos)
    assert [bits(info["key"]) for info in episode.infos[1:]] == [bits(value) for value in EXACT[name]]
    if name != "floats":
        found = episode.info_arrays["key"]
        assert found.tobytes() == b"".join(bits(value) for value in EXACT[name])


INFOS: dict[str, list[dict[Any, Any]]] = {
    "alike": [{"x": 0.5 * row, "n": row} for row in range(7)],
    "none": [{}] * 4,
    "one late": [{}, {}, {"x": 1.5}, {"x": 2.5}],
    "one that goes": [{"x": 1.5, "n": 1}, {"x": 1.5, "n": 1}, {"n": 1}, {}],
    "two in turns": [{"x": 1.5}, {"y": "a"}, {"x": 2.5}, {"y": "b"}, {"x": 3.5, "y": "c"}],
    "orders": [{"x": 1.5, "y": 2}, {"y": 2, "x": 1.5}, {"x": 3.5, "y": 2}],
    "nested": [{"a": {"b": 1, "c": {"d": 0.5}}, "e": "x"}, {"a": {"b": 2, "c": {"d": 1.5}}, "e": "y"}],
    "nested and flat": [{"a": {"b": 1}}, {"a": 1.5}, {"a": {"b": 2}}, {"a": {}}, {"a": {"b": 3, "c": None}}],
    "rest beside columns": [{"x": 1.5, "l": [1], "m": (2,)}, {"x": 1.5}, {"l": [3], "x": 1.5, "m": {1: 2}}],
    "keys that are no strings": [{1: "int"}, {"x": 1.5}, {"y": {2: 3}}, {b"b": 1}],
    "a type that changes": [{"x": 1.5}, {"x": 1}, {"x": "a"}, {"x": 1.5}, {"x": np.float32(2)}, {"x": None}],
    "names of HDF5": [
        {"data": 1, "ends": 2, "kind": 3, "items": 4, ".": 5, "..": 6, "a/b": 7, "": 8},
        {"data": {"data": 1.5, "x/y": "z"}, "%64ata": 0},
    ],
    "look alike": [{"a/b": 1, "a": {"b": 2}}, {"a/b": 3, "a": {"b": 4}}],
    "a number and its text": [{1: "int", "1": "str"}, {"1": "str", 1: "int"}],
    "many keys": [{f"key_{row * 3 + k}": row for k in range(3)} for row in range(40)],
    "of several types": [
        {"x": np.float64(1), "a": np.arange(6.0).reshape(2, 3), "s": "s", "b": b"b", "n": None, "t": True}
    ]
    * 5,
}


@pytest.mark.parametrize("infos", INFOS.values(), ids=INFOS)
def test_infos_come_back_as_dicts(infos: list[dict[Any, Any]], read_back: Any) -> None:
    (episode,) = read_back(infos)
    assert_same(episode.infos[1:], tuple(infos))
    assert [list(info) for info in episode.infos[1:]] == [list(info) for info in infos]
    assert_same([step.info or {} for step in episode][1:], infos)


@pytest.mark.parametrize("infos", INFOS.values(), ids=INFOS)
@pytest.mark.parametrize("name", ["infos", "annotations"])
def test_columns_give_the_dataset_that_dicts_give(infos: list[dict[Any, Any]], name: str) -> None:
    columns, dicts = laid_out(infos, name=name).reader, laid_out(infos, columns=False, name=name).reader
    options: dict[str, Any] = {name: True}
    found = columns.get_dataset(**options)
    for other in (
        dicts.get_dataset(**options),
        Reader.get_dataset(dicts, **options),
    ):
        assert list(found) == list(other)
        assert_same(found, other)
    arrays = {key.partition("/")[2]: array for key, array in found.items() if key.startswith(f"{name}/")}
    attribute = f"{name.removesuffix('s')}_arrays"
    for reader in (columns, dicts):
        (episode,) = reader
        assert_same(dict(getattr(episode, attribute)), arrays)
    keys = f"{name.removesuffix('s')}_keys"
    assert getattr(columns, keys) == getattr(dicts, keys) == list(arrays)
    assert getattr(Reader, keys).fget(columns) == list(arrays)
    for choice in ([key] for key in arrays):
        options = {name: choice}
        assert_same(columns.get_dataset(**options), dicts.get_dataset(**options))


def test_a_number_and_its_text_are_two_keys() -> None:
    dataset = laid_out(INFOS["a number and its text"]).reader.get_dataset(infos=True)
    assert dataset["infos/1"].tolist() == ["str", "str"]
    assert dataset["infos/int(1)"].tolist() == ["int", "int"]


def test_a_column_is_read_as_an_array_without_making_dicts(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = laid_out([{"x": float(row), "n": row} for row in range(9)])
    (episode,) = recording.reader
    monkeypatch.setattr("gymbag.storage.info_columns.build_infos", None)
    assert_same(episode.info_arrays["x"], np.arange(9.0))
    assert_same(recording.reader.get_dataset(infos=True)["infos/n"], np.arange(9))


def test_an_array_is_read_when_it_is_asked_for_and_once() -> None:
    recording = laid_out([{"x": 1.5, "n": 3}] * 3)
    (episode,) = recording.reader
    arrays = episode.info_arrays
    recording["infos/n"] = np.zeros(1, np.int64)
    assert arrays["x"] is arrays["x"]
    with pytest.raises(DamagedFileError, match="found 1 rows"):
        arrays["n"]


def test_a_key_that_no_step_has_is_a_key_error() -> None:
    (episode,) = laid_out([{"x": 1.5}]).reader
    with pytest.raises(KeyError, match=r"\['x'\].*'y'"):
        episode.info_arrays["y"]
    assert "y" not in episode.info_arrays
    assert episode.info_arrays.get("y") is None


def test_infos_of_many_short_episodes_go_to_their_steps() -> None:
    shape = [(length, T if length else X) for length in random.Random(1).choices(range(5), k=200)]
    recording = LaidOut(shape)
    steps = sum(length for length, _ in shape)
    infos: list[Any] = [{"row": row, "odd": "odd"} if row % 3 else {} for row in range(steps)]
    annotations: list[Any] = [{"value": row / 2} if row % 5 else {} for row in range(steps)]
    reader = recording.put("infos", infos).put("annotations", annotations).reader
    for episodes in (reader, reader[:]):  # in one go, and each by itself
        found = [step for episode in episodes for step in itertools.islice(episode, 1, None)]
        assert_same([step.info or {} for step in found], infos)
        assert_same([step.annotation or {} for step in found], annotations)
        firsts = [next(iter(episode)) for episode in episodes]
        assert [(step.info, step.annotation) for step in firsts] == [(None, None)] * len(shape)
    assert_same([value for episode in reader for value in episode.annotations], annotations)
    values = np.concatenate(
        [episode.annotation_arrays.get("value", np.full(len(episode), np.nan)) for episode in reader]
    )
    assert_same(values, reader.get_dataset(annotations=["value"])["annotations/value"])


def test_a_recording_without_annotations_has_none() -> None:
    reader = laid_out([{"x": 1.5}] * 3).reader
    (episode,) = reader
    assert (episode.annotations, dict(episode.annotation_arrays)) == (({}, {}, {}), {})
    assert reader.annotation_keys == []
    assert {type(step).__name__ for step in episode} == {"Step"}


def test_kinds_that_come_later_are_read_by_who_has_been_reading() -> None:
    recording = LaidOut([(2, T), (2, T)])
    first, later = [{"x": 1.5}, {}, {}, {}], [{"x": 1.5}, {}, {"y": "a"}, {"x": 2.5, "y": "b"}]
    reader = recording.reader
    assert reader[0].infos == ({}, {}, {})
    assert_same(recording.put("infos", first).reader[0].infos[1:], tuple(first[:2]))
    assert_same(reader[0].infos[1:], tuple(first[:2]))
    recording.put("infos", later)
    assert_same(reader[1].infos[1:], tuple(later[2:]))


def test_a_recording_that_is_followed_gets_columns_and_kinds_late(tmp_path: Path) -> None:
    infos: list[Any] = [{}, {"x": 0.5}, {}, {"x": 1.5, "name": "a"}, {"x": "text"}, {1: 2}]
    annotations: list[Any] = [{}, {}, {"v": np.float32(1)}, {}, {"w": (1,)}, {"v": np.float32(2)}]
    path = tmp_path / "followed.h5"
    writer = HDF5Writer(path, flush_seconds=0.02)
    writer.begin(header_of(CASE))
    reader = HDF5Reader(path, follow=True)
    observation = CASE.samples(1)[0]
    for number, (info, annotation) in enumerate(zip(infos, annotations, strict=True), 1):
        writer.write_reset(0.0, observation, {}, None, None)
        if annotation:
            writer.annotate(annotation)
        writer.write_step(0.0, observation, observation, 0.0, True, False, info)
        deadline = time.monotonic() + 60
        while reader.nsteps < number:
            assert time.monotonic() < deadline, "nothing new was seen"
        assert_same([episode.infos[1] for episode in reader[:]], infos[:number])
        assert_same([episode.annotations[0] for episode in reader[:]], annotations[:number])
        assert len(reader.get_dataset(infos=["x"])["infos/x"]) == number
    writer.close()
    assert_same([list(episode)[1].info or {} for episode in reader], infos)
    assert_same([list(episode)[1].annotation or {} for episode in reader], annotations)


def test_episodes_made_of_steps_have_what_the_steps_carry() -> None:
    column = column_of(CASE.describe())
    said: list[dict[str, Any]] = [{}, {"v": 0.5}, {"v": 1.5, "w": "a"}]
    value = CASE.samples(1)[0]
    step = Step(0.0, value, value, 0.0, False, {"x": 1})
    steps = [step, *(annotate_step(step, annotation) for annotation in said)]
    episode = ListEpisode(0, steps, Ending.UNFINISHED, column, column)
    assert episode.annotations == tuple(said)
    assert [step.annotation for step in episode] == [None, None, *said[1:]]
    assert_same(
        dict(episode.annotation_arrays), {"v": np.array([np.nan, 0.5, 1.5]), "w": objects(None, None, "a")}
    )
    assert_same(dict(episode.info_arrays), {"x": np.array([1, 1, 1])})


def test_a_step_with_an_annotation_is_a_step() -> None:
    plain = Step(0.0, 1, 2, 3.0, False, None)
    annotated = annotate_step(plain, {"v": 0.5})
    assert annotate_step(plain, {}) is annotate_step(plain, None) is plain
    assert (annotated, len(annotated), annotated.reward) == (plain, 6, 3.0)
    time, *_, info = annotated
    assert (time, info) == (0.0, None)
    for copied in (pickle.loads(pickle.dumps(annotated)), copy.deepcopy(annotated)):
        assert (copied, copied.annotation) == (plain, {"v": 0.5})


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def test_sound_arrays_may_be_continued() -> None:
    recording = laid_out(INFOS["of several types"]).put("annotations", INFOS["alike"][:5])
    check_arrays(recording.store, recording.header)


# ---- Damage ----


def sound() -> LaidOut:
    infos = [{"x": 1.5, "s": "text", "a": np.zeros(2), "l": [1]}, {"n": 1}, {}, {1: 2}]
    return laid_out(infos).put("annotations", [{"v": 0.5}] * 4)


def cut(path: str) -> Callable[[LaidOut], None]:
    def damage(recording: LaidOut) -> None:
        recording[path] = recording[path][:-1]

    return damage


def put(path: str, rows: np.ndarray) -> Callable[[LaidOut], None]:
    return lambda recording: recording.__setitem__(path, rows)


def put_kinds(*texts: bytes) -> Callable[[LaidOut], None]:
    return lambda recording: recording.put_texts("info_kinds", texts)


def leave_out(path: str) -> Callable[[LaidOut], None]:
    return lambda recording: recording.__delitem__(path)


KIND = b'[[["x"],"float","x"],[["s"],"str","s"],[["a"],"array","a"],[["l"],"json"]]'

#: What is done, and whether it shows before the rows are read.
DAMAGED: dict[str, tuple[Callable[[LaidOut], None], bool]] = {
    "a number beyond the kinds": (put("infos/kind", np.array([1, 2, 0, 3], np.uint16)), False),
    "kinds of too few rows": (cut("infos/kind"), True),
    "kinds that are floats": (put("infos/kind", np.ones(4)), False),
    "kinds of a shape": (put("infos/kind", np.ones((4, 2), np.uint16)), False),
    "no table of kinds": (leave_out("info_kinds/ends"), False),
    "a kind that is no JSON": (put_kinds(b"[[", b"[]"), True),
    "a kind that is empty": (put_kinds(KIND, b"[]"), True),
    "a kind that is a number": (put_kinds(KIND, b"7"), True),
    "a kind of strings": (put_kinds(KIND, b'["ab"]'), True),
    "a kind of an unknown type": (put_kinds(KIND, b'[[["n"],"complex","n"]]'), True),
    "a kind with keys that are numbers": (put_kinds(KIND, b'[[[1],"int","n"]]'), True),
    "a kind with a type that is a list": (put_kinds(KIND, b'[[["n"],["int"],"n"]]'), True),
    "a kind with an array that is a list": (put_kinds(KIND, b'[[["n"],"int",["n"]]]'), True),
    "a kind of two leaves of one path": (put_kinds(KIND, b'[[["n"],"int","n"],[["n"],"int","n"]]'), True),
    "a kind of a leaf below a leaf": (put_kinds(KIND, b'[[["n"],"int","n"],[["n","m"],"int","n"]]'), True),
    "a kind of another array": (put_kinds(KIND, b'[[["n"],"int","x"]]'), True),
    "a kind of an array outside": (put_kinds(KIND, b'[[["n"],"int","../rewards"]]'), True),
    "a kind of no array": (put_kinds(KIND, b'[[["n"],"int"]]'), True),
    "an array that is not there": (leave_out("infos/n"), True),
    "a ragged column that is not there": (leave_out("infos/s/data"), True),
    "an array that is too short": (lambda recording: recording.__setitem__("infos/x", np.zeros(0)), True),
    "an array of another shape": (put("infos/x", np.zeros((4, 2))), True),
    "an array of another dtype": (put("infos/x", np.zeros(4, np.int64)), True),
    "an array of strings": (put("infos/x", np.array([b"a"] * 4)), True),
    "an array of a struct": (put("infos/x", np.zeros(4, [("a", "f8")])), True),
    "ends that fall": (put("infos/s/ends", np.array([4, 2, 4, 4])), False),
    "ends that are floats": (put("infos/s/ends", np.full(4, np.nan)), False),
    "ends beyond the data": (put("infos/s/ends", np.full(4, 9)), True),
    "text that is not UTF-8": (put("infos/s/data", np.full(4, 255, np.uint8)), False),
    "a rest that is no list": (lambda r: r.put_texts("infos", [b'{"l":1}', b"", b"", b""]), False),
    "a rest of too many items": (lambda r: r.put_texts("infos", [b"[1,2]", b"", b"", b""]), False),
    "a rest without items": (lambda r: r.put_texts("infos", [b"", b"", b"", b""]), False),
    "a rest where none should be": (lambda r: r.put_texts("infos", [b"[1]", b"[1]", b"", b""]), False),
    "an info that is no dict": (lambda r: r.put_texts("infos", [b"[1]", b"", b"", b"[1]"]), False),
}


def read_everything(reader: Reader) -> None:
    (episode,) = reader
    _ = episode.infos, episode.annotations, list(episode)
    _ = dict(episode.info_arrays), dict(episode.annotation_arrays), reader.info_keys, reader.annotation_keys
    reader.get_dataset(infos=True, annotations=True)


def test_what_is_to_be_damaged_is_sound() -> None:
    recording = sound()
    read_everything(recording.reader)
    check_arrays(recording.store, recording.header)


@pytest.mark.parametrize(("damage", "shows"), DAMAGED.values(), ids=DAMAGED)
def test_damage_is_an_error_that_says_what_was_found(damage: Callable[[LaidOut], None], shows: bool) -> None:
    recording = sound()
    damage(recording)
    (episode,) = recording.reader
    for read in (lambda: episode.infos, lambda: list(episode)):
        with pytest.raises(DamagedFileError, match="found"):
            read()
    if shows:
        with pytest.raises(DamagedFileError):
            check_arrays(recording.store, recording.header)


def test_an_array_that_is_too_long_is_not_continued() -> None:
    for path in ("infos/x", "infos/s/ends", "infos/kind", "annotations/v"):
        recording = sound()
        recording[path] = np.concatenate([recording[path], recording[path][-1:]])
        read_everything(recording.reader)
        with pytest.raises(DamagedFileError, match=path):
            check_arrays(recording.store, recording.header)


HOSTILE_ROWS: list[np.ndarray] = [
    np.zeros(0),
    np.zeros(4, np.uint16),
    np.full(4, 2**64 - 1, np.uint64),
    np.full(4, -1),
    np.array([b"x"] * 4),
    np.zeros((4, 3)),
    np.zeros(4, "M8[s]"),
    np.full(4, np.inf),
    np.array(["a"] * 4),
    np.arange(4, dtype=np.uint8),
]
HOSTILE_TEXTS = [
    b"[]",
    b"{}",
    b"null",
    b'"x"',
    b"[[]]",
    b'[[["n"]]]',
    b'[[[[]],"int","n"]]',
    b'[[["n"],"int","n",1]]',
    b'[[["n"],null,"n"]]',
    b'[[["n"],{},"n"]]',
    b'[[{"n":1},"int","n"]]',
    b'{"$array":["<f8",[1],"AAAAAAAAAAA="]}',
    b'[[["n"],"int","kind"]]',
    b'[[["n"],"str","x"]]',
    b'[[["n"],"bytes",""]]',
    b'[[["n"],"array","data"]]',
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.mark.parametrize("seed", range(60))
def test_a_hostile_file_is_read_or_refused(seed: int) -> None:
    chance = random.Random(seed)
    recording = sound()
    for _ in range(chance.choice([1, 1, 2, 4])):
        path = chance.choice([p for p in recording.store.dtypes() if p.startswith(("info", "annotation"))])
        how = chance.randrange(4)
        if how == 0:
            recording[path] = chance.choice(HOSTILE_ROWS)
        elif how == 1:
            del recording[path]
        elif how == 2:
            recording.put_texts(chance.choice(list(KIND_TABLES.values())), chance.choices(HOSTILE_TEXTS, k=2))
        else:
            recording.put_texts("infos", chance.choices(HOSTILE_TEXTS, k=4))
    reader = recording.reader
    (episode,) = reader
    for read in (
        lambda: episode.infos,
        lambda: episode.annotations,
        lambda: list(episode),
        lambda: dict(episode.info_arrays),
        lambda: reader.info_keys,
        lambda: reader.get_dataset(infos=True, annotations=True),
        lambda: check_arrays(recording.store, recording.header),
    ):
        try:
            read()
        except DamagedFileError:
            continue
