"""How steps of one kind are packed: a row of bytes for each, in one call.

A plan is made of an example: the first info that looked like that. For each of its leaves it knows what
`struct` is to be given and where in the row that goes, and it notices an info that is of another kind, which
then needs a plan of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gymbag import json_values
from gymbag.columns import Packing
from gymbag.info_kinds import DEEPEST, INT64, NO_KIND, Form, Kind, form_of

#: How the number lies in a row that is there in place of a value that is kept aside.
ASIDE = Packing("Q", np.dtype(np.uint64))

# Arrays of infos up to this size are packed, as long as a row of a plan has no more bytes than that.
_SMALL_ARRAY, _LARGEST_ROW = 1 << 8, 1 << 12

# The codes of the module `struct` for numbers that it takes as they are, by NumPy's kinds and bytes.
_CODES = {
    ("b", 1): "?",
    ("f", 8): "d",
    **{("i", size): code for size, code in ((1, "b"), (2, "h"), (4, "i"), (8, "q"))},
    **{("u", size): code for size, code in ((1, "B"), (2, "H"), (4, "I"), (8, "Q"))},
}

#: Keeps a value of about so many bytes aside, and returns the number that leads to it.
Keep = Callable[[Any, int], int]
#: Makes of a value what `struct` takes.
_Packer = Callable[[Any], Any]


class UnfitError(Exception):
    """A value is not what the plan of its step has room for."""


def signature_of(info: Mapping[Any, Any]) -> tuple[Any, ...]:
    """Return what infos must have in common to be packed by the same plan, as far as that is told quickly.

    >>> signature_of({"lives": 3})
    ('lives', <class 'str'>, <class 'int'>)
    """
    return (*info, *map(type, info), *map(type, info.values()))


def deep_signature_of(info: Mapping[Any, Any], depth: int = 1) -> tuple[Any, ...]:
    """Return the signatures of an info and of the dicts in it, as far as values of these may have columns."""
    if depth == DEEPEST:
        return (signature_of(info),)
    inner = [deep_signature_of(value, depth + 1) for value in info.values() if isinstance(value, dict)]
    return (signature_of(info), *inner)


@dataclass(frozen=True)
class Example:
    """An info, or annotation, of the kind that a plan is to pack.

    Attributes:
        info: The dict.
        number: Of its kind, in the table of kinds.
        forms: What its leaves look like.
        kind: Where their values go.
        fits: Tells whether there is a column for values of a form.
        on_unstorable: Called for what inside a value has no JSON form.
    """

    info: Mapping[str, Any]
    number: int
    forms: Sequence[Form]
    kind: Kind
    fits: Callable[[Form], bool]
    on_unstorable: json_values.OnUnstorable


@dataclass
class InfoSlot:
    """The room that an info, or an annotation, takes in the rows of a plan.

    Attributes:
        number: Of the kind, in the table of kinds; `NO_KIND` if the dict is empty, or JSON as a whole.
        values: Returns what to pack of a dict, or raises `UnfitError`.
        format: For the module `struct`.
        fields: The same for NumPy.
        columns: For each array of the kind its field, and whether its values are kept aside.
        rest: The field of the JSON of what is in no array, or None if there is none.
    """

    number: int = NO_KIND
    values: Callable[[Any], Any] = dict.values
    format: str = ""
    fields: list[tuple[str, np.dtype[Any]]] = field(default_factory=list)
    columns: dict[str, tuple[str, bool]] = field(default_factory=dict)
    rest: str | None = None

    def add_field(self, name: str, packing: Packing) -> str:
        """Add room for one value; return the name of its field."""
        name = f"{name} {len(self.fields)}"
        self.format += packing.format
        self.fields.append((name, packing.dtype))
        return name


def slot_of_text(name: str, keep: Keep) -> InfoSlot:
    """Return the slot for dicts that are given to `values` as JSON text."""
    slot = InfoSlot(values=lambda text: (keep(text, len(text)),))
    slot.rest = slot.add_field(name, ASIDE)
    return slot


def slot_of(name: str, example: Example, keep: Keep, before: int) -> InfoSlot:
    """Return the slot for dicts like an example.

    Args:
        name: Distinguishes its fields from those of other slots.
        example: The example.
        keep: Keeps what is not packed.
        before: How many bytes come before it.
    """
    slot = InfoSlot(example.number)
    packers: list[_Packer | None] = []
    aside: list[int] = []
    for form, leaf in zip(example.forms, example.kind, strict=True):
        packer = None
        if leaf.array is not None:
            packing, packer = _pack_leaf(form, before + struct.calcsize(f"={slot.format}"))
            if packing is ASIDE:
                aside.append(len(slot.fields))
            slot.columns[leaf.array] = slot.add_field(name, packing), packing is ASIDE
        packers.append(packer)
    if any(leaf.type == "json" for leaf in example.kind):
        aside.append(len(slot.fields))
        slot.rest = slot.add_field(name, ASIDE)
    if aside:  # a number that does not fit is to be noticed before anything is kept
        packers = [
            _check_int if form.type == "int" and leaf.array else packer
            for form, leaf, packer in zip(example.forms, example.kind, packers, strict=True)
        ]
    is_flat = all(len(form.path) == 1 for form in example.forms) and len(slot.fields) == len(packers)
    if not is_flat or aside:
        slot.values = _InfoPacker(example, packers, aside, keep)
    elif any(packers):
        slot.values = lambda info: [
            value if pack is None else pack(value) for value, pack in zip(info.values(), packers, strict=True)
        ]
    return slot


def _pack_leaf(form: Form, before: int) -> tuple[Packing, _Packer | None]:
    """Return how values of a form lie in a row, and what makes them of the values; None if `struct` does."""
    if form.type == "str":
        return ASIDE, lambda text: text.encode("utf-8", "surrogatepass")
    if form.type == "bytes":
        return ASIDE, None
    dtype, shape = form.dtype, form.shape
    assert dtype is not None
    if form.type != "array":
        code = _CODES.get((dtype.kind, dtype.itemsize))
        # Of smaller floats `struct` would make doubles and back, which signaling NaNs do not survive.
        return (Packing(f"{dtype.itemsize}s", dtype), bytes) if code is None else (Packing(code, dtype), None)
    whole = np.dtype((dtype, shape))
    is_small = whole.itemsize <= _SMALL_ARRAY and before + whole.itemsize <= _LARGEST_ROW

    def pack_array(array: np.ndarray) -> bytes:
        if array.dtype != dtype or array.shape != shape:
            raise UnfitError
        return array.tobytes()

    return Packing(f"{whole.itemsize}s", whole) if is_small else ASIDE, pack_array


def _check_int(value: int) -> int:
    if not INT64.min <= value <= INT64.max:
        raise UnfitError
    return value


class _InfoPacker:
    """Returns what to pack of an info whose signature is that of an example.

    Args:
        example: The example.
        packers: For each of its leaves.
        aside: Which values are kept aside.
        keep: Keeps them.
    """

    def __init__(
        self, example: Example, packers: Sequence[_Packer | None], aside: Sequence[int], keep: Keep
    ) -> None:
        self._aside, self._keep = aside, keep
        self._fits, self._on_unstorable = example.fits, example.on_unstorable
        self._has_rest = any(leaf.type == "json" for leaf in example.kind)
        leaves = list(zip(example.forms, example.kind, packers, strict=True))
        self._entries = self._list_entries(example.info, leaves[::-1], 1)

    def _list_entries(self, info: Mapping[str, Any], leaves: list[Any], depth: int) -> list[tuple[str, Any]]:
        """List what is to be done with each value of a dict; leaves are taken from the end."""
        entries: list[tuple[str, Any]] = []
        for value in info.values():
            form, leaf, packer = leaves[-1]
            if len(form.path) > depth:
                inner = self._list_entries(value, leaves, depth + 1)
                entries.append(("dict", (signature_of(value), inner)))
                continue
            leaves.pop()
            if leaf.array is not None:
                entries.append(("pack", packer) if packer else ("plain", None))
            else:
                entries.append(("json", form) if leaf.type == "json" else ("nothing", None))
        return entries

    def __call__(self, info: Mapping[str, Any]) -> list[Any]:
        values: list[Any] = []
        texts: list[str] = []
        self._read(self._entries, info, values, texts)
        if self._has_rest:
            values.append(f"[{','.join(texts)}]".encode("ascii"))
        for number in self._aside:  # only now that the info is known to fit
            values[number] = self._keep(values[number], len(values[number]))
        return values

    def _read(
        self, entries: list[tuple[str, Any]], info: Mapping[str, Any], values: list[Any], texts: list[str]
    ) -> None:
        for value, (what, detail) in zip(info.values(), entries, strict=True):
            if what == "plain":
                values.append(value)
            elif what == "pack":
                values.append(detail(value))
            elif what == "json":
                texts.append(self._encode(value, detail))
            elif what == "dict":
                signature, inner = detail
                if signature_of(value) != signature:
                    raise UnfitError
                self._read(inner, value, values, texts)
            elif value:  # neither None nor an empty dict
                raise UnfitError

    def _encode(self, value: Any, form: Form) -> str:
        if self._fits(form_of(value, form.path)):
            raise UnfitError  # another plan has an array for it
        try:
            return json_values.encode(
                value, lambda inner, bad: self._on_unstorable((*form.path, *inner), bad)
            )
        except json_values.UnstorableError:
            raise UnfitError from None


@dataclass(frozen=True, slots=True)
class Plan:
    """How steps of one kind are packed.

    Attributes:
        code: What distinguishes its rows.
        pack: Packs a row; `struct.Struct.pack_into`.
        values: Returns what to pack of an info, or raises `UnfitError`.
        size: Bytes of the row.
        info: The slot that the info takes.
        annotation: The slot that the annotation takes.
        dtype: Of the rows.
    """

    code: int
    pack: Callable[..., None]
    values: Callable[[Any], Any]
    size: int
    info: InfoSlot
    annotation: InfoSlot
    dtype: np.dtype[Any]


def make_plan(
    code: int, format: str, fields: Sequence[tuple[str, np.dtype[Any]]], info: InfoSlot, annotation: InfoSlot
) -> Plan:
    """Make a plan of its parts, and of what comes before them in all rows."""
    row = struct.Struct(format + info.format + annotation.format)
    dtype = np.dtype([*fields, *info.fields, *annotation.fields])
    assert row.size == dtype.itemsize
    return Plan(code, row.pack_into, info.values, row.size, info, annotation, dtype)
