# SPDX-License-Identifier: Apache-2.0
"""One request in the gateway, and its answer."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from multidict import CIMultiDict

from apisix.gateway.http import uris
from apisix.gateway.http.headers import Headers
from apisix.gateway.report import UpstreamReport
from apisix.gateway.routing.balancing import Node
from apisix.gateway.routing.routes import ConfSource, Consumer, Route

SERVER_NAME = "_"
"""nginx's `server_name`, which is the value of `$host` if a request has no Host."""


@dataclass(slots=True)
class RequestContext:
    """
    One request with the edits of plugins so far: what APISIX stores in `ctx` and nginx in its variables.

    Args:
        target: the request target as the client sent it.
        head_bytes: length of the request line and the header block.
        server_port: the port of the gateway as seen by plugins and upstream.
    Attributes:
        request_method: the method of the client, which proxy-rewrite does not change.
        request_uri: APISIX's variable of this name: the normalized path with the query, as it was before any rewrite.
        source: of the configuration whose plugin is running.
        response_status: the status for the client, known when the phase `header_filter` begins.
        consumer: set by an authentication plugin.
        recorded_upstreams: what upstreams replied before. If it is not None, these replies are used, and nothing is sent to an upstream.
        rest: the end of the client's body that nginx reads as the next request, because a runner changed content-length.
    """

    method: str
    target: str
    headers: Headers
    body: bytes
    remote_addr: str
    remote_port: int
    server_port: int
    protocol: str = "HTTP/1.1"
    head_bytes: int = 0
    route: Route | None = None
    source: ConfSource | None = None
    consumer: Consumer | None = None
    node: Node | None = None
    uri_params: dict[str, str] = field(default_factory=dict)
    uri: str = field(init=False)
    args: str | None = field(init=False)
    request_uri: str = field(init=False)
    request_method: str = field(init=False)
    upstream_uri: str = ""
    upstream_host: str = field(init=False)
    upstream_scheme: str = "http"
    upstream_status: int | None = None
    response_status: int | None = None
    uri_changed: bool = False
    body_read: bool = False
    args_read: bool = False
    recorded_upstreams: Sequence[UpstreamReport] | None = None
    rest: bytes = b""
    stale_headers: dict[str, list[str]] = field(default_factory=dict)
    response_headers: Headers = field(default_factory=CIMultiDict)
    request_id: str = field(default_factory=lambda: secrets.token_hex(16))
    started: float = field(default_factory=time.time)

    client_body_bytes: int = field(init=False)
    _length_counts: bool = field(init=False)

    def __post_init__(self) -> None:
        self.request_method = self.method
        self.client_body_bytes = len(self.body)
        # A chunked body contains its own end.
        self._length_counts = "transfer-encoding" not in self.headers
        raw_path, self.args = uris.split_target(self.target)
        self.uri = uris.normalise_path(raw_path)
        self.request_uri = self.uri + ("" if not self.args else f"?{self.args}")
        self.upstream_host = self.headers.get("host", "")

    @property
    def host(self) -> str:
        """
        The requested host in lower case, without port and without a dot at its end: nginx's `$host`.

        That of an absolute target takes precedence over the header.
        """
        name = (uris.split_authority(self.target)[0] or str(self.headers.get("host", SERVER_NAME))).lower()
        if name.startswith("["):
            return name.partition("]")[0] + "]"
        return name.partition(":")[0].removesuffix(".")

    def set_args(self, query: str) -> None:
        """Replace the query. From then on nginx writes the path again instead of passing on the client's."""
        self.args = query
        self.uri_changed = True

    def obey_length(self) -> int:
        """
        Truncate the client's body as nginx does when it first reads it: to the current content-length, which plugins may have changed.

        Return how many bytes are missing, for which nginx would wait. Source: gateway contract, 9.
        """
        if not self._length_counts:
            return 0
        self._length_counts = False
        value = self.headers.get("content-length", "0")
        length = int(value) if value.isascii() and value.isdigit() else len(self.body)
        self.body, self.rest = self.body[:length], self.body[length:]
        return length - len(self.body)

    def set_body(self, body: bytes) -> None:
        """
        Replace the request's body and its length.

        The headers that later phases send to the runner still have the old length, because APISIX does not update its cache of them.
        """
        for name in ("content-length", "transfer-encoding"):
            self.stale_headers.setdefault(name, self.headers.getall(name, []))
        self.body = body
        self.headers.popall("transfer-encoding", None)
        present = next((key for key in self.headers if key.lower() == "content-length"), "Content-Length")
        self.headers[present] = str(len(body))

    def upstream_target(self) -> str:
        """Return the target that nginx sends to the upstream."""
        if self.upstream_uri:
            return self.upstream_uri if not self.upstream_uri.startswith("?") else f"/{self.upstream_uri}"
        if not self.uri_changed:
            return uris.split_authority(self.target)[1]  # unchanged, with a fragment if there is one
        path = uris.escape_path(self.uri)
        return f"{path}?{self.args}" if self.args else path
