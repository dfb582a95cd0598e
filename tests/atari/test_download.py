"""Downloads arrive whole and verified or not at all, from a real server that fails in every way."""

from __future__ import annotations

import base64
import gzip
import hashlib
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request

import google_crc32c
import pytest
from loopback import Loopback, Served, serving

from gymbag.atari.download import RemoteFile, download
from gymbag.atari.server import Patience, _Redirects
from gymbag.errors import DownloadError, MissingExtraError, UnavailableError

PATIENCE = Patience(timeout=20, attempts=3, pause=0)
CONTENT = gzip.compress(random.Random(1).randbytes(300_000))
OTHER = gzip.compress(random.Random(2).randbytes(300_000))
SIZE = len(CONTENT)
CUT = 100_000
ETAG = {"ETag": '"one"'}
GENERATION = {"x-goog-generation": "17"}


def md5(content: bytes) -> str:
    return base64.b64encode(hashlib.md5(content).digest()).decode()


def crc32c(content: bytes) -> str:
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setenv("no_proxy", "*")
    with serving() as running:
        yield running


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "Pong" / "1" / "1"


def fetch(server: Loopback, folder: Path, patience: Patience = PATIENCE, given: str | None = None) -> None:
    download([RemoteFile(f"{server.url}/a.gz", "action.gz", md5=given)], folder, patience)


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def ranges(server: Loopback) -> list[str | None]:
    return [request.headers.get("Range") for request in server.received_by("GET")]


@pytest.mark.parametrize(
    "served",
    [
        pytest.param(Served(CONTENT), id="length only"),
        pytest.param(Served(CONTENT, {"x-goog-hash": f"md5={md5(CONTENT)}"}), id="MD5"),
        pytest.param(Served(CONTENT, {"x-goog-hash": f"crc32c={crc32c(CONTENT)}"}), id="CRC-32C"),
        pytest.param(
            Served(CONTENT, {"x-goog-hash": f"crc32c={crc32c(CONTENT)},md5={md5(CONTENT)}"}), id="both"
        ),
        pytest.param(
            Served(CONTENT, {"x-goog-hash": f"crc32c=AAAAAA==,md5={md5(CONTENT)}"}), id="MD5 before CRC-32C"
        ),
        pytest.param(Served(CONTENT, chunked=True), id="chunks, no length"),
        pytest.param(
            Served(CONTENT, {"x-goog-hash": f"md5={md5(CONTENT)}"}, length=False), id="no length, MD5"
        ),
        pytest.param(Served(CONTENT, ETAG), id="ETag"),
        pytest.param(Served(CONTENT, {**ETAG, **GENERATION}), id="generation"),
        pytest.param(Served(CONTENT, statuses=[503, 500]), id="HEAD fails at first"),
        pytest.param(Served(CONTENT, get_statuses=[503, 500]), id="GET fails at first"),
        pytest.param(Served(CONTENT, statuses=[405]), id="no HEAD"),
        pytest.param(Served(CONTENT, statuses=[403]), id="HEAD forbidden"),
    ],
)
def test_file_arrives_whole(server: Loopback, folder: Path, served: Served) -> None:
    server.files["/a.gz"] = served
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    assert {request.headers["Accept-Encoding"] for request in server.received} == {"identity"}


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_by_what_was_asked(server: Loopback, folder: Path, status: int) -> None:
    server.files["/a.gz"] = Served(b"", {"Location": "/b.gz"}, statuses=[status] * 3)
    server.files["/b.gz"] = Served(CONTENT, ETAG, cuts=[CUT])
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    requests = [
        (request.method, request.headers.get("Range"))
        for request in server.received
        if request.path == "/b.gz"
    ]
    assert requests == [("HEAD", None), ("GET", None), ("GET", f"bytes={CUT}-")]


def test_redirect_to_a_connection_that_is_not_safe_is_refused() -> None:
    request = Request("https://example.org/a.gz")
    with pytest.raises(HTTPError, match="leads from HTTPS to http://example"):
        _Redirects().redirect_request(request, None, 302, "Found", None, "http://example.org/b.gz")


