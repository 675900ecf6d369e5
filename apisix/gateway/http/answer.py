# SPDX-License-Identifier: Apache-2.0
"""The answer to a request, and the answers that nginx generates itself."""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field

from multidict import CIMultiDict

from apisix.gateway.http import pages
from apisix.gateway.http.headers import Headers
from apisix.gateway.http.tunnel import Tunnel


class StreamFailed(Exception):
    """The body of an answer ended before its end. Raised while it is read."""


@dataclass(slots=True)
class Answer:
    """
    The answer for the client. A body that is a stream must be read or closed.

    Attributes:
        has_date: whether nginx adds a Date.
        tunnel: the upstream's connection after a response with status 101.
        from_upstream: whether it is the upstream's response. nginx sends each status of an upstream, but closes the connection for some
            of its own.
    """

    status: int
    headers: Headers = field(default_factory=CIMultiDict)
    body: bytes | AsyncGenerator[bytes, None] = b""
    has_date: bool = True
    tunnel: Tunnel | None = None
    from_upstream: bool = False


def json_answer(status: int, value: object) -> Answer:
    """Return a JSON answer with the line end that APISIX appends."""
    body = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(errors="surrogateescape") + b"\n"
    return Answer(status, CIMultiDict({"Content-Type": "application/json"}), body)


def page_answer(status: int, headers: Headers | None = None) -> Answer:
    """Return nginx's own page. `headers` are the response headers that plugins have set so far."""
    kept: Headers = CIMultiDict() if headers is None else headers.copy()
    for name in ("content-type", "content-length"):
        kept.popall(name, None)
    page = pages.error_page(status)
    status = 400 if status in pages.BAD_REQUESTS else status
    if page:
        kept["Content-Type"] = pages.with_charset("text/html", status)
    kept["Content-Length"] = str(len(page))
    return Answer(status, kept, page)
