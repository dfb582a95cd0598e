"""The files of an epoch are found where they are, in the order that is promised, and fetched where needed."""

from __future__ import annotations

import dataclasses
import gzip
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback import Loopback, Served, serving

from gymbag.atari.dopamine_files import DopamineEpoch
from gymbag.atari.epoch import Epoch
from gymbag.atari.games import Game, find_game
from gymbag.atari.places import Places
from gymbag.atari.rl_unplugged import RLUnpluggedEpoch
from gymbag.atari.server import Patience
from gymbag.atari.sources import COLUMNS, find_epoch, shard_of
from gymbag.errors import DataNotFoundError, DownloadError, OtherSourceWarning

PATIENCE = Patience(timeout=20, attempts=2, pause=0)
PONG = find_game("pong")
CARNIVAL = find_game("carnival")
ASTEROIDS = find_game("asteroids")
DEFENDER = find_game("defender")
SHARD = "run_1-00007-of-00050"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        yield running


@pytest.fixture
def places(server: Loopback, tmp_path: Path) -> Places:
    """Return places without any data; the server of RL Unplugged is a real one."""
    (tmp_path / "logs").mkdir()
    return Places(tmp_path / "logs", tmp_path / "datasets", None, f"{server.url}/rlu")


def content(name: str) -> bytes:
    """Return a gzip file that tells which one it is."""
    return gzip.compress(name.encode(), mtime=0)


def dopamine_name(column: str, epoch: int = 7) -> str:
    return f"add_count_ckpt.{epoch}.gz" if column == "add_count" else f"$store$_{column}_ckpt.{epoch}.gz"


