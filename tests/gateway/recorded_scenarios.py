# SPDX-License-Identifier: Apache-2.0
"""The recorded scenarios of a real APISIX 3.18 with route features, request shapes and runner replies. Source: golden/README.md."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from tests.gateway.scripted_upstream import RECORDED_PORTS

RECORDED: list[dict[str, Any]] = [
    json.loads(line) for line in (Path(__file__).parents[1] / "golden" / "gateway-scenarios.jsonl").read_bytes().splitlines()
]

DIFFERENT = {
    "u-garbage": "nginx passes on bytes that are not HTTP as a response of HTTP/0.9; dev answers 502 and says why",
    "u-h-1xx": "on APISIX the call hangs; dev ignores interim responses of the upstream",
    "u-hr-1xx": "on APISIX the call hangs; dev ignores interim responses of the upstream",
    "me-pre-function": "Lua code does not run in dev: a route with `_meta.pre_function` answers 503",
    "gr-stop": "in the recording, the gateway has the token of a global rule with the same key from an earlier scenario",
}
"""Scenarios that dev answers differently, with the reason."""

_NOT_RECORDED = frozenset({"Date", "Server", "Connection", "Transfer-Encoding", "transfer-encoding"})
_SHOWN_CHARS = 700
_CLIENT_TIMEOUT_S = 9.0
_AGENT = re.compile(r"lua-resty-http/\S+ .*")


def with_ports(value: Any, ports: dict[int, int]) -> Any:
    """Return resources or requests with the ports that are used here instead of the recorded ones."""
    text = json.dumps(value)
    for recorded in RECORDED_PORTS:
        text = text.replace(f":{recorded}", f":{ports[recorded]}").replace(f'"port": {recorded}', f'"port": {ports[recorded]}')
    return json.loads(text)


def with_recorded_ports(value: Any, ports: dict[int, int]) -> Any:
    """Return a record of this run in which the ports are the recorded ones."""
    text = json.dumps(value)
    for recorded in RECORDED_PORTS:
        text = re.sub(rf"\b{ports[recorded]}\b", str(recorded), text)
    return json.loads(text)


def request_bytes(request: dict[str, Any]) -> bytes:
    """Return a recorded request as bytes."""
    lines = [f"{request['method']} {request['target']} {request['protocol']}"]
    lines += [] if request["host"] is None else [f"Host: {request['host']}"]
    lines += ["Connection: close", *request["headers"]]
    names = {line.partition(":")[0].lower() for line in request["headers"]}
    body: bytes = request["body"].encode("latin-1")
    if "chunks" in request:
        lines.append("Transfer-Encoding: chunked")
        chunks = [chunk.encode("latin-1") for chunk in request["chunks"]]
        body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    elif body and "content-length" not in names:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


async def send_and_receive(port: int, data: bytes) -> bytes:
    """
    Send bytes, and return the bytes that the gateway sends until it closes the connection; b"<TIMEOUT>" if it does not close it in time.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(_CLIENT_TIMEOUT_S):
            return await reader.read()
    except TimeoutError:
        return b"<TIMEOUT>"
    except ConnectionError:
        return b""
    finally:
        writer.close()


def client_view(received: bytes) -> dict[str, Any]:
    """Return a response in the form of `client_sees`, headers sorted by name."""
    interim = 0
    while received.startswith(b"HTTP/1.1 100"):
        received = received.partition(b"\r\n\r\n")[2]
        interim += 1
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ")
    if len(parts) < 2:
        return {"status": lines[0] or "<CLOSED>"}
    headers = [[name, value.removeprefix(" ")] for name, _, value in (line.partition(":") for line in lines[1:])]
    if any(name.lower() == "transfer-encoding" for name, _ in headers):
        body = _unchunked(body)
    kept = [[name, value] for name, value in headers if name not in _NOT_RECORDED]
    view = {"status": int(parts[1]), "headers": by_name(kept), "body": body.decode("latin-1")[:_SHOWN_CHARS], "body_length": len(body)}
    return view | {"interim": interim} if interim else view


def recorded_client_view(sees: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded `client_sees` for comparison."""
    if not isinstance(sees["status"], int):
        return {"status": "<TIMEOUT>" if sees["status"] == "<TIMEOUT>" else "<CLOSED>"}
    return {**sees, "headers": by_name(sees["headers"])}


def upstream_view(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return requests that reached the upstream with headers and arguments sorted."""
    views = []
    for request in seen:
        path, mark, query = request["target"].partition("?")
        headers = [[name, _AGENT.sub("lua-resty-http", value)] for name, value in request["headers"] if name.lower() != "connection"]
        views.append({**request, "target": path + mark + "&".join(sorted(query.split("&"))), "headers": by_name(headers)})
    return views


def runner_view(seen: list[dict[str, Any]], *, recorded: bool = False) -> list[dict[str, Any]]:
    """Return the messages that reached the runner, with tables sorted and versions replaced by N."""
    octets = (lambda text: text) if recorded else _octets
    views = []
    for entry in seen:
        view = {name: value for name, value in entry.items() if name != "id"}
        if "path" in view:
            view["path"] = octets(view["path"])
        for name in ("headers", "args"):
            if name in view:
                view[name] = [[octets(part) for part in pair] for pair in view[name]]
                view[name] = by_name([pair for pair in view[name] if str(pair[0]).lower() not in ("date", "server")])
        if "asked" in view:
            # The ports differ in length, and the order of names in a query is random on APISIX.
            view["asked"] = [[info, _sorted_query(value), length if value is None else len(value)] for info, value, length in view["asked"]]
        if "key" in view and view["key"] is not None:
            parts = view["key"].split("#")
            view["key"] = "#".join(parts[:3] + ["N" for _ in parts[3:]])
        views.append(view)
    return views


def by_name(pairs: list[list[Any]]) -> list[list[Any]]:
    """Sort pairs by name, then by value, because Lua tables have no order."""
    return sorted(pairs, key=lambda pair: (str(pair[0]).lower(), str(pair[1]) if len(pair) > 1 else ""))


def _sorted_query(value: str | None) -> str | None:
    if value is None or "&" not in value:
        return value
    path, mark, query = value.rpartition("?")
    return path + mark + "&".join(sorted(query.split("&")))


def _octets(text: str | None) -> str | None:
    """Return text of a message with one character for each byte, as in the recordings."""
    return None if text is None else text.encode("utf-8", "surrogateescape").decode("latin-1")


def _unchunked(data: bytes) -> bytes:
    pieces: list[bytes] = []
    while data:
        size_line, _, data = data.partition(b"\r\n")
        size = int(size_line or b"0", 16)
        if not size:
            break
        pieces.append(data[:size])
        data = data[size + 2 :]
    return b"".join(pieces)
