"""What is done after a process was killed, or a disk has failed: `gymbag.repair` and `gymbag.salvage`."""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cases import SpaceCase, space_case
from damage import copy_recording, flip
from recorded import Played, assert_recorded, header_of, play, write, write_episodes
from same import assert_same
from workers import record_and_die

from gymbag import repair, salvage
from gymbag.errors import DamagedFileError, FileInUseError, StorageError
from gymbag.storage.hdf5_reader import HDF5Reader, list_datasets
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import PREAMBLE_BYTES, journal_path

pytestmark = pytest.mark.crash

T, U, X = "terminated", "truncated", "unfinished"
ROBOT = SpaceCase("Robot", "gymnasium", lambda s: s.Dict(at=s.Box(-1, 1, (2,)), word=s.Text(4)))
BOX, DISCRETE = space_case("Box-unbounded"), space_case("Discrete")
SMALL = 3000  # bytes, for a journal
SHAPE = [(3, T), (2, U), (0, X), (5, T), (4, X)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "salvaged.h5"


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(
    path: Path, case: SpaceCase = BOX, shape: Any = SHAPE, first: int = 0, **facts: Any
) -> list[Played]:
    episodes = play(case, shape, actions=DISCRETE, infos=True, first=first)
    options = facts.pop("options", {})
    write(HDF5Writer(path, **options), header_of(case, DISCRETE, **facts), episodes)
    return episodes


def record_and_kill(
    path: Path,
    case: SpaceCase = BOX,
    shape: Any = SHAPE,
    first: int = 0,
    flush_each: bool = True,
    largest_journal: int = 1 << 26,
    **options: Any,
) -> list[Played]:
    """Have a process record, and kill it; return what it recorded."""
    episodes = play(case, shape, actions=DISCRETE, infos=True, first=first)
    arguments = path, header_of(case, DISCRETE), episodes, flush_each, largest_journal, options
    process = multiprocessing.get_context("spawn").Process(target=record_and_die, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    return episodes


def assert_plain_h5py_shows(path: Path, episodes: Sequence[Played]) -> None:
    """Assert that the arrays of a file, read with nothing but h5py, hold these episodes."""
    with h5py.File(path) as file:
        group = file["Data-v0"]
        if not all(h5py.h5z.filter_avail(number) for number in filters_of(group["rewards"])):
            return  # zstd, for which it needs a plug-in
        table = group["episodes"]
        assert table["length"][:].tolist() == [len(episode) for episode in episodes]
        assert table["ending"][:].tolist() == [
            episode.terminated + 2 * episode.truncated for episode in episodes
        ]
        rewards = [reward for episode in episodes for reward in episode.rewards]
        assert group["rewards"][:].tolist() == rewards
        times = [time for episode in episodes for time in episode.times[1:]]
        assert group["times"][:].tolist() == times
        if isinstance(group["observations"], h5py.Dataset) and rewards:
            before = [value for episode in episodes for value in episode.observations[:-1]]
            assert_same(group["observations"][:], np.array(before))


def filters_of(dataset: h5py.Dataset) -> list[int]:
    plist = dataset.id.get_create_plist()
    return [plist.get_filter(position)[0] for position in range(plist.get_nfilters())]


# Repair.


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lzf", None])
@pytest.mark.parametrize("largest_journal", [1 << 26, SMALL], ids=["no fold", "folds"])
@pytest.mark.parametrize("case", [BOX, ROBOT], ids=str)
def test_repair_puts_the_rows_of_a_killed_process_into_the_file(
    path: Path, case: SpaceCase, largest_journal: int, compression: str | None
) -> None:
    episodes = record_and_kill(path, case, largest_journal=largest_journal, compression=compression)
    has_rows = journal_path(path).stat().st_size > PREAMBLE_BYTES
    assert has_rows or largest_journal == SMALL
    assert_recorded(HDF5Reader(path), episodes)
    assert repair(path) == has_rows
    assert not journal_path(path).exists()
    assert_plain_h5py_shows(path, episodes)
    assert_recorded(HDF5Reader(path), episodes)
    before = fingerprint(path)
    assert not repair(path)
    assert fingerprint(path) == before
    assert not journal_path(path).exists()


def test_repair_goes_on_with_what_was_closed_before(path: Path) -> None:
    episodes = record(path) + record_and_kill(path, first=5)
    assert repair(path)
    assert_plain_h5py_shows(path, episodes)
    episodes += record(path, first=10)
    assert_recorded(HDF5Reader(path), episodes)


@pytest.mark.parametrize("shape", [[], [(0, X)], [(1, X)]], ids=str)
def test_a_process_killed_at_its_beginning_leaves_what_it_had(path: Path, shape: Any) -> None:
    episodes = record_and_kill(path, shape=shape)
    repair(path)
    assert not journal_path(path).exists()
    assert_recorded(HDF5Reader(path), episodes)
    assert_plain_h5py_shows(path, episodes)
    assert not repair(path)


def test_repair_takes_what_was_not_flushed_for_never_recorded(path: Path) -> None:
    before = record(path)
    record_and_kill(path, flush_each=False, flush_seconds=1e6)
    repair(path)
    assert_plain_h5py_shows(path, before)
    assert not journal_path(path).exists()


def test_there_is_nothing_to_repair_in_a_closed_file(path: Path) -> None:
    episodes = record(path)
    before = fingerprint(path)
    assert not repair(path)
    assert fingerprint(path) == before
    assert_recorded(HDF5Reader(path), episodes)


def test_a_journal_without_rows_is_removed(path: Path) -> None:
    episodes = record(path)
    for content in (b"", b"\0" * 10):
        journal_path(path).write_bytes(content)
        assert not repair(path)
        assert not journal_path(path).exists()
    assert_recorded(HDF5Reader(path), episodes)


def test_repair_leaves_a_file_alone_that_is_being_recorded_to(path: Path) -> None:
    episodes = play(BOX, SHAPE, actions=DISCRETE)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), episodes[:2], close=False)
    writer.flush()
    before = fingerprint(path), fingerprint(journal_path(path))
    with pytest.raises(FileInUseError, match="is being recorded to"):
        repair(path)
    assert (fingerprint(path), fingerprint(journal_path(path))) == before
    write_episodes(writer, episodes[2:])
    writer.close()
    assert_recorded(HDF5Reader(path), episodes)


