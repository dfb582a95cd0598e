"""The command line, run as its users run it: in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from envs import counting_env, make, play

from gymbag import HDF5Reader, list_datasets, record_hdf5

COMMAND = Path(sys.executable).parent / "gymbag"


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(COMMAND), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )


def test_the_demo_records_replays_and_appends(tmp_path):
    first = run(tmp_path, "demo")
    assert first.returncode == 0, first.stderr
    with HDF5Reader(tmp_path / "cartpole.h5") as reader:
        assert (reader.name, len(reader)) == ("CartPole-v1", 100)
        steps = reader.nsteps
        assert steps > 1000
        assert all(episode.terminated for episode in reader)
    assert "Recorded to cartpole.h5\n" in first.stdout
    assert re.search(rf"steps +{steps:,}\n", first.stdout)
    assert f"Replayed {steps:,} steps from the file: every one equals the recorded one." in first.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "cartpole.h5"]

    second = run(tmp_path, "demo")
    assert second.returncode == 0, second.stderr
    assert "after the 100 episodes it had" in second.stdout
    with HDF5Reader(tmp_path / "cartpole.h5") as reader:
        assert len(reader) == 200
        assert f"Replayed {reader.nsteps - steps:,} steps" in second.stdout
        assert [session["spec"]["id"] for session in reader.sessions] == ["CartPole-v1"] * 2


def test_the_demo_takes_a_file_and_a_number_of_episodes(tmp_path):
    finished = run(tmp_path, "demo", "--file", "other.h5", "--episodes", "3")
    assert finished.returncode == 0, finished.stderr
    assert len(HDF5Reader(tmp_path / "other.h5")) == 3


def test_a_demo_of_no_episodes_is_no_error(tmp_path):
    finished = run(tmp_path, "demo", "--episodes", "0")
    assert finished.returncode == 0, finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n" + bytes(500)], ids=repr)
def test_the_demo_leaves_a_damaged_file_as_it_is(content, tmp_path):
    path = tmp_path / "cartpole.h5"
    path.write_bytes(content)
    finished = run(tmp_path, "demo")
    assert finished.returncode == 1
    assert finished.stderr.startswith("gymbag: ")
    assert "cartpole.h5" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert path.read_bytes() == content


def test_the_demo_leaves_a_truncated_recording_as_it_is(tmp_path):
    path = tmp_path / "cartpole.h5"
    assert run(tmp_path, "demo", "--episodes", "20").returncode == 0
    content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content)
    finished = run(tmp_path, "demo")
    assert finished.returncode == 1
    assert "cartpole.h5" in finished.stderr
    assert "Traceback" not in finished.stderr
    assert path.read_bytes() == content


def test_the_demo_needs_a_folder_that_exists(tmp_path):
    finished = run(tmp_path, "demo", "--file", "absent/cartpole.h5")
    assert finished.returncode == 1
    assert "make it first" in finished.stderr


def test_the_demo_can_be_shown_where_output_is_ascii(tmp_path):
    # As in a C locale, or where Windows sends the output to a file.
    finished = run(tmp_path, "demo", "--episodes", "5", PYTHONIOENCODING="ascii")
    assert finished.returncode == 0, finished.stderr


def test_info_lists_the_data_sets(tmp_path):
    path = tmp_path / "recording.h5"
    for env_id in ("CartPole-v1", "Blackjack-v1"):
        env = record_hdf5(make("gymnasium", env_id), path, f"of {env_id}")
        play(env)
        env.close()
    finished = run(tmp_path, "info", "recording.h5")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("recording.h5: 2 data sets\n")
    for env_id in list_datasets(path):
        reader = HDF5Reader(path, env_id)
        facts = finished.stdout.partition(f"\n{env_id}  (of {env_id})\n")[2].splitlines()
        assert facts[0].split() == ["episodes", "3"]
        assert facts[1].split() == ["steps", f"{reader.nsteps:,}"]
        returns = [episode.total_reward for episode in reader]
        assert facts[2].split()[1:] == (
            f"mean {sum(returns) / 3:.1f}, lowest {min(returns):.1f}, highest {max(returns):.1f}".split()
        )


@pytest.mark.parametrize("reward", [float("nan"), float("inf"), -1e300, 0.0], ids=str)
def test_info_takes_any_rewards(reward, tmp_path):
    env = record_hdf5(counting_env(reward=lambda env: reward), tmp_path / "recording.h5")
    play(env, steps=2)
    env.close()
    finished = run(tmp_path, "info", "recording.h5")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert "CountingEnv" in finished.stdout


def test_info_takes_a_recording_without_episodes(tmp_path):
    record_hdf5(counting_env(), tmp_path / "recording.h5").close()
    finished = run(tmp_path, "info", "recording.h5")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert re.search(r"episodes +0\n", finished.stdout)


def test_info_of_a_file_that_is_not_there_is_a_clear_error(tmp_path):
    finished = run(tmp_path, "info", "absent.h5")
    assert (finished.returncode, finished.stdout) == (1, "")
    assert "absent.h5" in finished.stderr
    assert "Traceback" not in finished.stderr


def test_help_tells_the_commands(tmp_path):
    finished = run(tmp_path, "--help")
    assert finished.returncode == 0
    assert "demo" in finished.stdout
    assert "info" in finished.stdout
    for command in ("demo", "info"):
        assert run(tmp_path, command, "--help").returncode == 0


@pytest.mark.parametrize(
    "arguments", [(), ("nonsense",), ("info",), ("demo", "--episodes", "many")], ids=repr
)
def test_wrong_arguments_are_told_apart_from_failures(arguments, tmp_path):
    finished = run(tmp_path, *arguments)
    assert finished.returncode == 2
    assert finished.stderr.startswith("usage: gymbag")
    assert list(tmp_path.iterdir()) == []


def test_the_module_can_be_run_too(tmp_path):
    command = [sys.executable, "-m", "gymbag.cli", "--help"]
    finished = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0
    assert finished.stdout.startswith("usage: gymbag")
