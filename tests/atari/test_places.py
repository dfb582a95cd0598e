"""Places come from arguments, else from the environment; what is none is told of with what to set instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from gymbag.atari.places import RL_UNPLUGGED, Places, below
from gymbag.errors import PlaceError

VARIABLES = {
    "replay_logs": "GYMBAG_ATARI_REPLAY_LOGS",
    "dataset_dir": "D4RL_DATASET_DIR",
    "mirror": "GYMBAG_ATARI_MIRROR",
    "rl_unplugged": "GYMBAG_ATARI_RL_UNPLUGGED",
}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a home of its own the home, and the folder to be in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "data").mkdir()
    (tmp_path / "file").touch()
    return tmp_path


@pytest.mark.parametrize("environment", [{}, dict.fromkeys(VARIABLES.values(), "")], ids=["unset", "empty"])
def test_usual_places(home: Path, environment: dict[str, str]) -> None:
    expected = Places(None, home / ".d4rl/datasets", None, RL_UNPLUGGED)
    assert Places.chosen(environment=environment) == expected


@pytest.mark.parametrize(
    ("setting", "text", "expected"),
    [
        ("replay_logs", "data", "data"),
        ("replay_logs", "~/data", "data"),
        ("dataset_dir", "data", "data"),
        ("dataset_dir", "~/new", "new"),
        ("mirror", "https://example.org/dqn/", "https://example.org/dqn"),
        ("mirror", "http://[::1]:8000", "http://[::1]:8000"),
        ("rl_unplugged", "data", "data"),
        ("rl_unplugged", "HTTPS://example.org/a%20b", "HTTPS://example.org/a%20b"),
    ],
)
def test_arguments_come_before_the_environment(home: Path, setting: str, text: str, expected: str) -> None:
    wanted = expected if "://" in expected else home / expected
    variable = VARIABLES[setting]
    assert getattr(Places.chosen(environment={variable: text}), setting) == wanted
    assert getattr(Places.chosen(**{setting: text}, environment={variable: "nonsense"}), setting) == wanted


@pytest.mark.parametrize("by_argument", [True, False], ids=["argument", "variable"])
@pytest.mark.parametrize(
    ("setting", "text", "message"),
    [
        ("replay_logs", "nowhere", "expected a folder, found nothing at .*nowhere"),
        ("replay_logs", "file", "expected a folder, found a file at .*file"),
        ("replay_logs", "https://example.org", r"expected a folder, .* set mirror \(GYMBAG_ATARI_MIRROR\)"),
        ("dataset_dir", "gs://bucket/x", "expected a folder, found 'gs://bucket/x'"),
        ("mirror", "data", r"expected a URL .* found 'data'; .*set replay_logs \(GYMBAG_ATARI_REPLAY_LOGS\)"),
        ("mirror", "/data", r"expected a URL .* found '/data'; .*set replay_logs"),
        ("mirror", "file:///data", "expected a URL .* set replay_logs"),
        ("mirror", "gs://bucket/dqn", ".* that is https://storage.googleapis.com/bucket/dqn$"),
        ("mirror", "ftp://example.org", "expected a URL"),
        ("mirror", "https://", "expected a URL"),
        ("mirror", "https:///dqn", "expected a URL"),
        ("mirror", "https://example.org:http/", "expected a URL"),
        ("mirror", "https://[::1/", "expected a URL"),
        (
            "mirror",
            "https://me:secret@example.org/",
            "expected a URL .*without a password.* found a password$",
        ),
        ("mirror", "https://example.org/?token=1", "expected a URL"),
        ("mirror", "https://example.org/#top", "expected a URL"),
        ("mirror", "https://example.org/a b", "expected a URL .*quoted"),
        ("mirror", "https://example.org/ä", "expected a URL .*quoted"),
        ("mirror", "https://example.org/\r\nHost: other", "expected a URL .*quoted"),
        ("rl_unplugged", "nowhere", "expected a folder, found nothing"),
        ("rl_unplugged", "gs://rl_unplugged/x", ".* that is https://storage.googleapis.com/rl_unplugged/x$"),
    ],
)
def test_what_is_no_place_is_told_of(setting: str, text: str, message: str, by_argument: bool) -> None:
    variable = VARIABLES[setting]
    argument, environment = ({setting: text}, {}) if by_argument else ({}, {variable: text})
    name = setting if by_argument else variable
    with pytest.raises(PlaceError, match=f"^{name}: {message}"):
        Places.chosen(**argument, environment=environment)


def test_names_below_a_url_are_quoted() -> None:
    found = below("https://example.org/dqn", "Pong", "../?#", "$store$_action_ckpt.1.gz")
    assert found == "https://example.org/dqn/Pong/..%2F%3F%23/%24store%24_action_ckpt.1.gz"
