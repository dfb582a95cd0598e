"""Spaces of both libraries as JSON, and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from cases import SPACES, each_space, space_case
from same import assert_same

from gymbag import json_values, spaces
from gymbag.errors import DamagedFileError, GymbagError, SpaceError
from gymbag.space_columns import column_of
from gymbag.spaces import build_space, describe_space, library_of, register_space


def rebuilt(space: Any) -> Any:
    """Send a space through its JSON text."""
    return build_space(json_values.decode(json_values.encode(describe_space(space))))


def boxes_in(space: Any) -> Iterator[Any]:
    if space is None:
        return
    if type(space).__name__ == "Box":
        yield space
    for name in ("feature_space", "node_space", "edge_space"):
        yield from boxes_in(getattr(space, name, None))
    children = getattr(space, "spaces", ())
    for child in children.values() if isinstance(children, dict) else children:
        yield from boxes_in(child)


@each_space
def test_a_space_comes_back_equal_and_of_the_same_class(case: Any) -> None:
    space = case.space()
    assert rebuilt(space) == space
    assert type(rebuilt(space)) is type(space)


@each_space
def test_bounds_come_back_bit_for_bit(case: Any) -> None:
    space = case.space()
    for ours, theirs in zip(boxes_in(rebuilt(space)), boxes_in(space), strict=True):
        assert ours.dtype == theirs.dtype
        for name in ("low", "high", "bounded_below", "bounded_above"):
            assert_same(np.asarray(getattr(ours, name)), np.asarray(getattr(theirs, name)))


@each_space
def test_a_space_that_came_back_samples_the_same(case: Any) -> None:
    if case.name == "Box-longdouble":
        pytest.skip("neither library samples long doubles")
    ours, theirs = rebuilt(case.space()), case.space()
    ours.seed(7)
    theirs.seed(7)
    for _ in range(5):
        assert_same(ours.sample(), theirs.sample())


@each_space
def test_a_description_is_standard_json_that_names_version_and_library(case: Any) -> None:
    found = json.loads(json_values.encode(case.describe()), parse_constant=pytest.fail)
    assert (found["version"], found["library"]) == (1, case.library)
    assert found["space"]["type"] == type(case.space()).__name__


@each_space
def test_equal_spaces_have_the_same_text(case: Any) -> None:
    assert json_values.encode(case.describe()) == json_values.encode(case.describe())


def test_different_spaces_have_different_texts() -> None:
    cases = [case for case in SPACES if case.name != "Box-special-values"]  # of the space Box-unbounded
    assert len({json_values.encode(case.describe()) for case in cases}) == len(cases)


IN_BOTH = sorted({case.name for case in SPACES if case.library == "gym"})


@pytest.mark.parametrize("name", IN_BOTH)
@pytest.mark.parametrize(("recorded", "wanted"), [("gym", "gymnasium"), ("gymnasium", "gym")])
def test_a_space_is_built_in_the_other_library(name: str, recorded: Any, wanted: Any) -> None:
    built = build_space(space_case(name, recorded).describe(), wanted)
    assert library_of(built) == wanted
    if name != "Box-unbounded-integers":  # the libraries have different bounds in place of infinity
        assert built == space_case(name, wanted).space()


ONLY_IN_GYMNASIUM = ["OneOf", "OneOf-nested", "Sequence-stacked", "Sequence-stacked-Dict"]


@pytest.mark.parametrize("name", ONLY_IN_GYMNASIUM)
def test_a_space_that_gym_lacks_is_refused(name: str) -> None:
    with pytest.raises(SpaceError, match=r"the other library|library='gymnasium'"):
        build_space(space_case(name).describe(), "gym")


@pytest.mark.parametrize("name", ["Discrete-int8", "MultiDiscrete-start", "MultiDiscrete-start-int16"])
def test_an_option_that_gym_lacks_is_refused(name: str) -> None:
    with pytest.raises(SpaceError):  # DamagedFileError would accuse the file
        build_space(space_case(name).describe(), "gym")


class Angle(gymnasium.spaces.Box):
    """A box with a unit."""

    def __init__(self, unit: str) -> None:
        super().__init__(-1.0, 1.0, shape=(3,))
        self.unit = unit

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Angle) and other.unit == self.unit

    __hash__ = None  # type: ignore[assignment]


class Anything(gymnasium.Space[Any]):
    """A space that has no form of its own."""


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget afterwards what a test registers."""
    monkeypatch.setattr(spaces, "_custom_spaces", {})


@pytest.mark.parametrize("space", [Angle("degree"), Anything(), gymnasium.spaces.Dict(a=Angle("degree"))])
def test_an_unknown_space_is_refused_with_the_way_to_make_it_known(space: Any) -> None:
    with pytest.raises(SpaceError, match=r"gymbag\.register_space"):
        describe_space(space)


def test_what_belongs_to_no_library_is_refused() -> None:
    with pytest.raises(SpaceError, match=r"expected an env or a space of gymnasium or gym.*builtins\.int"):
        library_of(3)


