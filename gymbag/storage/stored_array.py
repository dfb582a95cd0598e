"""One array of an HDF5 file, by the identifier that HDF5 has for it.

An h5py.Dataset asks HDF5 for its shape, its dtype and its chunks whenever it is asked for them, and parses
paths anew; with the twenty arrays of a data set, most of the time of opening a file goes there. Here what
never changes of an array is looked up once, and may be handed on to who opens it again.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5g, h5p, h5s, h5t

from gymbag.storage.codecs import Codec, Filters, codec_of, filters_in, set_filters


@dataclass(frozen=True, eq=False)
class ArrayForm:
    """What never changes of an array.

    Attributes:
        dtype: The dtype of its values.
        row_shape: The shape of a row.
        chunks: The shape of a chunk, or None if it has none.
        filters: What a chunk goes through on its way to the file.
        is_plain: Whether its values stand in the file as they do in memory; values of a foreign struct, say,
            have to be converted.
        fill_value: The bytes of the value of rows that were never written; of an array to be made.
    """

    dtype: np.dtype[Any]
    row_shape: tuple[int, ...]
    chunks: tuple[int, ...] | None
    filters: Filters
    is_plain: bool = True
    fill_value: bytes = b""

    @functools.cached_property
    def codec(self) -> Codec | None:
        """What compresses and restores chunks, or None if they are to be left to HDF5."""
        # Of chunks that part rows, or are larger than those because rows have no elements, HDF5 knows more.
        if self.chunks is None or self.chunks[1:] != self.row_shape or not self.is_plain:
            return None
        return codec_of(self.dtype, self.chunks, self.filters)


class StoredArray:
    """An array of an open HDF5 file.

    Args:
        id: HDF5's identifier.
        shape: The length, and the shape of a row, if they are known already.
        form: What never changes of it, if that is known already.

    Attributes:
        id: HDF5's identifier, and h5py's functions for it.
        form: What never changes of it.
        shape: The length, and the shape of a row, as of now.
    """

    def __init__(
        self, id: h5d.DatasetID, shape: tuple[int, ...] | None = None, form: ArrayForm | None = None
    ) -> None:
        self.id = id
        self.shape: tuple[int, ...] = id.shape if shape is None else shape
        self.form = _form_of(id, self.shape[1:]) if form is None else form

    def __len__(self) -> int:
        """Count the rows."""
        return self.shape[0]

    @property
    def can_grow(self) -> bool:
        """Whether it may become as long as need be."""
        return bool(self.id.get_space().get_simple_extent_dims(True)[0] == h5s.UNLIMITED)

    def as_dataset(self) -> h5py.Dataset:
        """Return h5py's own view of it, for what only HDF5 can do."""
        return h5py.Dataset(self.id)

    def resize(self, length: int) -> None:
        """Make it longer, or shorter."""
        self.shape = (length, *self.shape[1:])
        self.id.set_extent(self.shape)

    def read_chunk(self, row: int) -> tuple[int, bytes]:
        """Return the filter mask of the chunk that begins with a row, and what stands in the file for it."""
        found: tuple[int, bytes] = self.id.read_direct_chunk((row, *(0 for _ in self.shape[1:])))
        return found

    def write_chunk(self, row: int, data: bytes) -> None:
        """Write what is to stand in the file for the chunk that begins with a row."""
        self.id.write_direct_chunk((row, *(0 for _ in self.shape[1:])), data)


def create_arrays(group: h5g.GroupID, forms: Mapping[str, ArrayForm]) -> dict[str, StoredArray]:
    """Make arrays without rows, that may grow without bound, at these paths, and the groups on the way."""
    groups = {"": group}
    return {path: _create_array(groups, path, form) for path, form in forms.items()}


def _create_array(groups: dict[str, h5g.GroupID], path: str, form: ArrayForm) -> StoredArray:
    above, _, name = path.rpartition("/")
    id = h5d.create(
        _find_group(groups, above),
        name.encode(),
        _file_type(form.dtype),
        _growing_space(form.row_shape),
        dcpl=_creation_options(form.chunks, form.filters, form.dtype, form.fill_value),
    )
    return StoredArray(id, (0, *form.row_shape), form)


def _find_group(groups: dict[str, h5g.GroupID], path: str) -> h5g.GroupID:
    """Return a group, which is made if need be, and keep it."""
    if path not in groups:
        above, _, name = path.rpartition("/")
        parent, encoded = _find_group(groups, above), name.encode()
        is_there = encoded in parent
        groups[path] = h5g.open(parent, encoded) if is_there else _create_group(parent, encoded)
    return groups[path]


def _create_group(parent: h5g.GroupID, name: bytes) -> h5g.GroupID:
    options = h5p.create(h5p.GROUP_CREATE)
    options.set_obj_track_times(False)
    return h5g.create(parent, name, gcpl=options)


# Most arrays are of a few kinds, so that what describes them to HDF5 is made once.


@functools.lru_cache(maxsize=64)
def _file_type(dtype: np.dtype[Any]) -> h5t.TypeID:
    return h5t.py_create(dtype, logical=True)


@functools.lru_cache(maxsize=64)
def _growing_space(row_shape: tuple[int, ...]) -> h5s.SpaceID:
    # HDF5 wants every fixed axis to be at least as long as a chunk, which is at least 1.
    limits = (h5s.UNLIMITED, *(size or h5s.UNLIMITED for size in row_shape))
    return h5s.create_simple((0, *row_shape), limits)


@functools.lru_cache(maxsize=64)
def _creation_options(
    chunks: tuple[int, ...], filters: Filters, dtype: np.dtype[Any], fill_value: bytes
) -> h5p.PropDCID:
    options = h5p.create(h5p.DATASET_CREATE)
    options.set_obj_track_times(False)
    options.set_chunk(chunks)
    if any(fill_value):  # HDF5's own is zero
        options.set_fill_value(np.frombuffer(fill_value, dtype))
    set_filters(options, filters)
    return options


def _form_of(id: h5d.DatasetID, row_shape: tuple[int, ...]) -> ArrayForm:
    options = id.get_create_plist()
    chunks = options.get_chunk() if options.get_layout() == h5d.CHUNKED else None
    dtype, is_plain = _find_type(id.get_type().encode())
    return ArrayForm(dtype, row_shape, chunks, filters_in(options), is_plain)


@functools.lru_cache(maxsize=64)
def _find_type(encoded: bytes) -> tuple[np.dtype[Any], bool]:
    """Return the dtype of an HDF5 type, and whether values of both are the same bytes."""
    found = h5t.decode(encoded)
    dtype = found.dtype
    return dtype, h5t.py_create(dtype, logical=True).equal(found)