def put(folder: Path, *names: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(content(name))


def put_replay_logs(folder: Path, *columns: str) -> None:
    put(folder, *map(dopamine_name, columns or COLUMNS))


def put_cache(places: Places, *columns: str) -> None:
    put(places.dataset_dir / "Pong/1/7", *(f"{column}.gz" for column in columns or COLUMNS))


def serve_mirror(server: Loopback, places: Places, *columns: str) -> Places:
    """Serve Dopamine's files, and return the places with this server."""
    for column in columns:
        server.files[f"/dqn/Pong/1/replay_logs/{dopamine_name(column)}"] = Served(content(column))
    return dataclasses.replace(places, mirror=f"{server.url}/dqn")


def serve_shard(server: Loopback, name: str = SHARD, game: str = "Pong") -> None:
    server.files[f"/rlu/{game}/{name}"] = Served(content(name))


def find(places: Places, game: Game = PONG, run: int = 1, epoch: int = 7) -> Epoch:
    return find_epoch(game, run, epoch, places, patience=PATIENCE)


def test_places_are_tried_in_order(server: Loopback, places: Places, tmp_path: Path) -> None:
    cache = places.dataset_dir / "Pong/1/7"
    logs = tmp_path / "logs/Pong/1/replay_logs"
    serve_shard(server)
    with_mirror = serve_mirror(server, places, *COLUMNS, "add_count")

    found = find(places)
    assert isinstance(found, RLUnpluggedEpoch)
    assert found.path == places.dataset_dir / "rl_unplugged/Pong" / SHARD
    assert found.path.read_bytes() == content(SHARD)
    assert f"{server.url}/rlu/Pong/{SHARD}" in found.origin

    found = find(with_mirror)
    assert isinstance(found, DopamineEpoch)
    assert found.origin == f"files downloaded from {server.url}/dqn, in {cache}"
    for column in (*COLUMNS, "add_count"):
        path = found.files[column]
        assert path == cache / f"{column}.gz"
        assert path.read_bytes() == content(column)

    server.received.clear()
    found = find(with_mirror)
    assert isinstance(found, DopamineEpoch)
    assert found.origin == f"d4rl-atari's files in {cache}"
    assert found.files["add_count"] == cache / "add_count.gz"

    put_replay_logs(logs)
    found = find(with_mirror)
    assert isinstance(found, DopamineEpoch)
    assert found.origin == f"Dopamine's files in {logs}"
    assert found.files["observation"] == logs / "$store$_observation_ckpt.7.gz"
    assert "add_count" not in found.files
    assert not server.received


def test_names_are_quoted_for_servers(server: Loopback, places: Places) -> None:
    find(serve_mirror(server, places, *COLUMNS))
    paths = {request.path for request in server.received_by("GET")}
    assert paths == {f"/dqn/Pong/1/replay_logs/%24store%24_{column}_ckpt.7.gz" for column in COLUMNS}


@pytest.mark.parametrize(
    ("root", "file_folder"),
    [
        pytest.param("", "Pong/1/replay_logs", id="root"),
        pytest.param("Pong", "Pong/1/replay_logs", id="game"),
        pytest.param("Pong/1", "Pong/1/replay_logs", id="run"),
        pytest.param("Pong/1/replay_logs", "Pong/1/replay_logs", id="replay_logs"),
        pytest.param("Pong", "Pong/Pong/1/replay_logs", id="root named like the game"),
    ],
)
def test_folder_of_dopamine_may_be_given_at_any_depth(
    places: Places, tmp_path: Path, root: str, file_folder: str
) -> None:
    folder = tmp_path / "logs" / file_folder
    put_replay_logs(folder)
    found = find(dataclasses.replace(places, replay_logs=tmp_path / "logs" / root))
    assert isinstance(found, DopamineEpoch)
    assert found.files["terminal"] == folder / "$store$_terminal_ckpt.7.gz"


@pytest.mark.parametrize("name", ["link", "logs/Pong/1/replay_logs/../replay_logs", "logs/../link"])
def test_folder_of_dopamine_may_be_given_by_another_path(places: Places, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "logs/Pong/1/replay_logs"
    put_replay_logs(folder)
    (tmp_path / "link").symlink_to(folder)
    found = find(dataclasses.replace(places, replay_logs=tmp_path / name))
    assert isinstance(found, DopamineEpoch)
    assert found.files["reward"].samefile(folder / "$store$_reward_ckpt.7.gz")


@pytest.mark.parametrize(
    "name", ["Breakout", "Breakout/1", "Pong/2", "Pong/2/replay_logs", "Breakout/1/replay_logs"]
)
def test_folder_of_another_game_or_run_is_not_taken(places: Places, tmp_path: Path, name: str) -> None:
    root = tmp_path / "logs" / name
    put_replay_logs(root / "replay_logs" if root.name != "replay_logs" else root)
    with pytest.raises(DataNotFoundError, match=f"{root} has no Pong/1/replay_logs"):
        find(dataclasses.replace(places, replay_logs=root))


def test_files_that_do_not_tell_their_game_are_told_of(
    server: Loopback, places: Places, tmp_path: Path
) -> None:
    put_replay_logs(tmp_path / "logs")
    serve_shard(server)
    with pytest.warns(
        OtherSourceWarning, match=r"does not tell that they are of this game .*used instead: a shard"
    ):
        find(places)


def test_epochs_are_told_apart(places: Places, tmp_path: Path) -> None:
    put_replay_logs(tmp_path / "logs/Pong/1/replay_logs")
    for wrong in ({"run": 2}, {"epoch": 8}, {"epoch": 0}, {"game": CARNIVAL}):
        with pytest.raises(DataNotFoundError):
            find(places, **wrong)  # type: ignore[arg-type]


# Folders that lack files, and a server that fails: told of in a warning or in the error.


def test_folders_that_lack_files_are_told_of(server: Loopback, places: Places, tmp_path: Path) -> None:
    logs, cache = tmp_path / "logs/Pong/1/replay_logs", places.dataset_dir / "Pong/1/7"
    put_replay_logs(logs, "observation", "reward", "add_count")
    put_cache(places, "observation", "action", "reward")
    lacking = (
        re.escape(f"{logs} lacks $store$_action_ckpt.7.gz, $store$_terminal_ckpt.7.gz"),
        re.escape(f"{cache} lacks terminal.gz"),
    )
    with pytest.raises(DataNotFoundError, match=f"(?s){lacking[0]}.*{lacking[1]}"):
        find(places)
    serve_shard(server)
    with pytest.warns(
        OtherSourceWarning, match=f"^Pong, run 1, epoch 7: .*{lacking[0]}; .*{lacking[1]}; used"
    ):
        assert isinstance(find(places), RLUnpluggedEpoch)


def test_mirror_completes_a_folder(server: Loopback, places: Places) -> None:
    put_cache(places, "observation")
    before = (places.dataset_dir / "Pong/1/7/observation.gz").stat()
    with_mirror = serve_mirror(server, places, *COLUMNS)
    server.files["/dqn/Pong/1/replay_logs/$store$_observation_ckpt.7.gz"].content = content("observation.gz")
    with pytest.warns(
        OtherSourceWarning, match="lacks action.gz, reward.gz, terminal.gz; used instead: files down"
    ):
        assert isinstance(find(with_mirror), DopamineEpoch)
    assert (places.dataset_dir / "Pong/1/7/observation.gz").stat() == before


def test_folder_is_not_completed_with_files_of_another_kind(server: Loopback, places: Places) -> None:
    put(places.dataset_dir / "Pong/1/7", "action.gz")
    (places.dataset_dir / "Pong/1/7/action.gz").write_bytes(b"something else")
    with pytest.raises(DownloadError, match=r"action.gz: expected \d+ bytes.*found 14; delete the file"):
        find(serve_mirror(server, places, *COLUMNS))


@pytest.mark.parametrize("lacking", [*COLUMNS, None])
def test_mirror_gives_an_epoch_whole_or_not_at_all(
    server: Loopback, places: Places, lacking: str | None
) -> None:
    with_mirror = serve_mirror(server, places, *(column for column in COLUMNS if column != lacking))
    if lacking is None:
        assert isinstance(find(with_mirror), DopamineEpoch)
        return
    serve_shard(server)
    with pytest.warns(
        OtherSourceWarning, match=rf"mirror: http.*%24_{lacking}_ckpt.7.gz: .*404.*used instead: a shard"
    ):
        assert isinstance(find(with_mirror), RLUnpluggedEpoch)
    assert not (places.dataset_dir / "Pong").exists()


def test_mirror_that_is_not_there_is_passed_over_with_a_warning(server: Loopback, places: Places) -> None:
    put(places.dataset_dir / "rl_unplugged/Pong", SHARD)
    unreachable = dataclasses.replace(places, mirror="http://mirror.invalid/dqn")
    with pytest.warns(OtherSourceWarning, match="mirror: .*cannot be reached: .*used instead: a shard"):
        assert isinstance(find(unreachable), RLUnpluggedEpoch)


def test_download_that_fails_says_what_else_to_do(server: Loopback, places: Places) -> None:
    with_mirror = serve_mirror(server, places, *COLUMNS)
    server.files["/dqn/Pong/1/replay_logs/$store$_reward_ckpt.7.gz"].get_statuses = [500] * 2
    serve_shard(server)
    cache = places.dataset_dir / "Pong/1/7"
    with pytest.raises(
        DownloadError, match=f"(?s)Pong, run 1, epoch 7: .*500.*by hand, put .* into {cache};"
    ):
        find(with_mirror)
    assert not any((cache / f"{column}.gz").exists() for column in COLUMNS)


# RL Unplugged.


@pytest.mark.parametrize(
    ("game", "epoch", "shard", "name"),
    [
        (PONG, 0, 0, "run_3-00000-of-00050"),
        (PONG, 49, 49, "run_3-00049-of-00050"),
        (PONG, 50, 49, "run_3-00049-of-00050"),
        (CARNIVAL, 48, 48, "run_3-00048-of-00049"),
        (CARNIVAL, 50, 48, "run_3-00048-of-00049"),
    ],
)
def test_epochs_have_shards(
    server: Loopback, places: Places, game: Game, epoch: int, shard: int, name: str
) -> None:
    assert shard_of(game, epoch) == shard
    serve_shard(server, name, game.folder)
    found = find(places, game, run=3, epoch=epoch)
    assert isinstance(found, RLUnpluggedEpoch)
    assert found.path == places.dataset_dir / "rl_unplugged" / game.folder / name


@pytest.mark.parametrize("root", ["", "Pong"])
def test_shards_are_found_in_a_folder(server: Loopback, places: Places, tmp_path: Path, root: str) -> None:
    put(tmp_path / "rlu/Pong", SHARD)
    found = find(dataclasses.replace(places, rl_unplugged=tmp_path / "rlu" / root))
    assert isinstance(found, RLUnpluggedEpoch)
    assert found.path == tmp_path / "rlu/Pong" / SHARD
    assert found.origin == f"a shard of RL Unplugged, {tmp_path}/rlu/Pong/{SHARD}"
    assert not server.received


def test_shard_is_downloaded_once(server: Loopback, places: Places) -> None:
    serve_shard(server)
    first = find(places)
    server.received.clear()
    second = find(places)
    assert isinstance(first, RLUnpluggedEpoch)
    assert isinstance(second, RLUnpluggedEpoch)
    assert first.path == second.path
    assert not server.received


# Nothing anywhere.


def test_failure_tells_of_every_place_and_what_to_do(
    server: Loopback, places: Places, tmp_path: Path
) -> None:
    with pytest.raises(DataNotFoundError) as raised:
        find(places)
    cache, shards = places.dataset_dir / "Pong/1/7", places.dataset_dir / "rl_unplugged/Pong"
    assert str(raised.value).splitlines() == [
        "Pong, run 1, epoch 7: expected in one of these places, found in none:",
        f"  - Dopamine's files: {tmp_path}/logs has no Pong/1/replay_logs, nor is it one of these itself",
        f"  - d4rl-atari's files: {cache} lacks observation.gz, action.gz, reward.gz, terminal.gz",
        "  - mirror: none is set (mirror, GYMBAG_ATARI_MIRROR)",
        f"  - RL Unplugged: no {shards}/{SHARD}",
        f"  - RL Unplugged: {server.url}/rlu/Pong/{SHARD}: the server answers 404 Not Found",
        "The bucket that it came from, gs://atari-replay-datasets, has answered 403 since April 2025.",
        (
            "To supply files by hand, put observation.gz, action.gz, reward.gz, terminal.gz and, if you have "
            f"it, add_count.gz into {cache}; or set GYMBAG_ATARI_REPLAY_LOGS to a folder that has "
            "Pong/1/replay_logs/$store$_observation_ckpt.7.gz and so on; or put run_1-00007-of-00050 of RL "
            f"Unplugged into {shards}."
        ),
    ]
    assert not places.dataset_dir.exists()


@pytest.mark.parametrize(
    ("game", "epoch", "message"),
    [
        pytest.param(CARNIVAL, 50, "Checkpoint 50 of run 1 of Carnival was never published", id="missing"),
        pytest.param(CARNIVAL, 49, "^((?!never published).)*$", id="not missing"),
        pytest.param(DEFENDER, 1, "The DQN Replay data was published without Defender", id="no such game"),
        pytest.param(ASTEROIDS, 1, "RL Unplugged: has no Asteroids", id="not in RL Unplugged"),
    ],
)
def test_failure_tells_what_never_was(places: Places, game: Game, epoch: int, message: str) -> None:
    with pytest.raises(DataNotFoundError, match=f"(?s){message}"):
        find(places, game, epoch=epoch)


def test_failure_tells_of_places_that_are_not_set(server: Loopback, places: Places) -> None:
    with pytest.raises(
        DataNotFoundError, match=r"no folder is set \(replay_logs, GYMBAG_ATARI_REPLAY_LOGS\)"
    ):
        find(dataclasses.replace(places, replay_logs=None), ASTEROIDS)
    assert not server.received
