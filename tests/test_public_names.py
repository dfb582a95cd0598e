"""The shop window: the public names of gymbag are there, and are light to look at."""

from __future__ import annotations

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import gymbag

SOURCE = ast.parse(Path(gymbag.__file__).read_text(encoding="utf-8"))


def names_for_type_checkers() -> dict[str, str]:
    """The names that are imported under TYPE_CHECKING, and the modules they come from."""
    (block,) = (
        node
        for node in SOURCE.body
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    )
    return {
        alias.asname or alias.name: (node.module or "").removeprefix("gymbag.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", gymbag.__all__)
def test_a_public_name_is_what_its_module_defines(name):
    value = getattr(gymbag, name)
    module = importlib.import_module(f"gymbag.{gymbag._MODULES[name]}")
    assert value is getattr(module, name)
    assert inspect.isclass(value) or callable(value)
    assert inspect.getdoc(value)


def test_type_checkers_the_table_and_the_list_agree():
    assert names_for_type_checkers() == gymbag._MODULES
    assert sorted(gymbag._MODULES) == gymbag.__all__


def test_dir_lists_the_public_names():
    assert set(gymbag.__all__) <= set(dir(gymbag))
    assert "__version__" in dir(gymbag)


@pytest.mark.parametrize("name", ["no_such_name", "recorder", "__path_hook__"])
def test_a_name_that_is_not_there_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match=f"module 'gymbag' has no attribute '{name}'"):
        getattr(gymbag, name)


def test_a_star_import_gives_the_public_names():
    found: dict[str, object] = {}
    exec("from gymbag import *", found)
    assert set(gymbag.__all__) <= set(found)


def loaded_after(statement: str) -> set[str]:
    """The top-level packages that a fresh process has loaded after a statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return set(finished.stdout.split())


@pytest.mark.parametrize(
    "statement",
    ["import gymbag", "import gymbag; dir(gymbag); gymbag.__version__", "import gymbag.errors"],
)
def test_importing_gymbag_loads_no_gym(statement):
    assert not loaded_after(statement) & {"gym", "gymnasium", "h5py", "numpy", "tqdm"}


def test_reading_a_file_loads_neither_library_before_a_space_is_asked_for(tmp_path):
    path = str(tmp_path / "recording.h5")
    record = f"""
import gymbag, gymnasium
env = gymbag.record_hdf5(gymnasium.make("CartPole-v1"), {path!r})
env.reset()
env.step(0)
env.close()
"""
    assert "gym" not in loaded_after(record)
    read = f"import gymbag; reader = gymbag.HDF5Reader({path!r}); list(reader[0]); reader.get_dataset()"
    assert not loaded_after(read) & {"gym", "gymnasium"}
    assert "gym" not in loaded_after(read + "; reader.observation_space")


def test_recording_a_gym_env_does_not_load_gymnasium():
    script = """
import gym, gymbag
env = gymbag.RecordingWrapper(gym.make("CartPole-v1"), gymbag.MemoryWriter())
env.reset()
env.step(0)
"""
    assert "gymnasium" not in loaded_after(script)
