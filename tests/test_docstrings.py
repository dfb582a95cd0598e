"""The examples in the docstrings run, each module's in a folder of its own."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from pathlib import Path

import pytest

import gymbag

MODULES = sorted(module.name for module in pkgutil.walk_packages(gymbag.__path__, "gymbag."))


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_module(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # What an example needs of the repository, such as a file of Gymbag 0.4, it finds as if it were there.
    (tmp_path / "tests").symlink_to(Path(__file__).parent)
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(importlib.import_module(name), optionflags=options)
    assert failed == 0