def test_repair_says_what_is_missing(path: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="found nothing"):
        repair(path)
    with pytest.raises(StorageError, match="found a folder"):
        repair(tmp_path)
    path.write_bytes(b"no HDF5")
    with pytest.raises(DamagedFileError, match="expected an HDF5 file"):
        repair(path)
    assert path.read_bytes() == b"no HDF5"
    assert sorted(tmp_path.iterdir()) == [path]


def test_repair_works_through_links_and_names_given_as_text(path: Path) -> None:
    episodes = record_and_kill(path)
    link = path.with_name("link.h5")
    link.symlink_to(path)
    assert repair(str(link))
    assert not journal_path(path).exists()
    assert_plain_h5py_shows(path, episodes)


def test_repair_refuses_a_damaged_journal_and_changes_nothing(path: Path) -> None:
    record_and_kill(path)
    flip(journal_path(path), PREAMBLE_BYTES + 3, 1)
    before = fingerprint(path), fingerprint(journal_path(path))
    for _ in range(2):
        with pytest.raises(DamagedFileError, match=r"gymbag\.salvage"):
            repair(path)
        assert (fingerprint(path), fingerprint(journal_path(path))) == before


def test_the_journal_of_another_file_is_refused(path: Path) -> None:
    episodes = record(path)
    other = path.with_name("other.h5")
    record(other, ROBOT)
    record_and_kill(other, ROBOT, first=5)
    shutil.copyfile(journal_path(other), journal_path(path))
    before = fingerprint(path), fingerprint(journal_path(path))
    for refuse in (repair, HDF5Reader, list_datasets):
        with pytest.raises(DamagedFileError, match=r"recording\.h5"):
            refuse(path)
    with pytest.raises(DamagedFileError):
        record(path)
    assert (fingerprint(path), fingerprint(journal_path(path))) == before
    saved = path.with_name("saved.h5")
    found = salvage(path, saved)
    assert found.saved == {"Data-v0": len(episodes)}
    assert list(found.lost) == ["recording.h5.journal"]
    assert_recorded(HDF5Reader(saved), episodes)


# Salvage.


