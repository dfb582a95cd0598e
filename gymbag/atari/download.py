"""Gzip files downloaded: whole and verified, or not at all.

    add_count.gz.lock             held by the one process that downloads these files
    action.gz.90c4d1f2a67b.part   what has arrived of one version of one of them
    action.gz                     moved into place, once all of them are whole

Versions of a file are told apart by what the server calls them, an ETag or Google's generation. The name of
a part is made from it, and every request asks for just that version. So whoever goes on with a part, in the
same process or another one, gets the rest of the same file. Where a server names no versions, a download that
was interrupted begins anew.
"""

from __future__ import annotations

import base64
import contextlib
import glob
import hashlib
import http.client
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn
from urllib.error import HTTPError

from tqdm import tqdm

from gymbag.atari.notices import notify
from gymbag.atari.server import PATIENCE, Client, Description, PassingError, Patience
from gymbag.atari.turns import wait_for_turn
from gymbag.errors import DownloadError, MissingExtraError, UnavailableError

_BLOCK_BYTES = 1 << 18
_GZIP = b"\x1f\x8b"
# What servers answer about a file that they do not have. Stores of objects do not say more than 403 to those
# who may not list what there is.
_ABSENT = (403, 404, 410)


@dataclass(frozen=True)
class RemoteFile:
    """A gzip file to download.

    Attributes:
        url: Where it is, quoted as URLs are.
        name: How to name it here.
        optional: Whether all is well if the server has none.
        md5: Its MD5 in base64, as Google's tools print it, where it is known beforehand.
    """

    url: str
    name: str
    optional: bool = False
    md5: str | None = None


def download(files: Sequence[RemoteFile], folder: Path, patience: Patience = PATIENCE) -> None:
    """Download files that belong together into a folder, all of them or none.

    Before anything is downloaded, says on stderr how much there is and where it goes, and then how far it is.
    Files that are there already are kept. If another process is downloading the same files, waits for it.

    A file is compared with the MD5 that Google's servers tell, or else with their CRC-32C, and with the MD5
    that is given. Other servers tell none; then a file counts as whole if it has as many bytes as they said,
    and begins as gzip files do. There is no more to go by: whether it is undamaged, only reading it shows.

    Args:
        files: What to download, and to move into place in this order.
        folder: Where to; it is made if need be.
        patience: When to give up.

    Raises:
        UnavailableError: The server does not have one of them, or does not answer. Nothing was downloaded.
        DownloadError: One did not arrive, or is wrong, or there is no room for it. What has arrived stays, to
            go on with, unless it is wrong.
        MissingExtraError: It takes the package google-crc32c to verify one.
    """
    client = Client(patience)
    transfers = []
    for file in files:
        try:
            transfers.append(_Transfer(client, file, folder))
        except UnavailableError as error:
            if not (file.optional and error.status in _ABSENT):
                raise
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    lock_path = folder / f"{files[0].name}.lock"
    with _writing(lock_path):
        lock = wait_for_turn(lock_path, f"downloading to {folder}")
    try:
        missing = [transfer for transfer in transfers if not transfer.is_in_place()]
        if missing:
            _download(missing, folder)
    finally:
        lock.close(remove=True)


def _download(transfers: Sequence[_Transfer], folder: Path) -> None:
    for transfer in transfers:
        transfer.remove_other_versions()
    here = sum(transfer.arrived for transfer in transfers)
    total = sum(transfer.description.size or 0 for transfer in transfers)
    names = ", ".join(transfer.file.name for transfer in transfers)
    amount = _bytes(total - here)
    if any(transfer.description.size is None for transfer in transfers):
        amount = f"at least {amount}"
    server = transfers[0].file.url.rpartition("/")[0]
    before = f"; {_bytes(here)} have arrived before" if here else ""
    notify(f"downloading {amount} from {server} to {folder} ({names}{before})")
    free = shutil.disk_usage(folder).free
    if total - here > free:
        raise DownloadError(
            f"no room for {names}: {amount} are to come, and {folder} has {_bytes(free)} free; make room, or "
            "choose a folder on another disk"
        )
    with tqdm(desc="Downloading", total=total, initial=here, unit="B", unit_scale=True) as bar:
        for transfer in transfers:
            transfer.run(bar)
    for transfer in transfers:
        transfer.move_into_place()


