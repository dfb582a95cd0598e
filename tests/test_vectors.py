"""The test vectors hold what their JSON says: to gymbag, and to the reader that docs/format.md shows."""

from __future__ import annotations

import json
import re
import shutil
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin  # noqa: F401  brings HDF5 the filter of zstd
import pytest
from vectors import make

from gymbag import DamagedFileError, HDF5Reader, HDF5Writer, StorageError, list_datasets, repair
from gymbag.spaces import describe_space

PAGE = Path(__file__).parents[1] / "docs" / "format.md"
VECTORS = make.FOLDER

each_vector = pytest.mark.parametrize("name", make.VECTORS)

# Those with a journal that a killed recorder left.
JOURNALS = sorted(path.name.partition(".")[0] for path in VECTORS.glob("*.journal"))
# Their arrays are not chunked, so they cannot grow.
FIXED = ("rewritten",)


def load_page_reader() -> Any:
    """Load the reader of the page, which is in the blocks below the comment `reader`."""
    blocks = re.findall(r"^<!-- reader -->\n```python\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    reader = types.ModuleType("page_reader")
    exec(compile("\n".join(blocks), PAGE, "exec"), reader.__dict__)
    return reader


PAGE_READER = load_page_reader()


def expected_of(name: str) -> dict[str, Any]:
    return json.loads((VECTORS / f"{name}.json").read_text("ascii"))["data_sets"]


def described(values: Iterable[Any]) -> list[Any]:
    return [make.describe(value) for value in values]


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def read_with_gymbag(path: Path, name: str) -> dict[str, Any]:
    with HDF5Reader(path, name) as reader:
        return as_json(
            {
                "description": reader.description,
                "observation_space": make.describe(reader.header.observation_space),
                "action_space": make.describe(reader.header.action_space),
                "sessions": described(reader.sessions),
                "episodes": [describe_episode(episode) for episode in reader],
            }
        )


def describe_episode(episode: Any) -> dict[str, Any]:
    steps = list(episode)
    return {
        "seed": make.describe(episode.seed),
        "options": make.describe(episode.options),
        "terminated": episode.terminated,
        "truncated": episode.truncated,
        "observations": described(step.observation for step in steps),
        "actions": described(step.action for step in steps[1:]),
        "rewards": described(episode.rewards.tolist()),
        "times": described(episode.times.tolist()),
        "infos": described(episode.infos),
        **annotations_of(episode.annotations),
    }


def annotations_of(annotations: Any) -> dict[str, Any]:
    return {"annotations": described(annotations)} if any(annotations) else {}


def read_with_the_page(path: Path, name: str) -> dict[str, Any]:
    page = PAGE_READER
    file, journal = page.read_file(path)
    with file:
        group = file[name]
        arrays = page.add_rows(page.find_arrays(group), journal, name)
        spaces = {
            f"{kind}_space": page.decode_json(page.read_attribute(group, f"{kind}_space").encode())
            for kind in ("observation", "action")
        }
        sessions = page.read_bytes(arrays, "sessions", 0, len(arrays["sessions/ends"]))
        return as_json(
            {
                "format_version": page.read_attribute(group, "format_version"),
                "description": page.read_attribute(group, "description"),
                **{name: make.describe(space) for name, space in spaces.items()},
                "sessions": described(map(page.decode_json, sessions)),
                "episodes": [
                    describe_dict(episode, **{name: space["space"] for name, space in spaces.items()})
                    for episode in page.read_data_set(group, arrays)
                ],
            }
        )


def describe_dict(episode: dict[str, Any], observation_space: Any, action_space: Any) -> dict[str, Any]:
    """Describe an episode as the page reads it."""
    steps, rows_of = len(episode["rewards"]), PAGE_READER.rows_of
    return {
        "seed": make.describe(episode["seed"]),
        "options": make.describe(episode["options"]),
        "terminated": episode["terminated"],
        "truncated": episode["truncated"],
        "observations": described(rows_of(observation_space, episode["observations"], steps + 1)),
        "actions": described(rows_of(action_space, episode["actions"], steps)),
        "rewards": described(episode["rewards"].tolist()),
        "times": described(episode["times"].tolist()),
        "infos": described(episode["infos"]),
        **annotations_of(episode["annotations"] or ()),
    }


def copy_to(folder: Path, name: str) -> Path:
    """Copy a vector, and its journal if it has one."""
    for path in VECTORS.glob(f"{name}.h5*"):
        shutil.copy(path, folder)
    return folder / f"{name}.h5"


def without_version(data_set: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data_set.items() if key != "format_version"}


@each_vector
def test_gymbag_reads_it(name: str) -> None:
    expected = expected_of(name)
    path = VECTORS / f"{name}.h5"
    assert set(list_datasets(path)) == set(expected)
    for data_set in expected:
        assert read_with_gymbag(path, data_set) == without_version(expected[data_set])


@each_vector
def test_the_reader_of_the_page_reads_it(name: str) -> None:
    expected = expected_of(name)
    for data_set in expected:
        assert read_with_the_page(VECTORS / f"{name}.h5", data_set) == expected[data_set]


@pytest.mark.parametrize("name", [name for name in make.VECTORS if name != "custom"])
def test_its_spaces_are_described_as_gymbag_describes_them(name: str) -> None:
    for data_set in expected_of(name):
        with HDF5Reader(VECTORS / f"{name}.h5", data_set) as reader:
            assert describe_space(reader.observation_space) == reader.header.observation_space
            assert describe_space(reader.action_space) == reader.header.action_space


@pytest.mark.parametrize("name", [name for name in make.VECTORS if name not in FIXED])
def test_it_can_be_recorded_to(name: str, tmp_path: Path) -> None:
    path = copy_to(tmp_path, name)
    if name in JOURNALS:
        assert repair(path)
    data_set, expected = next(iter(expected_of(name).items()))
    with HDF5Reader(path, data_set) as reader:
        header = reader.header
        source = [(list(episode), episode.seed, episode.options) for episode in reader]
    writer = HDF5Writer(path)
    writer.begin(header)
    for (reset, *steps), seed, options in source:
        writer.write_reset(reset.time, reset.observation, reset.info or {}, seed, options)
        for time, observation, action, reward, _, info in steps:
            writer.write_step(time, observation, action, reward, False, False, info or {})
    writer.close()
    again = [{**episode, "terminated": False, "truncated": False} for episode in expected["episodes"]]
    for episode in again:
        episode.pop("annotations", None)
    for read in (read_with_gymbag, read_with_the_page):
        assert read(path, data_set)["episodes"] == [*expected["episodes"], *again]


@pytest.mark.parametrize("name", JOURNALS)
def test_a_recovery_gives_the_same(name: str, tmp_path: Path) -> None:
    path = copy_to(tmp_path, name)
    assert repair(path)
    assert not path.with_name(path.name + ".journal").exists()
    for data_set, expected in expected_of(name).items():
        assert read_with_the_page(path, data_set) == expected
        assert read_with_gymbag(path, data_set) == without_version(expected)


def test_there_are_journals_of_each_kind() -> None:
    assert JOURNALS == [
        "annotations",
        "journal_of_zeros",
        "redo_log",
        "redo_log_not_committed",
        "torn_journal",
    ]


def read_or_damaged(read: Any, path: Path, name: str) -> Any:
    try:
        return read(path, name)["episodes"]
    except (DamagedFileError, ValueError):
        return "damaged"


@pytest.mark.parametrize("fill", [None, b"\0"], ids=["cut off", "zeros"])
def test_both_find_the_same_end_of_a_journal(fill: bytes | None, tmp_path: Path) -> None:
    path = copy_to(tmp_path, "torn_journal")
    journal = path.with_name(path.name + ".journal")
    whole = journal.read_bytes()
    found = []
    for end in (*range(0, 1000, 47), *range(1000, len(whole), 191)):
        journal.write_bytes(whole[:end] if fill is None else whole[:end].ljust(len(whole), fill))
        ours = read_or_damaged(read_with_gymbag, path, "Torn-v0")
        assert ours == read_or_damaged(read_with_the_page, path, "Torn-v0"), end
        found.append(ours if ours == "damaged" else sum(len(episode["actions"]) for episode in ours))
    # A journal that is just cut off is sound, and the steps of its whole blocks are there.
    assert ("damaged" in found) == (fill is not None)
    numbers = [count for count in found if count != "damaged"]
    assert numbers == sorted(numbers)
    assert {0, 17} <= set(numbers) <= {0, 14, 17}


def test_both_refuse_a_newer_version_and_say_which_gymbag_is_needed(tmp_path: Path) -> None:
    path = copy_to(tmp_path, "cartpole")
    with h5py.File(path, "r+") as file:
        file["CartPole-v1"].attrs["format_version"] = "1.2"
        file["CartPole-v1"].attrs["needs_gymbag"] = "1.7.0"
    for read in (read_with_gymbag, read_with_the_page):
        with pytest.raises((StorageError, ValueError), match=r"1\.2.* gymbag 1\.7\.0"):
            read(path, "CartPole-v1")


# Its physics are those of the machine's mathematical library.
@pytest.mark.parametrize("name", [name for name in make.VECTORS if name != "cartpole"])
def test_it_is_made_again(name: str, tmp_path: Path) -> None:
    made = make.make(name, tmp_path)
    assert make.to_text(made) == (VECTORS / f"{name}.json").read_text("ascii")
    for data_set, expected in made["data_sets"].items():
        assert read_with_gymbag(tmp_path / f"{name}.h5", data_set) == as_json(without_version(expected))


def test_the_example_of_the_page_is_what_the_file_has() -> None:
    section = PAGE.read_text("utf-8").partition("## Infos")[2]
    python, kind = (
        section.partition(f"```{language}\n")[2].partition("```")[0] for language in ("python", "json")
    )
    namespace: dict[str, Any] = {}
    exec(python, namespace)
    assert make.describe(namespace["info"]) == make.describe(make.COLUMN_INFOS[1])
    file, _ = PAGE_READER.read_file(VECTORS / "infos_in_columns.h5")
    with file:
        arrays = PAGE_READER.find_arrays(file["Columns-v0"])
        (row,) = PAGE_READER.read_bytes(arrays, "info_kinds", 0, 1)
    assert json.loads(row) == json.loads(kind)


def test_the_page_names_every_vector() -> None:
    section = PAGE.read_text("utf-8").partition("## Test vectors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.M)
    listed = [name for row in rows for name in re.findall("`(.*?)`", row)]
    assert sorted(listed) == sorted(make.VECTORS)
    assert sorted(path.stem for path in VECTORS.glob("*.json")) == sorted(make.VECTORS)
