"""Make the test vectors of this folder: `python tests/vectors/make.py [NAME...]`; see README.md.

What a file is expected to hold is taken from what was recorded, never from a file. All values are made up by
arithmetic, so that they are the same on every machine.
"""

from __future__ import annotations

import json
import shutil
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import h5py
import numpy as np

from gymbag.recording import RecordingWrapper
from gymbag.storage import hdf5_store
from gymbag.storage.base import Header
from gymbag.storage.hdf5_writer import HDF5Writer
from gymbag.storage.journal import Journal
from gymbag.storage.transaction import parse_redo

FOLDER = Path(__file__).parent

# Rows a chunk, and bytes of ragged data: few, so that there are several chunks, and files stay small.
CHUNK_ROWS = 8
SMALL_CHUNKS = {"_STEPS": 32, "_EPISODES": 4, "_RAGGED_BYTES": 256}

Description = dict[str, Any]
Builder = Callable[[Path], dict[str, Any]]


# Values as JSON.


def describe(value: Any) -> list[Any]:
    """Describe a value so that types and bits can be told; README.md lists the forms."""
    if value is None:
        return ["none"]
    if isinstance(value, np.ndarray):
        if value.dtype.hasobject:
            return ["objects", list(value.shape), [describe(item) for item in value.flat]]
        return ["array", _describe_dtype(value.dtype), list(value.shape), value.tobytes().hex()]
    if isinstance(value, np.generic):
        data = np.str_.encode(value, _utf_32(value.dtype)) if isinstance(value, np.str_) else value.tobytes()
        return ["scalar", _describe_dtype(value.dtype), data.hex()]
    if isinstance(value, bool):
        return ["bool", value]
    if isinstance(value, int):
        return ["int", str(value)]
    if isinstance(value, float):
        return ["float", struct.pack(">d", value).hex()]
    if isinstance(value, complex):
        return ["complex", struct.pack(">d", value.real).hex(), struct.pack(">d", value.imag).hex()]
    if isinstance(value, str):
        return ["str", value]
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, list | tuple):
        return ["list" if isinstance(value, list) else "tuple", [describe(item) for item in value]]
    if isinstance(value, dict):
        return ["dict", [[describe(key), describe(item)] for key, item in value.items()]]
    raise TypeError(f"expected a value that a recording can hold, found {value!r}")


def _describe_dtype(dtype: np.dtype[Any]) -> Any:
    return dtype.str if dtype.fields is None else json.loads(json.dumps(dtype.descr))


def _utf_32(dtype: np.dtype[Any]) -> str:
    return "utf-32-be" if dtype.str[0] == ">" else "utf-32-le"


# Spaces, as files describe them, and values of them.


def space(type_: str, **fields: Any) -> Description:
    return {"type": type_, **fields}


def box(dtype: str, *shape: int, low: Any = "-inf", high: Any = "inf") -> Description:
    return space("Box", dtype=dtype, shape=list(shape), low=low, high=high)


def discrete(n: int, start: int = 0, dtype: str = "<i8") -> Description:
    return space("Discrete", n=n, start=start, dtype=dtype)


def text(most: int, characters: str) -> Description:
    return space("Text", min_length=0, max_length=most, characters=characters)


def dict_of(*items: tuple[Any, Description]) -> Description:
    return space("Dict", spaces=[[key, item] for key, item in items])


def tuple_of(*items: Description) -> Description:
    return space("Tuple", spaces=list(items))


def sequence(item: Description, stack: bool = False) -> Description:
    return space("Sequence", space=item, stack=stack)


def graph(nodes: Description, edges: Description | None) -> Description:
    return space("Graph", node_space=nodes, edge_space=edges)


def one_of(*items: Description) -> Description:
    return space("OneOf", spaces=list(items))


def bits(dtype: str, shape: Sequence[int], n: int) -> np.ndarray:
    """Make up an array of any bits, those of NaNs with payloads included; for booleans 0 or 1."""
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    mixed = (np.arange(1, count + 1, dtype=np.uint64) + np.uint64(1000 * n)) * np.uint64(0x9E3779B97F4A7C15)
    unsigned = (mixed >> np.uint64(64 - 8 * kind.itemsize)).astype(f"<u{kind.itemsize}")
    if kind.kind == "b":
        unsigned %= 2
    # Big-endian values are those of the same bytes: what they are does not matter.
    return unsigned.view(kind).reshape(shape)