@pytest.mark.parametrize(
    ("served", "expected"),
    [
        pytest.param(Served(CONTENT, ETAG), [None, f"bytes={CUT}-"], id="ETag"),
        pytest.param(Served(CONTENT, GENERATION), [None, f"bytes={CUT}-"], id="generation"),
        pytest.param(Served(CONTENT, ETAG, resets=True), [None, "bytes=.*-"], id="connection reset"),
        pytest.param(Served(CONTENT, ETAG, ranges=False), [None, f"bytes={CUT}-"], id="ranges ignored"),
        pytest.param(Served(CONTENT, {"ETag": 'W/"one"'}), [None, None], id="weak ETag"),
        pytest.param(Served(CONTENT), [None, None], id="no version"),
        pytest.param(Served(CONTENT, chunked=True), [None, None], id="chunks"),
    ],
)
def test_lost_connection_is_made_up_for(
    server: Loopback, folder: Path, served: Served, expected: list[str | None]
) -> None:
    served.cuts = [CUT]
    server.files["/a.gz"] = served
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    found = ranges(server)
    assert len(found) == len(expected)
    for one, pattern in zip(found, expected, strict=True):
        assert one is pattern is None or re.fullmatch(str(pattern), str(one))


@pytest.mark.parametrize(
    ("headers", "condition"),
    [
        pytest.param(ETAG, ("If-Match", '"one"'), id="ETag"),
        pytest.param({**ETAG, **GENERATION}, ("x-goog-if-generation-match", "17"), id="generation"),
    ],
)
def test_every_part_is_asked_for_of_one_version(
    server: Loopback, folder: Path, headers: dict[str, str], condition: tuple[str, str]
) -> None:
    server.files["/a.gz"] = Served(CONTENT, headers, cuts=[CUT])
    fetch(server, folder)
    name, value = condition
    assert [request.headers.get(name) for request in server.received_by("GET")] == [value, value]


def test_connection_may_be_lost_any_number_of_times_as_long_as_bytes_arrive(
    server: Loopback, folder: Path
) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG, cuts=[20_000] * 15)
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    assert len(ranges(server)) == 16 > PATIENCE.attempts


@pytest.mark.parametrize("heeds", [pytest.param(True, id="412"), pytest.param(False, id="other bytes")])
@pytest.mark.parametrize("name", ["ETag", "x-goog-generation"])
def test_parts_of_two_versions_are_never_mixed(
    server: Loopback, folder: Path, name: str, heeds: bool
) -> None:
    changed = Served(OTHER, {name: '"2"'}, conditions=heeds)
    server.files["/a.gz"] = Served(CONTENT, {name: '"1"'}, cuts=[CUT], next=changed)
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": OTHER}


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


@pytest.mark.parametrize(
    ("served", "message"),
    [
        pytest.param(None, "answers 404 Not Found", id="404"),
        pytest.param(Served(CONTENT, statuses=[403] * 2), "answers 403 Forbidden", id="403"),
        pytest.param(Served(CONTENT, statuses=[410]), "answers 410 Gone", id="410"),
        pytest.param(Served(CONTENT, statuses=[500] * 3), "answers 500 Internal Server Error", id="500"),
        pytest.param(Served(CONTENT, statuses=[503] * 3), "answers 503 Service Unavailable", id="503"),
        pytest.param(
            Served(CONTENT, {"Content-Encoding": "gzip"}),
            r"as it is, found .* \(Content-Encoding: gzip\)",
            id="gzip",
        ),
        pytest.param(
            Served(CONTENT, {"x-goog-stored-content-encoding": "gzip"}, length=False),
            r"as it is, found .* \(x-goog-stored-content-encoding: gzip\)",
            id="unpacked by Google",
        ),
        pytest.param(
            Served(CONTENT, {"Location": "ftp://127.0.0.1/a.gz"}, statuses=[302]),
            "unknown url type",
            id="FTP",
        ),
        pytest.param(
            Served(CONTENT, {"Location": "file:///etc/passwd"}, statuses=[302]),
            "answers 302 .*not allowed",
            id="file",
        ),
        pytest.param(
            Served(CONTENT, {"Location": "/a.gz"}, statuses=[302] * 99),
            "answers 302 .*infinite loop",
            id="circle",
        ),
        pytest.param(
            Served(CONTENT, {"Location": "http://[nowhere/a.gz"}, statuses=[302]),
            "cannot be reached: .*URL",
            id="no URL",
        ),
        pytest.param(
            Served(CONTENT, {"Location": "http://no..where/a.gz"}, statuses=[302]),
            "cannot be reached: .*label",
            id="no name of a host",
        ),
    ],
)
def test_server_without_the_file_is_told_of(
    server: Loopback, folder: Path, served: Served | None, message: str
) -> None:
    if served is not None:
        server.files["/a.gz"] = served
    with pytest.raises(UnavailableError, match=f"^{server.url}/a.gz: .*{message}"):
        fetch(server, folder)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        pytest.param(f"http://127.0.0.1:{free_port()}/a.gz", "cannot be reached: .*refused", id="refused"),
        pytest.param("http://mirror.invalid/a.gz", "cannot be reached: .*[Nn]ame", id="no such name"),
        pytest.param(f"https://127.0.0.1:{free_port()}/a.gz", "cannot be reached: .*refused", id="HTTPS"),
    ],
)
def test_server_that_is_not_there_is_told_of_at_once(folder: Path, url: str, message: str) -> None:
    patience = Patience(timeout=20, attempts=2, pause=3600)
    with pytest.raises(UnavailableError, match=f"^{url}: .*{message}") as raised:
        download([RemoteFile(url, "action.gz")], folder, patience)
    assert raised.value.status is None


