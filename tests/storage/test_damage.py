"""Damaged files: whatever happens to their bytes, readers give what was recorded or one of our errors."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from cases import SpaceCase, space_case
from damage import Answers, ReadingProcess, Trouble, append, copy_recording, flip, read_all, salvage_and_read
from recorded import Played, assert_recorded, header_of, play, write, write_episodes

from gymbag.errors import DamagedFileError
from gymbag.salvaging import salvage
from gymbag.storage.base import Header
from gymbag.storage.hdf5_reader import HDF5Reader, get_dataset, list_datasets
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import PREAMBLE_BYTES, journal_path

pytestmark = pytest.mark.crash

T, U, X = "terminated", "truncated", "unfinished"
ROBOT = SpaceCase("Robot", "gymnasium", lambda s: s.Dict(at=s.Box(-1, 1, (2,)), word=s.Text(4)))
FRAMES, DISCRETE = space_case("Box-uint8"), space_case("Discrete")

#: The data sets of the files that are damaged, and the episodes in each.
DATA_SETS: dict[str, tuple[SpaceCase, list[Any], dict[str, Any]]] = {
    "Robot-v0": (ROBOT, [(3, T), (2, U), (0, X), (4, X)], {}),
    "ALE/Frames-v5": (FRAMES, [(9, T), (7, U), (20, T), (5, X)], {"chunk_rows": 8}),
}
NAMES = list(DATA_SETS)

# How many bytes to flip of a file of each compression. They say it all but for HDF5's own structures, which
# are alike in all of them.
FLIPS = {"gzip": 80, "zstd": 20, "lzf": 20, None: 20}
MANY_FLIPS = 1000
JOURNAL_FLIPS = 40
# Salvaging is tried with two of so many files, and recording more with another two.
EVERY = 20


@dataclass
class Recording:
    """A file, and what there is in it.

    Attributes:
        path: The file.
        truth: What `read_all` says of it.
    """

    path: Path
    truth: Answers

    def episodes(self, name: str, answers: Answers | None = None) -> list[Any]:
        """List the episodes of a data set that could be read."""
        start, end = "episode ", f" of {name}"
        found = self.truth if answers is None else answers
        return [
            answer
            for question, answer in found.items()
            if question.startswith(start) and question.endswith(end) and not isinstance(answer, Trouble)
        ]


def header(name: str) -> Header:
    return header_of(DATA_SETS[name][0], DISCRETE, name=name, description=f"what {name} is")


def episodes_of(name: str) -> list[Played]:
    case, shape, _ = DATA_SETS[name]
    return play(case, shape, actions=DISCRETE, infos=True)


def record(path: Path, compression: str | None) -> None:
    """Record each data set in two sessions."""
    for name, (_, _, options) in DATA_SETS.items():
        *before, last = episodes_of(name)
        for episodes in (before, [last]):
            write(HDF5Writer(path, compression=compression, **options), header(name), episodes)


@pytest.fixture(scope="module")
def processes() -> Iterator[list[ReadingProcess]]:
    processes = [ReadingProcess(), ReadingProcess()]
    yield processes
    for process in processes:
        process.stop()


@pytest.fixture(scope="module")
def process(processes: Sequence[ReadingProcess]) -> ReadingProcess:
    return processes[0]


@pytest.fixture(scope="module")
def recording(
    process: ReadingProcess, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str | None], Recording]:
    @functools.cache
    def make(compression: str | None) -> Recording:
        path = tmp_path_factory.mktemp("whole") / "recording.h5"
        record(path, compression)
        for name in NAMES:
            assert_recorded(HDF5Reader(path, name), episodes_of(name))
        truth = process(read_all, path, NAMES)
        assert not [answer for answer in truth.values() if isinstance(answer, Trouble)]
        return Recording(path, truth)

    return make


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "recording.h5"


def fingerprint(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def complaints(answers: Answers, truth: Answers, path: Path) -> list[str]:
    """List the answers that are neither the truth nor an error of ours that says where."""
    found = []
    for question, answer in answers.items():
        if not isinstance(answer, Trouble):
            if question not in truth or answer != truth[question]:
                found.append(f"{question}: another value")
        elif not answer.is_ours:
            found.append(f"{question}: {answer.kind}: {answer.text}")
        elif not any(name in answer.text for name in (str(path), *NAMES)):
            found.append(f"{question}: says not where: {answer.text}")
    if answers.keys() != truth.keys() and not has_trouble(answers):
        found.append("something is missing")
    return found


def has_trouble(answers: Answers) -> bool:
    return any(isinstance(answer, Trouble) for answer in answers.values())


def complaints_of_salvage(
    process: ReadingProcess, path: Path, answers: Answers, whole: Recording
) -> list[str]:
    """Salvage a file of which some questions had errors for answers; list what is wrong with that."""
    target = path.with_name("salvaged.h5")
    target.unlink(missing_ok=True)
    saved, lost, found = process(salvage_and_read, path, target, NAMES)
    if isinstance(lost, Trouble):
        opens = not isinstance(answers["data sets"], Trouble)
        return [] if lost.is_ours and not opens else [f"salvage: {lost.kind}: {lost.text}"]
    wrong = []
    for name in NAMES:
        readable, kept = whole.episodes(name, answers), whole.episodes(name, found)
        # Numbers change when episodes before are lost, but are not part of what was read.
        if any(episode not in kept for episode in readable) or saved.get(name, 0) != len(kept):
            wrong.append(f"salvage: {len(kept)} episodes of {name} in place of {len(readable)}")
        if any(episode not in whole.episodes(name) for episode in kept):
            wrong.append(f"salvage: other values in {name}")
        is_named = any(what == "/" or name.startswith(what) or what.startswith(name) for what in lost)
        if len(kept) < len(whole.episodes(name)) and not is_named:
            wrong.append(f"salvage: {name} is not among what was lost: {lost}")
    return wrong


def complaints_of_append(
    process: ReadingProcess, path: Path, answers: Answers, whole: Recording
) -> list[str]:
    """Record more to a damaged file; list what is wrong with that."""
    before, wrong = fingerprint(path), []
    for name in NAMES:
        trouble = process(append, path, header(name), episodes_of(name)[:1])
        if trouble is not None:
            if not trouble.is_ours:
                wrong.append(f"append to {name}: {trouble.kind}: {trouble.text}")
            if fingerprint(path) != before or journal_path(path).exists():
                wrong.append(f"append to {name}: refused, but the file was changed: {trouble.text}")
        before = fingerprint(path)
    after = process(read_all, path, NAMES)
    for question, answer in answers.items():
        if (
            question.startswith("episode ")
            and not isinstance(answer, Trouble)
            and answer != after.get(question)
        ):
            wrong.append(f"append: {question} was readable before: {after.get(question)}")
    return wrong


def flips(path: Path, count: int, seed: int) -> Iterator[tuple[int, int]]:
    """Draw bytes of a file, and the bits of them to change."""
    generator = random.Random(seed)
    for _ in range(count):
        yield generator.randrange(path.stat().st_size), generator.randrange(1, 256)


def examine(
    folder: Path,
    processes: Sequence[ReadingProcess],
    places: Iterable[tuple[int, int]],
    find_complaints: Callable[[ReadingProcess, Path, int, int, int], list[str]],
) -> None:
    """Have each process look at its share of the flips, and report what is wrong with any of them."""
    numbered = list(enumerate(places))

    def work(turn: int) -> list[str]:
        (folder / str(turn)).mkdir()
        path = folder / str(turn) / "recording.h5"
        found = []
        for number, (offset, mask) in numbered[turn :: len(processes)]:
            wrong = find_complaints(processes[turn], path, number, offset, mask)
            found += [f"byte {offset}, bits {mask}: {what}" for what in wrong]
        return found

    with ThreadPoolExecutor(len(processes)) as threads:
        wrong = [line for lines in threads.map(work, range(len(processes))) for line in lines]
    assert not wrong, "\n".join(wrong)


def check_flips(
    folder: Path, processes: Sequence[ReadingProcess], whole: Recording, count: int, seed: int
) -> None:
    """Flip that many bytes of a recording, each in a copy of its own, and see what becomes of it."""
    damaged = []

    def look(process: ReadingProcess, path: Path, number: int, offset: int, mask: int) -> list[str]:
        copy_recording(whole.path, path)
        flip(path, offset, mask)
        answers = process(read_all, path, NAMES)
        found = complaints(answers, whole.truth, path)
        if has_trouble(answers):
            damaged.append(offset)
            if number % EVERY in (0, 1):
                found += complaints_of_salvage(process, path, answers, whole)
        if number % EVERY in (2, 3):
            found += complaints_of_append(process, path, answers, whole)
        return found

    examine(folder, processes, flips(whole.path, count, seed), look)
    assert len(damaged) > count // 2  # or it is not the bytes that matter which were changed


@pytest.mark.parametrize("compression", FLIPS, ids=str)
def test_a_changed_byte_is_noticed_wherever_it_is(
    tmp_path: Path,
    processes: Sequence[ReadingProcess],
    recording: Callable[..., Recording],
    compression: str | None,
) -> None:
    check_flips(tmp_path, processes, recording(compression), FLIPS[compression], seed=1)


@pytest.mark.exhaustive
@pytest.mark.parametrize("compression", FLIPS, ids=str)
def test_a_changed_byte_is_noticed_wherever_it_is_exhaustively(
    tmp_path: Path,
    processes: Sequence[ReadingProcess],
    recording: Callable[..., Recording],
    compression: str | None,
) -> None:
    check_flips(tmp_path, processes, recording(compression), MANY_FLIPS, seed=2)


# Other damage than a byte.


def zero(data: bytearray, start: int, stop: int, generator: random.Random) -> None:
    data[start:stop] = bytes(stop - start)


def fill(data: bytearray, start: int, stop: int, generator: random.Random) -> None:
    data[start:stop] = generator.randbytes(stop - start)


def move(data: bytearray, start: int, stop: int, generator: random.Random) -> None:
    """Put what stands somewhere else in place of it, as a disk does that writes to the wrong place."""
    other = generator.randrange(len(data) - (stop - start) + 1)
    data[start:stop] = data[other : other + stop - start]


@pytest.mark.parametrize("compression", FLIPS, ids=str)
@pytest.mark.parametrize("damage", [zero, fill, move])
def test_damaged_blocks_of_the_disk_are_noticed(
    path: Path,
    process: ReadingProcess,
    recording: Callable[..., Recording],
    compression: str | None,
    damage: Callable[..., None],
) -> None:
    whole = recording(compression)
    generator = random.Random(2)
    data = whole.path.read_bytes()
    for number in range(12):
        size = (512, 4096)[number % 2]
        start = generator.randrange(len(data)) // size * size
        damaged = bytearray(data)
        damage(damaged, start, min(start + size, len(data)), generator)
        path.write_bytes(damaged)
        answers = process(read_all, path, NAMES)
        assert not complaints(answers, whole.truth, path), (start, size)
        if has_trouble(answers) and number % 4 == 0:
            assert not complaints_of_salvage(process, path, answers, whole), (start, size)


def test_a_file_cut_anywhere_is_noticed(
    path: Path, process: ReadingProcess, recording: Callable[..., Recording]
) -> None:
    whole = recording("gzip")
    size = whole.path.stat().st_size
    for length in {*range(0, size, size // 40), 1, 7, 8, 47, 48, 512, size - 1, size - 8, size - 4096}:
        copy_recording(whole.path, path)
        os.truncate(path, length)
        answers = process(read_all, path, NAMES)
        assert has_trouble(answers), length
        assert not complaints(answers, whole.truth, path), length
        assert not complaints_of_append(process, path, answers, whole), length
        assert not complaints_of_salvage(process, path, answers, whole), length


@pytest.mark.parametrize("garbage", [b"\0", b"x" * 1000, bytes(5000), b"\x89HDF\r\n\x1a\n" * 100], ids=len)
def test_a_file_that_is_followed_by_something_is_read_and_continued(
    path: Path, process: ReadingProcess, recording: Callable[..., Recording], garbage: bytes
) -> None:
    whole = recording("gzip")
    copy_recording(whole.path, path)
    with path.open("ab") as file:
        file.write(garbage)
    answers = process(read_all, path, NAMES)
    assert not has_trouble(answers)
    assert not complaints(answers, whole.truth, path)
    for name in NAMES:
        write(HDF5Writer(path), header(name), episodes_of(name)[:1])
        assert_recorded(HDF5Reader(path, name), [*episodes_of(name), *episodes_of(name)[:1]])


def make_hdf5(path: Path, **facts: Any) -> h5py.File:
    return h5py.File(path, "w", **facts)


def write_foreign(path: Path) -> None:
    with make_hdf5(path) as file:
        file["numbers"] = np.arange(5)
        file["deep/table"] = np.zeros(3, [("a", "i4"), ("b", "S3")])
        file.attrs["format"] = "gymbag"


def write_old_hdf5(path: Path) -> None:
    with make_hdf5(path, libver="earliest") as file:
        file["text"] = "words"
        file["group"] = h5py.SoftLink("/nowhere")


def write_with_user_block(path: Path) -> None:
    make_hdf5(path, userblock_size=512).close()


def write_names_alone(path: Path) -> None:
    with make_hdf5(path) as file:
        group = file.create_group("Robot-v0")
        group.attrs["format"] = "gymbag"


def write_numbers_for_names(path: Path) -> None:
    with make_hdf5(path) as file:
        for name, value in (("number", 5), ("list", ["gymbag"]), ("nothing", h5py.Empty("S1"))):
            file.create_group(name).attrs["format"] = value


FOREIGN: list[Callable[[Path], Any]] = [
    write_foreign,
    write_old_hdf5,
    write_with_user_block,
    write_names_alone,
    write_numbers_for_names,
]
NO_HDF5: dict[str, bytes] = {
    "empty": b"",
    "a byte": b"\0",
    "zeros": bytes(10_000),
    "text": b"# not a recording\n" * 100,
    "noise": random.Random(3).randbytes(10_000),
    "signature": b"\x89HDF\r\n\x1a\n",
    "signature and zeros": b"\x89HDF\r\n\x1a\n" + bytes(10_000),
    "signature and noise": b"\x89HDF\r\n\x1a\n" + random.Random(4).randbytes(10_000),
    "archive": b"PK\3\4" + bytes(100),
}


def assert_refused(process: ReadingProcess, path: Path) -> None:
    """Assert that whatever is done with a file that has none of our data sets, it is reported."""
    before = fingerprint(path)
    answers = process(read_all, path, NAMES)
    assert not complaints(answers, {}, path)
    assert has_trouble(answers)
    target = path.with_name("salvaged.h5")
    saved, lost, _ = process(salvage_and_read, path, target, NAMES)
    assert saved == {} or (isinstance(lost, Trouble) and lost.is_ours), lost
    assert not target.exists()
    assert fingerprint(path) == before


@pytest.mark.parametrize("content", NO_HDF5.values(), ids=NO_HDF5)
def test_a_file_that_is_no_hdf5_is_refused(path: Path, process: ReadingProcess, content: bytes) -> None:
    path.write_bytes(content)
    assert_refused(process, path)
    trouble = process(append, path, header("Robot-v0"), [])
    assert trouble is not None
    assert (trouble.kind, str(path) in trouble.text) == ("DamagedFileError", True), trouble
    assert path.read_bytes() == content
    assert not journal_path(path).exists()


@pytest.mark.parametrize("make", FOREIGN)
def test_hdf5_of_others_is_left_alone(
    path: Path, process: ReadingProcess, make: Callable[[Path], Any]
) -> None:
    make(path)
    with h5py.File(path) as file:
        nodes: list[str] = []
        file.visit(nodes.append)
    assert_foreign_is_refused(process, path)
    for name in NAMES:
        before = fingerprint(path)
        trouble = process(append, path, header(name), episodes_of(name))
        if trouble is None:
            assert_recorded(HDF5Reader(path, name), episodes_of(name))
        else:
            assert trouble.is_ours, trouble
            assert fingerprint(path) == before
    with h5py.File(path) as file:
        assert all(node in file or isinstance(file.get(node, getlink=True), h5py.SoftLink) for node in nodes)


def assert_foreign_is_refused(process: ReadingProcess, path: Path) -> None:
    before = fingerprint(path)
    answers = process(read_all, path, NAMES)
    listed = answers.pop("data sets")
    assert not complaints(answers, {}, path)
    if isinstance(listed, Trouble):
        assert listed.is_ours, listed
    target = path.with_name("salvaged.h5")
    saved, lost, _ = process(salvage_and_read, path, target, NAMES)
    assert saved == {} or (isinstance(lost, Trouble) and lost.is_ours), lost
    assert not target.exists()
    assert fingerprint(path) == before


def test_a_folder_is_refused(path: Path, process: ReadingProcess) -> None:
    path.mkdir()
    assert not complaints(process(read_all, path, NAMES), {}, path)
    trouble = process(append, path, header("Robot-v0"), [])
    assert trouble is not None
    assert trouble.is_ours
    saved, *_ = process(salvage_and_read, path, path.with_name("salvaged.h5"), NAMES)
    assert saved.is_ours


@pytest.mark.parametrize("word", ["space", "description"])
def test_large_attributes_are_checked(path: Path, word: str) -> None:
    case = space_case("Box-uneven-image")
    facts = header_of(case, DISCRETE, name="Images-v0", description="description " * 6000)
    write(HDF5Writer(path), facts, play(case, [(1, T)], actions=DISCRETE))
    with h5py.File(path) as file:
        text = file["Images-v0"].attrs["observation_space" if word == "space" else "description"]
    offset = path.read_bytes().index(text) + len(text) // 2
    flip(path, offset, 1)
    for read in (HDF5Reader, list_datasets, get_dataset):
        with pytest.raises(DamagedFileError, match=r"recording\.h5.*'Images-v0'"):
            read(path)
    with h5py.File(path, "r+") as file:
        del file["Images-v0"].attrs["checksum"]
    assert len(HDF5Reader(path)) == 1


def test_a_damaged_chunk_is_named_by_its_rows(path: Path) -> None:
    record(path, "gzip")
    with h5py.File(path) as file:
        chunk = file["ALE/Frames-v5/observations"].id.get_chunk_info(2)
    flip(path, chunk.byte_offset + chunk.size // 2, 1)
    reader = HDF5Reader(path, "ALE/Frames-v5")
    with pytest.raises(
        DamagedFileError, match=r"recording\.h5: rows 16 to 36 of ALE/Frames-v5/observations .*chunk"
    ):
        _ = reader[2].observations
    assert len(list(reader[0])) == 10


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_damaged_structures_are_no_missing_filter(path: Path, compression: str) -> None:
    record(path, compression)
    with h5py.File(path) as file:
        chunk = file["Robot-v0/times"].id.get_chunk_info(0)
    data = path.read_bytes()
    address = chunk.byte_offset.to_bytes(8, "little")
    flip(path, data.index(address), 0xFF)  # in the index of chunks
    with pytest.raises(DamagedFileError, match=r"recording\.h5: rows 0 to 3 of Robot-v0/times"):
        _ = HDF5Reader(path, "Robot-v0")[0].times


# The journal.


@dataclass
class Killed(Recording):
    """A file whose writer was killed.

    Attributes:
        states: For each block of the journal where it ends, and what `read_all` says while it is the last.
    """

    states: list[tuple[int, Answers]]


@pytest.fixture(scope="module")
def killed(process: ReadingProcess, tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Record, and stop without closing the writer."""
    folder = tmp_path_factory.mktemp("killed")
    going_on, path = folder / "going_on.h5", folder / "recording.h5"
    record(going_on, "gzip")
    name = "ALE/Frames-v5"
    writer = HDF5Writer(going_on, flush_seconds=1e6)
    writer.begin(header(name))
    states = []
    for episode in play(FRAMES, [(9, T), (3, X), (6, X)], actions=DISCRETE, infos=True, first=4):
        write_episodes(writer, [episode])
        writer.flush()
        copy_recording(going_on, path)
        states.append((journal_path(path).stat().st_size, process(read_all, path, NAMES)))
    writer.close()
    assert len({repr(answers) for _, answers in states}) == 3
    return Killed(path, states[-1][1], states)