def value_of(described: Description, n: int, library: str = "gymnasium") -> Any:
    """Make up value `n` of a space."""
    kind = described["type"]
    if kind == "Box":
        return bits(described["dtype"], described["shape"], n)
    if kind == "Discrete":
        return np.dtype(described["dtype"]).type(described["start"] + n % described["n"])
    if kind == "MultiBinary":
        shape = described["n"] if isinstance(described["n"], list) else [described["n"]]
        return bits("|b1", shape, n).astype(np.int8)
    if kind == "MultiDiscrete":
        nvec = np.array(described["nvec"])
        return ((np.arange(nvec.size).reshape(nvec.shape) + n) % nvec).astype(described["dtype"])
    if kind == "Text":
        characters = described["characters"] * described["max_length"]
        return characters[n % len(described["characters"]) :][: n % (described["max_length"] + 1)]
    if kind == "Dict":
        return {
            key: value_of(item, n + number, library) for number, (key, item) in enumerate(described["spaces"])
        }
    if kind == "Tuple":
        return tuple(value_of(item, n + number, library) for number, item in enumerate(described["spaces"]))
    if kind == "Sequence":
        items = [value_of(described["space"], n + number, library) for number in range(n % 4)]
        return stack(described["space"], items) if described["stack"] else tuple(items)
    if kind == "OneOf":
        choice = n % len(described["spaces"])
        return np.int64(choice), value_of(described["spaces"][choice], n, library)
    if kind == "Graph":
        return _graph(described, n, library)
    if described["like"]:
        return value_of(described["like"], n, library)
    return {"words": ["pick", "up"][: n % 3], "n": n}  # a custom space, of anything that an info can hold


def _graph(described: Description, n: int, library: str) -> tuple[Any, Any, Any]:
    node_space, edge_space = described["node_space"], described["edge_space"]
    nodes = stack(node_space, [value_of(node_space, n + number) for number in range(1 + n % 3)])
    if n % 3 == 0:
        return nodes, None, None
    links = np.arange(2 * n).reshape(n, 2) % len(nodes)
    links = links.astype("<i4" if library == "gymnasium" else "<i8")
    if edge_space is None:
        return nodes, None, links
    return nodes, stack(edge_space, [value_of(edge_space, n + number) for number in range(n)]), links


def stack(described: Description, items: Sequence[Any]) -> Any:
    """Stack values of a Box or a Discrete space."""
    dtype, shape = described["dtype"], described.get("shape", [])
    return np.array(items, dtype).reshape(len(items), *shape)


# Recordings.


@dataclass
class Episode:
    """T actions and rewards; T+1 observations, infos and times."""

    observations: list[Any]
    actions: list[Any]
    rewards: list[float]
    times: list[float]
    infos: list[dict[Any, Any]]
    terminated: bool = False
    truncated: bool = False
    seed: Any = None
    options: dict[str, Any] | None = None
    annotations: Sequence[dict[Any, Any]] = ()  # T, or none at all

    def describe(self, steps: int | None = None) -> dict[str, Any]:
        """Describe it; if `steps` is given, as it is unfinished after so many."""
        is_whole = steps is None
        stop = len(self.actions) if steps is None else steps
        annotations = self.annotations[:stop]
        return {
            "seed": describe(self.seed),
            "options": describe(self.options),
            "terminated": self.terminated and is_whole,
            "truncated": self.truncated and is_whole,
            "observations": list(map(describe, self.observations[: stop + 1])),
            "actions": list(map(describe, self.actions[:stop])),
            "rewards": list(map(describe, self.rewards[:stop])),
            "times": list(map(describe, self.times[: stop + 1])),
            "infos": list(map(describe, self.infos[: stop + 1])),
            **({"annotations": list(map(describe, annotations))} if any(annotations) else {}),
        }


REWARDS = (1.0, -0.0, 0.1, float("inf"), -1e300, 5e-324, *struct.unpack(">d", b"\x7f\xf8\0\0\0\0\0\7"))


def made_up(
    observation_space: Description,
    action_space: Description,
    lengths: Sequence[int],
    endings: str = "t",
    infos: Sequence[dict[Any, Any]] = ({},),
    first: int = 0,
    library: str = "gymnasium",
) -> list[Episode]:
    """Make up episodes of these lengths.

    Args:
        observation_space: Its description.
        action_space: Its description.
        lengths: How many steps each has.
        endings: For each in turn: terminated, truncated, both or unfinished, which one without steps is.
        infos: What is given in turn.
        first: Number of the first episode, from which all values follow.
        library: Whose spaces they are.
    """
    episodes = []
    for number, length in enumerate(lengths, first):
        ending = endings[number % len(endings)] if length else "u"
        n = 10 * number
        episodes.append(
            Episode(
                [value_of(observation_space, n + t, library) for t in range(length + 1)],
                [value_of(action_space, n + t + 5, library) for t in range(length)],
                [REWARDS[(n + t) % len(REWARDS)] for t in range(length)],
                [1.7e9 + number + t / 7 for t in range(length + 1)],
                [infos[(number + t) % len(infos)] for t in range(length + 1)],
                ending in "tb",
                ending in "rb",
                seed=(None, 7, 2**70, np.int64(3))[number % 4],
                options=(None, {}, {"start": np.arange(2), "mode": ("a", None)})[number % 3],
            )
        )
    return episodes


