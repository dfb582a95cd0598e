"""HDF5 files: several data sets, every kind of trouble, and what others see who open them."""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium
import h5py
import numpy as np
import pytest
from cases import SpaceCase, each_space, space_case
from recorded import Played, assert_recorded, header_of, play, write, write_episodes
from same import assert_same
from workers import try_to_read, try_to_write

from gymbag.errors import (
    DamagedFileError,
    DataSetNotFoundError,
    FileInUseError,
    GymbagError,
    SpaceError,
    StorageError,
)
from gymbag.spaces import describe_space
from gymbag.storage.base import Header
from gymbag.storage.hdf5_reader import HDF5Reader, get_dataset, list_datasets
from gymbag.storage.hdf5_source import HDF5Source
from gymbag.storage.hdf5_writer import HDF5Writer

T, U, X = "terminated", "truncated", "unfinished"
BOX, DISCRETE = space_case("Box-unbounded"), space_case("Discrete")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


def record(path: Path, case: SpaceCase = BOX, shape: Any = ((3, T), (2, X)), **facts: Any) -> list[Played]:
    episodes = play(case, shape, actions=DISCRETE, infos=facts.pop("infos", False))
    write(HDF5Writer(path), header_of(case, DISCRETE, **facts), episodes)
    return episodes


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# Several data sets.


def test_a_file_holds_several_data_sets(path: Path) -> None:
    names = ["CartPole-v1", "ALE/Pong-v5", "ALE/Breakout-v5", "ü 😀.h5", "a.b..c", "...", "x" * 300]
    episodes = {name: record(path, shape=[(number, X)], name=name) for number, name in enumerate(names, 1)}
    for name, played in episodes.items():
        reader = HDF5Reader(path, name)
        assert reader.name == name
        assert_recorded(reader, played)


def test_a_file_just_opened_is_read_but_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played, read, paths = record(path), HDF5Source.read, []
    monkeypatch.setattr(
        HDF5Source, "read", lambda self, path, *rows: paths.append(path) or read(self, path, *rows)
    )
    assert len(get_dataset(path)["rewards"]) == sum(len(episode.actions) for episode in played)
    assert paths.count("observations") == paths.count("rewards") == 1


def test_data_sets_are_listed_with_their_descriptions(path: Path) -> None:
    record(path, name="b/c", description="deep")
    record(path, name="a")
    with h5py.File(path, "a") as file:
        file.create_group("other/group")
        file["array"] = [1, 2]
        file["soft"] = h5py.SoftLink("/nowhere")
        file["external"] = h5py.ExternalLink("nowhere.h5", "/")
    assert list_datasets(path) == {"a": "", "b/c": "deep"}


def test_a_file_of_one_data_set_needs_no_name(path: Path) -> None:
    record(path, name="ALE/Pong-v5")
    for table in (None, "ALE/Pong-v5", "/ALE/Pong-v5"):
        assert HDF5Reader(path, table).name == "ALE/Pong-v5"


def test_several_data_sets_are_named_when_none_was_chosen(path: Path) -> None:
    record(path, name="one")
    record(path, name="deep/two")
    with pytest.raises(DataSetNotFoundError, match=r"'deep/two', 'one'.*table='deep/two'"):
        HDF5Reader(path)


@pytest.mark.parametrize(
    "table", ["three", "deep", "one/observations", "one/rewards", "deep/two/three", "", ".", "a\0b"]
)
def test_the_data_sets_are_named_when_another_was_asked_for(path: Path, table: str) -> None:
    record(path, name="one")
    record(path, name="deep/two")
    with pytest.raises(DataSetNotFoundError, match=r"'deep/two', 'one'"):
        HDF5Reader(path, table)
    with pytest.raises(LookupError):
        get_dataset(path, table=table)


def test_a_file_without_data_sets_says_so(path: Path) -> None:
    h5py.File(path, "w").close()
    assert list_datasets(path) == {}
    with pytest.raises(DataSetNotFoundError, match="without one"):
        HDF5Reader(path)


BAD_NAMES = ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/.", "a\0b", "\ud800"]


@pytest.mark.parametrize("name", BAD_NAMES, ids=ascii)
@pytest.mark.parametrize("existing", [False, True])
def test_a_bad_name_is_refused_and_nothing_changed(path: Path, name: str, existing: bool) -> None:
    if existing:
        record(path)
    before = path.exists() and fingerprint(path)
    with pytest.raises(StorageError, match="name"):
        record(path, name=name)
    assert (path.exists() and fingerprint(path)) == before


