"""Names and format version of gymbag's HDF5 files; `docs/format.md`, "The tree" and on, specifies them.

NAME                          a group for each data set, named after the env; a "/" nests groups
|   attributes                format "gymbag", format_version "1.0" or "1.1", needs_gymbag (of 1.1),
|                             description, observation_space and action_space (JSON), checksum of these three
|-- observations              the table of steps, N rows each; a nested space has a group of
|-- actions                   arrays, and ragged values a group with ends (see `columns`)
|-- rewards, terminated, truncated, times
|-- infos                     data and ends: JSON of each info, or of what is in none of the following
|   |-- kind                  1.1: which row of info_kinds says what the info looks like
|   `-- KEY, KEY/KEY          1.1: the values of a key; ragged ones as a group with data and ends
|-- info_kinds                1.1: data and ends: JSON of each kind of info (see `info_kinds`)
|-- annotations               1.1: formed like infos
|-- annotation_kinds          1.1: formed like info_kinds
|-- episodes                  the table of episodes, E rows each
|   |-- first_row, length, ending, session, reset_time
|   |-- reset_arguments       data and ends: JSON of seed and options
|   |-- reset_info            data and ends: JSON
|   `-- final_observation     formed like observations
`-- sessions                  data and ends: JSON of spec, versions and metadata
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from h5py import h5a, h5d, h5l, h5o, h5s, h5t

from gymbag import json_values
from gymbag.errors import DamagedFileError, StorageError
from gymbag.spaces import Description
from gymbag.storage.base import Header
from gymbag.storage.stored_array import StoredArray
from gymbag.storage.stream import KIND_TABLES

FORMAT = "gymbag"
#: The newest version that is read and written. A data set has the oldest one that says all of it.
FORMAT_VERSION = "1.1"
_FIRST_VERSION = "1.0"
# The oldest gymbag that reads the newest version.
_NEEDS_GYMBAG = "1.1.0"


def check_name(name: str) -> None:
    """Refuse a name that HDF5 could not keep apart from others, or as it is.

    Raises:
        StorageError: It is empty, has an empty part between slashes, a part "." or "..", or is no text.
    """
    parts = name.split("/")
    if not all(parts) or "." in parts or ".." in parts or not is_text(name):
        raise StorageError(
            f"expected the name of a data set, such as CartPole-v1 or ALE/Pong-v5, found {name!r}"
        )


def is_text(text: str) -> bool:
    """Tell whether HDF5 can hold a string: without NUL, and without lone surrogates."""
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def is_data_set(node: Any) -> bool:
    """Tell whether a node of an HDF5 file is one of our data sets."""
    if not isinstance(node, h5py.Group) or "format" not in node.attrs:
        return False
    try:
        return read_text(node, "format") == FORMAT
    except (OSError, TypeError, DamagedFileError):  # of a type that h5py cannot read, so not ours
        return False


def find_node(file: h5py.File, name: str) -> Any:
    """Return the node of a name, or None if there is none in the file itself: links are not followed."""
    node = file
    for part in name.split("/"):
        if part in ("", ".", "..") or not isinstance(node, h5py.Group):
            return None
        if not isinstance(node.get(part, getlink=True), h5py.HardLink):
            return None
        node = node[part]
    return node


def walk(file: h5py.File) -> Iterator[tuple[str, Any]]:
    """Yield our data sets, and every HDF5 dataset outside of them, by their names.

    Only hard links are followed: others would name a node twice, or lead out of the file.

    Raises:
        DamagedFileError: A node cannot be opened.
    """
    waiting: list[tuple[str, Any]] = [("", file)]
    seen = set()  # hard links may form a cycle
    while waiting:
        name, node = waiting.pop()
        if is_data_set(node) or isinstance(node, h5py.Dataset):
            yield name, node
        elif isinstance(node, h5py.Group) and node not in seen:
            seen.add(node)
            for child in sorted(node, reverse=True):
                path = f"{name}/{child}".lstrip("/")
                try:
                    if isinstance(node.get(child, getlink=True), h5py.HardLink):
                        waiting.append((path, node[child]))
                except (KeyError, OSError, RuntimeError) as error:
                    raise DamagedFileError(
                        f"{file.filename}: {path!r} cannot be opened: {error}; others still can, by name"
                    ) from error


def find_data_sets(file: h5py.File) -> list[str]:
    """List the names of our data sets in a file."""
    return [name for name, node in walk(file) if isinstance(node, h5py.Group)]


def arrays_of(group: h5py.Group) -> dict[str, StoredArray]:
    """Return the arrays of a data set by their paths."""
    paths: list[bytes] = []

    def take(path: bytes, link: h5l.LinkInfo) -> None:
        if link.type == h5l.TYPE_HARD:
            paths.append(path)

    group.id.links.visit(take, info=True)
    arrays = {}
    for path in paths:
        node = h5o.open(group.id, path)
        if isinstance(node, h5d.DatasetID) and (shape := node.shape):
            arrays[path.decode()] = StoredArray(node, shape)
    return arrays


def write_text(group: h5py.Group, name: str, text: str) -> None:
    """Write an attribute as a string of fixed length.

    Those of variable length, which h5py writes by default, lie where HDF5 keeps no checksums.
    """
    data = text.encode()
    _write_attribute(group, name, np.array(data, h5py.string_dtype("utf-8", max(len(data), 1))))


def _write_attribute(group: h5py.Group, name: str, value: np.ndarray) -> None:
    encoded = name.encode()
    if h5a.exists(group.id, encoded):
        h5a.delete(group.id, encoded)
    # What `group.attrs.create` does, in half the time.
    type_ = h5t.py_create(value.dtype, logical=True)
    attribute = h5a.create(group.id, encoded, type_, h5s.create(h5s.SCALAR))
    attribute.write(value, mtype=h5t.py_create(value.dtype))


def read_text(group: h5py.Group, name: str) -> str:
    """Read an attribute that is a string.

    Raises:
        KeyError: There is none of that name.
        DamagedFileError: It is not UTF-8, or no string.
    """
    value = group.attrs[name]
    try:
        return value.decode() if isinstance(value, bytes) else str.__str__(value)
    except (UnicodeDecodeError, TypeError) as error:
        raise DamagedFileError(f"expected text in the attribute {name!r}, found {value!r}") from error


def create_data_set(file: h5py.File, header: Header) -> h5py.Group:
    """Make the group of a new data set.

    Raises:
        StorageError: The name lies inside another data set, or is taken by something else.
    """
    check_room(file, header.name)
    group = file.create_group(header.name)
    observation_space, action_space = header.spaces_as_json()
    texts = {
        "format": FORMAT,
        "format_version": _FIRST_VERSION,
        "description": header.description,
        "observation_space": observation_space,
        "action_space": action_space,
    }
    for name, text in texts.items():
        write_text(group, name, text)
    _write_checksum(group, texts)
    return group


def note_arrays(group: h5py.Group, paths: Iterable[str]) -> None:
    """Raise the version of a data set if it gets arrays that came with a newer one."""
    known = ("infos/data", "infos/ends")
    newer = ("infos/", "annotations/", *(f"{table}/" for table in KIND_TABLES.values()))
    if any(path.startswith(newer) and path not in known for path in paths):
        write_text(group, "format_version", FORMAT_VERSION)
        write_text(group, "needs_gymbag", _NEEDS_GYMBAG)


def write_description(group: h5py.Group, description: str) -> None:
    """Give a data set another description."""
    write_text(group, "description", description)
    _write_checksum(group, {name: read_text(group, name) for name in _CHECKED})


# HDF5 has no checksum over attributes that are large, or that share a data set with one that is.
_CHECKED = ("description", "observation_space", "action_space")


def _checksum(texts: Mapping[str, str]) -> int:
    return zlib.crc32("\0".join(texts[name] for name in _CHECKED).encode())


def _write_checksum(group: h5py.Group, texts: Mapping[str, str]) -> None:
    _write_attribute(group, "checksum", np.array(_checksum(texts), np.uint32))


def _read_checked(group: h5py.Group) -> dict[str, str]:
    """Read description and spaces, and make sure that they are what was written.

    Other tools may write no checksum.
    """
    texts = {name: read_text(group, name) for name in _CHECKED}
    if "checksum" in group.attrs and group.attrs["checksum"] != _checksum(texts):
        raise DamagedFileError(
            f"{group.file.filename}: the description or the spaces of {group.name.lstrip('/')!r} are not "
            "what was recorded; if they were changed on purpose, delete the attribute checksum"
        )
    return texts


def check_room(file: h5py.File, name: str) -> None:
    """Refuse the name of a new data set that lies inside another one, or is taken by something else.

    Raises:
        StorageError: It does, or is.
    """
    parts = name.split("/")
    for depth in range(1, len(parts) + 1):
        path = "/".join(parts[:depth])
        link = file.get(path, getlink=True)
        if link is None:
            return
        is_group = isinstance(link, h5py.HardLink) and file.get(path, getclass=True) is h5py.Group
        if depth == len(parts) or not is_group:
            raise StorageError(f"{file.filename}: {path!r} is taken by something else; use another name")
        if is_data_set(file[path]):
            raise StorageError(
                f"{file.filename}: {name!r} would lie inside the data set {path!r}; use another name"
            )


def _is_ours(version: str) -> bool:
    """Tell whether a version can be read: no newer one can, as it may say more than is read."""
    major, minor = FORMAT_VERSION.split(".")
    found_major, _, found_minor = version.partition(".")
    return found_major == major and found_minor.isdecimal() and int(found_minor) <= int(minor)


def read_description(group: h5py.Group) -> str:
    """Read the description of a data set, even one of a newer version.

    Raises:
        KeyError: There is none.
        DamagedFileError: It is damaged.
    """
    if _is_ours(read_text(group, "format_version")):
        return _read_checked(group)["description"]
    return read_text(group, "description")


def read_identity(group: h5py.Group) -> tuple[str, Description, Description, str]:
    """Read the name, the spaces and the description of a data set.

    Raises:
        DamagedFileError: An attribute is missing or not what it should be, or the version is newer.
    """
    name = group.name.lstrip("/")
    try:
        version = read_text(group, "format_version")
        if not _is_ours(version):
            needed = read_text(group, "needs_gymbag") if "needs_gymbag" in group.attrs else "a newer version"
            raise StorageError(
                f"{group.file.filename}: expected format version {FORMAT_VERSION} or older in {name!r}, "
                f"found {version}; install gymbag {needed} or later to read it"
            )
        texts = _read_checked(group)
        spaces = [json_values.decode(texts[f"{kind}_space"]) for kind in ("observation", "action")]
        return name, spaces[0], spaces[1], texts["description"]
    except (KeyError, AttributeError, OSError) as error:
        raise DamagedFileError(
            f"{group.file.filename}: the attributes of the data set {name!r} cannot be read: {error}"
        ) from error
