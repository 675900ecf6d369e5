# SPDX-License-Identifier: Apache-2.0
"""What a test sends: a client's request or an upstream's response, as the gateway would send it to the runner."""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlencode

import msgspec

from apisix.runner.http.header_rules import check_header
from apisix.runner.wire.messages import HTTPReqCallReq, HTTPRespCallReq, Info, Method, Pair, ReqBody, RespBody, Var
from apisix.testing.sending.query import grouped, normal_path, parsed_query, written_query
from apisix.testing.sending.variables import variable_of

Scalar = str | int | float | bool | None
Params = Mapping[str, Scalar | Iterable[Any]] | Iterable[tuple[str, Scalar]]
HeadersLike = Mapping[str, str] | Iterable[tuple[str, str]]
Variables = Mapping[str, str | bytes | int | None]

DEFAULT_HOST = "127.0.0.1"
MAX_HEADERS = 100  # source: gateway contract, 4
FORM_TYPE = "application/x-www-form-urlencoded"
JSON_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class SentRequest:
    """
    A client's request.

    Attributes:
        method: the HTTP method, in upper case.
        target: the path and the query as in the request line.
        path: the decoded path, without query.
        args: the decoded arguments, grouped by name. The value of `?flag` is None.
        headers: the headers, grouped by name. Names are in lower case.
        body: the body.
        remote_addr: the client's address.
        variables: the gateway's variables that the test has set.
        request_id: the variable `request_id`, unless the test has set it. It is the same in all phases of the request.
    """

    method: str
    target: str
    path: str
    args: tuple[Pair, ...]
    headers: tuple[tuple[str, str], ...]
    body: bytes
    remote_addr: str
    variables: Variables
    request_id: str = field(default_factory=lambda: secrets.token_hex(16), compare=False, kw_only=True)

    def message(self, call_id: int, token: int) -> HTTPReqCallReq:
        """Return the call that the gateway would send."""
        address = _packed(self.remote_addr)
        return HTTPReqCallReq(call_id, address, self.method, self.path, self.args, self.headers[:MAX_HEADERS], token)

    def info_reply(self, info: Info) -> bytes | None:
        """Return the result of an info request. In a request phase, there is no body of a response."""
        if isinstance(info, Var):
            return variable_of(self, info.name)
        return (self.body or None) if isinstance(info, ReqBody) else None


@dataclass(slots=True)
class SentResponse:
    """An upstream's response to `request`. The gateway sends its body only once. Source: gateway contract, 6."""

    request: SentRequest
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    _is_unread: bool = field(default=True, init=False)

    @property
    def never_has_body(self) -> bool:
        """True if HTTP does not allow the response to have a body."""
        return self.status in (204, 304) or self.request.method == "HEAD"

    def message(self, call_id: int, token: int) -> HTTPRespCallReq:
        """Return the call that the gateway would send."""
        return HTTPRespCallReq(call_id, self.status, self.headers, token)

    def info_reply(self, info: Info) -> bytes | None:
        """Return the result of an info request."""
        if not isinstance(info, RespBody):
            return self.request.info_reply(info)
        body, self._is_unread = (self.body if self._is_unread else b""), False
        return body or None


