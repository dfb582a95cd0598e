"""Chunk compression: how a chunk of an array becomes the bytes that stand in the file, and back.

HDF5 passes each chunk of a dataset through a pipeline of filters. What it does in one thread, holding its
lock, we do for the filters that matter ourselves, in any thread, and with faster libraries:

    rows -> shuffle -> gzip -> checksum -> what stands in the file
            (byte 0 of all values, then byte 1 of all, ...; where a value has several)

    gzip    filter 1, a zlib stream: every HDF5 reads it. Made with isal, if that is installed, else zlib;
            restored with libdeflate, by way of the package deflate, else as it is made.
    zstd    filter 32015: smaller by far for frames, but readers other than us need hdf5plugin.
    none    as gzip of level 0: a zlib stream of blocks that are not compressed.
    lzf     h5py's own: HDF5 does it.

A byte that has changed is always noticed. A zstd frame carries a good checksum of its own; all else gets
HDF5's, filter fletcher32. The one in a zlib stream would not do: in a column of two actions, one bit in 500
can change unnoticed, since what comes out then adds up to the same. Nor would fletcher32 alone: that of zeros
is zero, and it takes 0xFFFF for 0, so rows that a failing disk gives as zeros would pass.
"""

from __future__ import annotations

import contextlib
import operator
import threading
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np
from h5py import h5p, h5z

from gymbag.errors import DamagedFileError, MissingExtraError, StorageError
from gymbag.storage.fletcher32 import fletcher32

#: The filters that a chunk goes through on its way to the file: the number and the values of each.
Filters = tuple[tuple[int, tuple[int, ...]], ...]

# https://github.com/HDFGroup/hdf5_plugins/blob/master/docs/RegisteredFilterPlugins.md
_ZSTD = 32015

# From this level on, gzip is left to zlib: isal is five to twenty times faster, and has nothing smaller to
# offer. (Its own levels 2 and 3 are no smaller than 1, and 3 takes ten times as long for frames.)
_FIRST_LEVEL_OF_ZLIB = 4

# Each section of a chunk gets a Huffman code of its own, which must pay for its description and the flush.
_SECTION_BYTES = 4096

# Rows from this size on are frames and the like, which resemble the row before. That is farther away than
# zstd looks for short copies, so it is told to look for long ones: Atari frames become a quarter to a half.
_LONG_ROW_BYTES = 4096
_LONG_COPY = {"enable_ldm": True, "ldm_min_match": 256, "ldm_hash_rate_log": 6}
# Up to this level the simplest search takes what the search for long ones leaves: faster, and smaller too.
_LAST_FAST_LEVEL = 5


@dataclass(frozen=True)
class Compression:
    """How the chunks of new arrays are compressed; `choose_compression` makes one.

    Attributes:
        name: "gzip", "zstd", "lzf", or None for not at all.
        level: How hard to try, or None where there is no such choice.
    """

    name: str | None
    level: int | None


# The levels of each, and the one that is chosen by default.
_LEVELS: dict[str | None, tuple[range, int | None]] = {
    "gzip": (range(10), 1),
    "zstd": (range(1, 23), 3),
    "lzf": (range(0), None),
    None: (range(0), None),
}


def choose_compression(name: str | None = "gzip", level: int | None = None) -> Compression:
    """Check what a user asks for.

    Args:
        name: "gzip", "zstd", "lzf", or None for no compression.
        level: How hard to try: 0 to 9 for gzip, 1 to 22 for zstd; by default a fast one.

    Raises:
        StorageError: There is no such compression, or it has no such level.
        MissingExtraError: It needs a package that is not installed.

    >>> choose_compression("gzip")
    Compression(name='gzip', level=1)
    """
    if name not in _LEVELS:
        raise StorageError(f"expected the compression {_list_choices()}; found {name!r}")
    levels, default = _LEVELS[name]
    if level is not None:
        try:
            number = operator.index(level)
        except TypeError:
            number = -1
        if number not in levels or isinstance(level, bool):
            raise StorageError(f"expected the compression {_list_choices()}; found {name!r}, level {level!r}")
        default = number
    if name == "zstd" and _import_zstandard() is None:
        raise MissingExtraError(
            'the compression "zstd" needs the package zstandard: pip install "gymbag[zstd]"'
        )
    return Compression(name, default)


