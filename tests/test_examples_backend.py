"""The backend of the documentation keeps the contract of a backend."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

from gymbag import (
    PlaybackEnv,
    RandomAgent,
    Reader,
    RecordingWrapper,
    StorageError,
    UnstorableInfoWarning,
    Writer,
    compare,
    drive_env,
    record_hdf5,
)
from gymbag.testing import BackendContract

EXAMPLE = Path(__file__).parents[1] / "examples" / "json_lines_backend.py"


def load_example() -> Any:
    spec = importlib.util.spec_from_file_location("json_lines_backend", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


json_lines = load_example()


class TestJSONLines(BackendContract):
    def open_writer(self, folder: Path) -> Writer:
        writer: Writer = json_lines.JSONLinesWriter(folder / "recording.jsonl")
        return writer

    def open_reader(self, folder: Path) -> Reader:
        reader: Reader = json_lines.JSONLinesReader(folder / "recording.jsonl")
        return reader


def test_recording_equals_that_of_another_backend(tmp_path: Path) -> None:
    env = record_hdf5(gymnasium.make("CartPole-v1"), tmp_path / "recording.h5")
    env = RecordingWrapper(env, json_lines.JSONLinesWriter(tmp_path / "recording.jsonl"))
    for _ in drive_env(env, RandomAgent(env.action_space, seed=1), episodes=5):
        pass
    reader = json_lines.JSONLinesReader(tmp_path / "recording.jsonl")
    assert compare(reader, tmp_path / "recording.h5")
    assert PlaybackEnv(reader).reset()[0].dtype == np.float32


def test_existing_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    env = gymnasium.make("CartPole-v1")
    with pytest.raises(StorageError, match=r"a new file.*notes\.txt"):
        RecordingWrapper(env, json_lines.JSONLinesWriter(path))
    assert path.read_text() == "mine"


def test_unstorable_info_is_left_out_with_a_warning(tmp_path: Path) -> None:
    class Chatty(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(0, 1, (1,))
        action_space = gymnasium.spaces.Discrete(1)

        def reset(self, **_: Any) -> Any:
            return np.zeros(1, dtype=np.float32), {"self": self, "lives": 3}

    env = RecordingWrapper(Chatty(), json_lines.JSONLinesWriter(tmp_path / "recording.jsonl"))
    with pytest.warns(UnstorableInfoWarning, match="'self'"):
        env.reset()
    env.close()
    assert json_lines.JSONLinesReader(tmp_path / "recording.jsonl")[0].infos == ({"lives": 3},)
