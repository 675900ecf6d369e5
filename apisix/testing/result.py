# SPDX-License-Identifier: Apache-2.0
"""What a test looks at: what the client and the upstream would see of a call."""

from dataclasses import dataclass, field
from typing import Any

from multidict import CIMultiDict, MultiDict

from apisix.runner.call.effects import Effect
from apisix.runner.http.bodies import body_json, body_text


class _WithBody:
    """What has headers and a body."""

    __slots__ = ()

    headers: CIMultiDict[str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, by the charset of its content-type, UTF-8 by default."""
        return body_text(self.body, self.headers.get("content-type", ""))

    def json(self) -> Any:
        """Return what the body says as JSON, whatever its content-type."""
        return body_json(self.body, self.headers.get("content-type", ""))


@dataclass(frozen=True, slots=True)
class ClientResponse(_WithBody):
    """
    What the client gets, as far as plugins decide it.

    What nginx adds is not there: its error page where a status of 300 or more has no body, a default content-type, `Date`, `Server`.
    """

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class UpstreamRequest(_WithBody):
    """
    What the upstream gets.

    Attributes:
        path: decoded, without query.
        args: decoded; an argument without value (`?flag`) reads as "".
        query: as it would stand in the request line, where `flag` and `flag=` differ.
    """

    method: str
    path: str
    args: MultiDict[str]
    query: str
    headers: CIMultiDict[str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Result:
    """
    What came of a call.

    Attributes:
        reply: the answer to the client where a plugin stopped the request, or it was refused; None where it went on.
        upstream: the request as the upstream gets it; None where it was stopped, and in the response phase.
        client_headers: what plugins set on the client's response while the request went on.
        response: in the response phase, what the client gets; else None.
        upstream_asked_twice: whether the gateway sends the request to the upstream a second time, as it does in the response phase
            where there is no body (204, 304, HEAD) and no plugin gives one. The client then gets headers twice.
        asked: what was fetched from the gateway, in order: "body", or a variable's name.
        effects: what each plugin did, in order. The one that ended the chain is the last.
        error: why the call failed, where it did and the test asked for the gateway's view; else None.
    """

    reply: ClientResponse | None = None
    upstream: UpstreamRequest | None = None
    client_headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    response: ClientResponse | None = None
    upstream_asked_twice: bool = False
    asked: tuple[str, ...] = ()
    effects: tuple[Effect, ...] = ()
    error: BaseException | None = None
