"""Tables of the original Gymbag 0.4 (2017), read through h5py without PyTables.

Gymbag 0.4 kept a data set as one PyTables table, a compressed one-dimensional HDF5 data set whose
element is a compound of six members, one element per step:

    time         HDF5 time, 8 bytes   seconds << 32 | microseconds
    observation  float32, any shape   a Discrete space is stored as float32 of shape ()
    action       float32, any shape   0 or NaN in the first row of an episode
    reward       float32              NaN in the first row of an episode
    done         1 byte bitfield      True ends an episode, whoever ended it
    info         fixed-length string  JSON, empty for no info, cut when longer

Its attributes are TITLE (the description), gymbag_format (1), and observation_space and
action_space: JSON, or a pickled None (never unpickled here) if the recorder knew only shapes.
An episode of T steps is T + 1 rows, the reset first; row t holds the action that led to its
observation. Source: the source of gymbag 0.4.9 and `conv_float64_timeval32` of PyTables.

h5py has no NumPy type for HDF5 time, so `dataset.dtype`, `dataset[...]` and `repr(dataset)` raise
TypeError. This module therefore reads one member at a time as raw bytes of the file's own type,
and gives them a NumPy type afterwards. It never writes.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from gymbag.errors import DamagedFileError, MissingExtraError, StorageError
from gymbag.storage.hdf5_layout import walk

_FIELDS = ("time", "observation", "action", "reward", "done", "info")
_BLOSC = 32001  # https://github.com/HDFGroup/hdf5_plugins: registered filters
_PICKLED_NONE = re.compile(rb"(\x80.)?N\.", re.DOTALL)
_RESTORE = "Restore the file from a backup."


class CutInfoWarning(UserWarning):
    """Gymbag 0.4 cut an info that was too long for its column; what it held is lost."""


def is_table(node: h5py.Dataset) -> bool:
    """Tell whether a node of an HDF5 file is a Gymbag 0.4 table; any other node is simply False.

    Example:
        >>> with h5py.File("any.h5", "w", driver="core", backing_store=False) as file:
        ...     is_table(file.create_dataset("numbers", data=[1, 2, 3]))
        False
    """
    try:
        return (
            set(_FIELDS) <= _members(node).keys()
            and _text(node.attrs["CLASS"]) == b"TABLE"
            and bool(node.attrs["gymbag_format"] == 1)
        )
    except Exception:  # Whatever is wrong with the node, it is not such a table.
        return False


def list_tables(file: h5py.File) -> list[str]:
    """List the names of the Gymbag 0.4 tables in a file.

    Raises:
        DamagedFileError: If a node cannot be opened, as it may have been a table.
    """
    with _explained(file, "the tables of a file cannot be listed"):
        return [name for name, node in walk(file) if is_table(node)]


class Table:
    """Read one Gymbag 0.4 table; the file must stay open meanwhile.

    Making one reads no rows and no attributes: a damaged space does not keep the rows from being
    read.

    Args:
        dataset: The HDF5 data set, one for which `is_table` is True.

    Attributes:
        rows: Number of rows, the resets included.
        observation_shape: Shape of one observation.
        action_shape: Shape of one action.

    Raises:
        DamagedFileError: If a column is missing or of another type than Gymbag 0.4 wrote.

    Example:
        >>> with h5py.File("tests/data/gymbag_0_4_9/cartpole.h5") as file:
        ...     table = Table(file["CartPole-v1"])
        ...     table.rows, table.observation_shape, table.action_space
        (55, (4,), {'type': 'Discrete', 'n': 2, 'start': 0, 'dtype': '<i8'})
    """

    def __init__(self, dataset: h5py.Dataset) -> None:
        self._dataset = dataset
        self._types: dict[str, tuple[Any, np.dtype[Any]]] = {}
        with _explained(dataset, "a table cannot be opened"):
            self._where = f"{dataset.file.filename}: table {dataset.name}"
        with _explained(dataset, f"{self._where} is not one that Gymbag 0.4 wrote"):
            if not isinstance(dataset, h5py.Dataset):
                raise TypeError(f"a {type(dataset).__name__}")
            (self.rows,) = map(int, dataset.shape)
            members = _members(dataset)
            for field in _FIELDS:
                if field not in members:
                    raise TypeError(f"column {field} is missing, found {', '.join(members)}")
                self._types[field] = members[field], _member_dtype(field, members[field])
        self.observation_shape: tuple[int, ...] = self._types["observation"][1].shape
        self.action_shape: tuple[int, ...] = self._types["action"][1].shape

    @cached_property
    def description(self) -> str:
        """What the recorder was told to remember (the attribute TITLE), "" if nothing."""
        return (self._attribute("TITLE") or b"").decode(errors="replace")

    @cached_property
    def observation_space(self) -> dict[str, Any] | None:
        """Description of the observation space as plain JSON, None if it was not recorded.

        Either `{"type": "Discrete", "n": n, "start": 0, "dtype": "<i8"}`, or `{"type": "Box",
        "dtype": "<f4", "shape": [...], "low": low, "high": high}`, where a bound is one number for
        all elements or a nested list of numbers, with "inf" and "-inf" for the infinities.

        Raises:
            DamagedFileError: If the attribute is not a space Gymbag 0.4 could have written, or
                does not fit its column.
        """
        return self._space("observation")

    @cached_property
    def action_space(self) -> dict[str, Any] | None:
        """Description of the action space; see `observation_space`."""
        return self._space("action")

    @cached_property
    def episodes(
        self,
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """First row, length and end of each episode, found by one pass over the done column.

        Returns:
            Three read-only arrays, one element per episode: the first row, the number T of steps
            (rows first to first + T inclusive; 0 if there was only a reset), and whether the last
            row is done (False only for rows at the end of the table that were never ended).
        """
        last_rows = np.flatnonzero(self.read("done", 0, self.rows)).astype(np.int64)
        done = np.ones(len(last_rows), dtype=np.bool_)
        if self.rows and not (done.size and last_rows[-1] == self.rows - 1):
            last_rows = np.append(last_rows, self.rows - 1)
            done = np.append(done, False)
        first_rows = np.append(0, last_rows + 1)[:-1]
        lengths = last_rows - first_rows
        for array in (first_rows, lengths, done):
            array.flags.writeable = False
        return first_rows, lengths, done

    def read(self, field: str, start: int, stop: int) -> Any:
        """Read rows start (inclusive) to stop (exclusive) of one column, and no other rows.

        Returns:
            A new array in native byte order, rows first: `time` float64 in Unix seconds, exact to
            the microsecond; `observation`, `action`, `reward` float32 as stored; `done` bool.
            For `info` a tuple of dicts, None where nothing or JSON null was recorded.

        Raises:
            DamagedFileError: If rows cannot be read, or an info is cut short or not a JSON object.
            IndexError: If the rows asked for are not in the table.
            MissingExtraError: If the table is Blosc-compressed and hdf5plugin is not installed.
            StorageError: If the file is closed.
            ValueError: If there is no such field.
        """
        if field not in _FIELDS:
            raise ValueError(f"expected one of {', '.join(_FIELDS)}, found {field!r}")
        if not 0 <= start <= stop <= self.rows:
            raise IndexError(
                f"{self._where}: expected 0 <= start <= stop <= {self.rows}, "
                f"found start {start} and stop {stop}"
            )
        dtype = self._types[field][1]
        stored = self._raw(field, start, stop).view(dtype.base)
        if field == "info":
            return tuple(self._info(text, start + i) for i, text in enumerate(stored.tolist()))
        if field == "time":
            bits = stored.astype(np.int64)
            # The low half is a signed int32: before 1970 PyTables stores both halves negative.
            return (bits >> 32) + bits.astype(np.int32) * 1e-6
        if field == "done":
            return stored != 0
        native = stored.astype(dtype.base.newbyteorder("="), copy=False)
        return native.reshape(stop - start, *dtype.shape)

    def _raw(self, field: str, start: int, stop: int) -> npt.NDArray[np.uint8]:
        """Read one member of some rows as bytes, one row's after the other's."""
        member, dtype = self._types[field]
        raw = np.zeros((stop - start) * dtype.itemsize, dtype=np.uint8)
        with _explained(
            self._dataset,
            f"{self._where}: rows {start} to {stop - 1} of column {field} cannot be read",
            f"{_RESTORE} Rows outside the damaged chunk can still be read, a few at a time.",
        ):
            selection = self._dataset.id.get_space()
            if not len(raw):
                return raw
            self._load_filters()
            # HDF5 converts a compound to one with fewer members by picking; equal types it copies.
            memory = h5py.h5t.create(h5py.h5t.COMPOUND, dtype.itemsize)
            memory.insert(field.encode(), 0, member)
            selection.select_hyperslab((start,), (stop - start,))
            self._dataset.id.read(h5py.h5s.create_simple((stop - start,)), selection, raw, memory)
        return raw

    def _load_filters(self) -> None:
        """Make h5py able to decompress this table."""
        pipeline = self._dataset.id.get_create_plist()
        filters = [pipeline.get_filter(i)[0] for i in range(pipeline.get_nfilters())]
        if _BLOSC in filters and not h5py.h5z.filter_avail(_BLOSC):
            try:
                import hdf5plugin  # noqa: F401  importing it registers its filters with h5py
            except ImportError as error:
                raise MissingExtraError(
                    f"{self._where} is Blosc-compressed, and h5py needs the package hdf5plugin to "
                    'read it: pip install "gymbag[legacy]"'
                ) from error

    def _info(self, text: bytes, row: int) -> dict[str, Any] | None:
        """Parse what the info column holds in a row."""
        if text in (b"", b"null"):
            return None
        try:
            info = json.loads(text.decode("ascii"))
            if isinstance(info, dict):
                return info
            problem = f"found {info!r}"
        except (ValueError, RecursionError) as error:
            problem = str(error)
        limit = self._types["info"][1].itemsize
        if len(text) == limit:
            warnings.warn(
                f"{self._where}: the info of row {row} reads as None, as Gymbag 0.4 cut it at {limit} bytes",
                CutInfoWarning,
                stacklevel=2,
            )
            return None
        raise DamagedFileError(f"{self._where}: the info of row {row} is no JSON object ({problem})")

    def _attribute(self, name: str) -> bytes | None:
        """Read a text attribute, None if there is none."""
        with _explained(self._dataset, f"{self._where}: attribute {name} cannot be read"):
            return _text(self._dataset.attrs[name]) if name in self._dataset.attrs else None

    def _space(self, column: str) -> dict[str, Any] | None:
        """Translate the space description of a column."""
        text = self._attribute(f"{column}_space")
        if text is None or _PICKLED_NONE.fullmatch(text):
            return None
        with _explained(
            self._dataset,
            f"{self._where}: attribute {column}_space is not one that Gymbag 0.4 could write, "
            f"found {text[:80]!r}",
            "The rows can still be read: make the space yourself.",
        ):
            return _translate_space(json.loads(text.decode()), self._types[column][1].shape)


@contextmanager
def _explained(node: Any, found: str, remedy: str = _RESTORE) -> Iterator[None]:
    """Turn what h5py, json and this module's own checks raise into an error with a remedy."""
    try:
        yield
    except (OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
        if not node:
            raise StorageError(
                f"{found}: the file is closed. Open it again, and keep it open while reading."
            ) from error
        raise DamagedFileError(f"{found} ({type(error).__name__}: {error}). {remedy}") from error


def _text(value: Any) -> bytes:
    """Return a text attribute as bytes; PyTables writes an empty one as HDF5's null data space."""
    if isinstance(value, h5py.Empty):
        return b""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"expected text, found {type(value).__name__}")


