"""Flattening to D4RL's arrays, against a naive implementation and D4RL's own algorithms."""

from __future__ import annotations

import collections
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cases import SPACES, SpaceCase, space_case
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded import Played, header_of, play, write
from same import assert_same

from gymbag import get_dataset
from gymbag.storage.base import Reader
from gymbag.storage.memory import MemoryWriter

#: Lengths and endings of episodes: many forms of one recording.
T, U, B, X = "terminated", "truncated", "terminated and truncated", "unfinished"
SHAPES = {
    "one": [(3, T)],
    "every ending": [(3, T), (2, U), (1, B), (4, X)],
    "episodes without steps": [(0, X), (0, X), (2, T), (0, X), (1, U), (0, X)],
    "only episodes without steps": [(0, X), (0, X)],
    "nothing": [],
    "single steps": [(1, T), (1, U), (1, X)],
}


def record(case: SpaceCase, shape: list[tuple[int, str]], **options: Any) -> tuple[Reader, list[Played]]:
    episodes = play(case, shape, **options)
    writer = MemoryWriter()
    write(writer, header_of(case), episodes)
    return writer.reader(), episodes


def naive(episodes: list[Played]) -> dict[str, list[Any]]:
    """Flatten episodes with loops."""
    rows: dict[str, list[Any]] = collections.defaultdict(list)
    for episode in episodes:
        for t in range(len(episode)):
            last = t == len(episode) - 1
            rows["observations"].append(episode.observations[t])
            rows["actions"].append(episode.actions[t])
            rows["rewards"].append(episode.rewards[t])
            rows["terminals"].append(last and episode.terminated)
            rows["timeouts"].append(last and not episode.terminated)
            rows["next_observations"].append(episode.observations[t + 1])
    return rows


ORDINARY = [
    "Box-float32",
    "Box-uint8",
    "Box-0d",
    "Box-no-elements",
    "Discrete",
    "MultiBinary",
    "MultiDiscrete",
]
NESTED = ["Dict", "Dict-nested", "Dict-of-empty", "Tuple", "Tuple-empty", "Dict-empty"]
RAGGED = ["Text", "Sequence-Box", "Graph", "OneOf"]


def in_rows(case: SpaceCase, stack: Any, count: int) -> list[Any]:
    """Take the rows of a stack, by the form of the space alone."""
    space = case.space()

    def take(space: Any, stack: Any, row: int) -> Any:
        kind = type(space).__name__
        if kind == "Dict":
            return {key: take(child, stack[key], row) for key, child in space.spaces.items()}
        if kind == "Tuple":
            pairs = zip(space.spaces, stack, strict=True)
            return tuple(take(child, item, row) for child, item in pairs)
        assert len(stack) == count
        return stack[row, ...] if kind == "Box" else stack[row]

    return [take(space, stack, row) for row in range(count)]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("name", [*ORDINARY, *NESTED, *RAGGED])
def test_a_dataset_is_what_a_loop_over_all_steps_makes(name: str, shape: list[tuple[int, str]]) -> None:
    case = space_case(name)
    reader, episodes = record(case, shape)
    dataset, expected = reader.get_dataset(), naive(episodes)
    rows = sum(length for length, _ in shape)
    for field in ("observations", "next_observations", "actions"):
        assert_same(in_rows(case, dataset[field], rows), expected[field])
    assert_same(dataset["rewards"], np.array(expected["rewards"], np.float64))
    assert_same(dataset["terminals"], np.array(expected["terminals"], bool))
    assert_same(dataset["timeouts"], np.array(expected["timeouts"], bool))
    assert list(dataset) == [
        "observations",
        "actions",
        "rewards",
        "terminals",
        "timeouts",
        "next_observations",
    ]


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from([T, U, B, X])), max_size=6))
@settings(max_examples=30)
def test_any_run_of_episodes_is_flattened(lengths: list[tuple[int, str]]) -> None:
    shape = [(length, ending if length else X) for length, ending in lengths]
    reader, episodes = record(space_case("Box-0d"), shape)
    dataset, expected = reader.get_dataset(), naive(episodes)
    for field in ("observations", "next_observations", "rewards", "terminals", "timeouts"):
        assert dataset[field].tolist() == [np.asarray(value).item() for value in expected[field]]


@pytest.mark.parametrize("case", SPACES, ids=str)
def test_every_space_can_be_flattened(case: SpaceCase) -> None:
    reader, episodes = record(case, [(2, T), (0, X), (1, U)])
    columns = reader.observation_column
    dataset = reader.get_dataset()
    for field in ("observations", "next_observations"):
        rows = [row for row, _ in zip(columns.iterate(dataset[field]), range(3), strict=False)]
        assert_same(rows, naive(episodes)[field], exact_types=False)


