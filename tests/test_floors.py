"""Modules import lower floors only, and importing gymbag stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "gymbag"

# Names are relative to the package; "__init__" is the package itself, "storage" is
# storage/__init__.py, and "storage.*" is all that lies below it.
FLOORS: dict[str, int] = {
    "errors": 0,
    "nested": 0,
    "uninterrupted": 0,
    "workers": 0,
    "json_values": 1,
    "spaces": 1,
    "columns": 1,
    "row_ring": 1,
    "compound_columns": 1,
    "space_columns": 1,
    "infos": 1,
    "info_kinds": 1,
    "info_arrays": 1,
    "episode": 1,
    "dataset": 1,
    "storage": 2,
    "storage.*": 2,
    "random_env": 3,
    "recording": 3,
    "playback": 3,
    "driving": 3,
    "for_gymnasium": 4,
    "for_gym": 4,
    "salvaging": 4,
    "atari": 4,
    "atari.*": 4,
    "testing": 5,
    "testing.*": 5,
    "cli": 6,
    "__init__": 6,
}
# Floors whose modules build on each other. On the others, neighbours stay independent unless they
# share a sub-package.
FLOORS_WITH_INNER_IMPORTS = {1, 2, 6}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts[-1] == "__init__" and len(parts) > 1:
        parts = parts[:-1]
    return ".".join(parts)


MODULES: dict[str, Path] = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def floor_of(module: str) -> int:
    for pattern, floor in FLOORS.items():
        if fnmatchcase(module, pattern):
            return floor
    pytest.fail(
        f"gymbag/{MODULES[module].relative_to(PACKAGE)} has no floor. Add {module!r} to FLOORS in "
        "tests/test_floors.py, on the lowest floor from which it can import what it needs."
    )


def nearest_module(dotted: str, modules: Mapping[str, Path]) -> str:
    """Return the module that holds `dotted`: itself, or else the package that defines the name."""
    name = dotted.removeprefix("gymbag").removeprefix(".")
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or "__init__"


def imports_of(source: str, module: str, modules: Mapping[str, Path]) -> Iterator[tuple[int, str]]:
    """Yield the line and the target of every import of gymbag's own modules, wherever it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            dotted_names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                pytest.fail(f"{module}, line {node.lineno}: write this import absolutely.")
            dotted_names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for dotted in dotted_names:
            if dotted.split(".")[0] == "gymbag":
                yield node.lineno, nearest_module(dotted, modules)


def sub_package(module: str) -> str | None:
    return module.split(".")[0] if "." in module or f"{module}.*" in FLOORS else None


def may_import(module: str, target: str) -> bool:
    if floor_of(target) != floor_of(module):
        return floor_of(target) < floor_of(module)
    if floor_of(module) in FLOORS_WITH_INNER_IMPORTS:
        return True
    return sub_package(module) is not None and sub_package(module) == sub_package(target)


@pytest.mark.parametrize("module", MODULES)
def test_module_imports_lower_floors_only(module: str) -> None:
    source = MODULES[module].read_text(encoding="utf-8")
    offences = [
        f"line {line}: {module} (floor {floor_of(module)}) imports {target} (floor {floor_of(target)})"
        for line, target in imports_of(source, module, MODULES)
        if not may_import(module, target)
    ]
    floor_of(module)  # A module without imports needs its floor as well.
    assert not offences, "\n".join(offences)


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = {
        module: {
            target
            for _, target in imports_of(path.read_text(encoding="utf-8"), module, MODULES)
            if target != module
        }
        for module, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circle of imports: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize(
    ("source", "targets"),
    [
        pytest.param("import numpy", [], id="foreign"),
        pytest.param("import gymbagged", [], id="foreign with our name as prefix"),
        pytest.param("import gymbag", ["__init__"], id="package"),
        pytest.param("import gymbag.errors as e", ["errors"], id="module"),
        pytest.param("from gymbag import errors", ["errors"], id="module from package"),
        pytest.param("from gymbag import Step", ["__init__"], id="name from package"),
        pytest.param("from gymbag.errors import E", ["errors"], id="name from module"),
        pytest.param("from gymbag.storage import base", ["storage.base"], id="from sub-package"),
        pytest.param("from gymbag.storage import W", ["storage"], id="name from sub-package"),
        pytest.param("def f():\n    import gymbag.errors", ["errors"], id="in a function"),
        pytest.param("if TYPE_CHECKING:\n    from gymbag.errors import E", ["errors"], id="for types only"),
    ],
)
def test_imports_are_found(source: str, targets: list[str]) -> None:
    modules = dict.fromkeys(("__init__", "errors", "storage", "storage.base"), PACKAGE)
    assert [target for _, target in imports_of(source, "infos", modules)] == targets


def test_importing_gymbag_loads_no_heavy_library() -> None:
    program = "import sys, gymbag; print(*sorted({'gym', 'gymnasium', 'h5py'} & set(sys.modules)))"
    loaded = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    ).stdout.split()
    assert not loaded, f"`import gymbag` loads {loaded}; import them where they are used"