def _bytes(count: int) -> str:
    return f"{tqdm.format_sizeof(count)}B"


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn what the operating system raises about a file or folder of ours into an error of ours."""
    try:
        yield
    except OSError as error:
        raise DownloadError(
            f"cannot write {path}: {error.strerror}; make room, or make it writable, or choose another folder"
        ) from error


class _OtherVersionError(Exception):
    """The server does not have the rest of a file, as it has another version by now."""


class _Transfer:
    """A file on its way.

    Args:
        client: What sends requests.
        file: The file.
        folder: Where it goes.

    Attributes:
        file: The file.
        description: What the server says of it.

    Raises:
        UnavailableError: The server does not have it, or does not answer.
        MissingExtraError: It cannot be verified without a package that is missing.
    """

    def __init__(self, client: Client, file: RemoteFile, folder: Path) -> None:
        self._client = client
        self.file = file
        self._path = folder / file.name
        self._shown = 0  # how much of it the bar shows
        self._begin()

    def _begin(self) -> None:
        """Find out which version the server has."""
        self.description = found = self._client.describe(self.file.url)
        key = hashlib.sha256(repr((self.file.url, found.version, found.size)).encode()).hexdigest()[:12]
        self._part = self._path.with_name(f"{self.file.name}.{key}.part")
        # What is computed, what it should be, and what computes it.
        self._checks: list[tuple[str, str, Any]] = [
            ("MD5", expected, hashlib.md5(usedforsecurity=False))
            for expected in (found.md5, self.file.md5)
            if expected is not None
        ]
        if found.crc32c is not None and not self._checks:
            self._checks.append(("CRC-32C", found.crc32c, _crc32c()))

    @property
    def arrived(self) -> int:
        """How many bytes there are to go on with."""
        if self.description.is_resumable:
            with contextlib.suppress(FileNotFoundError):
                return self._part.stat().st_size
        return 0

    def is_in_place(self) -> bool:
        """Tell whether there is nothing to do.

        Raises:
            DownloadError: What is there is not what the server has.
        """
        try:
            size = self._path.stat().st_size
        except FileNotFoundError:
            return False
        if self.description.size not in (None, size):
            raise DownloadError(
                f"{self._path}: expected {self.description.size:,} bytes, as at {self.file.url}, found "
                f"{size:,}; delete the file to have it downloaded, or supply those that belong with it"
            )
        return True

    def remove_other_versions(self) -> None:
        """Remove what has arrived of versions that the server does not have any more."""
        for part in self._path.parent.glob(f"{glob.escape(self.file.name)}.{'[0-9a-f]' * 12}.part"):
            if part != self._part:
                with _writing(part):
                    part.unlink()

    def run(self, bar: tqdm[NoReturn]) -> None:
        """Have all of the file arrive, and verify it.

        Raises:
            DownloadError: It does not arrive, or is wrong.
        """
        failures, most, self._shown = 0, self.arrived, self.arrived
        while True:
            before = most
            try:
                self._receive(bar)
                break
            except HTTPError as error:
                raise DownloadError(
                    f"{self.file.url}: the server answers {error.code} {error.reason}, although it has the "
                    f"file; {self._remains()}"
                ) from error
            except _OtherVersionError:
                problem = "the server does not have the rest of that version of the file"
                self._begin_anew(bar)
            except PassingError as error:
                problem = str(error)
            most = max(most, self.arrived)
            failures = 0 if most > before else failures + 1
            if failures == self._client.patience.attempts:
                raise DownloadError(
                    f"{self.file.url}: {problem}; {failures} attempts failed; {self._remains()}"
                )
            self._client.patience.wait(failures)
        self._verify()

    def _begin_anew(self, bar: tqdm[NoReturn]) -> None:
        """Turn to the version that the server has now."""
        with _writing(self._part):
            self._part.unlink(missing_ok=True)
        size = self.description.size or 0
        self._begin()
        bar.total = (bar.total or 0) - size + (self.description.size or 0)
        self._show(bar, 0)

    def _show(self, bar: tqdm[NoReturn], arrived: int) -> None:
        bar.update(arrived - self._shown)
        self._shown = arrived

    def _remains(self) -> str:
        """Tell what is left of a download that failed."""
        if not self.description.is_resumable:
            return "the next attempt begins anew, as the server does not name the version it has"
        return (
            f"{self.arrived:,} of {self.description.size:,} bytes are in {self._part}, and the next attempt "
            "goes on with them"
        )

    def _receive(self, bar: tqdm[NoReturn]) -> None:
        """Have the rest of the file arrive.

        Raises:
            HTTPError: The server refuses it.
            PassingError: Not all has arrived.
            _OtherVersionError: The server does not have the rest.
        """
        start = self.arrived
        if start and start == self.description.size:
            return
        headers = {"Range": f"bytes={start}-"} if start else {}
        headers.update([self.description.version] if self.description.version else [])
        try:
            with self._client.open("GET", self.file.url, headers) as response:
                self._receive_body(response, start, bar)
        except HTTPError as error:
            # Not the version that was asked for, or not that long.
            if error.code in (http.client.PRECONDITION_FAILED, http.client.REQUESTED_RANGE_NOT_SATISFIABLE):
                raise _OtherVersionError from error
            raise

    def _receive_body(self, response: http.client.HTTPResponse, start: int, bar: tqdm[NoReturn]) -> None:
        expected, found = self.description, Description.read(self.file.url, response)
        size = expected.size if found.size is None else found.size
        if found.version != expected.version or expected.size not in (None, size):
            raise _OtherVersionError
        if size is None and not self._checks and response.headers.get("Transfer-Encoding") != "chunked":
            raise DownloadError(
                f"{self.file.url}: expected a Content-Length or a hash, found neither: there is no telling "
                "whether all of it arrives; use a server that sends one"
            )
        if response.status != http.client.PARTIAL_CONTENT:
            start = 0  # the whole file is coming, whatever was asked for
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise DownloadError(
                f"{self.file.url}: expected the bytes from {start:,} on, found that the server sends others "
                f"(Content-Range: {response.headers.get('Content-Range')}); use another server"
            )
        with _writing(self._part):
            if not start:
                self._part.unlink(missing_ok=True)
            part = self._part.open("ab", buffering=0)
        arrived = start
        with part:
            while block := response.read1(_BLOCK_BYTES):
                rest = memoryview(block)
                try:
                    while rest:
                        rest = rest[part.write(rest) :]
                except OSError as error:
                    raise DownloadError(
                        f"cannot write {self._part}: {error.strerror}; make room; {self._remains()}"
                    ) from error
                arrived += len(block)
                if size is not None and arrived > size:
                    raise _OtherVersionError
                self._show(bar, arrived)
        if size is not None and arrived < size:
            raise PassingError(f"the connection ended after {arrived:,} of {size:,} bytes")

    def _verify(self) -> None:
        """Compare what has arrived with what is known of it, and have it reach the disk."""
        beginning = b""
        with _writing(self._part), self._part.open("r+b") as part:
            while block := part.read(_BLOCK_BYTES):
                beginning = beginning or block[: len(_GZIP)]
                for _, _, checksum in self._checks:
                    checksum.update(block)
            os.fsync(part.fileno())
        facts = [("a gzip file, which begins with", _GZIP.hex(), beginning.hex())]
        facts += (
            (name, expected, base64.b64encode(checksum.digest()).decode())
            for name, expected, checksum in self._checks
        )
        for name, expected, found in facts:
            if found != expected:
                with _writing(self._part):
                    self._part.unlink()
                raise DownloadError(
                    f"{self.file.url}: expected {name} {expected}, found {found}: it was damaged on its way, "
                    "or is wrong on the server; what had arrived was deleted; try again, or another server"
                )

    def move_into_place(self) -> None:
        """Give the part the name of the file."""
        with _writing(self._path):
            self._part.replace(self._path)


def _crc32c() -> Any:
    """Return what computes a CRC-32C."""
    try:
        import google_crc32c
    except ImportError as error:
        raise MissingExtraError(
            'google-crc32c is needed to verify downloads from this server: pip install "gymbag[atari]"'
        ) from error
    checksum: Any = google_crc32c.Checksum
    return checksum()