def register_angle(with_like: bool) -> None:
    def like(angle: Any) -> Any:
        return gymnasium.spaces.Box(-1.0, 1.0, shape=(3,))

    register_space(
        Angle, "Angle", lambda angle: {"unit": angle.unit}, lambda data: Angle(**data), *[like][:with_like]
    )


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("with_like", [True, False])
def test_a_registered_space_comes_back(with_like: bool) -> None:
    register_angle(with_like)
    space = gymnasium.spaces.Tuple([Angle("degree"), Angle("radian")])
    assert rebuilt(space) == space


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize("with_like", [True, False])
def test_values_of_a_registered_space_come_back(with_like: bool) -> None:
    register_angle(with_like)
    column = column_of(describe_space(gymnasium.spaces.Dict(angle=Angle("degree"))))
    values = [{"angle": np.full(3, number, np.float32)} for number in range(4)]
    assert_same(list(column.iterate(column.stack(values))), values)
    assert list(column.arrays()) == (["angle"] if with_like else ["angle/data", "angle/ends"])


@pytest.mark.usefixtures("registry")
@pytest.mark.parametrize(
    "value", [{}, {"a": 1}, [1, (2,)], None, "text", np.zeros(3), np.zeros(1), np.zeros(0)], ids=str
)
def test_a_registered_space_without_like_takes_any_value(value: Any) -> None:
    register_space(Anything, "Anything", lambda space: None, lambda data: Anything())
    column = column_of(describe_space(Anything()))
    assert_same(list(column.iterate(column.stack([value, value]))), [value, value])


@pytest.mark.usefixtures("registry")
def test_a_space_that_is_not_registered_when_it_is_built_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    register_angle(True)
    description = describe_space(Angle("degree"))
    monkeypatch.setattr(spaces, "_custom_spaces", {})
    with pytest.raises(SpaceError, match=r"'Angle'.*gymbag\.register_space"):
        build_space(description)


@pytest.mark.usefixtures("registry")
def test_registering_a_name_again_replaces_it() -> None:
    register_space(Angle, "Angle", lambda angle: 1, lambda data: Angle("old"))
    register_space(Angle, "Angle", lambda angle: 1, lambda data: Angle("new"))
    assert rebuilt(Angle("x")).unit == "new"


def test_a_newer_version_is_refused_and_says_so() -> None:
    description = {**describe_space(gymnasium.spaces.Discrete(2)), "version": 2}
    with pytest.raises(DamagedFileError, match="newer gymbag"):
        build_space(description)


GOOD = describe_space(gymnasium.spaces.Box(0, 1, (2,)))
DAMAGED: dict[str, Any] = {
    "no space": {"version": 1, "library": "gymnasium"},
    "no library": {"version": 1, "space": GOOD["space"]},
    "unknown library": {**GOOD, "library": "nolibrary"},
    "another module as library": {**GOOD, "library": "this"},
    "unknown type": {**GOOD, "space": {"type": "Cube"}},
    "no type": {**GOOD, "space": {}},
    "space is a list": {**GOOD, "space": []},
    "no bound": {**GOOD, "space": {"type": "Box", "dtype": "<f4", "shape": [2]}},
    "bounds of another shape": {**GOOD, "space": {**GOOD["space"], "low": [1, 2, 3]}},
    "bounds that are no numbers": {**GOOD, "space": {**GOOD["space"], "low": "x"}},
    "unknown dtype": {**GOOD, "space": {**GOOD["space"], "dtype": "<x4"}},
    "negative size": {**GOOD, "space": {"type": "Discrete", "n": -1, "start": 0, "dtype": "<i8"}},
    "version is text": {**GOOD, "version": "one"},
    "a list": [],
    "nothing": None,
}


@pytest.mark.parametrize("description", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_description_is_reported(description: Any) -> None:
    with pytest.raises(GymbagError):
        build_space(description)


@pytest.mark.parametrize("build", [build_space, column_of, lambda it: column_of(it).null()])
def test_a_description_does_not_choose_what_is_imported(build: Any) -> None:
    sys.modules.pop("this", None)
    with pytest.raises(GymbagError):
        build({**space_case("Graph").describe(), "library": "this"})
    assert "this" not in sys.modules


NO_COLUMN = [
    "no space",
    "unknown type",
    "no type",
    "space is a list",
    "unknown dtype",
    "a list",
    "nothing",
]


@pytest.mark.parametrize("description", [DAMAGED[name] for name in NO_COLUMN], ids=NO_COLUMN)
def test_a_damaged_description_gives_no_column(description: Any) -> None:
    with pytest.raises(GymbagError):
        column_of(description)


@pytest.mark.parametrize(
    ("program", "loaded"),
    [
        ("import gymbag.spaces, gymbag.compound_columns, gymbag.storage.hdf5_reader", []),
        ("from cases import *; space_case('Discrete').describe()", ["gymnasium"]),
        ("from cases import *; space_case('Graph').column()", ["gymnasium"]),
        ("from gymbag.spaces import build_space as b; b({DISCRETE})", ["gymnasium"]),
        ("from gymbag.space_columns import column_of as c; c({DISCRETE})", []),
    ],
)
def test_only_the_library_that_is_asked_for_is_imported(program: str, loaded: list[str]) -> None:
    program = program.replace("{DISCRETE}", repr(describe_space(gymnasium.spaces.Discrete(2))))
    program = f"import sys; sys.path.append({sys.path[0]!r}); sys.path[:0] = {sys.path!r}\n{program}\n"
    program += "print(*sorted({'gym', 'gymnasium'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert found.split() == loaded
