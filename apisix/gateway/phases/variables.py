# SPDX-License-Identifier: Apache-2.0
"""The variables of nginx and APISIX, for the info requests of a runner."""

import os
import socket
import time
from collections.abc import Callable

from apisix.gateway.http import uris
from apisix.gateway.phases.exchange import Exchange

# A variable that is missing here does not exist, and the info reply has no result. None means the same; "" is a result.
# Source: gateway contract, 6, and the scenario `ask-vars` of tests/golden/behaviour.jsonl.
VARIABLES: dict[str, Callable[[Exchange], str | None]] = {
    "args": lambda exchange: exchange.args,
    "balancer_ip": lambda exchange: exchange.node.host if exchange.node else None,
    "balancer_port": lambda exchange: str(exchange.node.port) if exchange.node else None,
    "consumer_name": lambda exchange: exchange.consumer.name if exchange.consumer else None,
    "content_length": lambda exchange: exchange.headers.get("content-length"),
    "content_type": lambda exchange: exchange.headers.get("content-type"),
    "document_uri": lambda exchange: exchange.uri,
    "host": lambda exchange: exchange.host,
    "hostname": lambda _: socket.gethostname(),
    "is_args": lambda exchange: "?" if exchange.args else "",
    "method": lambda exchange: exchange.method,
    "msec": lambda _: f"{time.time():.3f}",
    "pid": lambda _: str(os.getpid()),
    "query_string": lambda exchange: exchange.args,
    "real_request_uri": lambda exchange: exchange.target,
    "remote_addr": lambda exchange: exchange.remote_addr,
    "remote_port": lambda exchange: str(exchange.remote_port),
    "request": lambda exchange: f"{exchange.request_method} {exchange.target} {exchange.protocol}",
    "request_body": lambda exchange: uris.decode(exchange.body) if exchange.body_read else None,
    "request_id": lambda exchange: exchange.request_id,
    # nginx counts what it has read so far, and it reads the body late.
    "request_length": lambda exchange: str(exchange.head_bytes + (exchange.client_body_bytes if exchange.body_read else 0)),
    "request_method": lambda exchange: exchange.request_method,
    "request_time": lambda exchange: f"{time.time() - exchange.started:.3f}",
    "request_uri": lambda exchange: exchange.request_uri,
    "route_id": lambda exchange: exchange.route.id if exchange.route else None,
    "route_name": lambda exchange: exchange.route.name if exchange.route else None,
    "scheme": lambda _: "http",
    "server_addr": lambda _: "127.0.0.1",
    "server_name": lambda _: "_",
    "server_port": lambda exchange: str(exchange.server_port),
    "service_id": lambda exchange: exchange.route.service_id if exchange.route else None,
    "server_protocol": lambda exchange: exchange.protocol,
    "status": lambda exchange: "000" if exchange.upstream_status is None else "0",
    "time_iso8601": lambda _: time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    "upstream_host": lambda exchange: exchange.upstream_host,
    "upstream_scheme": lambda exchange: exchange.upstream_scheme,
    "upstream_uri": lambda exchange: exchange.upstream_uri,
    "uri": lambda exchange: exchange.uri,
}


def _header(exchange: Exchange, name: str) -> str | None:
    wanted = name.lower().replace("_", "-")
    values = [value for key, value in exchange.headers.items() if key.lower().replace("_", "-") == wanted]
    # Repeated fields are joined, as nginx does.
    return ("; " if wanted == "cookie" else ", ").join(values) if values else None


def _argument(exchange: Exchange, name: str) -> str | None:
    values = uris.parse_args(exchange.args or "").get(name)
    # In Lua, `true` represents an argument without a value; it is converted to text for the runner.
    return None if values is None else "true" if values[0] is None else values[0]


def _cookie(exchange: Exchange, name: str) -> str | None:
    # http.cookies is not used, because it ignores the whole header if one cookie is malformed.
    for pair in (_header(exchange, "cookie") or "").split(";"):
        key, mark, value = pair.strip().partition("=")
        if mark and key == name:
            return value
    return None


def _uri_param(exchange: Exchange, name: str) -> str | None:
    return exchange.uri_params.get(name)


PREFIXES: dict[str, Callable[[Exchange, str], str | None]] = {
    "http_": _header,
    "arg_": _argument,
    "cookie_": _cookie,
    "uri_param_": _uri_param,
}


def look_up(exchange: Exchange, name: str) -> str | None:
    """Return the value of a variable, None if it does not exist or has no value."""
    getter = VARIABLES.get(name)
    if getter is not None:
        return getter(exchange)
    for prefix, by_name in PREFIXES.items():
        if name.startswith(prefix):
            return by_name(exchange, name.removeprefix(prefix))
    return None
