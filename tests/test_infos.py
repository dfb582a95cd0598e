"""Infos on their way into a recording."""

from __future__ import annotations

import sys
import warnings
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from cases import VALUES
from same import assert_same

from gymbag import json_values
from gymbag.columns import ValueColumn
from gymbag.infos import InfoEncoder, InfoFilter, UnstorableInfoWarning

INFOS = {name: value for name, value in VALUES.items() if isinstance(value, dict)}


@pytest.mark.parametrize("info", INFOS.values(), ids=INFOS)
def test_an_info_is_encoded_as_a_column_reads_it(info: dict[Any, Any]) -> None:
    assert_same(ValueColumn().thaw(InfoEncoder()(info)), info)


def test_an_empty_info_takes_no_bytes() -> None:
    assert InfoEncoder()({}) == b""


def test_any_mapping_is_an_info() -> None:
    assert InfoEncoder()(MappingProxyType({"a": 1})) == b'{"a":1}'


def test_what_cannot_be_stored_is_left_out_with_a_warning_and_the_rest_kept() -> None:
    info = {"bad": object(), "good": 1, "inner": {"bad": len, "good": np.ones(2)}}
    with pytest.warns(UnstorableInfoWarning) as caught:
        encoded = InfoEncoder()(info)
    assert_same(json_values.decode(encoded), {"good": 1, "inner": {"good": np.ones(2)}})
    messages = [str(warning.message) for warning in caught]
    assert [message.split(" is a ")[0] for message in messages] == ["info['bad']", "info['inner']['bad']"]
    assert "builtins.object" in messages[0]
    assert "left out" in messages[0]


def test_an_info_of_which_nothing_can_be_stored_takes_no_bytes() -> None:
    with pytest.warns(UnstorableInfoWarning):
        assert InfoEncoder()({"bad": object()}) == b""


def test_the_warning_comes_once_for_each_key() -> None:
    encode = InfoEncoder()
    infos = [{"bad": object(), "worse": object()}] * 3
    with pytest.warns(UnstorableInfoWarning) as caught:
        list(map(encode, infos))
    assert len(caught) == 2


def test_the_warning_comes_once_for_a_key_whose_list_varies() -> None:
    encode = InfoEncoder()
    infos = [{"agents": [0] * number + [object()]} for number in range(5)]
    with pytest.warns(UnstorableInfoWarning) as caught:
        list(map(encode, infos))
    assert len(caught) == 1


def test_each_encoder_warns_by_itself_under_its_label() -> None:
    for label in ("info", "reset argument "):
        with pytest.warns(UnstorableInfoWarning, match=rf"^{label}\['options'\]\['bad'\] is a"):
            InfoEncoder(label)({"options": {"bad": object()}})


@pytest.mark.parametrize("setting", ["ignore", "error"])
def test_the_filters_of_warnings_apply(setting: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter(setting, UnstorableInfoWarning)
        if setting == "error":
            with pytest.raises(UnstorableInfoWarning):
                InfoEncoder()({"bad": object()})
        else:
            assert InfoEncoder()({"bad": object(), "good": 1}) == b'{"good":1}'


def test_a_dict_that_holds_itself_is_stored_without_itself() -> None:
    inner: dict[str, Any] = {"good": 1}
    inner["self"] = inner
    with pytest.warns(UnstorableInfoWarning, match="self"):
        assert json_values.decode(InfoEncoder()({"inner": inner})) == {"inner": {"good": 1}}


def test_an_info_too_deep_to_store_is_left_out() -> None:
    deep: list[Any] = []
    for _ in range(2 * sys.getrecursionlimit()):
        deep = [deep]
    with pytest.warns(UnstorableInfoWarning):
        assert InfoEncoder()({"deep": deep, "good": 1}) == b'{"good":1}'


def test_infos_are_copied_when_they_are_encoded() -> None:
    info = {"position": np.zeros(2)}
    encoded = InfoEncoder()(info)
    info["position"][:] = 7
    assert_same(json_values.decode(encoded), {"position": np.zeros(2)})


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        (True, {"a": 1, "b": {"c": 2}}),
        (False, {}),
        ([], {}),
        (["a"], {"a": 1}),
        (["b", "not there"], {"b": {"c": 2}}),
        (("b", "a"), {"a": 1, "b": {"c": 2}}),
        (iter(["a"]), {"a": 1}),
    ],
    ids=repr,
)
def test_infos_are_chosen(choice: Any, kept: dict[str, Any]) -> None:
    choose = InfoFilter(choice)
    for _ in range(2):  # an iterator of keys is not used up by the first info
        assert choose({"a": 1, "b": {"c": 2}}) == kept


@pytest.mark.parametrize("choice", [True, False, ["a"]], ids=repr)
def test_no_info_at_all_is_an_empty_one(choice: Any) -> None:
    assert InfoFilter(choice)(None) == {}
    assert InfoFilter(choice)({}) == {}


def test_a_string_is_no_list_of_keys() -> None:
    with pytest.raises(TypeError, match="'lives'"):
        InfoFilter("lives")