def test_the_general_way_to_flatten_gives_the_same() -> None:
    reader, _ = record(space_case("Dict-nested"), SHAPES["episodes without steps"], infos=True)
    quick, general = reader.read_flat(True), Reader.read_flat(reader, True)
    for field in (
        "observations",
        "actions",
        "rewards",
        "terminated",
        "truncated",
        "lengths",
        "final_observations",
    ):
        assert_same(getattr(general, field), getattr(quick, field))
    assert_same(dict(general.infos), dict(quick.infos))


@pytest.mark.parametrize("dtype", [None, np.float32, "float64", np.dtype("f2")], ids=str)
def test_dtype_casts_floats_only(dtype: Any) -> None:
    reader, episodes = record(space_case("Dict"), [(3, T)])
    dataset = reader.get_dataset(dtype)
    floats = np.dtype(dtype or np.float32)
    for field in ("observations", "actions", "next_observations"):
        assert (dataset[field]["b"].dtype, dataset[field]["a"].dtype) == (floats, np.int64)
    assert dataset["rewards"].dtype == (floats if dtype else np.float64)
    assert dataset["terminals"].dtype == dataset["timeouts"].dtype == bool
    wanted = np.array([value["b"] for value in episodes[0].actions]).astype(floats)
    assert_same(dataset["actions"]["b"], wanted)


def test_a_dataset_belongs_to_the_caller() -> None:
    reader, _ = record(space_case("Box-float32"), [(3, T), (2, X)], infos=True)
    before, changed = reader.get_dataset(infos=True), reader.get_dataset(infos=True)
    for array in changed.values():
        array[...] = 0
    after = reader.get_dataset(infos=True)
    assert before.keys() == after.keys()
    for name, array in before.items():
        assert_same(after[name], array)


def flatten_infos(infos: list[dict[str, Any]], choice: Any = True) -> dict[str, np.ndarray]:
    """Flatten an episode that has these infos, one a step."""
    case = space_case("Discrete")
    (episode,) = play(case, [(len(infos), T)])
    episode.infos[1:] = infos
    writer = MemoryWriter()
    write(writer, header_of(case), [episode])
    dataset = writer.reader().get_dataset(infos=choice)
    return {
        name.removeprefix("infos/"): array for name, array in dataset.items() if name.startswith("infos/")
    }


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


STACKED = {
    "floats": ([1.5, 2.5], np.array([1.5, 2.5])),
    "integers": ([1, 2], np.array([1, 2])),
    "bools": ([True, False], np.array([True, False])),
    "float32": ([np.float32(1), np.float32(2)], np.array([1, 2], np.float32)),
    "arrays": ([np.zeros(2), np.ones(2)], np.array([[0, 0], [1, 1.0]])),
    "complex": ([1j, 2j], np.array([1j, 2j])),
    "a float missing": ([1.5, ...], np.array([1.5, np.nan])),
    "a first float missing": ([..., np.float32(2)], np.array([np.nan, 2], np.float32)),
    "an array of floats missing": ([np.ones(2), ...], np.array([[1, 1], [np.nan, np.nan]])),
    "an integer missing": ([1, ...], objects(1, None)),
    "a bool missing": ([..., True], objects(None, True)),
    "integer and float": ([1, 2.5], objects(1, 2.5)),
    "bool and integer": ([True, 2], objects(True, 2)),
    "float32 and float64": ([np.float32(1), np.float64(2)], objects(np.float32(1), np.float64(2))),
    "shapes": ([np.zeros(2), np.zeros(3)], objects(np.zeros(2), np.zeros(3))),
    "texts": (["a", "b"], objects("a", "b")),
    "lists": ([[1, 2], [3, 4]], objects([1, 2], [3, 4])),
    "tuples": ([(1,), (2, 3)], objects((1,), (2, 3))),
    "None": ([None, None], objects(None, None)),
    "a number and None": ([1.5, None], objects(1.5, None)),
    "large integers": ([2**70, 2**70], objects(2**70, 2**70)),
    "0-d arrays": ([np.array(1), "x"], objects(np.array(1), "x")),
}