@pytest.mark.parametrize(
    ("taken", "name"),
    [("a", "a/b"), ("a", "a/observations"), ("a", "a/b/c"), ("a/b", "a"), ("a/b", "a/b/c")],
)
def test_no_data_set_lies_inside_another(path: Path, taken: str, name: str) -> None:
    record(path, name=taken)
    before = fingerprint(path)
    with pytest.raises(StorageError, match="use another name"):
        record(path, name=name)
    assert fingerprint(path) == before


@pytest.mark.parametrize("name", ["array", "group", "array/a", "soft", "soft/a"])
def test_no_data_set_takes_the_place_of_something_else(path: Path, name: str) -> None:
    with h5py.File(path, "w") as file:
        file["array"] = [1, 2]
        file.create_group("group")
        file["soft"] = h5py.SoftLink("/nowhere")
    before = fingerprint(path)
    with pytest.raises(StorageError):
        record(path, name=name)
    assert fingerprint(path) == before


def test_what_else_is_in_a_file_stays(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["array"] = [1, 2]
        file.create_group("ALE")
    record(path, name="ALE/Pong-v5")
    with h5py.File(path) as file:
        assert file["array"][:].tolist() == [1, 2]


# Going on with a data set.


@pytest.mark.parametrize(
    ("case", "actions"),
    [
        (DISCRETE, DISCRETE),
        (BOX, BOX),
        (space_case("Box-bounded-below"), DISCRETE),
        (space_case("Box-unbounded", "gym"), DISCRETE),
    ],
    ids=str,
)
def test_other_spaces_are_refused_and_nothing_changed(
    path: Path, case: SpaceCase, actions: SpaceCase
) -> None:
    record(path)
    before = fingerprint(path)
    with pytest.raises(StorageError, match="record under another name or to another file"):
        HDF5Writer(path).begin(header_of(case, actions))
    assert fingerprint(path) == before
    write(HDF5Writer(path), header_of(case, actions, name="another"), [])
    assert sorted(list_datasets(path)) == ["Data-v0", "another"]


def test_a_description_is_replaced_only_by_another(path: Path) -> None:
    record(path, description="first")
    record(path)
    assert HDF5Reader(path).description == "first"
    record(path, description="second")
    assert HDF5Reader(path).description == "second"


@pytest.mark.parametrize(
    "facts",
    [
        {"metadata": {"bad": object()}},
        {"spec": {"bad": len}},
        {"description": "a\0b"},
        {"description": "\ud800"},
    ],
    ids=ascii,
)
@pytest.mark.parametrize("existing", [False, True])
def test_what_a_header_cannot_hold_is_refused_and_nothing_changed(
    path: Path, facts: Any, existing: bool
) -> None:
    if existing:
        record(path)
    before = path.exists() and fingerprint(path)
    with pytest.raises(GymbagError):
        HDF5Writer(path).begin(header_of(BOX, DISCRETE, **facts))
    assert (path.exists() and fingerprint(path)) == before


def test_a_space_that_cannot_be_stored_leaves_no_file(path: Path) -> None:
    header = header_of(space_case("Sequence-stacked"))
    header.observation_space["space"]["space"] = space_case("Dict-empty").describe()["space"]
    with pytest.raises(SpaceError):
        HDF5Writer(path).begin(header)
    assert not path.exists()


# Files that are none of ours.


def write_text(path: Path) -> None:
    path.write_text("no recording\n")


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def truncate(path: Path) -> None:
    record(path)
    os.truncate(path, path.stat().st_size // 2)


def truncate_to_the_signature(path: Path) -> None:
    record(path)
    os.truncate(path, 60)


def overwrite_superblock(path: Path) -> None:
    record(path)
    data = bytearray(path.read_bytes())
    data[8:64] = bytes(56)
    path.write_bytes(data)


def write_archive(path: Path) -> None:
    np.savez(path.with_suffix(".npz"), a=1)
    path.with_suffix(".npz").rename(path)


NO_HDF5: list[Callable[[Path], None]] = [
    write_text,
    write_nothing,
    truncate,
    truncate_to_the_signature,
    overwrite_superblock,
    write_archive,
]


@pytest.mark.parametrize("damage", NO_HDF5)
def test_a_file_that_is_no_sound_hdf5_is_reported_and_not_changed(
    path: Path, damage: Callable[[Path], None]
) -> None:
    damage(path)
    before = fingerprint(path)
    for attempt in (
        HDF5Reader,
        list_datasets,
        get_dataset,
        lambda path: HDF5Writer(path).begin(header_of(BOX)),
    ):
        with pytest.raises(DamagedFileError, match=r"recording\.h5"):
            attempt(path)
    assert fingerprint(path) == before


@pytest.mark.parametrize("name", ["clock.h5", "locked/already open/x.h5", "signature not found.h5"])
@pytest.mark.parametrize("damage", [write_text, truncate])
def test_the_name_of_a_damaged_file_misleads_nobody(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    damage(path)
    with pytest.raises(DamagedFileError):
        HDF5Reader(path)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="found a folder"):
        HDF5Reader(tmp_path)
    with pytest.raises(StorageError, match="found a folder"):
        HDF5Writer(tmp_path).begin(header_of(BOX))


def test_a_missing_file_is_reported(path: Path) -> None:
    with pytest.raises(StorageError, match="found nothing"):
        HDF5Reader(path)
    with pytest.raises(StorageError, match="found nothing"):
        list_datasets(path)


def test_a_missing_folder_is_reported_and_not_made(path: Path) -> None:
    with pytest.raises(StorageError, match="make it first"):
        HDF5Writer(path / "missing" / "recording.h5").begin(header_of(BOX))
    assert not path.exists()


def test_a_link_to_nowhere_is_reported(path: Path) -> None:
    path.symlink_to("nowhere/recording.h5")
    with pytest.raises(StorageError):
        HDF5Reader(path)
    with pytest.raises(StorageError):
        HDF5Writer(path).begin(header_of(BOX))


@pytest.fixture
def common_folder() -> Iterator[Path]:
    """A folder that everybody reaches; in it we are not root, to whom nothing is read-only."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.getuid() == 0
    if was_root:
        os.chown(folder, 65534, -1)
        os.setresuid(65534, 65534, 0)
    yield folder
    folder.chmod(0o755)
    if was_root:
        os.setresuid(0, 0, 0)
    shutil.rmtree(folder)


@pytest.mark.parametrize("name", ["recording.h5", "clock.h5"])
def test_a_read_only_file_is_read_but_not_written_to(common_folder: Path, name: str) -> None:
    path = common_folder / name
    episodes = record(path)
    path.chmod(0o444)
    before = fingerprint(path)
    with pytest.raises(StorageError, match="cannot open") as caught:
        HDF5Writer(path).begin(header_of(BOX, DISCRETE))
    assert type(caught.value) is StorageError
    assert fingerprint(path) == before
    assert_recorded(HDF5Reader(path), episodes)


@pytest.mark.parametrize("name", ["recording.h5", "clock.h5"])
def test_a_file_that_may_not_be_read_is_reported(common_folder: Path, name: str) -> None:
    path = common_folder / name
    record(path)
    path.chmod(0)
    with pytest.raises(StorageError, match="cannot open") as caught:
        HDF5Reader(path)
    assert type(caught.value) is StorageError


def test_a_read_only_folder_is_reported(common_folder: Path) -> None:
    common_folder.chmod(0o555)
    with pytest.raises(StorageError, match="cannot open") as caught:
        HDF5Writer(common_folder / "recording.h5").begin(header_of(BOX))
    assert type(caught.value) is StorageError


# Damage inside a file.


def set_attribute(name: str, value: Any) -> Callable[[h5py.Group], None]:
    return lambda group: group.attrs.__setitem__(name, value)


def delete(name: str) -> Callable[[h5py.Group], None]:
    return lambda group: group.__delitem__(name)


def resize(name: str, length: int) -> Callable[[h5py.Group], None]:
    return lambda group: group[name].resize(length, axis=0)


def assign(name: str, index: Any, value: Any) -> Callable[[h5py.Group], None]:
    return lambda group: group[name].__setitem__(index, value)


def replace(name: str, value: Any) -> Callable[[h5py.Group], None]:
    def put(group: h5py.Group) -> None:
        del group[name]
        group[name] = value

    return put


GYM = {"version": 1, "library": "gym"}
DAMAGE: dict[str, Callable[[h5py.Group], None]] = {
    "no version": lambda group: group.attrs.__delitem__("format_version"),
    "version is a number": set_attribute("format_version", 1),
    "no space": lambda group: group.attrs.__delitem__("action_space"),
    "space is no JSON": set_attribute("observation_space", "{"),
    "space is something else": set_attribute("observation_space", "[1]"),
    "space is empty": set_attribute("observation_space", "{}"),
    "space is of an unknown type": set_attribute(
        "action_space", json.dumps({**GYM, "space": {"type": "Cube"}})
    ),
    "space of another shape": set_attribute(
        "observation_space", json.dumps(space_case("Box-no-elements").describe())
    ),
    "no description": lambda group: group.attrs.__delitem__("description"),
    "no observations": delete("observations"),
    "no rewards": delete("rewards"),
    "no infos": delete("infos"),
    "no episodes": delete("episodes"),
    "no episode lengths": delete("episodes/length"),
    "no final observations": delete("episodes/final_observation"),
    "rewards too short": resize("rewards", 2),
    "observations too short": resize("observations", 1),
    "infos too short": resize("infos/data", 1),
    "episode table too short": resize("episodes/ending", 1),
    "an episode too long": assign("episodes/length", 0, 10**6),
    "an episode of negative length": assign("episodes/length", 1, -4),
    "an episode that begins nowhere": assign("episodes/first_row", 1, -5),
    "ends out of order": assign("infos/ends", 0, 10**9),
    "infos are no JSON": assign("infos/data", slice(None), 0),
    "an unknown ending": assign("episodes/ending", 0, 77),
    "rewards are a group": lambda group: (group.__delitem__("rewards"), group.create_group("rewards")),
    "rewards are one number": replace("rewards", 5),
    "rewards in one piece": replace("rewards", np.arange(3.0)),
    "observations of another dtype": replace("observations", [b"a", b"b", b"c", b"d", b"e"]),
    "no sessions": delete("sessions"),
    "sessions are something else": assign("sessions/data", slice(None), ord("1")),
}


def read_everything(path: Path) -> None:
    with HDF5Reader(path) as reader:
        assert reader.header is not None
        assert reader.sessions is not None
        assert reader.observation_space is not None
        for episode in reader:
            list(episode)
            _ = episode.seed, episode.options, episode.observations, episode.infos
        reader.get_dataset(infos=True)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_damage_is_reported_where_it_is_met_and_not_changed(
    path: Path, damage: Callable[[h5py.Group], None]
) -> None:
    record(path, shape=[(2, T), (3, X)], infos=True)
    with h5py.File(path, "r+") as file:
        damage(file["Data-v0"])
    before = fingerprint(path)
    with contextlib.suppress(DamagedFileError):  # some damage cannot be noticed
        read_everything(path)
    assert fingerprint(path) == before
    writer = HDF5Writer(path)
    try:
        writer.begin(header_of(BOX, DISCRETE))
    except StorageError:
        assert fingerprint(path) == before
    finally:
        writer.close()


def test_a_damaged_chunk_is_reported_and_the_rest_read(path: Path) -> None:
    episodes = record(path, shape=[(8192, T), (10, U), (8000, T)])
    with h5py.File(path) as file:
        chunk = file["Data-v0/observations"].id.get_chunk_info(0)
    with path.open("r+b") as file:
        file.seek(chunk.byte_offset)
        file.write(b"\0" * 64)
    reader = HDF5Reader(path)
    with pytest.raises(DamagedFileError, match="Data-v0/observations cannot be read"):
        _ = reader[0].observations
    assert_same(list(reader[0].rewards), [np.float64(reward) for reward in episodes[0].rewards])
    assert_same(list(reader[2].observations), episodes[2].observations)


@pytest.mark.parametrize("part", range(1, 12))
def test_a_file_cut_anywhere_is_reported(path: Path, part: int) -> None:
    record(path, shape=[(30, T)] * 10, infos=True)
    os.truncate(path, path.stat().st_size * part // 12)
    with pytest.raises(DamagedFileError):
        read_everything(path)


# Versions.


def test_what_is_not_known_is_ignored(path: Path) -> None:
    episodes = record(path, infos=True)
    with h5py.File(path, "r+") as file:
        file["Data-v0"].attrs["new"] = 1
        file["Data-v0/new_array"] = np.zeros(3)
        file["Data-v0/new/group"] = np.zeros((2, 2))
        file["Data-v0/new/scalar"] = 5
        file["Data-v0/episodes/new"] = ["text"]
    assert_recorded(HDF5Reader(path), episodes)
    assert list_datasets(path) == {"Data-v0": ""}


@pytest.mark.parametrize("version", ["1.2", "1.99", "2.0", "0.9", "10.0", "one", "1", ""])
def test_another_version_is_refused_and_not_changed(path: Path, version: str) -> None:
    record(path)
    with h5py.File(path, "r+") as file:
        file["Data-v0"].attrs["format_version"] = version
    before = fingerprint(path)
    for use in (HDF5Reader, lambda path: HDF5Writer(path).begin(header_of(BOX, DISCRETE))):
        with pytest.raises(StorageError, match=r"expected format version 1\.1 or older .* a newer version"):
            use(path)
    assert fingerprint(path) == before


def test_a_data_set_has_the_oldest_version_that_says_all_of_it(path: Path) -> None:
    def version() -> tuple[Any, Any]:
        with h5py.File(path) as file:
            attributes = file["Data-v0"].attrs
            return attributes["format_version"], attributes.get("needs_gymbag")

    record(path)
    assert version() == (b"1.0", None)
    record(path, infos=True)
    assert version() == (b"1.1", b"1.1.0")


def test_an_older_gymbag_says_which_version_it_needs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    record(path, infos=True)
    monkeypatch.setattr("gymbag.storage.hdf5_layout.FORMAT_VERSION", "1.0")
    with pytest.raises(StorageError, match=r"version 1\.0 or older .* found 1\.1; install gymbag 1\.1\.0"):
        HDF5Reader(path)


def test_a_data_set_of_another_version_does_not_hide_the_others(path: Path) -> None:
    record(path, name="new")
    record(path, name="ours")
    with h5py.File(path, "r+") as file:
        file["new"].attrs["format_version"] = "2.0"
    assert len(HDF5Reader(path, "ours")) == 2
    assert "ours" in list_datasets(path)


# Who else has the file open.


@pytest.mark.parametrize("name", ["Data-v0", "another"])
def test_a_second_writer_in_the_process_is_refused_and_nothing_changed(path: Path, name: str) -> None:
    episodes = play(BOX, [(3, T), (2, X)], actions=DISCRETE)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), episodes[:1], close=False)
    before = fingerprint(path)
    link = path.with_name("link.h5")
    link.symlink_to(path)
    for same in (path, path.parent / "." / path.name, link):
        with pytest.raises(FileInUseError, match="close that env first"):
            HDF5Writer(same).begin(header_of(BOX, DISCRETE, name=name))
    assert fingerprint(path) == before
    write_episodes(writer, episodes[1:])
    writer.close()
    assert_recorded(HDF5Reader(path), episodes)


@pytest.mark.parametrize("name", ["Data-v0", "another"])
def test_a_second_writer_in_another_process_is_refused_and_nothing_changed(path: Path, name: str) -> None:
    episodes = play(BOX, [(3, T), (2, X)], actions=DISCRETE)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), episodes[:1], close=False)
    writer.flush()
    before = fingerprint(path)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        answer = pool.apply(try_to_write, (path, header_of(BOX, DISCRETE, name=name)))
        assert f"process {os.getpid()} on {socket.gethostname()}" in answer
        assert pool.apply(try_to_read, (path,)) == "1 episodes"
        assert fingerprint(path) == before
        write_episodes(writer, episodes[1:])
        writer.close()
        assert pool.apply(try_to_read, (path,)) == "2 episodes"
    assert_recorded(HDF5Reader(path), episodes)


def test_readers_that_stay_open_make_way_for_a_writer(path: Path) -> None:
    episodes = record(path)
    readers = [HDF5Reader(path) for _ in range(3)]
    halfway = iter(readers[0][0])
    first_steps = [next(halfway), next(halfway)]
    for reader in readers:
        assert_recorded(reader, episodes)
    more = play(BOX, [(4, U)], actions=DISCRETE, first=2)
    write(HDF5Writer(path), header_of(BOX, DISCRETE), more)
    assert_same([step.time for step in [*first_steps, *halfway]], episodes[0].times)
    for reader in (*readers, HDF5Reader(path)):
        assert_recorded(reader, [*episodes, *more])


def test_a_reader_that_is_open_while_the_process_records_reads_on(path: Path) -> None:
    episodes = record(path)
    reader = HDF5Reader(path)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), play(BOX, [(4, U)], actions=DISCRETE), close=False)
    assert_same(reader[0].rewards, np.array(episodes[0].rewards))
    writer.close()
    reader.close()  # which has it look at the file anew
    assert len(reader) == 3


def test_recording_goes_on_while_a_reader_comes_and_goes(path: Path) -> None:
    episodes = play(BOX, [(5, T)] * 10, actions=DISCRETE)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), [], close=False)
    for number, episode in enumerate(episodes):
        write_episodes(writer, [episode])
        with HDF5Reader(path) as reader:
            assert_recorded(reader, episodes[: number + 1])
    writer.close()
    assert_recorded(HDF5Reader(path), episodes)


def test_a_file_that_was_moved_is_recorded_to_where_it_is(path: Path) -> None:
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), play(BOX, [(1, T)], actions=DISCRETE), close=False)
    path.rename(path.with_name("moved.h5"))
    with pytest.raises(FileInUseError):
        record(path)
    writer.close()
    episodes = record(path)
    assert_recorded(HDF5Reader(path), episodes)
    assert len(HDF5Reader(path.with_name("moved.h5"))) == 1


def test_a_reader_follows_no_change_of_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = record(path)
    monkeypatch.chdir(path.parent)
    reader = HDF5Reader(path.name)
    monkeypatch.chdir("/")
    assert_recorded(reader, episodes)


def test_a_recording_follows_no_change_of_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = play(BOX, [(2, T)], actions=DISCRETE)
    monkeypatch.chdir(path.parent)
    writer = HDF5Writer(path.name)
    write(writer, header_of(BOX, DISCRETE), episodes, close=False)
    monkeypatch.chdir("/")
    writer.close()
    assert_recorded(HDF5Reader(path), episodes)


# What others see.


def test_plain_h5py_sees_arrays_as_they_are_specified(path: Path) -> None:
    case = space_case("Dict-nested")
    (episode,) = record(path, case, [(3, T)], name="ns/Robot-v0", description="mine", infos=True)
    with h5py.File(path) as file:
        group = file["ns/Robot-v0"]
        assert (group.attrs["format"], group.attrs["format_version"]) == (b"gymbag", b"1.1")
        assert group.attrs["description"] == b"mine"
        arrays: dict[str, tuple[str, tuple[int, ...]]] = {}
        group.visititems(
            lambda name, node: (
                arrays.update({name: (node.dtype.str, node.shape)}) if hasattr(node, "dtype") else None
            )
        )
        columns = {
            "camera": ("|u1", (4, 5, 3)),
            "arms/0": ("<f4", (2,)),
            "arms/1/grip": ("|i1", (2,)),
            "mode": ("<i8", ()),
            "seen/ends": ("<i8", ()),
            "arms/1/words/ends": ("<i8", ()),
        }
        for name, (dtype, shape) in columns.items():
            assert arrays[f"observations/{name}"] == (dtype, (3, *shape))
            assert arrays[f"episodes/final_observation/{name}"] == (dtype, (1, *shape))
        assert arrays["rewards"] == arrays["times"] == ("<f8", (3,))
        assert arrays["terminated"] == arrays["truncated"] == ("|b1", (3,))
        assert arrays["actions"] == ("<i8", (3,))
        for name in ("first_row", "length", "session"):
            assert arrays[f"episodes/{name}"] == ("<i8", (1,))
        assert arrays["episodes/ending"] == ("|u1", (1,))
        camera = np.array([value["camera"] for value in episode.observations[:-1]])
        assert_same(group["observations/camera"][:], camera)
        assert group["terminated"][:].tolist() == [False, False, True]
        kinds = group["infos/kind"][:]
        assert (kinds.dtype, kinds.shape) == (np.uint16, (3,))
        ends = group["info_kinds/ends"][:]
        assert bytes(group["info_kinds/data"][: ends[0]]).startswith(b"[[[")


@each_space
def test_every_space_makes_a_file_of_plain_compressed_columns(path: Path, case: SpaceCase) -> None:
    record(path, case, [(2, T)])

    def check(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset):
            assert node.compression == "gzip"
            assert node.chunks is not None
            assert node.maxshape[0] is None
            assert not node.dtype.hasobject

    with h5py.File(path) as file:
        file.visititems(check)


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="needs h5dump")
def test_h5dump_shows_the_file(path: Path) -> None:
    record(path, space_case("Dict-nested"), infos=True)
    header = subprocess.run(["h5dump", "-H", path], check=True, capture_output=True, text=True).stdout
    for part in (
        'GROUP "Data-v0"',
        'ATTRIBUTE "observation_space"',
        'DATASET "camera"',
        "H5T_STD_U8LE",
        'GROUP "episodes"',
    ):
        assert part in header


def test_reading_imports_no_gym_library(path: Path) -> None:
    record(path, space_case("Dict-nested"), infos=True)
    program = f"""
import sys
from gymbag import HDF5Reader
reader = HDF5Reader({str(path)!r})
steps = [step for episode in reader for step in episode]
reader.get_dataset(infos=True)
print(len(steps), *({{"gym", "gymnasium"}} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["7"]


# Cost.


def test_iterating_many_episodes_takes_little_memory(path: Path) -> None:
    case = space_case("Box-bounded-below")
    observation, action, info = case.samples(1)[0], 1, {"text": "x" * 300}
    writer = HDF5Writer(path)
    writer.begin(header_of(case, DISCRETE))
    count = 20_000
    for _ in range(count):
        writer.write_reset(0.0, observation, info, None, None)
        writer.write_step(0.0, observation, action, 0.0, True, False, info)
    writer.close()
    reader = HDF5Reader(path)
    for episode in itertools.islice(reader, 10):
        list(episode)
    tracemalloc.start()
    try:
        for number, episode in enumerate(reader):
            if number % 40 == 0:  # the whole way through the file, in a fraction of the time
                list(episode)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    data = count * 2 * 300
    assert peak < data / 3, f"reading {data / 1e6:.0f} MB held {peak / 1e6:.1f} MB"


def test_the_file_does_not_grow_by_reading_or_by_empty_sessions(path: Path) -> None:
    record(path, shape=[(100, T)])
    before = fingerprint(path)
    read_everything(path)
    assert fingerprint(path) == before
    size = path.stat().st_size
    for _ in range(20):
        write(HDF5Writer(path), header_of(BOX, DISCRETE), [])
    assert path.stat().st_size < size + 20_000


def test_an_array_is_widened_beside_any_other_name(path: Path) -> None:
    box = gymnasium.spaces.Box(-1, 1, (2,))
    space = gymnasium.spaces.Dict({"a": box, "a.wider": box, "a%wider": box})
    writer = HDF5Writer(path)
    description = describe_space(space)
    writer.begin(Header("data", description, describe_space(gymnasium.spaces.Discrete(2))))
    values = [{key: np.full(2, 0.5, np.float32) for key in space} for _ in range(3)]
    values[2]["a"] = np.full(2, 0.1)
    writer.write_reset(0.0, values[0], {}, None, None)
    for value in values[1:]:
        writer.write_step(0.0, value, 0, 0.0, False, False, {})
    writer.close()
    observations = HDF5Reader(path)[0].observations
    assert {key: rows.dtype.name for key, rows in observations.items()} == {
        "a": "float64",
        "a%wider": "float32",
        "a.wider": "float32",
    }
    assert observations["a"].tolist() == [[0.5, 0.5], [0.5, 0.5], [0.1, 0.1]]


@pytest.mark.parametrize(
    ("shape", "chunk_rows"),
    [((100, 100), None), ((3,), 10), ((3,), 100_000)],
    ids=["fewer rows fit", "made with few", "made with many"],
)
def test_an_array_may_have_chunks_of_another_size_once_it_is_widened(
    path: Path, shape: tuple[int, ...], chunk_rows: int | None
) -> None:
    header = Header(
        "data",
        describe_space(gymnasium.spaces.Box(0, 255, shape, np.uint8)),
        describe_space(gymnasium.spaces.Discrete(2)),
    )
    expected = [*range(45), *range(1000, 1045), *range(1000, 1100)]
    # The second writer goes on with an array that the first made, and with another dtype soon.
    for first, last, rows in ((0, 30, chunk_rows), (30, 190, None)):
        writer = HDF5Writer(path, chunk_rows=rows)
        writer.begin(header)
        for number in expected[first:last]:
            dtype = np.uint8 if number < 256 else np.int64
            if number % 10 == 0:
                writer.write_reset(0.0, np.full(shape, number, dtype), {}, None, None)
            else:
                writer.write_step(0.0, np.full(shape, number, dtype), 0, 0.0, False, False, {})
            if number % 15 == 0:
                writer.flush()
        writer.close()
    found = [episode.observations for episode in HDF5Reader(path)]
    assert {rows.dtype.name for rows in found} == {"int64"}
    assert [int(row.flat[0]) for rows in found for row in rows] == expected
    assert all((row == row.flat[0]).all() for rows in found for row in rows)


def test_a_journal_that_is_damaged_while_it_is_written_is_not_passed_over(path: Path) -> None:
    episodes = play(BOX, [(5, T)], actions=DISCRETE)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), episodes, close=False)
    writer.flush()
    journal = path.with_name(path.name + ".journal")
    size = journal.stat().st_size
    with journal.open("r+b") as file:
        file.seek(size - 1)
        (byte,) = file.read(1)
        file.seek(size - 1)
        file.write(bytes([byte ^ 1]))
    with pytest.raises(GymbagError, match="damaged"):
        writer.close()


def test_steps_with_large_infos_are_read_a_few_at_a_time(path: Path) -> None:
    writer = HDF5Writer(path)
    (episode,) = play(BOX, [(400, T)], actions=DISCRETE)
    episode.infos[:] = [{"image": np.full(30_000, step % 256, np.uint8)} for step in range(401)]
    write(writer, header_of(BOX, DISCRETE), [episode])
    steps = iter(HDF5Reader(path)[0])
    next(steps)
    tracemalloc.start()
    for step, found in enumerate(steps, start=1):
        assert found.info is not None
        assert found.info["image"][0] == step % 256
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12_000_000, "of 12 MB of images, which take 16 MB as text"


def test_a_link_out_of_a_file_is_not_followed(path: Path) -> None:
    precious = path.with_name("precious.h5")
    record(precious, name="mine/data")
    before = precious.read_bytes()
    with h5py.File(path, "w") as file:
        file["mine"] = h5py.ExternalLink("precious.h5", "/mine")
    with pytest.raises(StorageError):
        record(path, name="mine/data")
    with pytest.raises(DataSetNotFoundError):
        HDF5Reader(path, "mine/data")
    assert precious.read_bytes() == before


def test_bytes_too_many_are_noticed_before_more_is_recorded(path: Path) -> None:
    case = space_case("Text")
    writer = HDF5Writer(path)
    write(writer, header_of(case), play(case, [(3, T)]))
    with h5py.File(path, "r+") as file:
        data = file[f"{header_of(case).name}/observations/data"]
        data.resize(len(data) + 2, axis=0)
    with pytest.raises(DamagedFileError, match="observations/ends"):
        HDF5Writer(path).begin(header_of(case))


def test_a_file_that_plain_h5py_has_open_is_in_use(path: Path) -> None:
    record(path)
    with h5py.File(path, "r+"), pytest.raises(FileInUseError, match="open for writing in another program"):
        record(path)
    with h5py.File(path):
        record(path)
    record(path)


def test_nothing_is_written_while_nothing_happens(path: Path) -> None:
    writer = HDF5Writer(path, flush_seconds=1e6)
    writer.begin(header_of(BOX))
    write_episodes(writer, play(BOX, [(3, X)]))
    writer.flush()
    journal = path.with_name(path.name + ".journal")
    before = journal.stat().st_size
    writer.flush()
    assert journal.stat().st_size == before > 0
    write_episodes(writer, play(BOX, [(1, T)]))
    writer.flush()
    assert journal.stat().st_size > before
    writer.close()
    assert len(HDF5Reader(path)) == 2


@pytest.mark.parametrize(
    ("chunk_rows", "expected"),
    [
        (None, (256, 8192)),
        (16, (16, 16)),
        ({"observations": 16}, (16, 8192)),
        ({"rewards": 32}, (256, 32)),
    ],
    ids=["by default", "one for all", "of the large column", "of a small one"],
)
def test_chunks_have_as_many_rows_as_asked_for(
    path: Path, chunk_rows: Any, expected: tuple[int, int]
) -> None:
    space = describe_space(gymnasium.spaces.Box(0, 255, (84, 84), np.uint8))
    writer = HDF5Writer(path, chunk_rows=chunk_rows)
    writer.begin(Header("frames", space, describe_space(gymnasium.spaces.Discrete(2))))
    frames = np.random.default_rng(1).integers(0, 255, (40, 84, 84), np.uint8)
    writer.write_reset(0.0, frames[0], {}, None, None)
    for frame in frames[1:]:
        writer.write_step(0.0, frame, 1, 1.0, False, False, {})
    writer.close()
    with h5py.File(path) as file:
        assert tuple(file[f"frames/{name}"].chunks[0] for name in ("observations", "rewards")) == expected
        assert file["frames/episodes/first_row"].chunks == (2048,)
    assert (HDF5Reader(path)[0].observations == frames).all()


@pytest.mark.parametrize(
    ("chunk_rows", "message"),
    [
        (0, "expected chunk_rows from 1 to 2147483648, found 0"),
        ({"rewards": -1}, "expected chunk_rows from 1 to 2147483648, found -1"),
        ({"frames": 16}, "expected chunk_rows of some of the columns observations, .*, found 'frames'"),
    ],
)
def test_chunks_that_cannot_be_are_refused(path: Path, chunk_rows: Any, message: str) -> None:
    with pytest.raises(StorageError, match=message):
        HDF5Writer(path, chunk_rows=chunk_rows)
    assert not path.exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system does not tell what is open")
def test_readers_that_are_forgotten_leave_nothing_open(path: Path) -> None:
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), play(BOX, [(5, T)], actions=DISCRETE), close=False)
    writer.flush()  # so that there is a journal, too

    def read() -> None:
        readers = [HDF5Reader(path) for _ in range(20)]
        assert all(len(list(reader[0])) == 6 for reader in readers)

    def count_open() -> int:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir()))

    read()
    before = count_open()
    read()
    assert count_open() == before
    writer.close()


def test_a_reader_may_outlive_the_names_of_the_module_that_closes_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(HDF5Writer(path), header_of(BOX, DISCRETE), play(BOX, [(5, T)], actions=DISCRETE))
    reader = HDF5Reader(path)
    list(reader[0])
    # As the interpreter does at its end, to a module that something still refers to.
    monkeypatch.setattr("gymbag.storage.snapshot.sys", None)
    del reader
    gc.collect()  # an exception in a finalizer is a warning, and that an error