def _list_choices() -> str:
    choices = [
        f'"{name}" (level {levels[0]} to {levels[-1]})' if levels else f'"{name}"' if name else "None"
        for name, (levels, _) in _LEVELS.items()
    ]
    return f"{', '.join(choices[:-1])} or {choices[-1]}"


def choose_filters(compression: Compression, dtype: np.dtype[Any]) -> Filters:
    """Return the filters that a new array is to have.

    >>> choose_filters(choose_compression("gzip"), np.dtype(np.float32))
    ((2, (4,)), (1, (1,)), (3, ()))
    """
    filters: list[tuple[int, tuple[int, ...]]] = []
    if compression.name is not None and dtype.itemsize > 1:
        filters.append((h5z.FILTER_SHUFFLE, (dtype.itemsize,)))
    if compression.name == "zstd":
        assert compression.level is not None
        filters.append((_ZSTD, (compression.level,)))
    elif compression.name == "lzf":
        filters.append((h5z.FILTER_LZF, ()))
    else:
        filters.append((h5z.FILTER_DEFLATE, (compression.level or 0,)))
    if compression.name != "zstd":
        filters.append((h5z.FILTER_FLETCHER32, ()))
    return tuple(filters)


def set_filters(options: h5p.PropDCID, filters: Filters) -> None:
    """Have HDF5 make a dataset with these filters; one that it lacks it would only need to use it."""
    for number, values in filters:
        if number == h5z.FILTER_SHUFFLE:
            options.set_shuffle()
        elif number == h5z.FILTER_DEFLATE:
            options.set_deflate(*values)
        elif number == h5z.FILTER_FLETCHER32:
            options.set_fletcher32()
        else:
            options.set_filter(number, h5z.FLAG_OPTIONAL, values)


def filters_in(options: h5p.PropDCID) -> Filters:
    """Return the filters of a dataset that was made with these options."""
    found = (options.get_filter(position) for position in range(options.get_nfilters()))
    return tuple((number, values) for number, _, values, _ in found)