def test_a_changed_byte_in_a_journal_is_noticed_wherever_it_is(
    tmp_path: Path, processes: Sequence[ReadingProcess], killed: Killed
) -> None:
    before_last, one_less = killed.states[-2]
    truths = [answers for _, answers in killed.states]
    true_episodes = [
        episode for truth in truths for name in NAMES for episode in killed.episodes(name, truth)
    ]

    def look(process: ReadingProcess, path: Path, number: int, offset: int, mask: int) -> list[str]:
        copy_recording(killed.path, path)
        flip(journal_path(path), offset, mask)
        answers = process(read_all, path, NAMES)
        found = complaints(answers, killed.truth, path)
        if found and offset >= before_last:
            # A last block that is not whole cannot be told from one whose writer was killed.
            found = complaints(answers, one_less, path)
        if has_trouble(answers) and number % EVERY in (0, 1):
            target = path.with_name("salvaged.h5")
            target.unlink(missing_ok=True)
            saved, lost, after = process(salvage_and_read, path, target, NAMES)
            if isinstance(lost, Trouble) or not lost or saved.get("Robot-v0") != 4:
                found.append(f"salvage: {saved}, {lost}")
            for name in NAMES:
                if any(episode not in true_episodes for episode in killed.episodes(name, after)):
                    found.append(f"salvage: other values in {name}")
        return found

    examine(tmp_path, processes, flips(journal_path(killed.path), JOURNAL_FLIPS, seed=5), look)


