"""Values as JSON text: what comes back is the same, and damaged text is told from ours."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import numpy as np
import pytest
from cases import PLAINER, VALUES
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from same import assert_same

from gymbag.errors import DamagedFileError
from gymbag.json_values import UnstorableError, decode, encode


def is_titled(dtype: np.dtype[Any]) -> bool:
    """Tell whether a dtype has titles beside the names of its fields: see ODD_DTYPES."""
    fields = (dtype.fields or {}).values()
    return any(len(field) == 3 or is_titled(field[0].base) for field in fields)


DTYPES = st.one_of(
    hnp.scalar_dtypes(),
    hnp.byte_string_dtypes(),
    hnp.unicode_string_dtypes(),
    hnp.nested_dtypes(hnp.scalar_dtypes(), max_itemsize=64).filter(lambda dtype: not is_titled(dtype)),
)
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_side=3)))
SCALARS = hnp.scalar_dtypes().flatmap(hnp.from_dtype)
TEXTS = st.text(st.characters(categories=None), max_size=5) | st.sampled_from(["$tuple", "$dict", "$"])
PLAIN = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.complex_numbers()
    | TEXTS
    | st.binary(max_size=5)
)
KEYS = (
    TEXTS
    | st.integers()
    | st.booleans()
    | st.none()
    | st.binary(max_size=3)
    | st.tuples(st.integers(), TEXTS)
)
NESTED = st.recursive(
    PLAIN | ARRAYS | SCALARS,
    lambda inner: (
        st.dictionaries(KEYS, inner, max_size=3)
        | st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
    ),
    max_leaves=6,
)


def refuse_constant(name: str) -> None:
    raise AssertionError(f"{name} is not standard JSON")


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES)
def test_values_come_back_the_same(value: Any) -> None:
    assert_same(decode(encode(value)), value)


@given(NESTED)
@settings(max_examples=200)
def test_any_nested_value_comes_back_the_same(value: Any) -> None:
    assert_same(decode(encode(value)), value)


@pytest.mark.parametrize(("value", "plainer"), PLAINER.values(), ids=PLAINER)
def test_subclasses_come_back_as_the_plain_type(value: Any, plainer: Any) -> None:
    assert_same(decode(encode(value)), plainer)


@given(NESTED)
def test_the_text_is_standard_json_in_ascii(value: Any) -> None:
    text = encode(value)
    assert text.isascii()
    json.loads(text, parse_constant=refuse_constant)


def test_json_types_are_written_as_they_are() -> None:
    assert json.loads(encode({"a": [1, 2.5, "x", None, True]})) == {"a": [1, 2.5, "x", None, True]}


def test_text_may_be_read_from_bytes() -> None:
    assert decode(encode({"a": "é"}).encode("ascii")) == {"a": "é"}


def test_arrays_that_come_back_are_writable() -> None:
    decoded = decode(encode(np.zeros(2)))
    decoded[0] = 1
    assert decoded.tolist() == [1, 0]


def cycle_of(kind: str) -> Any:
    inner: Any = []
    if kind == "array":
        inner = np.empty(1, object)
        inner[0] = inner
    elif kind == "dict":
        inner = {}
        inner["self"] = inner
    else:
        inner.append((inner,) if kind == "tuple" else inner)
    return inner


@pytest.mark.parametrize("kind", ["list", "tuple", "dict", "array"])
def test_a_container_inside_itself_is_refused(kind: str) -> None:
    with pytest.raises(UnstorableError):
        encode(cycle_of(kind))


def test_a_container_may_occur_twice() -> None:
    inner = [1]
    assert decode(encode([inner, inner, {"a": inner}])) == [[1], [1], {"a": [1]}]


def nested_lists(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


UNSTORABLE: dict[str, Any] = {
    "object": object(),
    "function": len,
    "class": int,
    "set": {1},
    "range": range(3),
    "iterator": iter([]),
    "slice": slice(1),
    "structured objects": np.zeros(1, [("a", object)]),
    "scalar of objects": np.zeros(1, [("a", object)])[0],
    "array of functions": np.array([len], object),
    "masked array": np.ma.array([1, 2], mask=[True, False]),
    "masked": np.ma.masked,
    "integer that Python does not read": 10**5000,
    "too deep": nested_lists(2 * sys.getrecursionlimit()),
}


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_what_has_no_json_form_is_refused_with_its_path(value: Any) -> None:
    with pytest.raises(UnstorableError) as caught:
        encode({"a": [0, value]})
    assert caught.value.path[:2] == ("a", 1)


@pytest.mark.parametrize("value", UNSTORABLE.values(), ids=UNSTORABLE)
def test_what_has_no_json_form_is_left_out_on_request(value: Any) -> None:
    left_out: list[Any] = []
    text = encode({"bad": value, "good": {"bad": value, "good": 1}}, lambda path, _: left_out.append(path))
    assert decode(text) == {"good": {"good": 1}}
    assert [path[: path.index("bad") + 1] for path in left_out] == [("bad",), ("good", "bad")]


def test_the_message_of_a_refusal_can_be_shown() -> None:
    with pytest.raises(UnstorableError) as caught:
        encode(10**5000)
    assert str(caught.value)


ODD_DTYPES: dict[str, np.dtype[Any]] = {
    "overlapping": np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [0, 0]}),
    "out of order": np.dtype({"names": ["a", "b"], "formats": ["<i4", "<i2"], "offsets": [2, 0]}),
    "without fields": np.dtype([]),
    "titled": np.dtype([(("title", "name"), "<f4")]),
    "with metadata": np.dtype([("a", np.dtype("f4", metadata={"unit": "m"}))]),
    "no bytes": np.dtype("V0"),
}


@pytest.mark.parametrize("dtype", ODD_DTYPES.values(), ids=ODD_DTYPES)
def test_an_array_of_an_odd_dtype_comes_back_or_is_refused(dtype: np.dtype[Any]) -> None:
    array = np.zeros(2, dtype)
    try:
        text = encode(array)
    except UnstorableError:
        return
    assert_same(decode(text), array)


@pytest.mark.skipif(
    not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="needs NumPy 2"
)
def test_an_array_of_strings_of_any_length_comes_back_or_is_refused() -> None:
    array = np.array(["a", "long"], np.dtypes.StringDType())
    try:
        text = encode(array)
    except UnstorableError:
        return
    assert decode(text).dtype == array.dtype


DAMAGED = {
    "nothing": "",
    "cut": '{"a":',
    "not UTF-8": b"\xff",
    "unknown tag": '{"$new":1}',
    "float that is none": '{"$float":"x"}',
    "float too large": '{"$float":1' + 400 * "0" + "}",
    "complex of three": '{"$complex":[1,2,3]}',
    "complex too large": '{"$complex":[1' + 400 * "0" + ",0]}",
    "tuple of a number": '{"$tuple":1}',
    "dict of triples": '{"$dict":[[1,2,3]]}',
    "dict with a list as key": '{"$dict":[[[],1]]}',
    "bytes of a number": '{"$bytes":1}',
    "bytes not in base64": '{"$bytes":"A"}',
    "scalar of nothing": '{"$scalar":[]}',
    "scalar without bytes": '{"$scalar":["<f4"]}',
    "scalar of two values": '{"$scalar":["<f4","AAAAAAAAAAA="]}',
    "scalar of objects": '{"$scalar":["O","AAAAAAAAAAA="]}',
    "array without shape": '{"$array":["<f4","AAAAAA=="]}',
    "array of another shape": '{"$array":["<f4",[2],"AAAAAA=="]}',
    "array of objects": '{"$array":["O",[1],"AAAAAAAAAAA="]}',
    "array of half an element": '{"$array":["<f4",[1],"AAA="]}',
    "array with a huge shape": '{"$array":["<f4",[1' + 30 * "0" + '],""]}',
    "array of unknown dtype": '{"$array":["<x4",[1],"AAAAAA=="]}',
    "array of an old notation": '{"$array":["<f4,(2)f4",[0],""]}',
    "array whose dtype is a number": '{"$array":[5,[1],"AAAAAA=="]}',
    "array whose dtype is a dict": '{"$array":[{"a":1},[1],"AAAAAA=="]}',
    "array whose dtype is code": '{"$array":["__import__(1)",[1],"AAAAAA=="]}',
    "array whose field has no dtype": '{"$array":[[["a"]],[1],"AAAAAA=="]}',
    "objects of another shape": '{"$objects":[[2],[1]]}',
    "a number too long": "1" * 5000,
    "too deep": "[" * 100_000,
    "NaN, which is not JSON": '{"a":NaN}',
    "Infinity, which is not JSON": "[-Infinity]",
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_damaged_text_is_reported_as_such(text: str | bytes) -> None:
    with pytest.raises(DamagedFileError, match="expected a JSON value"):
        decode(text)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=5,
)
_TAGS = st.sampled_from(
    ["$tuple", "$dict", "$float", "$complex", "$bytes", "$scalar", "$array", "$objects", "$x"]
)
_DTYPES = st.sampled_from(
    ["<f4", "|O", "<U2", "|V0", "<M8[s]", "|S0", "f4,i2", [["a", "<f4"]], [["a", "<i2", [2]]]]
)


@given(_TAGS, _JSON | st.tuples(_DTYPES, _JSON, st.sampled_from(["", "AAAAAA==", "AAA"])))
@settings(max_examples=300)
@example("$scalar", [])
def test_any_content_of_a_tag_is_read_or_reported(tag: str, content: Any) -> None:
    _read_or_report(json.dumps({tag: content}))


@given(st.sampled_from([encode(value) for value in VALUES.values()]), st.data())
@settings(max_examples=300)
def test_mutated_text_is_read_or_reported(text: str, data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(begin, min(begin + 4, len(text))))
    patch = data.draw(st.text('[]{}",:0123456789.-eEnulNIf$<|OUVSM\\', max_size=4))
    _read_or_report(text[:begin] + patch + text[end:])


@given(st.binary(max_size=20))
def test_any_bytes_are_read_or_reported(data: bytes) -> None:
    _read_or_report(data)


def _read_or_report(text: str | bytes) -> None:
    with contextlib.suppress(DamagedFileError):
        decode(text)


@pytest.mark.parametrize("text", [np.bytes_(b"x\0"), np.str_("a\0"), np.str_("\0"), np.bytes_(b"")], ids=repr)
def test_zeros_at_the_end_of_a_string_are_kept(text: Any) -> None:
    found = decode(encode({"text": text}))["text"]
    assert type(found) is type(text)
    assert found == text
    assert len(found) == len(text)


@pytest.mark.parametrize("dtype", ['"<U1"', '"<U1",[1]', '[["a","<U1"]],[1]'])
def test_text_beyond_unicode_is_reported(dtype: str) -> None:
    tag = "$array" if "[1]" in dtype else "$scalar"
    with pytest.raises(DamagedFileError):
        decode(f'{{"{tag}":[{dtype},"6QA0AA=="]}}')


@pytest.mark.parametrize("dtype", ["longdouble", "clongdouble"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_equal_long_doubles_have_the_same_text_whatever_lies_in_their_padding(dtype: str, order: str) -> None:
    values = np.array([1, -2.5, np.inf], dtype).astype(np.dtype(dtype).newbyteorder(order))
    texts = set()
    for filler in (0, 255):
        memory = np.full(values.nbytes, filler, np.uint8).view(values.dtype)
        padding = memory.view(np.uint8).reshape(-1, np.dtype(np.longdouble).itemsize).copy()
        memory[:] = values
        if np.finfo(np.longdouble).nmant == 63:  # x86: the number takes 10 bytes of its room
            rows = memory.view(np.uint8).reshape(padding.shape)
            unused = slice(10, None) if order == "<" else slice(-10)
            rows[:, unused] = padding[:, unused]
        texts |= {encode(memory), encode({"a": memory})[5:-1], encode(list(memory))}
        assert_same(decode(encode(memory)), values)
    assert len(texts) == 2  # that of the array and that of the list