@pytest.mark.parametrize("case", [BOX, ROBOT, space_case("Dict-nested"), space_case("Graph")], ids=str)
def test_salvage_copies_a_healthy_file(path: Path, target: Path, case: SpaceCase) -> None:
    facts = {
        "description": "mine",
        "metadata": {"a": (1, 2)},
        "spec": {"id": "x"},
        "versions": {"gymbag": "1"},
    }
    episodes = record(path, case, name="ns/One-v0", **facts)
    others = record(path, name="Two-v0")
    before = fingerprint(path)
    found = salvage(path, target)
    assert (found.saved, found.lost) == ({"Two-v0": 5, "ns/One-v0": 5}, {})
    assert_recorded(HDF5Reader(target, "ns/One-v0"), episodes)
    assert_recorded(HDF5Reader(target, "Two-v0"), others)
    assert HDF5Reader(target, "ns/One-v0").header == HDF5Reader(path, "ns/One-v0").header
    assert fingerprint(path) == before


def test_salvage_needs_a_source_and_a_new_name(path: Path, target: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="found nothing"):
        salvage(path, target)
    with pytest.raises(StorageError, match="found a folder"):
        salvage(tmp_path, target)
    path.write_bytes(b"no HDF5")
    with pytest.raises(DamagedFileError, match="expected an HDF5 file"):
        salvage(path, target)
    assert not target.exists()
    record_to = path.with_name("sound.h5")
    record(record_to)
    for there in (path, record_to):
        before = fingerprint(there)
        with pytest.raises(StorageError, match="found one that exists"):
            salvage(record_to, there)
        assert fingerprint(there) == before
    with pytest.raises(StorageError, match="make it first"):
        salvage(record_to, tmp_path / "missing" / "new.h5")


def test_salvage_of_a_file_without_data_sets_makes_none(path: Path, target: Path) -> None:
    h5py.File(path, "w").close()
    found = salvage(path, target)
    assert (found.saved, found.lost) == ({}, {})
    assert not target.exists()


def test_salvage_takes_the_rows_of_a_killed_process(path: Path, target: Path) -> None:
    episodes = record(path) + record_and_kill(path, first=5)
    before = fingerprint(path), fingerprint(journal_path(path))
    assert salvage(path, target).lost == {}
    assert_recorded(HDF5Reader(target), episodes)
    assert (fingerprint(path), fingerprint(journal_path(path))) == before


def test_salvage_takes_a_recording_that_goes_on(path: Path, target: Path) -> None:
    episodes = play(BOX, SHAPE, actions=DISCRETE)
    writer = HDF5Writer(path)
    write(writer, header_of(BOX, DISCRETE), episodes, close=False)
    assert salvage(path, target).lost == {}
    writer.close()
    assert_recorded(HDF5Reader(target), episodes)