@pytest.mark.parametrize(
    ("served", "message", "kept"),
    [
        pytest.param(
            Served(CONTENT, get_statuses=[404]), "answers 404.*although it has the file", 0, id="404"
        ),
        pytest.param(Served(CONTENT, get_statuses=[503] * 3), "answers 503.*3 attempts failed", 0, id="503"),
        pytest.param(
            Served(CONTENT, cuts=[CUT] * 4),
            f"ended after {CUT:,} of {SIZE:,} bytes; 3 attempts failed; the next attempt begins anew",
            None,
            id="truncated",
        ),
        pytest.param(
            Served(CONTENT, ETAG, cuts=[CUT, 0, 0, 0]),
            rf"ended after {CUT:,} of .*; 3 attempts failed; {CUT:,} of {SIZE:,} bytes are in .*\.part",
            CUT,
            id="truncated, with ETag",
        ),
        pytest.param(
            Served(CONTENT, {**ETAG, "Content-Length": str(SIZE + 1)}),
            "does not have the rest of that version.*3 attempts failed",
            0,
            id="truncated on the server",
        ),
        pytest.param(
            Served(CONTENT, chunked=True, cuts=[CUT] * 3), "connection was lost", None, id="truncated chunks"
        ),
        pytest.param(Served(CONTENT, length=False), "neither: there is no telling", 0, id="no length"),
        pytest.param(
            Served(CONTENT, {**ETAG, "x-goog-hash": f"md5={md5(OTHER)}"}),
            re.escape(f"expected MD5 {md5(OTHER)}, found {md5(CONTENT)}"),
            0,
            id="wrong MD5",
        ),
        pytest.param(
            Served(CONTENT, {**ETAG, "x-goog-hash": f"crc32c={crc32c(OTHER)}"}),
            re.escape(f"expected CRC-32C {crc32c(OTHER)}, found {crc32c(CONTENT)}"),
            0,
            id="wrong CRC-32C",
        ),
        pytest.param(Served(b"<html>Sorry</html>", ETAG), "expected a gzip file", 0, id="a page"),
        pytest.param(Served(b"", ETAG), "expected a gzip file", 0, id="nothing"),
        pytest.param(
            Served(CONTENT, {**ETAG, "Content-Length": "1" * 5000}),
            "neither: there is no telling",
            0,
            id="no number",
        ),
        pytest.param(
            Served(CONTENT, restless=True),
            "does not have the rest of that version.*3 attempts failed",
            0,
            id="ever new",
        ),
        pytest.param(
            Served(CONTENT, {**ETAG, "Content-Length": str(1 << 60)}),
            r"no room for action.gz: 1\.15EB",
            0,
            id="too large",
        ),
    ],
)
def test_download_that_fails_is_told_of(
    server: Loopback, folder: Path, served: Served, message: str, kept: int | None
) -> None:
    server.files["/a.gz"] = served
    with pytest.raises(DownloadError, match=message):
        fetch(server, folder)
    found = files_in(folder)
    assert all(name.endswith(".part") for name in found)
    if kept is not None:
        assert list(found.values()) == ([CONTENT[:kept]] if kept else [])


