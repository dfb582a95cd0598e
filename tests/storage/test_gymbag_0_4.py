"""Reading tables of the original Gymbag 0.4: real files, and odd ones built member by member.

The real files were recorded with gymbag 0.4.9; the .npz beside each holds what was given to
its recorder. The odd ones are written by `write_table` with h5py's low-level calls, laid out as
PyTables does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from gymbag.errors import DamagedFileError, StorageError
from gymbag.storage.gymbag_0_4 import CutInfoWarning, Table, is_table, list_tables

REAL = Path(__file__).parents[1] / "data" / "gymbag_0_4_9"
ARRAYS = ("time", "observation", "action", "reward", "done")
DISCRETE_2 = {"type": "Discrete", "n": 2, "start": 0, "dtype": "<i8"}
TIMES = np.array([[1_500_000_000, 0], [1_500_000_001, 999_999], [1_500_000_003, 1], [-50, -750_000]])


def assert_identical(found: np.ndarray, expected: np.ndarray) -> None:
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    np.testing.assert_array_equal(found, expected)


def write_table(
    group: h5py.Group,
    name: str = "table",
    *,
    order: str = "<",
    observation_shape: tuple[int, ...] = (3,),
    done: tuple[int, ...] = (0, 0, 1, 1),
    infos: tuple[bytes, ...] = (),
    info_bytes: int = 40,
    attributes: dict[str, Any] | None = None,
    deflate: bool = False,
    replaced_types: dict[str, Any] | None = None,
) -> h5py.Dataset:
    """Write a table as Gymbag 0.4 did; `replaced_types` gives columns other types, None drops."""
    h5t = h5py.h5t
    float32 = h5t.IEEE_F32LE if order == "<" else h5t.IEEE_F32BE
    text = h5t.C_S1.copy()
    text.set_size(info_bytes)
    observation = h5t.array_create(float32, observation_shape) if observation_shape else float32
    types = {
        "time": h5t.UNIX_D64LE if order == "<" else h5t.UNIX_D64BE,
        "observation": observation,
        "action": float32,
        "reward": float32,
        "done": h5t.STD_B8LE,
        "info": text,
        **(replaced_types or {}),
    }
    types = {field: member for field, member in types.items() if member is not None}
    compound = h5t.create(h5t.COMPOUND, sum(member.get_size() for member in types.values()))
    offset = 0
    for field, member in types.items():
        compound.insert(field.encode(), offset, member)
        offset += member.get_size()

    rows = np.zeros(
        len(done),
        [
            ("time", f"{order}i8"),
            ("observation", f"{order}f4", observation_shape),
            ("action", f"{order}f4"),
            ("reward", f"{order}f4"),
            ("done", "u1"),
            ("info", f"S{info_bytes}"),
        ],
    )
    rows["time"] = np.resize((TIMES[:, 0] << 32) | (TIMES[:, 1] & 0xFFFFFFFF), len(rows))
    rows["observation"] = np.arange(rows["observation"].size).reshape(rows["observation"].shape)
    rows["action"] = np.arange(len(rows)) / 4
    rows["reward"] = np.nan
    rows["done"] = done
    rows["info"][: len(infos)] = infos

    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((2,))
    if deflate:
        plist.set_deflate(1)
    space = h5py.h5s.create_simple((len(rows),), (h5py.h5s.UNLIMITED,))
    node = h5py.h5d.create(group.id, name.encode(), compound, space, plist)
    if not replaced_types and len(rows):
        node.write(h5py.h5s.ALL, h5py.h5s.ALL, rows.view(np.uint8), compound)
    dataset = group[name]
    standard = {"CLASS": np.bytes_("TABLE"), "gymbag_format": np.int64(1)}
    for key, value in {**standard, **(attributes or {})}.items():
        dataset.attrs[key] = value
    return dataset


@pytest.fixture
def file(tmp_path: Path) -> Any:
    with h5py.File(tmp_path / "old.h5", "w") as opened:
        yield opened


def box(*arguments: Any) -> bytes:
    return json.dumps({"name": "gym.spaces.Box", "args": arguments}).encode()


REAL_TABLES: dict[tuple[str, str], tuple[str, tuple[int, ...], dict[str, Any]]] = {
    ("cartpole", "CartPole-v1"): ("three random episodes", (4,), DISCRETE_2),
    ("two_tables", "CartPole-v1"): ("first experiment", (4,), DISCRETE_2),
    ("two_tables", "Pendulum-v1"): (
        "second: torque actions",
        (3,),
        {"type": "Box", "dtype": "<f4", "shape": [1], "low": -2.0, "high": 2.0},
    ),
}


@pytest.mark.parametrize(("stem", "name"), REAL_TABLES)
def test_real_table_is_what_was_recorded(stem: str, name: str) -> None:
    pytest.importorskip("hdf5plugin")
    truth = np.load(REAL / f"{stem}.npz")
    description, observation_shape, action_space = REAL_TABLES[stem, name]
    with h5py.File(REAL / f"{stem}.h5") as opened:
        table = Table(opened[name])
        assert table.description == description
        assert table.observation_shape == observation_shape
        assert table.action_shape == tuple(action_space.get("shape", ()))
        assert table.action_space == action_space
        for start, stop in ((0, table.rows), (7, 20), (5, 5)):
            for field in ARRAYS:
                wanted = truth[f"{name}|{field}"][start:stop]
                values = table.read(field, start, stop)
                if field == "time":  # PyTables kept whole microseconds.
                    seconds = np.trunc(wanted)
                    wanted = seconds + np.rint((wanted - seconds) * 1e6) * 1e-6
                assert_identical(values, wanted)
            infos = [json.loads(text) for text in truth[f"{name}|info"][start:stop]]
            assert table.read("info", start, stop) == tuple(infos)
        ends = np.flatnonzero(truth[f"{name}|done"])
        first_rows, lengths, done = table.episodes
        assert (first_rows + lengths).tolist() == ends.tolist()
        assert first_rows.tolist() == [0, *(ends[:-1] + 1)]
        assert done.all()
        assert not np.isnan(table.read("reward", 0, table.rows)[1 : ends[0] + 1]).any()


def test_real_file_lists_its_tables_and_spaces() -> None:
    with h5py.File(REAL / "two_tables.h5") as opened:
        assert list_tables(opened) == ["CartPole-v1", "Pendulum-v1"]
        space = Table(opened["CartPole-v1"]).observation_space
        assert space is not None
        assert space["shape"] == [4]
        assert space["low"] == [-4.800000190734863, "-inf", -0.41887903213500977, "-inf"]
        json.dumps(space, allow_nan=False)


@pytest.mark.parametrize("order", ["<", ">"], ids=["little-endian", "big-endian"])
@pytest.mark.parametrize("observation_shape", [(), (3,), (2, 2)], ids=str)
@pytest.mark.parametrize("deflate", [False, True], ids=["plain", "deflate"])
def test_columns_of_any_byte_order_shape_and_compression(
    file: h5py.File, order: str, observation_shape: tuple[int, ...], deflate: bool
) -> None:
    dataset = write_table(file, order=order, observation_shape=observation_shape, deflate=deflate)
    table = Table(dataset)
    size = int(np.prod(observation_shape))
    expected = np.arange(4 * size, dtype=np.float32).reshape(4, *observation_shape)
    assert_identical(table.read("observation", 0, 4), expected)
    assert_identical(table.read("observation", 1, 3), expected[1:3])
    assert table.read("action", 1, 3).tolist() == [0.25, 0.5]
    assert table.read("time", 0, 4).tolist() == [
        1.5e9,
        1500000001.999999,
        1500000003.000001,
        -50.75,
    ]
    assert table.read("done", 0, 4).tolist() == [False, False, True, True]
    assert table.observation_shape == observation_shape


EPISODES = {
    "no rows": ((), [], [], []),
    "one done": ((0, 0, 1), [0], [2], [True]),
    "reset only": ((1, 0, 1), [0, 1], [0, 1], [True, True]),
    "unfinished": ((0, 1, 0, 0), [0, 2], [1, 1], [True, False]),
    "never done": ((0, 0), [0], [1], [False]),
    "unfinished reset": ((0, 1, 0), [0, 2], [1, 0], [True, False]),
}


@pytest.mark.parametrize(("done", "first", "lengths", "ended"), EPISODES.values(), ids=EPISODES)
def test_episodes(file: h5py.File, done: tuple[int, ...], first: Any, lengths: Any, ended: Any) -> None:
    table = Table(write_table(file, done=done))
    assert [array.tolist() for array in table.episodes] == [first, lengths, ended]
    assert [array.dtype for array in table.episodes] == [np.int64, np.int64, np.bool_]
    assert table.episodes is table.episodes
    for array in table.episodes:
        assert not array.flags.writeable
    for field in ARRAYS:
        assert len(table.read(field, 0, 0)) == 0


SPACES = {
    "absent": (None, None),
    "pickled None": (np.bytes_(b"N."), None),
    "newer pickled None": (np.void(b"\x80\x04N."), DamagedFileError),  # opaque: PyTables never
    "JSON null": (np.bytes_(b"null"), None),
    "variable-length text": (
        box(0, 1, [3]).decode(),
        {"type": "Box", "dtype": "<f4", "shape": [3], "low": 0, "high": 1},
    ),
    "infinite": (
        np.bytes_(box(-np.inf, np.inf, [3])),
        {"type": "Box", "dtype": "<f4", "shape": [3], "low": "-inf", "high": "inf"},
    ),
    "array bounds": (
        np.bytes_(box([0, 0.5, -np.inf], [1, 1, 1])),
        {"type": "Box", "dtype": "<f4", "shape": [3], "low": [0, 0.5, "-inf"], "high": [1, 1, 1]},
    ),
    "empty": (h5py.Empty("S1"), DamagedFileError),
    "cut short": (np.bytes_(box(0, 1, [3])[:-2]), DamagedFileError),
    "another pickle": (np.bytes_(b"(lp0\n."), DamagedFileError),
    "number": (3, DamagedFileError),
    "JSON list": (np.bytes_(b"[1]"), DamagedFileError),
    "unknown space": (np.bytes_(b'{"name": "gym.spaces.Dict", "args": [1]}'), DamagedFileError),
    "Discrete for an array": (
        np.bytes_(b'{"name": "gym.spaces.Discrete", "args": [2]}'),
        DamagedFileError,
    ),
    "wrong shape": (np.bytes_(box(0, 1, [4])), DamagedFileError),
    "ragged": (np.bytes_(box([0, [1], 2], [1, 1, 1])), DamagedFileError),
    "text bounds": (np.bytes_(box(["0", "0", "0"], [1, 1, 1])), DamagedFileError),
    "NaN bound": (np.bytes_(box([0, 0, np.nan], [1, 1, 1])), DamagedFileError),
    "three low bounds, one high": (np.bytes_(box([0, 0, 0], 1)), DamagedFileError),
    "nested too deep": (np.bytes_(b"[" * 5000), DamagedFileError),
}


@pytest.mark.parametrize(("attribute", "expected"), SPACES.values(), ids=SPACES)
def test_spaces(file: h5py.File, attribute: Any, expected: Any) -> None:
    attributes = {} if attribute is None else {"observation_space": attribute}
    table = Table(write_table(file, attributes=attributes))
    if expected is DamagedFileError:
        with pytest.raises(DamagedFileError, match=r"old\.h5: table /table: .*observation_space"):
            _ = table.observation_space
        assert table.read("action", 3, 4).tolist() == [0.75]
    else:
        assert table.observation_space == expected
    assert table.action_space is None


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        (None, ""),
        (h5py.Empty("S1"), ""),
        (np.bytes_("Größe".encode()), "Größe"),
        ("text", "text"),
        (np.bytes_(b"\xff"), "\ufffd"),
    ],
    ids=["absent", "empty", "utf-8", "variable length", "not utf-8"],
)
def test_description(file: h5py.File, title: Any, expected: str) -> None:
    attributes = {} if title is None else {"TITLE": title}
    assert Table(write_table(file, attributes=attributes)).description == expected


def test_infos(file: h5py.File) -> None:
    infos = (b"", b"null", b' {"a":[1,2.5,null,true]}', b'{"b":"\\u00e9"}')
    table = Table(write_table(file, infos=infos))
    assert table.read("info", 0, 4) == (None, None, {"a": [1, 2.5, None, True]}, {"b": "é"})
    assert table.read("info", 3, 4) == ({"b": "é"},)


BAD_INFOS = {
    "not ascii": (b'{"a":"\xff"}', "no JSON object"),
    "not a dict": (b"[1]", r"found \[1\]"),
    "no JSON": (b"{", "no JSON object"),
}


def test_an_info_that_was_cut_reads_as_none_with_a_warning(file: h5py.File) -> None:
    table = Table(write_table(file, infos=(b"{}", b'{"key":"%s"}' % (b"v" * 60))))
    with pytest.warns(CutInfoWarning, match=r"old\.h5: table /table: the info of row 1 .* 40 bytes"):
        assert table.read("info", 0, 2) == ({}, None)


@pytest.mark.parametrize(("info", "message"), BAD_INFOS.values(), ids=BAD_INFOS)
def test_bad_info_names_table_and_row(file: h5py.File, info: bytes, message: str) -> None:
    table = Table(write_table(file, infos=(b"", b"{}", info)))
    with pytest.raises(DamagedFileError, match=message) as caught:
        table.read("info", 1, 4)
    assert "old.h5: table /table: the info of row 2" in str(caught.value)
    assert table.read("info", 0, 2) == (None, {})


def test_list_tables_looks_into_groups_and_ignores_the_rest(file: h5py.File) -> None:
    write_table(file, "CartPole-v1")
    write_table(file.create_group("ALE/deep"), "x")
    write_table(file["ALE"], "Breakout-v5")
    write_table(file, "newer", attributes={"gymbag_format": 2})
    write_table(file, "array format", attributes={"gymbag_format": [1, 1]})
    write_table(file, "not a table", attributes={"CLASS": 7})
    write_table(file, "no reward", replaced_types={"reward": None})
    file["soft"] = h5py.SoftLink("/CartPole-v1")
    file["dangling"] = h5py.SoftLink("/nowhere")
    file["external"] = h5py.ExternalLink("nowhere.h5", "/x")
    file["ALE/deep/cycle"] = file["ALE"]
    file["plain"] = np.arange(3)
    file["type"] = np.dtype("f4")
    file["null"] = h5py.Empty("f4")
    space = h5py.h5s.create_simple((2,))
    h5py.h5d.create(file.id, b"times", h5py.h5t.UNIX_D64LE, space)
    expected = ["ALE/Breakout-v5", "ALE/deep/x", "CartPole-v1"]
    assert list_tables(file) == expected
    assert all(is_table(file[name]) for name in expected)
    assert not is_table(file["times"])
    assert not is_table(file["ALE"])
    assert not is_table(None)


BAD_COLUMNS = {
    "missing": ({"reward": None}, "column reward is missing"),
    "double reward": ({"reward": h5py.h5t.IEEE_F64LE}, "reward.*float64"),
    "integer action": ({"action": h5py.h5t.STD_I32LE}, "column action"),
    "integer time": ({"time": h5py.h5t.STD_I64LE}, "column time"),
    "short time": ({"time": h5py.h5t.UNIX_D32LE}, "column time"),
    "wide done": ({"done": h5py.h5t.STD_B16LE}, "column done"),
    "numeric info": ({"info": h5py.h5t.STD_I32LE}, "column info"),
    "array reward": ({"reward": h5py.h5t.array_create(h5py.h5t.IEEE_F32LE, (2,))}, "reward"),
}


@pytest.mark.parametrize(("types", "message"), BAD_COLUMNS.values(), ids=BAD_COLUMNS)
def test_bad_columns(file: h5py.File, types: dict[str, Any], message: str) -> None:
    dataset = write_table(file, replaced_types=types)
    with pytest.raises(DamagedFileError, match=rf"old\.h5: table /table .*{message}"):
        Table(dataset)


def test_not_a_table_at_all(file: h5py.File) -> None:
    file["plain"] = np.arange(3)
    with pytest.raises(DamagedFileError, match="table /plain is not one"):
        Table(file["plain"])
    with pytest.raises(DamagedFileError, match="a Group"):
        Table(file.create_group("group"))


def test_damaged_chunk_spares_the_others(file: h5py.File) -> None:
    dataset = write_table(file, deflate=True)
    path, offset = file.filename, dataset.id.get_chunk_info(1).byte_offset
    file.close()
    with Path(path).open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 8)
    with h5py.File(path) as opened:
        table = Table(opened["table"])
        with pytest.raises(DamagedFileError, match=r"/table: rows 0 to 3 of column time cannot"):
            table.read("time", 0, 4)
        with pytest.raises(DamagedFileError, match="column done"):
            _ = table.episodes
        assert table.read("action", 0, 2).tolist() == [0, 0.25]


def test_damaged_node_is_named(file: h5py.File) -> None:
    dataset = write_table(file, "bad")
    write_table(file, "good")
    path, offset = file.filename, h5py.h5o.get_info(dataset.id).addr
    file.close()
    with Path(path).open("r+b") as raw:
        raw.seek(offset)
        raw.write(b"\xff" * 16)
    with h5py.File(path) as opened:
        with pytest.raises(DamagedFileError, match=r"old\.h5: 'bad' cannot be opened"):
            list_tables(opened)
        assert Table(opened["good"]).rows == 4


def test_closed_file(file: h5py.File) -> None:
    dataset = write_table(file)
    table = Table(dataset)
    file.close()
    for use in (
        lambda: table.read("time", 0, 1),
        lambda: table.read("time", 0, 0),
        lambda: table.observation_space,
        lambda: table.description,
        lambda: Table(dataset),
        lambda: list_tables(file),
    ):
        with pytest.raises(StorageError, match="closed") as caught:
            use()
        assert not isinstance(caught.value, DamagedFileError)
    assert not is_table(dataset)


@pytest.mark.parametrize(("start", "stop"), [(-1, 2), (3, 2), (0, 5)])
def test_rows_outside_the_table(file: h5py.File, start: int, stop: int) -> None:
    with pytest.raises(IndexError, match="<= 4, found start"):
        Table(write_table(file)).read("time", start, stop)


def test_unknown_field(file: h5py.File) -> None:
    with pytest.raises(ValueError, match="found 'rewards'"):
        Table(write_table(file)).read("rewards", 0, 1)


def test_blosc_without_hdf5plugin() -> None:
    """Without hdf5plugin a Blosc table still tells its metadata, and names the extra to install."""
    program = f"""
import sys
sys.modules["hdf5plugin"] = None
import h5py
from gymbag.errors import MissingExtraError
from gymbag.storage.gymbag_0_4 import CutInfoWarning, Table
with h5py.File({str(REAL / "cartpole.h5")!r}) as file:
    table = Table(file["CartPole-v1"])
    assert table.rows == 55 and table.action_space["n"] == 2
    if h5py.h5z.filter_avail(32001):
        sys.exit(3)
    try:
        table.episodes
    except MissingExtraError as error:
        print(error)
"""
    environment = {key: value for key, value in os.environ.items() if key != "HDF5_PLUGIN_PATH"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    if done.returncode == 3:
        pytest.skip("this HDF5 library has Blosc without hdf5plugin")
    assert done.returncode == 0, done.stderr
    assert "cartpole.h5: table /CartPole-v1 is Blosc-compressed" in done.stdout
    assert 'pip install "gymbag[legacy]"' in done.stdout