def _members(dataset: h5py.Dataset) -> dict[str, Any]:
    """Return the file's own types of a compound's members, by name."""
    compound = dataset.id.get_type()
    if not isinstance(compound, h5py.h5t.TypeCompoundID):
        raise TypeError(f"a data set of {type(compound).__name__}")
    return {
        compound.get_member_name(i).decode(errors="replace"): compound.get_member_type(i)
        for i in range(compound.get_nmembers())
    }


def _member_dtype(field: str, member: Any) -> np.dtype[Any]:
    """Return the NumPy type for a member's bytes; TypeError if Gymbag 0.4 never wrote such."""
    if field == "time":
        for order, time_type in (("<", h5py.h5t.UNIX_D64LE), (">", h5py.h5t.UNIX_D64BE)):
            if member.equal(time_type):
                return np.dtype(f"{order}i8")
    elif field == "done":
        if isinstance(member, h5py.h5t.TypeBitfieldID) and member.get_size() == 1:
            return np.dtype(np.uint8)
    elif field == "info":
        if isinstance(member, h5py.h5t.TypeStringID) and not member.is_variable_str():
            return np.dtype(f"S{member.get_size()}")
    elif isinstance(member, (h5py.h5t.TypeFloatID, h5py.h5t.TypeArrayID)):
        dtype: np.dtype[Any] = member.dtype
        if dtype.base.newbyteorder("=") == np.float32 and (field != "reward" or not dtype.shape):
            return dtype
        raise TypeError(f"column {field} has the type {dtype}, not float32")
    kind = type(member).__name__
    raise TypeError(f"column {field} has the wrong type {kind} of {member.get_size()} bytes")