def test_more_than_was_said_is_not_waited_for(server: Loopback, folder: Path) -> None:
    headers = {**ETAG, "Content-Length": str(CUT - 1)}
    server.files["/a.gz"] = Served(CONTENT, headers, chunked=True, hold=CUT)
    with pytest.raises(DownloadError, match=r"does not have the rest of that version.*3 attempts failed"):
        fetch(server, folder)
    assert ranges(server) == [None] * 3
    assert not files_in(folder)
    server.released.set()


def test_other_bytes_than_those_asked_for_are_refused(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(
        CONTENT, {**ETAG, "Content-Range": f"bytes 5-{SIZE - 1}/{SIZE}"}, cuts=[CUT]
    )
    with pytest.raises(DownloadError, match=f"expected the bytes from {CUT:,} on"):
        fetch(server, folder)


def test_hash_that_is_given_counts(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, {"x-goog-hash": f"md5={md5(CONTENT)}"})
    with pytest.raises(DownloadError, match="expected MD5"):
        fetch(server, folder, given=md5(OTHER))
    fetch(server, folder, given=md5(CONTENT))
    assert files_in(folder) == {"action.gz": CONTENT}


def test_silent_server_is_given_up_and_gone_on_with_later(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG, cuts=[CUT], next=Served(CONTENT, ETAG, hold=0))
    with pytest.raises(DownloadError, match="timed out; 2 attempts failed"):
        fetch(server, folder, Patience(timeout=0.2, attempts=2, pause=0))
    assert list(files_in(folder).values()) == [CONTENT[:CUT]]
    server.released.set()
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    assert ranges(server) == [None, *[f"bytes={CUT}-"] * 3]


def test_parts_of_former_versions_are_removed(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG, cuts=[CUT, 0, 0, 0])
    with pytest.raises(DownloadError):
        fetch(server, folder)
    (folder / "action.gz.mine.part").write_bytes(b"mine")
    server.files["/a.gz"] = Served(OTHER, {"ETag": '"two"'})
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": OTHER, "action.gz.mine.part": b"mine"}


def test_files_come_into_place_together(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG)
    server.files["/b.gz"] = Served(OTHER, ETAG, cuts=[CUT, 0, 0, 0])
    files = [RemoteFile(f"{server.url}/{name}.gz", f"{name}.gz") for name in "ab"]
    with pytest.raises(DownloadError, match=f"{CUT:,} of"):
        download(files, folder, PATIENCE)
    assert sorted(files_in(folder).values()) == sorted([CONTENT, OTHER[:CUT]])
    server.received.clear()
    server.files["/b.gz"].cuts.clear()
    download(files, folder, PATIENCE)
    assert files_in(folder) == {"a.gz": CONTENT, "b.gz": OTHER}
    assert [request.path for request in server.received_by("GET")] == ["/b.gz"]


def test_nothing_is_downloaded_unless_all_is_there(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT)
    with pytest.raises(UnavailableError, match=r"/b\.gz: the server answers 404"):
        download([RemoteFile(f"{server.url}/{name}.gz", f"{name}.gz") for name in "ab"], folder, PATIENCE)
    assert not server.received_by("GET")
    assert not folder.exists()


@pytest.mark.parametrize(
    ("served", "arrives"),
    [
        pytest.param(Served(OTHER), True, id="there"),
        pytest.param(None, False, id="404"),
        pytest.param(Served(OTHER, statuses=[403, 403]), False, id="403"),
    ],
)
def test_optional_file_may_be_missing(
    server: Loopback, folder: Path, served: Served | None, arrives: bool
) -> None:
    server.files["/a.gz"] = Served(CONTENT)
    if served is not None:
        server.files["/b.gz"] = served
    files = [
        RemoteFile(f"{server.url}/b.gz", "b.gz", optional=True),
        RemoteFile(f"{server.url}/a.gz", "a.gz"),
    ]
    download(files, folder, PATIENCE)
    assert files_in(folder) == {"a.gz": CONTENT, **({"b.gz": OTHER} if arrives else {})}


def test_server_that_fails_does_not_do_without_an_optional_file(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, statuses=[503] * 3)
    with pytest.raises(UnavailableError, match="503"):
        download([RemoteFile(f"{server.url}/a.gz", "a.gz", optional=True)], folder, PATIENCE)


def test_file_that_is_there_is_kept(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT)
    folder.mkdir(parents=True)
    (folder / "action.gz").write_bytes(CONTENT)
    fetch(server, folder)
    assert not server.received_by("GET")
    (folder / "action.gz").write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match=f"expected {SIZE:,} bytes, as at .*found {SIZE - 1:,}; delete"):
        fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT[:-1]}


