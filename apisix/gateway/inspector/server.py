# SPDX-License-Identifier: Apache-2.0
"""
Serve the inspector: the page, its API, and events.

A page of another site must not reach it from the author's browser. So only requests whose Host is a loopback name are answered, which DNS
rebinding cannot achieve, and requests with the Origin of another site are refused. No CORS headers are sent.
"""

import asyncio
import mimetypes
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Any, Final
from urllib.parse import unquote

import msgspec
from multidict import CIMultiDict

from apisix.gateway.http.answer import Answer
from apisix.gateway.http.http1 import BadRequest, Request
from apisix.gateway.http.listener import HttpListener, OnSent
from apisix.gateway.inspector.flows import MAX_FLOWS, FlowStore, Kept, secrets_of, summary_of
from apisix.gateway.report import RequestReport
from apisix.gateway.resources.admin import is_loopback_name
from apisix.runner.records.redaction import Redactor

EVENTS_KEPT: Final = 1000
"""How many events may wait for one page. A page that reads more slowly is disconnected, and loads everything again."""
PING_S: Final = 15.0
"""After how many seconds without an event a comment is sent, which finds out that the page has gone away."""

# Scripts and styles only from the page's own files, and nothing from other hosts.
_POLICY: Final = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "connect")),
        *(f"{kind} 'none'" for kind in ("base-uri", "form-action", "frame-ancestors")),
    ]
)
_SECURE: Final = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class ApiError(Exception):
    """A request to the API cannot be answered. `status` and the message are sent."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


ApiCall = Callable[[Mapping[str, str], Any], Awaitable[object]]
"""Answers a call of the API. Args: the values of the names in its path, and the parsed JSON of its body, None if it has none."""


class Inspector:
    """
    The inspector of one development gateway.

    Attributes:
        flows: the requests.
        configured: the secrets of the current configurations of plugins, and their digests.
        gateway: the URL of the gateway, for commands that the page shows.
    """

    def __init__(self) -> None:
        self.flows = FlowStore()
        self.configured: Mapping[str, str] = {}
        self.gateway = ""
        self._listener = HttpListener(self, "apisix-runner")
        self._pages: set[asyncio.Queue[bytes | None]] = set()
        self._calls: list[tuple[str, tuple[str, ...], ApiCall]] = []
        self.add_call("GET", "/api/info", self._info)
        self.add_call("GET", "/api/flows", self._list)
        self.add_call("GET", "/api/flows/{id}", self._get)
        self.add_call("DELETE", "/api/flows", self._clear)

    def add_call(self, method: str, path: str, call: ApiCall) -> None:
        """Add a call to the API. Args: path: parts in braces match any text, as in `/api/flows/{id}`."""
        self._calls.append((method, tuple(path.split("/")), call))

    async def bind(self, host: str, port: int) -> int:
        """Same as `HttpListener.bind`."""
        return await self._listener.bind(host, port)

    async def serve(self) -> None:
        """Same as `HttpListener.serve`."""
        await self._listener.serve()

    async def stop(self) -> None:
        """Close the pages' connections and the listener."""
        for page in self._pages:
            page.put_nowait(None)
        await self._listener.stop()

    def received(self, report: RequestReport) -> None:
        """Called with each request of the gateway before it is processed: a plugin may print its secrets."""
        self.flows.learn(secrets_of(report))

    def request(self, report: RequestReport) -> None:
        """Called with the report of each request of the gateway."""
        flow = self.flows.add(report)
        self.send("flow", summary_of(flow))
        for record in (phase.record for phase in flow.phases if phase.record is not None):
            for line in (*record.logs, *(line for step in record.steps for line in step.logs)):
                self.send("log", {"level": line.level, "logger": line.logger, "message": line.message})

    def log(self, record: Mapping[str, Any]) -> None:
        """Called with each line of the runner's log. Lines of calls are sent with the record of the call, in which secrets are replaced."""
        if "call" not in record:
            self.send("log", dict(record))

    def send(self, event: str, data: object) -> None:
        """
        Send an event to all pages. Secrets of the last requests and of configurations are replaced in it.

        Args:
            event: its name.
            data: becomes JSON.
        """
        message = b"event: %b\ndata: %b\n\n" % (event.encode(), self.redacted(data))
        for page in list(self._pages):
            try:
                page.put_nowait(message)
            except asyncio.QueueFull:
                self._pages.discard(page)
                page.get_nowait()
                page.put_nowait(None)

    def redacted(self, data: object) -> bytes:
        """Return data as JSON, in which secrets of the last requests and of configurations are replaced."""
        redactor = Redactor()
        redactor.learn(self.flows.secrets)
        redactor.learn(self.configured)
        return redactor.line(msgspec.json.encode(data))

    # The handler of the listener.

    async def answer(self, request: Request) -> tuple[Answer, OnSent | None]:
        """Answer a request."""
        try:
            return await self._answer(request), None
        except ApiError as error:
            return _json(error.status, {"error": str(error)}), None

    def refuse(self, error: BadRequest) -> tuple[Answer, OnSent | None]:
        """Answer an invalid request."""
        return _json(error.status, {"error": str(error)}), None

    async def _answer(self, request: Request) -> Answer:
        _check_origin(request)
        path, _, _query = request.target.partition("?")
        if path == "/api/events" and request.method == "GET":
            return self._events()
        if not path.startswith("/api/"):
            return _static(request.method, path)
        for method, parts, call in self._calls:
            values = _matched(parts, path.split("/"))
            if method == request.method and values is not None:
                return _json(200, await call(values, _body_of(request)))
        raise ApiError(404, f"there is no {request.method} {path}")

    def _events(self) -> Answer:
        page: asyncio.Queue[bytes | None] = asyncio.Queue(EVENTS_KEPT)
        self._pages.add(page)

        async def events() -> AsyncGenerator[bytes, None]:
            try:
                yield b": connected\n\n"
                while True:
                    try:
                        async with asyncio.timeout(PING_S):
                            message = await page.get()
                    except TimeoutError:
                        message = b": ping\n\n"
                    if message is None:
                        return
                    yield message
            finally:
                self._pages.discard(page)

        return Answer(200, CIMultiDict([("Content-Type", "text/event-stream"), *_SECURE]), events())

    # The API.

    async def _info(self, values: Mapping[str, str], body: Any) -> object:
        return {"capacity": MAX_FLOWS, "gateway": self.gateway}

    async def _list(self, values: Mapping[str, str], body: Any) -> object:
        return [summary_of(flow) for flow in self.flows]

    async def _get(self, values: Mapping[str, str], body: Any) -> object:
        return self.kept(values["id"]).flow

    async def _clear(self, values: Mapping[str, str], body: Any) -> object:
        self.flows.clear()
        self.send("cleared", None)
        return {}

    def kept(self, id: str) -> Kept:
        """Return a request. Raise ApiError if it is not kept any more."""
        found = self.flows.get(id)
        if found is None:
            raise ApiError(404, f"the request {id} is not kept any more")
        return found