@pytest.mark.parametrize("compression", ["gzip", "zstd", "lzf", None])
@pytest.mark.parametrize("array", ["observations", "infos/ends", "rewards"])
def test_a_damaged_chunk_takes_its_episodes_along_and_no_others(
    path: Path, target: Path, array: str, compression: str | None
) -> None:
    shape = [(6, T), (10, U), (6, T), (12, U), (5, X)]
    episodes = record(path, BOX, shape, options={"chunk_rows": 8, "compression": compression})
    with h5py.File(path) as file:
        chunk = file[f"Data-v0/{array}"].id.get_chunk_info(1)  # rows 8 to 16
    flip(path, chunk.byte_offset + chunk.size // 2, 1)
    found = salvage(path, target)
    # Ends of the rows before are needed, too: episode 2 begins at row 16.
    lost = [1, 2] if array == "infos/ends" else [1]
    assert list(found.lost) == [f"Data-v0, episode {number}" for number in lost]
    assert found.saved == {"Data-v0": 5 - len(lost)}
    for reason in found.lost.values():
        assert f"Data-v0/{array} cannot be read" in reason
        assert "recording.h5" in reason
    assert_recorded(HDF5Reader(target), [e for number, e in enumerate(episodes) if number not in lost])


def test_a_damaged_data_set_takes_no_others_along(path: Path, target: Path) -> None:
    record(path, name="One-v0")
    others = record(path, ROBOT, name="Two-v0")
    with h5py.File(path, "r+") as file:
        del file["One-v0/rewards"]
    found = salvage(path, target)
    assert found.saved == {"One-v0": 0, "Two-v0": 5}
    assert [what.partition(",")[0] for what in found.lost] == ["One-v0"] * len(found.lost)
    assert found.lost
    assert_recorded(HDF5Reader(target, "Two-v0"), others)


def test_damaged_sessions_do_not_take_the_episodes_along(path: Path, target: Path) -> None:
    episodes = record(path)
    with h5py.File(path) as file:
        chunk = file["Data-v0/sessions/data"].id.get_chunk_info(0)
    flip(path, chunk.byte_offset + chunk.size // 2, 1)
    assert salvage(path, target).saved == {"Data-v0": 5}
    assert_recorded(HDF5Reader(target), episodes)


def _blocks(path: Path, count: int) -> tuple[list[Played], list[int]]:
    """Record episodes, leave them in the journal, and tell where each of their blocks ends."""
    episodes = record(path)
    going_on = path.with_name("going_on.h5")
    path.rename(going_on)
    more = play(BOX, [(4, T)] * count, actions=DISCRETE, infos=True, first=5)
    writer = HDF5Writer(going_on, flush_seconds=1e6)
    writer.begin(header_of(BOX, DISCRETE))
    ends = [journal_path(going_on).stat().st_size]
    for episode in more:
        write_episodes(writer, [episode])
        writer.flush()
        ends.append(journal_path(going_on).stat().st_size)
    copy_recording(going_on, path)
    writer.close()
    return [*episodes, *more], ends


@pytest.mark.parametrize("offset", [0, 5, 21, 40], ids=["magic", "size", "checksum", "contents"])
@pytest.mark.parametrize("block", [0, 1, 3])
def test_what_came_before_a_damaged_block_is_saved(path: Path, target: Path, block: int, offset: int) -> None:
    episodes, ends = _blocks(path, 5)
    flip(journal_path(path), ends[block] + offset, 1)
    with pytest.raises(DamagedFileError, match=r"recording\.h5\.journal.*damaged"):
        HDF5Reader(path)
    found = salvage(path, target)
    assert found.saved == {"Data-v0": 5 + block}
    assert list(found.lost) == ["recording.h5.journal"]
    assert f"byte {ends[block]}" in found.lost["recording.h5.journal"]
    assert_recorded(HDF5Reader(target), episodes[: 5 + block])


def test_damaged_rows_in_a_journal_take_only_their_episodes_along(path: Path, target: Path) -> None:
    episodes, ends = _blocks(path, 5)
    data = journal_path(path).read_bytes()
    reward = np.float64(episodes[7].rewards[2]).tobytes()
    flip(journal_path(path), data.index(reward, ends[2]), 1)
    reader = HDF5Reader(path)
    assert_same(reader[6].rewards, np.array(episodes[6].rewards))
    with pytest.raises(DamagedFileError, match=r"recording\.h5: rows 22 to 26 of Data-v0/rewards.*journal"):
        _ = reader[7].rewards
    found = salvage(path, target)
    assert list(found.lost) == ["Data-v0, episode 7"]
    assert_recorded(HDF5Reader(target), [*episodes[:7], *episodes[8:]])


TABLES = Path(__file__).parents[1] / "data" / "gymbag_0_4_9"


@pytest.mark.parametrize("name", sorted(file.name for file in TABLES.glob("*.h5")))
def test_salvage_converts_tables_of_gymbag_0_4(target: Path, name: str) -> None:
    before = fingerprint(TABLES / name)
    found = salvage(TABLES / name, target)
    assert found.lost == {}
    assert found.saved
    for table, count in found.saved.items():
        old, new = HDF5Reader(TABLES / name, table), HDF5Reader(target, table)
        assert len(old) == len(new) == count
        for ours, theirs in zip(new, old, strict=True):
            assert_same(ours.rewards, theirs.rewards)
            assert_same(ours.times, theirs.times)
            assert_same(ours.infos, theirs.infos)
            assert ours.ending == theirs.ending
            assert_same(list(ours.observations), list(theirs.observations))
            assert_same(list(ours.actions), list(theirs.actions))
    assert fingerprint(TABLES / name) == before