def test_a_journal_cut_anywhere_gives_what_was_written_before(
    path: Path, process: ReadingProcess, killed: Killed
) -> None:
    size = killed.states[-1][0]
    for length in {*range(PREAMBLE_BYTES, size, size // 20), size - 1}:
        copy_recording(killed.path, path)
        os.truncate(journal_path(path), length)
        whole = [answers for end, answers in killed.states if end <= length]
        answers = process(read_all, path, NAMES)
        assert not has_trouble(answers), length
        if whole:
            assert not complaints(answers, whole[-1], path), length


def test_zeros_in_the_middle_of_a_journal_are_noticed(path: Path, killed: Killed) -> None:
    copy_recording(killed.path, path)
    (first, _), (second, _), _ = killed.states
    data = bytearray(journal_path(path).read_bytes())
    data[first:second] = bytes(second - first)
    journal_path(path).write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"recording\.h5\.journal"):
        HDF5Reader(path, "Robot-v0")


def test_what_a_power_cut_leaves_of_the_last_block_is_passed_over(
    path: Path, process: ReadingProcess, killed: Killed
) -> None:
    copy_recording(killed.path, path)
    (end, expected), (size, _) = killed.states[-2:]
    data = bytearray(journal_path(path).read_bytes())
    data[end:size] = bytes(size - end)
    journal_path(path).write_bytes(data)
    assert not complaints(process(read_all, path, NAMES), expected, path)


def test_a_file_that_changed_under_its_journal_is_noticed(path: Path, killed: Killed) -> None:
    copy_recording(killed.path, path)
    flip(path, 20_000, 1)
    before = fingerprint(path), fingerprint(journal_path(path))
    with pytest.raises(DamagedFileError, match="the rows are those of another file"):
        HDF5Reader(path, "Robot-v0")
    with pytest.raises(DamagedFileError, match="or it is damaged"):
        HDF5Writer(path).begin(header("Robot-v0"))
    assert (fingerprint(path), fingerprint(journal_path(path))) == before


def test_what_the_journal_says_is_checked_as_a_whole(killed: Killed) -> None:
    data = journal_path(killed.path).read_bytes()
    assert data[PREAMBLE_BYTES:].startswith(b"rows")
    assert zlib.crc32(data[PREAMBLE_BYTES : PREAMBLE_BYTES + 44]) == int.from_bytes(
        data[PREAMBLE_BYTES + 44 : PREAMBLE_BYTES + 48], "little"
    )


LIES = {
    "null": b"null",
    "no list of entries": b'["Robot-v0",7]',
    "a name that is none": b"[7,[]]",
    "an entry that is none": b'["Robot-v0",[null]]',
    "a path that is none": b'["Robot-v0",[[7,0,0,"raw",0,0]]]',
    "rows before the first": b'["Robot-v0",[["rewards",-1,0,"raw",0,0]]]',
    "half a row": b'["Robot-v0",[["rewards",0,0.5,"raw",0,0]]]',
    "an unknown encoding": b'["Robot-v0",[["rewards",0,0,"pickle",0,0]]]',
    "more bytes than there are": b'["Robot-v0",[["rewards",0,1,"raw",8,0]]]',
    "fewer bytes than none": b'["Robot-v0",[["rewards",0,1,"raw",-8,0]]]',
    "lists in lists": b"[" * 100_000,
}


@pytest.mark.parametrize("contents", LIES.values(), ids=LIES)
def test_a_block_that_makes_no_sense_is_damage_though_its_checksums_are_right(
    path: Path, killed: Killed, contents: bytes
) -> None:
    copy_recording(killed.path, path)
    data = journal_path(path).read_bytes()
    head = struct.pack("<4sIQIQ16s", b"rows", len(contents), 0, zlib.crc32(contents), len(data), data[12:28])
    block = head + struct.pack("<I", zlib.crc32(head)) + contents
    journal_path(path).write_bytes(data + block)
    target = path.with_name("salvaged.h5")
    for look in (
        lambda: len(HDF5Reader(path, "Robot-v0")),
        lambda: HDF5Writer(path).begin(header("Robot-v0")),
    ):
        with pytest.raises(DamagedFileError, match=r"recording\.h5"):
            look()
    assert salvage(path, target).lost


@pytest.mark.parametrize("size", [0, 7, 15])
def test_a_redo_log_that_makes_no_sense_is_damage_though_its_checksums_are_right(
    path: Path, killed: Killed, size: int
) -> None:
    copy_recording(killed.path, path)
    data = bytearray(journal_path(path).read_bytes())
    log = bytes(size)
    slot = struct.pack("<QQI", len(data), len(data) + size, zlib.crc32(log))
    data[128:152] = slot + struct.pack("<I", zlib.crc32(slot))
    journal_path(path).write_bytes(data + log)
    with pytest.raises(DamagedFileError, match=r"redo log breaks off"):
        HDF5Reader(path, "Robot-v0")


@pytest.mark.parametrize(("start", "end"), [(200, 1 << 60), (300, 200), (0, 100)])
def test_a_commit_slot_that_makes_no_sense_is_damage_though_its_checksum_is_right(
    path: Path, killed: Killed, start: int, end: int
) -> None:
    copy_recording(killed.path, path)
    data = bytearray(journal_path(path).read_bytes())
    slot = struct.pack("<QQI", start, end, 0)
    data[128:152] = slot + struct.pack("<I", zlib.crc32(slot))
    journal_path(path).write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"redo log is damaged"):
        HDF5Reader(path, "Robot-v0")


def test_a_header_that_is_gone_is_damage_if_there_are_blocks(path: Path, killed: Killed) -> None:
    copy_recording(killed.path, path)
    data = bytearray(journal_path(path).read_bytes())
    data[:PREAMBLE_BYTES] = bytes(PREAMBLE_BYTES)
    journal_path(path).write_bytes(data)
    with pytest.raises(DamagedFileError, match=r"header is gone"):
        HDF5Reader(path, "Robot-v0")