@pytest.mark.parametrize(("values", "stacked"), STACKED.values(), ids=STACKED)
def test_infos_are_stacked(values: list[Any], stacked: np.ndarray) -> None:
    found = flatten_infos([{} if value is ... else {"key": value} for value in values])
    assert_same(found, {"key": stacked})


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        (False, []),
        (True, ["a", "b/c", "b/d/e"]),
        (["a"], ["a"]),
        (["b/c", "a"], ["b/c", "a"]),
        (["b"], ["b/c", "b/d/e"]),
        (["missing"], ["missing"]),
        ([], []),
    ],
)
def test_infos_are_chosen_by_key(choice: Any, names: list[str]) -> None:
    info = {"a": 1.0, "b": {"c": 2.0, "d": {"e": 3.0}}}
    assert list(flatten_infos([info, info], choice)) == names


def test_a_chosen_info_that_never_came_is_none_throughout() -> None:
    assert_same(flatten_infos([{}, {}], ["missing"])["missing"], objects(None, None))


def test_the_infos_of_resets_are_left_out() -> None:
    case = space_case("Discrete")
    (episode,) = play(case, [(1, T)])
    episode.infos[:] = [{"at": "reset"}, {"at": "step"}]
    writer = MemoryWriter()
    write(writer, header_of(case), [episode])
    assert writer.reader().get_dataset(infos=True)["infos/at"].tolist() == ["step"]


def test_the_infos_of_no_steps_are_empty_arrays() -> None:
    assert flatten_infos([], ["a"])["a"].shape == (0,)


def test_infos_of_two_keys_that_look_alike_are_kept_apart() -> None:
    found = flatten_infos([{"a/b": 1, "a": {"b": 2}}])
    assert sorted(value for array in found.values() for value in array.tolist()) == [1, 2]


def test_get_dataset_takes_a_reader() -> None:
    reader, _ = record(space_case("Box-float32"), [(3, T)])
    assert_same(get_dataset(reader, "f8", ["a"]), reader.get_dataset("f8", ["a"]))


# After D4RL's d4rl/__init__.py: `qlearning_dataset`.
def qlearning_dataset(dataset: dict[str, Any], terminate_on_end: bool = False) -> dict[str, np.ndarray]:
    rows: dict[str, list[Any]] = collections.defaultdict(list)
    for i in range(dataset["rewards"].shape[0] - 1):
        if not terminate_on_end and dataset["timeouts"][i]:
            continue  # the next observation belongs to another episode
        rows["observations"].append(dataset["observations"][i])
        rows["next_observations"].append(dataset["observations"][i + 1])
        rows["actions"].append(dataset["actions"][i])
        rows["rewards"].append(dataset["rewards"][i])
        rows["terminals"].append(bool(dataset["terminals"][i]))
    return {name: np.array(values) for name, values in rows.items()}


# After D4RL's d4rl/__init__.py: `sequence_dataset`.
def sequence_dataset(dataset: dict[str, Any]) -> Iterator[dict[str, np.ndarray]]:
    rows: dict[str, list[Any]] = collections.defaultdict(list)
    for i in range(dataset["rewards"].shape[0]):
        for name in dataset:
            rows[name].append(dataset[name][i])
        if dataset["terminals"][i] or dataset["timeouts"][i]:
            yield {name: np.array(values) for name, values in rows.items()}
            rows = collections.defaultdict(list)


def test_d4rl_reads_the_transitions() -> None:
    reader, episodes = record(space_case("Box-float32"), SHAPES["every ending"])
    found = qlearning_dataset(reader.get_dataset(np.float32))
    expected = [
        (episode.observations[t], episode.actions[t], np.float32(episode.rewards[t]))
        for episode in episodes
        for t in range(len(episode))
        # D4RL drops the last step of an episode that timed out, and the last step of all.
        if t < len(episode) - 1 or episode.terminated
    ]
    assert_same(found["observations"], np.array([row[0] for row in expected]))
    assert_same(found["actions"], np.array([row[1] for row in expected]))
    assert_same(found["rewards"], np.array([row[2] for row in expected]))
    inner = ~found["terminals"]  # what follows a termination does not matter
    following = [e.observations[t + 1] for e in episodes for t in range(len(e) - 1)]
    assert_same(found["next_observations"][inner], np.array(following))


def test_d4rl_reads_the_episodes() -> None:
    reader, episodes = record(space_case("Box-float32"), SHAPES["episodes without steps"])
    sequences = list(sequence_dataset(reader.get_dataset()))
    with_steps = [episode for episode in episodes if len(episode)]
    assert len(sequences) == len(with_steps)
    for sequence, episode in zip(sequences, with_steps, strict=True):
        assert_same(sequence["observations"], np.array(episode.observations[:-1]))
        assert_same(sequence["next_observations"], np.array(episode.observations[1:]))
        assert_same(sequence["rewards"], np.array(episode.rewards))
        assert sequence["terminals"][-1] == episode.terminated
