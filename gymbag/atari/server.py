"""A server of files: what it says of one, and how it is asked.

It is asked with HTTP or HTTPS only, for files as they are: were they compressed on the way, no part of one
could be asked for, and no hash would fit.
"""

from __future__ import annotations

import http.client
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from gymbag.errors import GymbagError, UnavailableError

_LONGEST_PAUSE = 60.0
# What a server answers for the time being,
_PASSING = (408, 425, 429, 500, 502, 503, 504)
# and what it may answer to HEAD only, as some URLs are good for no other request than GET.
_NO_HEAD = (403, 405, 501)


class PassingError(Exception):
    """A request failed, or the response broke off, in a way that may pass."""


class UnreachedError(PassingError):
    """There was no connection to the server."""


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server, and how often to try again.

    Attributes:
        timeout: Seconds for which nothing need arrive.
        attempts: How many may fail one after the other, without a further byte.
        pause: Seconds before the second attempt. It doubles with each one, up to a minute.
    """

    timeout: float = 60.0
    attempts: int = 6
    pause: float = 1.0

    def wait(self, failures: int) -> None:
        """Wait, after so many failures; a little even if none counts."""
        time.sleep(min(self.pause * 2.0 ** (failures - 1), _LONGEST_PAUSE))


PATIENCE = Patience()


@dataclass(frozen=True)
class Description:
    """What a server says of a file.

    Attributes:
        size: How many bytes it has, or None.
        version: The header, and its value, that have a request fail for any other version of it, or None.
        md5: Its MD5 in base64, or None.
        crc32c: Its CRC-32C in base64, big-endian, or None.
    """

    size: int | None
    version: tuple[str, str] | None
    md5: str | None
    crc32c: str | None

    @classmethod
    def read(cls, url: str, response: http.client.HTTPResponse) -> Description:
        """Read it from the headers of a response.

        Raises:
            UnavailableError: The body is not the file as it is.
        """
        headers = response.headers
        # Google's servers unpack what they keep with the first, and then send the second only.
        for header in ("Content-Encoding", "x-goog-stored-content-encoding"):
            encoding = headers.get(header, "identity")
            if encoding != "identity":
                raise UnavailableError(
                    f"{url}: expected the file as it is, found that the server packs or unpacks it "
                    f"({header}: {encoding}); set it up to send such files without a Content-Encoding"
                )
        if response.status == http.client.PARTIAL_CONTENT:
            size = headers.get("Content-Range", "").rpartition("/")[2]
        else:
            size = headers.get("Content-Length", "")
        generation, etag = headers.get("x-goog-generation"), headers.get("ETag", "W/")
        version = None
        if generation is not None:
            version = ("x-goog-if-generation-match", generation)
        elif etag and not etag.startswith("W/"):  # a weak one does not promise equal bytes
            version = ("If-Match", etag)
        hashes = dict(
            one.strip().partition("=")[::2]
            for several in headers.get_all("x-goog-hash", [])
            for one in several.split(",")
        )
        return cls(
            int(size) if re.fullmatch("[0-9]{1,19}", size) else None,
            version,
            hashes.get("md5"),
            hashes.get("crc32c"),
        )

    @property
    def is_resumable(self) -> bool:
        """Whether parts of it can be put together."""
        return self.size is not None and self.version is not None


class _Redirects(HTTPRedirectHandler):
    """Follows redirects with the method of the request, and never from HTTPS to HTTP."""

    http_error_308 = HTTPRedirectHandler.http_error_302  # Python 3.10 has none

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise HTTPError(req.full_url, code, f"and leads from HTTPS to {newurl}", headers, fp)
        return Request(newurl, headers=req.headers, method=req.get_method())


class Client:
    """Sends requests to servers.

    Args:
        patience: When to give up.

    Attributes:
        patience: When to give up.
    """

    def __init__(self, patience: Patience) -> None:
        self.patience = patience
        self._opener = OpenerDirector()
        # Those of `urllib.request.build_opener` but for other schemes, FTP and local files among them.
        for handler in (
            ProxyHandler,
            UnknownHandler,
            HTTPHandler,
            HTTPSHandler,
            HTTPDefaultErrorHandler,
            _Redirects,
            HTTPErrorProcessor,
        ):
            self._opener.add_handler(handler())

    @contextmanager
    def open(self, method: str, url: str, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """Send a request, and give the response.

        Raises:
            HTTPError: The server refused it.
            PassingError: The connection failed, now or within the block.
        """
        headers = {"Accept-Encoding": "identity", "User-Agent": "gymbag", **headers}
        try:
            request = Request(url, headers=headers, method=method)
            try:
                opened = self._opener.open(request, timeout=self.patience.timeout)
            except ValueError as error:  # where a redirect leads to what is no URL, or has no such host
                raise UnreachedError(f"the server cannot be reached: {error}") from error
            with opened as response:
                yield response
        except GymbagError:
            raise
        except HTTPError as error:
            error.close()
            if error.code in _PASSING:
                raise PassingError(f"the server answers {error.code} {error.reason}") from error
            raise
        except URLError as error:
            raise UnreachedError(f"the server cannot be reached: {error.reason}") from error
        except (http.client.HTTPException, OSError) as error:
            raise PassingError(f"the connection was lost: {error}") from error

    def describe(self, url: str) -> Description:
        """Ask what a server has, without fetching it.

        Raises:
            UnavailableError: It has nothing there, gives it to others only, or does not answer.
        """
        method, failures = "HEAD", 0
        while True:
            try:
                with self.open(method, url, {}) as response:
                    return Description.read(url, response)
            except HTTPError as error:
                if method == "GET" or error.code not in _NO_HEAD:
                    raise UnavailableError(
                        f"{url}: the server answers {error.code} {error.reason}", error.code
                    ) from error
                method = "GET"  # the body of which is left unread
            except PassingError as error:
                failures += 1
                if failures == self.patience.attempts or isinstance(error, UnreachedError):
                    raise UnavailableError(f"{url}: {error}") from error
                self.patience.wait(failures)