def _translate_space(description: Any, shape: tuple[int, ...]) -> dict[str, Any] | None:
    """Turn Gymbag 0.4's description of a space into ours; ValueError if it does not fit shape."""
    if description is None:
        return None
    name, arguments = description["name"], description["args"]
    if name == "gym.spaces.Discrete":
        (n,) = arguments
        if type(n) is not int or n < 1 or shape:
            raise ValueError(f"Discrete({n}) in a column of shape {shape}")
        return {"type": "Discrete", "n": n, "start": 0, "dtype": "<i8"}
    if name != "gym.spaces.Box" or len(arguments) not in (2, 3):
        raise ValueError(f"{name} with {len(arguments)} arguments")
    uniform = len(arguments) == 3
    if uniform and tuple(arguments[2]) != shape:
        raise ValueError(f"Box of shape {arguments[2]} in a column of shape {shape}")
    for bound in map(np.asarray, arguments[:2]):
        if bound.dtype.kind not in "iuf" or bound.shape != (() if uniform else shape):
            raise ValueError(f"bounds {bound.dtype}{bound.shape} in a column of shape {shape}")
        if np.isnan(bound).any():
            raise ValueError("NaN as a bound")
    low, high = map(_jsonable, arguments[:2])
    return {"type": "Box", "dtype": "<f4", "shape": list(shape), "low": low, "high": high}


def _jsonable(bound: Any) -> Any:
    """Spell the infinities of a number or nested list as strings, as strict JSON has none."""
    if isinstance(bound, list):
        return [_jsonable(element) for element in bound]
    return {np.inf: "inf", -np.inf: "-inf"}.get(bound, bound)