class Codec(ABC):
    """Compresses and restores whole chunks of one dataset; any number of threads may do so at once.

    Args:
        shape: The shape of a chunk.
        dtype: The dtype of the dataset.
        shuffled: Whether the bytes of the values are shuffled.
        checked: Whether a checksum follows what was compressed.
        level: The level to compress with, as the dataset has it.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], shuffled: bool, checked: bool, level: int
    ) -> None:
        self.shape, self.dtype = shape, dtype
        self._shuffled, self._checked, self._level = shuffled, checked, level
        self._bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self._prepare()

    def encode(self, *parts: np.ndarray) -> bytes:
        """Return what is to stand in the file for a chunk.

        Args:
            parts: A whole chunk, in the dtype of the dataset; or arrays of rows that make one.
        """
        assert sum(map(len, parts)) == self.shape[0], [part.shape for part in parts]
        assert all(part.dtype == self.dtype and part.shape[1:] == self.shape[1:] for part in parts)
        # HDF5 keeps every array in C order, so that values stand in the file as they do in memory.
        flat = [np.ascontiguousarray(part).reshape(-1).view(np.uint8) for part in parts]
        if self._shuffled:
            data = flat[0] if len(flat) == 1 else np.concatenate(flat)
            planes = np.ascontiguousarray(data.reshape(-1, self.dtype.itemsize).T)
            compressed = self._compress([[section] for section in _sections(planes)])
        else:
            compressed = self._compress([flat])
        return compressed + fletcher32(compressed) if self._checked else compressed

    def decode(self, data: bytes, out: np.ndarray | None = None) -> np.ndarray:
        """Restore a chunk.

        Args:
            data: What stands in the file for it, with every filter applied (a filter mask of 0).
            out: A C-contiguous array for the whole chunk, in the dtype of the dataset; by default a new one.

        Returns:
            The chunk: `out`, if that is given.

        Raises:
            DamagedFileError: The data is not what was written.
        """
        if self._checked:
            data, checksum = data[:-4], data[-4:]
            if fletcher32(data) != checksum:
                raise DamagedFileError("its checksum is another than that of what stands there")
        restored = np.frombuffer(self._decompress(data), np.uint8)
        if len(restored) != self._bytes:
            raise DamagedFileError(f"expected a chunk of {self._bytes} bytes, found {len(restored)}")
        if out is None:
            if restored.flags.writeable and not self._shuffled:
                return restored.view(self.dtype).reshape(self.shape)
            out = np.empty(self.shape, self.dtype)
        assert out.shape == self.shape, out.shape
        assert out.dtype == self.dtype, out.dtype
        target = out.reshape(-1).view(np.uint8)
        assert np.shares_memory(target, out) or not out.size, "out must be C-contiguous"
        if self._shuffled:
            self._unshuffle(restored, target)
        else:
            target[...] = restored
        return out

    def _unshuffle(self, data: np.ndarray, target: np.ndarray) -> None:
        """Put the bytes of the values together again."""
        size = self.dtype.itemsize
        planes, places = data.reshape(size, -1), target.reshape(-1, size).T
        # Most bytes of integers are zero; filling those in at once takes half the time.
        filled = np.flatnonzero(planes.max(axis=1))
        if len(filled) < len(planes):
            target[...] = 0
        # Plane by plane is the fastest way in NumPy, and the interpreter is free meanwhile.
        for plane in filled:
            places[plane] = planes[plane]

    @abstractmethod
    def _prepare(self) -> None:
        """Find the libraries that are needed."""

    @abstractmethod
    def _compress(self, sections: Sequence[Sequence[np.ndarray]]) -> bytes:
        """Compress what lies in sections that have little in common, each of which may come in parts."""

    @abstractmethod
    def _decompress(self, data: bytes) -> bytes | bytearray:
        """Restore what was compressed.

        Raises:
            DamagedFileError: It was something else.
        """


def _sections(planes: np.ndarray) -> list[np.ndarray]:
    """Split shuffled bytes where their statistics change.

    The exponents of floats take a few values only, and their last digits any: with a Huffman code for each
    rather than one for all of them, CartPole's observations become 8% smaller in no more time.
    """
    if planes.shape[1] < _SECTION_BYTES:
        return [planes.reshape(-1)]
    # A plane of nothing but zeros, say, goes along with the one before.
    varies = planes.min(axis=1) != planes.max(axis=1)
    starts = np.flatnonzero(varies)[1:]
    return [part.reshape(-1) for part in np.split(planes, starts)]


class _Gzip(Codec):
    def _prepare(self) -> None:
        self._isal, libdeflate = _import_isal(), _import_libdeflate()
        self._restore: Callable[[bytes], bytes | bytearray]
        self._error: type[Exception]
        if libdeflate is not None:
            self._error = libdeflate.DeflateError
            self._restore = lambda data: libdeflate.zlib_decompress(data, self._bytes)
        else:
            library = self._isal or zlib
            self._error = library.error
            # A byte more than needed, lest the buffer be full before the end is seen, and grow for nothing.
            self._restore = lambda data: library.decompress(data, zlib.MAX_WBITS, self._bytes + 1)

    def _compress(self, sections: Sequence[Sequence[np.ndarray]]) -> bytes:
        if self._isal is not None and 0 < self._level < _FIRST_LEVEL_OF_ZLIB:
            library, level = self._isal, 1
        else:
            library, level = zlib, self._level
        if len(sections) == len(sections[0]) == 1:
            # In one call, as another thread may have the interpreter for long after each.
            whole: bytes = library.compress(sections[0][0], level)
            return whole
        compressor = library.compressobj(level)
        found: list[bytes] = []
        for section in sections:
            if found:
                found.append(compressor.flush(zlib.Z_SYNC_FLUSH))
            found += map(compressor.compress, section)
        return b"".join([*found, compressor.flush()])

    def _decompress(self, data: bytes) -> bytes | bytearray:
        try:
            return self._restore(data)
        except self._error as error:
            raise DamagedFileError(f"expected a zlib stream: {error}") from error


class _Zstd(Codec):
    def _prepare(self) -> None:
        self._library = library = _import_zstandard()
        options = {"write_content_size": True, "write_checksum": True, "source_size": self._bytes}
        if self._bytes >= _LONG_ROW_BYTES * self.shape[0]:
            options.update(_LONG_COPY)
            if self._level <= _LAST_FAST_LEVEL:
                options["strategy"] = library.STRATEGY_FAST
        self._parameters = library.ZstdCompressionParameters.from_level(self._level, **options)
        self._own = threading.local()  # a compressor serves one thread at a time

    def _compress(self, sections: Sequence[Sequence[np.ndarray]]) -> bytes:
        try:
            compressor = self._own.compressor
        except AttributeError:
            compressor = self._library.ZstdCompressor(compression_params=self._parameters)
            self._own.compressor = compressor
        stream = compressor.compressobj(size=self._bytes)
        found: list[bytes] = []
        for section in sections:
            if found:
                found.append(stream.flush(self._library.COMPRESSOBJ_FLUSH_BLOCK))
            found += map(stream.compress, section)
        return b"".join([*found, stream.flush()])

    def _decompress(self, data: bytes) -> bytes:
        try:
            # A damaged size could ask for any amount of memory.
            size = self._library.get_frame_parameters(data).content_size
            if size != self._bytes:
                raise DamagedFileError(f"expected a chunk of {self._bytes} bytes, found one of {size}")
            try:
                decompressor = self._own.decompressor
            except AttributeError:
                decompressor = self._own.decompressor = self._library.ZstdDecompressor()
            restored: bytes = decompressor.decompress(data, allow_extra_data=False)
        except self._library.ZstdError as error:
            raise DamagedFileError(f"expected a zstd frame: {error}") from error
        return restored


def codec_of(dtype: np.dtype[Any], shape: tuple[int, ...], filters: Filters) -> Codec | None:
    """Return a codec for chunks of this dtype and shape, or None if they are to be left to HDF5."""
    if dtype.hasobject or dtype.subdtype is not None:
        return None
    shuffled = filters[:1] == ((h5z.FILTER_SHUFFLE, (dtype.itemsize,)),)
    checked = filters[-1:] == ((h5z.FILTER_FLETCHER32, ()),)
    compressing = filters[shuffled : len(filters) - checked]
    if len(compressing) != 1:
        return None
    ((number, values),) = compressing
    kind = {h5z.FILTER_DEFLATE: _Gzip, _ZSTD: _Zstd}.get(number)
    if kind is None or (kind is _Zstd and _import_zstandard() is None):
        return None
    level = values[0] if values else 0
    return kind(shape, dtype, shuffled and dtype.itemsize > 1, checked, level)


def is_never_zero(filters: Filters) -> bool:
    """Tell whether no chunk that went through these filters can be all zeros, whatever its rows."""
    return any(number == h5z.FILTER_LZF for number, _ in filters)


def load_filters(filters: Filters) -> None:
    """Make HDF5 able to undo these filters, if it takes those of hdf5plugin and that is installed."""
    if _missing(filters):
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  importing it registers its filters with h5py


def check_filters(dataset: h5py.Dataset) -> None:
    """Make sure that HDF5 has the filters of a dataset.

    Raises:
        MissingExtraError: It has not.
    """
    for number in _missing(filters_in(dataset.id.get_create_plist())):
        extra = "zstd" if number == _ZSTD else "legacy"
        raise MissingExtraError(
            f"{dataset.file.filename}: {dataset.name} needs HDF5 filter {number} to be read, which is in a "
            f'package of its own: pip install "gymbag[{extra}]"'
        )


def _missing(filters: Filters) -> list[int]:
    return [number for number, _ in filters if not h5z.filter_avail(number)]


def _import_isal() -> Any:
    """Return isal's double of zlib, or None if it is not installed."""
    try:
        from isal import isal_zlib
    except ImportError:
        return None
    return isal_zlib


def _import_libdeflate() -> Any:
    """Return Python's way to libdeflate, or None if it is not installed."""
    try:
        import deflate
    except ImportError:
        return None
    return deflate


def _import_zstandard() -> Any:
    """Return zstandard, or None if it is not installed."""
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard
