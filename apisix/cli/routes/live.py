# SPDX-License-Identifier: Apache-2.0
"""
Read the routes of a running gateway over its admin API.

Only GET requests are sent. Redirects are not followed, and no proxy is used, so that no other server receives the key.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from apisix.cli.routes.files import Source, UnreadableRoutes

PREFIX: Final = "/apisix/admin"
KINDS: Final = ("routes", "services", "plugin_configs", "global_rules", "consumers", "consumer_groups")
"""The lists of objects that can have plugins."""
TIMEOUT_S: Final = 10.0
"""The time limit for each list, in seconds."""
MAX_BYTES: Final = 32 * 1024 * 1024
"""The size limit of each list, in bytes."""
_MAX_KEY_BYTES: Final = 4096


def read_key(path: Path) -> str:
    """
    Return the key that a file contains, without surrounding white space.

    Raises: UnreadableRoutes: the file can't be read, or contains no key. The message does not contain the content of the file.
    """
    try:
        with path.open("rb") as file:
            key = file.read(_MAX_KEY_BYTES).strip()
    except OSError as error:
        raise UnreadableRoutes(path, f"can't be read: {error.strerror or error}") from error
    if not key or not all(0x21 <= byte <= 0x7E for byte in key):
        raise UnreadableRoutes(path, "must contain the key of the admin API in one line, of visible ASCII characters")
    return key.decode("ascii")


class Gateway:
    """
    A running gateway.

    Args:
        url: the URL of the admin API, such as `http://127.0.0.1:9180`. `/apisix/admin` is added if it is missing.
        key: the key of the admin API, or None if the gateway does not need one.
        timeout_s: the time limit for each list, in seconds.
        max_bytes: the size limit of each list, in bytes.
    Attributes:
        server: the header Server of the last response, which contains the release.
    Raises: UnreadableRoutes: `url` is not such a URL.
    """

    def __init__(self, url: str, key: str | None, *, timeout_s: float = TIMEOUT_S, max_bytes: int = MAX_BYTES) -> None:
        self._url = _split(url)
        self._key = key
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        path = self._url.path.rstrip("/")
        self._prefix = path if path.endswith(PREFIX) else path + PREFIX
        self.server = ""

    def sources(self, notes: list[str]) -> Iterator[Source]:
        """
        Yield the objects of each kind.

        Args: notes: a note is added for each kind that this gateway does not have.
        Raises: UnreadableRoutes: the gateway does not respond in time, refuses the key, or is not APISIX.
        """
        for kind in KINDS:
            name = f"{self._url.scheme}://{self._url.netloc}{self._prefix}/{kind}"
            status, body = self._get(kind, name)
            if status in (404, 501) and kind != "routes":
                notes.append(f"{name}: the gateway has none of these (status {status})")
                continue
            if status != 200:
                raise UnreadableRoutes(name, f"expected status 200, got {_advice(status, has_key=self._key is not None)}")
            try:
                content: Any = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise UnreadableRoutes(name, "the response is not JSON; is this the admin API?") from error
            if not isinstance(content, dict) or not {"list", "node"} & content.keys():
                raise UnreadableRoutes(name, "the response contains neither list nor node; is this the admin API of APISIX?")
            yield Source(name, [{kind: content}])

    def _get(self, kind: str, name: str) -> tuple[int, bytes]:
        ends_s = time.monotonic() + self._timeout_s
        is_https = self._url.scheme == "https"
        connection = (HTTPSConnection if is_https else HTTPConnection)(self._url.hostname or "", self._url.port, timeout=self._timeout_s)
        # The timeout of the socket applies to each read, so a gateway that sends single bytes would never exceed it.
        watchdog = None
        try:
            connection.connect()
            watchdog = threading.Timer(max(0.0, ends_s - time.monotonic()), _shut_down, [connection.sock])
            watchdog.daemon = True
            watchdog.start()
            headers = {"Accept": "application/json"} | ({} if self._key is None else {"X-API-KEY": self._key})
            connection.request("GET", f"{self._prefix}/{kind}", headers=headers)
            with connection.getresponse() as response:
                self.server = response.headers.get("server", "")
                body = response.read(self._max_bytes + 1)
        except (OSError, HTTPException) as error:
            if isinstance(error, TimeoutError) or time.monotonic() >= ends_s:
                raise UnreadableRoutes(name, f"no complete response within {self._timeout_s:g} s") from error
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise UnreadableRoutes(name, f"can't be read: {reason}; is this the admin API, whose default port is 9180?") from error
        finally:
            if watchdog is not None:
                watchdog.cancel()
            connection.close()
        if time.monotonic() >= ends_s:  # if a response has no length, shutting the connection down looks like its end
            raise UnreadableRoutes(name, f"no complete response within {self._timeout_s:g} s")
        if len(body) > self._max_bytes:
            raise UnreadableRoutes(name, f"the response is larger than {self._max_bytes} bytes, which is the limit")
        return response.status, body


def _shut_down(connected: socket.socket) -> None:
    with suppress(OSError):
        connected.shutdown(socket.SHUT_RDWR)


def _split(url: str) -> SplitResult:
    try:
        split = urlsplit(url)
        valid = split.scheme in ("http", "https") and bool(split.hostname) and split.port != 0
    except ValueError:
        valid = False
    if not valid:
        raise UnreadableRoutes("--admin", "must be a URL such as http://127.0.0.1:9180")
    if "@" in split.netloc or split.query or split.fragment:
        raise UnreadableRoutes("--admin", "must be a URL without user, password, query and fragment; the key is read from --key-file")
    return split


def _advice(status: int, *, has_key: bool) -> str:
    if status in (401, 403):
        return f"{status}: the gateway refuses the key" if has_key else f"{status}: the gateway needs a key; give it with --key-file"
    return str(status)