def _check_origin(request: Request) -> None:
    """Refuse requests of other sites' pages."""
    hosts = request.values("host")
    if len(hosts) != 1 or not is_loopback_name(_name(hosts[0])):
        raise ApiError(403, "the inspector answers only requests to a loopback name, such as localhost")
    for origin in request.values("origin"):
        if origin != f"http://{hosts[0]}":
            raise ApiError(403, f"the inspector does not answer requests of pages from {origin}")
    site = request.values("sec-fetch-site")
    if site and site[0] not in ("same-origin", "none"):
        raise ApiError(403, "the inspector does not answer requests of other sites")


def _name(host: str) -> str:
    """Return a Host without its port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _matched(parts: tuple[str, ...], path: list[str]) -> dict[str, str] | None:
    if len(parts) != len(path):
        return None
    values = {}
    for part, given in zip(parts, path, strict=True):
        if part.startswith("{"):
            values[part[1:-1]] = unquote(given)
        elif part != given:
            return None
    return values


def _body_of(request: Request) -> Any:
    if not request.body:
        return None
    # A page of another site can send other content types without a preflight request of the browser.
    if not any(value.partition(";")[0].strip() == "application/json" for value in request.values("content-type")):
        raise ApiError(415, "the body must be JSON, with the content type application/json")
    try:
        return msgspec.json.decode(request.body)
    except msgspec.DecodeError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from None


def _json(status: int, value: object) -> Answer:
    body = msgspec.json.encode(value)
    return Answer(status, CIMultiDict([("Content-Type", "application/json"), ("Content-Length", str(len(body))), *_SECURE]), body)


def _static(method: str, path: str) -> Answer:
    """Return a file of the page."""
    if method not in ("GET", "HEAD"):
        raise ApiError(405, f"{method} is not allowed here")
    name = path.removeprefix("/") or "index.html"
    directory = files("apisix.gateway.inspector") / "static"
    file = directory / name
    if "/" in name or not name[:1].isalnum() or not file.is_file():
        raise ApiError(404, f"there is no page {path}")
    body = file.read_bytes()
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Answer(200, CIMultiDict([("Content-Type", f"{kind}; charset=utf-8"), ("Content-Length", str(len(body))), *_SECURE]), body)