def test_amount_and_folder_are_told_first(
    server: Loopback, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG, cuts=[CUT, 0, 0, 0])
    with pytest.raises(DownloadError):
        fetch(server, folder)
    first = capfd.readouterr().err.splitlines()[0]
    assert first == f"gymbag: downloading 300kB from {server.url} to {folder} (action.gz)"
    server.files["/a.gz"].cuts.clear()
    fetch(server, folder)
    out, err = capfd.readouterr()
    first, *_, last = err.splitlines()
    expected = (
        f"gymbag: downloading 200kB from {server.url} to {folder} (action.gz; 100kB have arrived before)"
    )
    assert first == expected
    assert re.search(r"Downloading: 100%.* 300k/300k ", last)
    assert out == ""


def test_folder_that_cannot_be_made_is_told_of(server: Loopback, tmp_path: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT)
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match=r"cannot write .*file/1: Not a directory"):
        fetch(server, tmp_path / "file" / "1")


def test_missing_package_is_told_of_before_anything_is_downloaded(
    server: Loopback, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "google_crc32c", None)
    server.files["/a.gz"] = Served(CONTENT, {"x-goog-hash": f"crc32c={crc32c(CONTENT)}"})
    with pytest.raises(MissingExtraError, match=r'pip install "gymbag\[atari\]"'):
        fetch(server, folder)
    assert not server.received_by("GET")


PROGRAM = """
import resource, sys
from pathlib import Path
from gymbag.atari.download import RemoteFile, download
url, folder, limit = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
download([RemoteFile(url, "action.gz")], Path(folder))
"""


def begin(server: Loopback, folder: Path, limit: int = 0) -> subprocess.Popen[str]:
    """Download in another process, which may write files of at most so many bytes."""
    command = [sys.executable, "-c", PROGRAM, f"{server.url}/a.gz", str(folder), str(limit)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def bytes_in_part(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.part"))


def test_download_of_a_killed_process_is_gone_on_with(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, {**ETAG, "x-goog-hash": f"md5={md5(CONTENT)}"}, hold=CUT)
    with begin(server, folder) as process:
        wait_until(lambda: bytes_in_part(folder) == CUT)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    server.files["/a.gz"].hold = None
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    assert ranges(server) == [None, f"bytes={CUT}-"]


@pytest.mark.parametrize(
    "killed", [pytest.param(False, id="first finishes"), pytest.param(True, id="first dies")]
)
def test_second_process_waits_for_the_first(server: Loopback, folder: Path, killed: bool) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG, hold=CUT)
    with begin(server, folder) as first:
        wait_until(lambda: bytes_in_part(folder) == CUT)
        with begin(server, folder) as second:
            assert second.stderr is not None
            assert "waiting for another process" in second.stderr.readline()
            if killed:
                first.kill()
            server.released.set()
            second.communicate()
        first.communicate()
    assert (first.returncode, second.returncode) == (-signal.SIGKILL if killed else 0, 0)
    assert files_in(folder) == {"action.gz": CONTENT}
    assert ranges(server) == ([None, f"bytes={CUT}-"] if killed else [None])


def test_full_disk_is_told_of_and_gone_on_after(server: Loopback, folder: Path) -> None:
    server.files["/a.gz"] = Served(CONTENT, ETAG)
    with begin(server, folder, limit=CUT) as process:
        _, errors = process.communicate()
    assert process.returncode == 1
    expected = (
        rf"DownloadError: cannot write .*\.part: File too large; make room; {CUT:,} of {SIZE:,} bytes are in"
    )
    assert re.search(expected, errors)
    assert list(files_in(folder).values()) == [CONTENT[:CUT]]
    fetch(server, folder)
    assert files_in(folder) == {"action.gz": CONTENT}
    assert ranges(server) == [None, f"bytes={CUT}-"]