def make_request(
    method: str,
    url: str,
    *,
    params: Params | None = None,
    headers: HeadersLike | None = None,
    body: bytes | str = b"",
    json: object = None,
    form: Mapping[str, object] | Iterable[tuple[str, object]] | None = None,
    vars: Variables | None = None,
    remote_addr: str = "127.0.0.1",
) -> SentRequest:
    """
    Create a client's request.

    Raises: ValueError, TypeError: a gateway would not send such a request to a runner; the message gives the reason.
    """
    method = method.upper()
    if method not in Method.__members__:
        raise ValueError(
            f"the gateway does not send requests with the method {method} to a runner, but replies with 500; "
            f"the methods are {', '.join(Method.__members__)}"
        )
    host, target = _host_and_target(url)
    raw_path, _, query = target.partition("?")
    given = parsed_query(query) + _pairs_of(params)
    if params is not None:
        target = f"{raw_path}?{written_query(given)}" if given else raw_path
    content, content_type = _body_of(body, json, form)
    fields = _checked(headers)
    names = {name.lower() for name, _ in fields}
    defaults = {"host": host, "content-type": content_type, "content-length": str(len(content)) if content else None}
    if "transfer-encoding" in names:
        del defaults["content-length"]
    added = [(name, value) for name, value in defaults.items() if value is not None and name not in names]
    lower = grouped([*added, *((name.lower(), value) for name, value in fields)])
    return SentRequest(
        method,
        target,
        normal_path(raw_path),
        tuple(grouped(given)),
        tuple((name, value or "") for name, value in lower),
        content,
        _normal_address(remote_addr),
        {} if vars is None else vars,
    )


def make_response(
    request: SentRequest, status: int, headers: HeadersLike | None = None, body: bytes | str = b"", json: object = None
) -> SentResponse:
    """
    Create an upstream's response.

    Content-Length is set, and so is Content-Type if the body is JSON, unless `headers` contain them.

    Raises: ValueError, TypeError: an upstream could not send such a response; the message gives the reason.
    """
    if not 200 <= status <= 999:
        raise ValueError(f"the status of a response must be between 200 and 999, not {status}")
    content, content_type = _body_of(body, json, None)
    fields = _checked(headers)
    names = {name.lower() for name, _ in fields}
    if content_type is not None and "content-type" not in names:
        fields.append(("Content-Type", content_type))
    if not names & {"content-length", "transfer-encoding"} and status not in (204, 304):
        fields.append(("Content-Length", str(len(content))))
    return SentResponse(request, status, tuple(fields), b"" if request.method == "HEAD" else content)


def _host_and_target(url: str) -> tuple[str, str]:
    """Return the host and the target of a URL. A path has the default host. A fragment is removed."""
    url = url.partition("#")[0]
    scheme, mark, rest = url.partition("://")
    if not mark or "/" in scheme or "?" in scheme:
        return DEFAULT_HOST, url
    host, slash, target = rest.partition("/")
    return host, f"{slash or '/'}{target}"


def _pairs_of(params: Params | None) -> list[Pair]:
    if params is None:
        return []
    pairs: list[Pair] = []
    for name, value in params.items() if isinstance(params, Mapping) else params:
        values: Iterable[Any] = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        pairs += [(name, None if each is None else _text(each)) for each in values]
    return pairs


@lru_cache
def _packed(address: str) -> bytes:
    return ip_address(address).packed if address else b""  # a record may have no address


@lru_cache
def _normal_address(address: str) -> str:
    return str(ip_address(address))


def _text(value: object) -> str:
    """Return the text of a value as in JSON: `true`, not `True`."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _body_of(body: bytes | str, json: object, form: Any) -> tuple[bytes, str | None]:
    """Return a body and its content-type. Raise TypeError if more than one of the arguments is given, or if a type is wrong."""
    if sum((bool(body), json is not None, form is not None)) > 1:
        raise TypeError("a call takes only one of body, json and form")
    if json is not None:
        return msgspec.json.encode(json), JSON_TYPE
    if form is not None:
        return urlencode(form if isinstance(form, Mapping) else list(form), doseq=True).encode(), FORM_TYPE
    if isinstance(body, str):
        return body.encode("utf-8", "surrogateescape"), None
    if not isinstance(body, bytes | bytearray | memoryview):
        raise TypeError(f"body must be bytes or str, not {type(body).__name__}; to send it as JSON, use json=...")
    return bytes(body), None


def _checked(headers: HeadersLike | None) -> list[tuple[str, str]]:
    if headers is None:
        return []
    fields = list(headers.items() if isinstance(headers, Mapping) else headers)
    for name, value in fields:
        check_header(name, value)
    return fields