@dataclass
class DataSet:
    """What is recorded to a data set by one writer."""

    observation_space: Description
    action_space: Description
    episodes: list[Episode]
    description: str = ""
    library: str = "gymnasium"
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def header(self, name: str) -> Header:
        return Header(name, *self._spaces(), self.description, None, {"gymbag": "1"}, dict(self.metadata))

    def _spaces(self) -> list[Description]:
        return [
            {"version": 1, "library": self.library, "space": described}
            for described in (self.observation_space, self.action_space)
        ]

    def session(self) -> dict[str, Any]:
        return {"spec": None, "versions": {"gymbag": "1"}, "metadata": dict(self.metadata)}

    def describe(self, version: str = "1.0", episodes: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        """Describe what is in the file: all episodes, or these."""
        observation_space, action_space = self._spaces()
        return {
            "format_version": version,
            "description": self.description,
            "observation_space": describe(observation_space),
            "action_space": describe(action_space),
            "sessions": [describe(self.session())],
            "episodes": [e.describe() for e in self.episodes] if episodes is None else episodes,
        }


def begin(path: Path, name: str, data_set: DataSet, **options: Any) -> HDF5Writer:
    """Begin to record. Only what is flushed by hand gets into the journal: nobody waits for an hour."""
    writer = HDF5Writer(path, flush_seconds=3600, chunk_rows=CHUNK_ROWS, **options)
    writer.begin(data_set.header(name))
    return writer


def write(writer: HDF5Writer, episodes: Iterable[Episode]) -> None:
    for episode in episodes:
        write_reset(writer, episode)
        for t in range(len(episode.actions)):
            write_step(writer, episode, t)


def write_reset(writer: HDF5Writer, episode: Episode) -> None:
    observation, info = episode.observations[0], episode.infos[0]
    writer.write_reset(episode.times[0], observation, info, episode.seed, episode.options)


def write_step(writer: HDF5Writer, episode: Episode, t: int) -> None:
    is_last = t == len(episode.actions) - 1
    if episode.annotations and episode.annotations[t]:
        writer.annotate(episode.annotations[t])
    writer.write_step(
        episode.times[t + 1],
        episode.observations[t + 1],
        episode.actions[t],
        episode.rewards[t],
        is_last and episode.terminated,
        is_last and episode.truncated,
        episode.infos[t + 1],
    )


def record(path: Path, name: str, data_set: DataSet, **options: Any) -> dict[str, Any]:
    """Record a data set, and describe it."""
    writer = begin(path, name, data_set, **options)
    write(writer, data_set.episodes)
    writer.close()
    return data_set.describe()


# The vectors: each makes a file, and returns its data sets as they are expected to be.

CARTPOLE = box("<f4", 4)
TWO = discrete(2)


def cartpole(path: Path) -> dict[str, Any]:
    """Two episodes of CartPole, as most recordings are."""
    import gymnasium

    moments = iter(np.arange(1000) / 8 + 1.7e9)
    clock_times: list[float] = []

    def clock() -> float:
        clock_times.append(float(next(moments)))
        return clock_times[-1]

    bare = gymnasium.make("CartPole-v1")
    env = RecordingWrapper(bare, HDF5Writer(path), description="left and right", clock=clock)
    episodes = []
    for seed in (1, 2):
        clock_times.clear()
        observation, info = env.reset(seed=seed)
        episode = Episode([observation], [], [], [], [info], seed=seed)
        while not episode.terminated:
            action = np.int64(len(episode.actions) // 2 % 2)
            observation, reward, episode.terminated, _, info = env.step(action)
            episode.observations.append(observation)
            episode.actions.append(action)
            episode.rewards.append(reward)
            episode.infos.append(info)
        episode.times = list(clock_times)
        episodes.append(episode)
    env.close()
    with h5py.File(path) as file:  # versions differ from machine to machine
        group = file["CartPole-v1"]
        described = [json.loads(group.attrs[f"{kind}_space"]) for kind in ("observation", "action")]
        sessions = json.loads(group["sessions/data"][:].tobytes())
    return {
        "CartPole-v1": {
            "format_version": "1.0",
            "description": "left and right",
            "observation_space": describe(described[0]),
            "action_space": describe(described[1]),
            "sessions": [describe(sessions)],
            "episodes": [episode.describe() for episode in episodes],
        }
    }


def boxes(path: Path) -> dict[str, Any]:
    """Arrays of every dtype and of odd shapes; NaNs with payloads, -0.0, both byte orders."""
    integers = [f"{order}{kind}{size}" for order in "<" for kind in "iu" for size in (2, 4, 8)]
    items = [
        *((dtype, box(dtype, 2, 3, low=0, high=1)) for dtype in ("|i1", "|u1", *integers)),
        *((dtype, box(dtype, 2, 3)) for dtype in ("<f2", "<f4", "<f8", ">f4")),
        (">i4", box(">i4", 3, low=0, high=[1, 2, 3])),
        ("bool", box("|b1", 5, low=False, high=True)),
        ("no axes", box("<f4")),
        ("no elements", box("<f4", 2, 0, 3, low=0, high=0)),
        ("uneven", box("<f8", 2, low=["-inf", -0.5], high=[0.1, "inf"])),
        ("MultiBinary", space("MultiBinary", n=[2, 2])),
        ("MultiDiscrete", space("MultiDiscrete", nvec=[[3, 4], [1, 2]], dtype="|u1")),
    ]
    # As actions, since there are two columns of observations, and these arrays are many.
    data_set = DataSet(TWO, dict_of(*items), made_up(TWO, dict_of(*items), (3, 1)))
    return {"Boxes-v0": record(path, "Boxes-v0", data_set)}


KEYS = ("a/b", ".", "..", "", "é😀", "%0", "%2E", "a b", "items", "ends", "data", "choice", "$n", "A", "a", 1)


def nested(path: Path) -> dict[str, Any]:
    """Dict and Tuple spaces, with odd keys, empty ones, and keys that are not strings."""
    arms = tuple_of(box("<f4", 2), dict_of(("grip", space("MultiBinary", n=2)), ("words", text(4, "abc"))))
    observations = tuple_of(arms, dict_of(), tuple_of(), discrete(3))
    actions = dict_of(
        ("odd keys", dict_of(*((key, box("|u1", 1, low=0, high=255)) for key in KEYS))),
        ("nothing", dict_of()),
        ("none", tuple_of()),
    )
    data_set = DataSet(observations, actions, made_up(observations, actions, (2,)))
    return {"Nested-v0": record(path, "Nested-v0", data_set)}


def ragged(path: Path) -> dict[str, Any]:
    """Text, Sequence, Graph and OneOf spaces."""
    pair, three = box("<f4", 2), discrete(3)
    observations = dict_of(
        ("text", text(6, "é😀\0\n\"'\\\ud800$")),
        ("graph", graph(pair, three)),
        ("one of", one_of(three, text(3, "abc"), one_of(dict_of(), sequence(three)))),
    )
    actions = tuple_of(
        sequence(dict_of(("word", text(3, "ab")), ("inner", sequence(three)))),
        sequence(pair, stack=True),
        graph(three, None),
    )
    data_set = DataSet(observations, actions, made_up(observations, actions, (5, 0, 2)))
    return {"Ragged-v0": record(path, "Ragged-v0", data_set)}


def gym(path: Path) -> dict[str, Any]:
    """A recording of the older library, gym: the links of its graphs are int64."""
    graphs = graph(discrete(3), box("<f8", 1))
    data_set = DataSet(TWO, graphs, made_up(TWO, graphs, (4,), library="gym"), library="gym")
    return {"Gym-v0": record(path, "Gym-v0", data_set)}


def custom(path: Path) -> dict[str, Any]:
    """Custom spaces: stored as JSON, and in the columns of another space."""
    anything = space("Custom", name="Mission", data={"places": ("here", 1.5)}, like=None)
    angle = space("Custom", name="Angle", data="radian", like=box("<f4", low=-1, high=1))
    data_set = DataSet(anything, angle, made_up(anything, angle, (4, 1)))
    return {"Custom-v0": record(path, "Custom-v0", data_set)}


def widened(path: Path) -> dict[str, Any]:
    """A float32 space whose values are float64 from the second episode on: all of the array is float64."""
    episodes = made_up(CARTPOLE, TWO, (3, 3))
    halves = [np.arange(4, dtype=np.float32) / 8 + t for t in range(4)]
    episodes[0].observations = halves
    episodes[1].observations = [np.array([0.1, -0.0, 1e300, t]) for t in range(4)]
    data_set = DataSet(CARTPOLE, TWO, episodes)
    record(path, "Wide-v0", data_set)
    episodes[0].observations = [value.astype(np.float64) for value in halves]
    return {"Wide-v0": data_set.describe()}


def sessions(path: Path) -> dict[str, Any]:
    """Three sessions; a new description; every ending; episodes without steps at both ends and in between."""

    def play(lengths: Sequence[int], first: int) -> list[Episode]:
        return made_up(TWO, discrete(3, -1), lengths, "trbu", first=first)

    spaces = TWO, discrete(3, -1)
    first = DataSet(*spaces, play((0, 3, 1), 0), "before", metadata={"agent": "first"})
    second = DataSet(*spaces, play((0, 0, 2, 4), 3), metadata={"by": ("é", None)})
    third = DataSet(*spaces, play((5, 9, 0), 7), "after: é")
    for data_set in (first, second, third):
        described = record(path, "Sessions-v0", data_set)
    parts = (first, second, third)
    described["sessions"] = [describe(part.session()) for part in parts]
    described["episodes"] = [episode.describe() for part in parts for episode in part.episodes]
    return {"Sessions-v0": described}


def names(path: Path) -> dict[str, Any]:
    """Names with slashes and beyond ASCII, a hard link, and other things beside the data sets."""
    data_sets = {}
    for number, name in enumerate(("ALE/Pong-v5", "ü 😀.h5")):
        data_set = DataSet(TWO, TWO, made_up(TWO, TWO, (2,), first=number), description=name)
        data_sets[name] = record(path, name, data_set)
    with h5py.File(path, "a") as file:
        file["linked"] = file["ALE/Pong-v5"]
        file["soft"] = h5py.SoftLink("/ALE/Pong-v5")
        file["external"] = h5py.ExternalLink("elsewhere.h5", "/")
        file["notes/array"] = np.arange(3)
        file.create_group("notes/group").attrs["format"] = "another"
    return {**data_sets, "linked": data_sets["ALE/Pong-v5"]}


def rewritten(path: Path) -> dict[str, Any]:
    """A copy that another program made: contiguous arrays, strings of variable length, no checksum."""
    observations = dict_of(("x", box("<f4", 2)), ("words", text(5, "abc")))
    data_set = DataSet(observations, TWO, made_up(observations, TWO, (3, 2)), "copied")
    with tempfile.TemporaryDirectory() as folder:
        original = Path(folder, "original.h5")
        described = record(original, "Rewritten-v0", data_set)
        with h5py.File(original) as source, h5py.File(path, "w") as copy:
            source.visititems(lambda name, node: _copy(copy, name, node))
    return {"Rewritten-v0": described}


def _copy(copy: h5py.File, name: str, node: Any) -> None:
    if isinstance(node, h5py.Dataset):
        copy.create_dataset(name, data=node[:])
        return
    group = copy.require_group(name)
    for attribute, value in node.attrs.items():
        if attribute != "checksum":
            group.attrs[attribute] = value.decode()


def _compressed(path: Path, compression: str | None) -> dict[str, Any]:
    observations = dict_of(("x", box("<f4", 3)), ("flags", space("MultiBinary", n=3)), ("t", text(4, "abc")))
    data_set = DataSet(observations, TWO, made_up(observations, TWO, (13, 6)))
    described = record(path, "Compressed-v0", data_set, compression=compression)
    return {"Compressed-v0": described}


def zstd(path: Path) -> dict[str, Any]:
    """zstd, which HDF5 reads with a plug-in."""
    return _compressed(path, "zstd")


def lzf(path: Path) -> dict[str, Any]:
    """LZF, which comes with h5py."""
    return _compressed(path, "lzf")


def uncompressed(path: Path) -> dict[str, Any]:
    """No compression: gzip of level 0."""
    return _compressed(path, None)


# Journals.


def _copy_both(path: Path, target: Path) -> None:
    """Copy a file and its journal, without what differs each time: epoch, process and host."""
    shutil.copy(path, target)
    journal = bytearray(_journal(path).read_bytes())
    journal[12:28] = bytes(range(16))
    journal[40:112] = struct.pack("<Q64s", 1, b"example")
    journal[112:116] = struct.pack("<I", zlib.crc32(journal[:112]))
    at = 192
    while journal[at : at + 4] == b"rows":  # blocks have the epoch, too
        contents, payload = struct.unpack_from("<IQ", journal, at + 4)
        journal[at + 28 : at + 44] = journal[12:28]
        journal[at + 44 : at + 48] = struct.pack("<I", zlib.crc32(journal[at : at + 44]))
        at += 48 + contents + payload
    _journal(target).write_bytes(journal)


def _journal(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def _in_journal(path: Path, data_set: DataSet, name: str, **options: Any) -> int:
    """Leave a file as a recorder does that is killed after two episodes and nine steps of another.

    The last six of these steps are in the last block, for the caller to break.

    Returns:
        Where the last block begins.
    """
    with tempfile.TemporaryDirectory() as folder:
        live = Path(folder, path.name)
        writer = begin(live, name, data_set, **options)
        *whole, last = data_set.episodes
        write(writer, whole)
        writer.flush()
        write_reset(writer, last)
        for t in range(3):
            write_step(writer, last, t)
        writer.flush()
        begins = _journal(live).stat().st_size
        for t in range(3, 9):
            write_step(writer, last, t)
        writer.flush()
        _copy_both(live, path)
        writer.close()
    return begins


def torn_journal(path: Path) -> dict[str, Any]:
    """A killed recorder: nothing in the file, three blocks in the journal, the last one cut in two."""
    data_set = DataSet(CARTPOLE, TWO, made_up(CARTPOLE, TWO, (9, 5, 9), "tr"))
    begins = _in_journal(path, data_set, "Torn-v0")
    journal = _journal(path).read_bytes()
    _journal(path).write_bytes(journal[: (begins + len(journal)) // 2])
    *whole, last = data_set.episodes
    return {"Torn-v0": data_set.describe(episodes=[*(e.describe() for e in whole), last.describe(3)])}


def journal_of_zeros(path: Path) -> dict[str, Any]:
    """A killed recorder of ragged values with zstd; zeros stand where the last block should."""
    observations = dict_of(("graph", graph(box("<f4", 2), None)), ("t", text(4, "abc")))
    data_set = DataSet(observations, TWO, made_up(observations, TWO, (9, 5, 9), "tr"))
    begins = _in_journal(path, data_set, "Zeros-v0", compression="zstd")
    journal = _journal(path).read_bytes()
    _journal(path).write_bytes(journal[:begins].ljust(len(journal), b"\0"))
    *whole, last = data_set.episodes
    return {"Zeros-v0": data_set.describe(episodes=[*(e.describe() for e in whole), last.describe(3)])}


def _killed_in_checkpoint(path: Path, name: str, is_committed: bool) -> dict[str, Any]:
    """Leave a file as a recorder does that is killed while it closes a second session."""
    first = DataSet(CARTPOLE, TWO, made_up(CARTPOLE, TWO, (3, 2)), metadata={"n": 1})
    second = DataSet(CARTPOLE, TWO, made_up(CARTPOLE, TWO, (4, 0, 6), "tru", first=2), metadata={"n": 2})
    commit = Journal.commit

    with tempfile.TemporaryDirectory() as folder:
        live = Path(folder, path.name)
        record(live, name, first)

        def commit_and_copy(journal: Journal, slot: bytes) -> None:
            if not is_committed:
                _copy_both(live, path)
            commit(journal, slot)
            if is_committed:
                _copy_both(live, path)
                _apply_half(path)

        writer = begin(live, name, second)
        write(writer, second.episodes)
        with mock.patch.object(Journal, "commit", commit_and_copy):
            writer.close()
    described = first.describe()
    described["sessions"] = [describe(part.session()) for part in (first, second)]
    described["episodes"] = [episode.describe() for part in (first, second) for episode in part.episodes]
    return {name: described}


def _apply_half(path: Path) -> None:
    """Write every other page of the redo log to the file, as if its writer was killed in between."""
    journal = _journal(path).read_bytes()
    start, end = struct.unpack_from("<QQ", journal, 128)
    _, pages = parse_redo(journal[start:end])
    with path.open("r+b") as file:
        for offset in list(pages)[::2]:
            file.seek(offset)
            file.write(pages[offset])


def redo_log(path: Path) -> dict[str, Any]:
    """A recorder that was killed while it applied its redo log: it is in force, half of it is in the file."""
    return _killed_in_checkpoint(path, "Redo-v0", is_committed=True)


def redo_log_not_committed(path: Path) -> dict[str, Any]:
    """A recorder that was killed before the redo log was in force: the file has a tail, the blocks count."""
    return _killed_in_checkpoint(path, "Redo-v0", is_committed=False)


# Infos.


def _objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    for index, item in enumerate(items):
        array[index] = item
    return array


def _nan(dtype: str, payload: int) -> Any:
    """Return a quiet NaN that carries a payload."""
    kind = np.dtype(dtype)
    nan = np.array(np.nan, kind).view(f"u{kind.itemsize}")
    return (nan | np.array(payload, nan.dtype)).view(kind)[()]


NUMBERS = ("|b1", "|i1", "<i2", "<i4", "<i8", "|u1", "<u2", "<u4", "<u8", "<f2", "<f4", "<f8", "<c8", "<c16")
STRUCTURED = np.dtype([("name", "<U3"), ("at", "<f4", (2, 3)), ("inner", [("b", "<i2"), ("c", "S2")])])
PADDED = np.dtype([("a", "i1"), ("b", "f8")], align=True)

#: Everything that an info can hold: all words with a dollar sign, and what tempts readers to get it wrong.
ODD_INFOS: list[dict[Any, Any]] = [
    {},
    {"lives": 3, "score": 0.5, "name": "x", "alive": True, "nothing": None},
    {
        "nan": float("nan"),
        "inf": float("inf"),
        "-inf": -float("inf"),
        "zero": -0.0,
        "one": 1.0,
        "tiny": 5e-324,
    },
    {"small": -1, "large": 2**64, "larger than a float": 2**53 + 1, "huge": -(10**400)},
    {
        "typed": np.float64(0.5),
        "n": np.int64(-7),
        "i": np.int32(3),
        "b": np.bool_(True),
        "plain": 1.5,
        "é": "ü",
    },
    {"z": 1, "a": {"z": {"c": [1, [2, (3, (4,))], {}]}, "a": {}}, "t": (), "l": []},
    {"empty": "", "text": 'é😀\0\n"\\', "lone surrogate": "\ud800", "é": 1, "": 2},
    {"$tuple": [1, 2], "$": 1, "$float": "nan", "inner": {"$array": 1}, "price$": 2},
    {1: "one", (1, 2): "tuple", None: "none", False: "false", 2.5: "float", b"k": "bytes", "1": "text"},
    {
        "data": 1,
        "ends": 2,
        "items": 3,
        "kind": 4,
        "a/b": 5,
        ".": 6,
        "..": 7,
        "%64ata": 8,
        "x": {"y": 9},
        "x/y": 10,
    },
    {"bytes": bytes(range(256)), "none": b"", "complex": 1 - 2j, "signs": complex(-0.0, float("nan"))},
    {dtype: np.arange(3).astype(dtype)[2] for dtype in NUMBERS},
    {dtype: np.arange(6).astype(dtype).reshape(2, 3) for dtype in (*NUMBERS, ">i4", ">f8")},
    {"scalars": [_nan("<f4", 5), _nan("<f8", 6), np.float16("-inf"), np.float64(-0.0)]},
    {
        "payload": np.array([_nan("<f8", 1), np.inf, -0.0, 5e-324]),
        "0d": np.array(5),
        "empty": np.zeros((0, 3)),
    },
    {"str": np.str_("é"), "bytes": np.bytes_(b"ab\0"), "void": np.void(b"\0\1"), "empty": np.str_("")},
    {"U": np.array(["é", "abc", ""]), "S": np.array([b"a", b"bc"]), ">U": np.array(["a"], ">U2")},
    {"moment": np.datetime64("2020-02-29T12:00:00.000000001"), "NaT": np.datetime64("NaT", "s")},
    {"span": np.timedelta64(-3, "h"), "days": np.array(["1970-01-01", "NaT"], "datetime64[D]")},
    {
        "structured": np.zeros(2, STRUCTURED),
        "padded": np.zeros(2, PADDED),
        "void": np.zeros(1, STRUCTURED)[0],
    },
    {
        "mixed": _objects(1, "a", None, [1, 2], {"x": (3,)}, np.arange(3)),
        "2d": _objects(1, 2.0, "c", 4j).reshape(2, 2),
    },
]


def infos_as_json(path: Path) -> dict[str, Any]:
    """Infos of every kind as layout 1.0 has them: JSON, with every word that begins with a dollar sign."""
    episodes = made_up(TWO, TWO, (len(ODD_INFOS), 2), infos=ODD_INFOS)
    episodes[0].options = {"odd": ODD_INFOS[8]}
    metadata = {"odd": ODD_INFOS[8], "nan": float("nan")}
    return {"Infos-v0": record(path, "Infos-v0", DataSet(TWO, TWO, episodes, metadata=metadata))}


#: Infos whose keys come late, go, change their order, type and shape, and have names that HDF5 or we use.
#: (The first four are given to resets, too, whose infos are JSON, which knows but one NaN.)
COLUMN_INFOS: list[dict[Any, Any]] = [
    {"lives": 3},
    {
        "x_position": np.float64(0.5),
        "lives": 3,
        "episode": {"r": 1.5, "moves": [1, 2]},
        "message": "hi",
        "winner": None,
    },
    {},
    {"lives": np.int64(7), "x_position": -0.0},
    {
        "x_position": _nan("<f8", 9),
        "lives": -(2**63),
        "episode": {"r": REWARDS[-1], "moves": (1.0, {"a": [np.float32(0.1)]})},
        "message": "",
        "winner": None,
    },
    {"x_position": np.float64(-0.0), "lives": 2},
    {"lives": 2.5, "x_position": np.float32(1.5), "message": b"\0hi\xff", "winner": {}},
    {"lives": 2**70, "x_position": 1, "episode": 5, "winner": {"r": "a"}},
    {
        "alive": True,
        "flag": np.bool_(True),
        "i1": np.int8(-1),
        "u8": np.uint64(2**64 - 1),
        "f2": np.float16(0.1),
    },
    {
        "alive": False,
        "late": "é\ud800",
        "nothing": {},
        "deep": {"er": {"est": 1.0}, "nothing": {}, "none": None},
    },
    {
        "matrix": np.arange(6, dtype="<i2").reshape(2, 3),
        "0d": np.array(5.0),
        "big": np.arange(2, dtype=">i4"),
    },
    {
        "matrix": np.arange(6, dtype="<i2"),
        "0d": 5.0,
        "big": np.arange(2, dtype="<i4"),
        "empty": np.zeros((0, 3)),
    },
    {"data": 1, "ends": 2.0, "items": "3", "kind": True, "%64ata": 4, "x": {"data": 5, "kind": None}},
    {"a/b": 1, ".": 2, "..": 3, "": 4, "é": 5, "a": {"b": 6}, "x": 7, "A": 8},
    {1: "a key that is no string"},
    {"complex": 1 - 2j, "inner": {1: 2}, "x": {"y": np.bytes_(b"a")}},
]


def infos_in_columns(path: Path) -> dict[str, Any]:
    """Infos in columns, of every type; a second session adds columns."""
    first = DataSet(TWO, TWO, made_up(TWO, TWO, (9, 2), infos=COLUMN_INFOS[:5]))
    second = DataSet(TWO, TWO, made_up(TWO, TWO, (0, 40), infos=COLUMN_INFOS, first=2))
    for data_set in (first, second):
        described = record(path, "Columns-v0", data_set)
    described["format_version"] = "1.1"
    described["sessions"] *= 2
    described["episodes"] = [e.describe() for data_set in (first, second) for e in data_set.episodes]
    return {"Columns-v0": described}


ANNOTATIONS: list[dict[Any, Any]] = [
    {},
    {"policy_value": 0.5, "logits": np.array([0.1, -0.0], np.float32)},
    {"policy_value": np.float32(2.5), "logits": np.array([1, 2], np.float32), "why": "greedy"},
]


def annotations(path: Path) -> dict[str, Any]:
    """Annotations and infos in columns, in the journal of a recorder that was killed."""
    infos = [{}, {"lives": 3}, {"lives": 2, "message": "hi"}]
    data_set = DataSet(TWO, TWO, made_up(TWO, TWO, (9, 5, 9), infos=infos))
    for episode in data_set.episodes:
        episode.annotations = [ANNOTATIONS[t % 3] for t in range(len(episode.actions))]
    begins = _in_journal(path, data_set, "Annotations-v0")
    journal = _journal(path).read_bytes()
    _journal(path).write_bytes(journal[: len(journal) - 1])
    assert len(journal) > begins + 1
    *whole, last = data_set.episodes
    episodes = [*(e.describe() for e in whole), last.describe(3)]
    return {"Annotations-v0": data_set.describe("1.1", episodes)}


#: All vectors by their names.
VECTORS: dict[str, Builder] = {
    builder.__name__: builder
    for builder in (
        cartpole,
        boxes,
        nested,
        ragged,
        gym,
        custom,
        widened,
        sessions,
        names,
        rewritten,
        zstd,
        lzf,
        uncompressed,
        torn_journal,
        journal_of_zeros,
        redo_log,
        redo_log_not_committed,
        infos_as_json,
        infos_in_columns,
        annotations,
    )
}

#: Those whose files gymbag 1.0 made, and no later one can make again.
FROZEN = ("infos_as_json",)


def make(name: str, folder: Path) -> dict[str, Any]:
    """Make the file of a vector, and its journal if it has one; return what is expected of it."""
    path = folder / f"{name}.h5"
    path.unlink(missing_ok=True)
    _journal(path).unlink(missing_ok=True)
    builder = VECTORS[name]
    with mock.patch.multiple(hdf5_store, **SMALL_CHUNKS):
        return {"about": builder.__doc__, "data_sets": builder(path)}


def to_text(expected: dict[str, Any]) -> str:
    """Write what is expected as JSON, a value a line where that is of use."""
    return json.dumps(expected, indent=0, separators=(",", ":"))


def main(chosen: Sequence[str]) -> None:
    for name in chosen or VECTORS:
        file = FOLDER / f"{name}.h5"
        with tempfile.TemporaryDirectory() as temporary:
            is_kept = name in FROZEN and file.exists()
            expected = make(name, Path(temporary) if is_kept else FOLDER)
        (FOLDER / f"{name}.json").write_text(to_text(expected), encoding="ascii")
        print(f"{file.stat().st_size:7} {name}")


if __name__ == "__main__":
    main(sys.argv[1:])
