# SPDX-License-Identifier: Apache-2.0
"""The variables of nginx and APISIX, for the info requests of a runner."""

import os
import socket
import time
from collections.abc import Callable

from apisix.gateway.http import uris
from apisix.gateway.phases.context import RequestContext

# A variable that is missing here does not exist, and the info reply has no result. None means the same; "" is a result.
# Source: gateway contract, 6, and the scenario `ask-vars` of tests/golden/behaviour.jsonl.
VARIABLES: dict[str, Callable[[RequestContext], str | None]] = {
    "args": lambda context: context.args,
    "balancer_ip": lambda context: context.node.host if context.node else None,
    "balancer_port": lambda context: str(context.node.port) if context.node else None,
    "consumer_group_id": lambda context: context.consumer.group_id if context.consumer else None,
    "consumer_name": lambda context: context.consumer.name if context.consumer else None,
    "content_length": lambda context: context.headers.get("content-length"),
    "content_type": lambda context: context.headers.get("content-type"),
    "document_uri": lambda context: context.uri,
    "host": lambda context: context.host,
    "hostname": lambda _: socket.gethostname(),
    "is_args": lambda context: "?" if context.args else "",
    "method": lambda context: context.method,
    "msec": lambda _: f"{time.time():.3f}",
    "pid": lambda _: str(os.getpid()),
    "query_string": lambda context: context.args,
    "real_request_uri": lambda context: context.target,
    "remote_addr": lambda context: context.remote_addr,
    "remote_port": lambda context: str(context.remote_port),
    "request": lambda context: f"{context.request_method} {context.target} {context.protocol}",
    "request_body": lambda context: uris.decode(context.body) if context.body_read else None,
    "request_id": lambda context: context.request_id,
    # nginx counts what it has read so far, and it reads the body late.
    "request_length": lambda context: str(context.head_bytes + (context.client_body_bytes if context.body_read else 0)),
    "request_method": lambda context: context.request_method,
    "request_time": lambda context: f"{time.time() - context.started:.3f}",
    "request_uri": lambda context: context.request_uri,
    "route_id": lambda context: context.route.id if context.route else None,
    "route_name": lambda context: context.route.name if context.route else None,
    "scheme": lambda _: "http",
    "server_addr": lambda _: "127.0.0.1",
    "server_name": lambda _: "_",
    "server_port": lambda context: str(context.server_port),
    "service_id": lambda context: context.route.service_id if context.route else None,
    "server_protocol": lambda context: context.protocol,
    "status": lambda context: _status(context),
    "time_iso8601": lambda _: time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
    "upstream_host": lambda context: context.upstream_host,
    "upstream_scheme": lambda context: context.upstream_scheme,
    "upstream_uri": lambda context: context.upstream_uri,
    "uri": lambda context: context.uri,
}


def _header(context: RequestContext, name: str) -> str | None:
    wanted = name.lower().replace("_", "-")
    values = [value for key, value in context.headers.items() if key.lower().replace("_", "-") == wanted]
    # Repeated fields are joined, as nginx does.
    return ("; " if wanted == "cookie" else ", ").join(values) if values else None


def _argument(context: RequestContext, name: str) -> str | None:
    values = uris.parse_args(context.args or "").get(name)
    # In Lua, `true` represents an argument without a value; it is converted to text for the runner.
    return None if values is None else "true" if values[0] is None else values[0]


def _status(context: RequestContext) -> str:
    if context.response_status is not None:
        return str(context.response_status)
    return "000" if context.upstream_status is None else "0"


def _post_argument(context: RequestContext, name: str) -> str | None:
    """Return the first value of a field of a form. Source: apisix/core/ctx.lua."""
    if not context.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    values = uris.parse_args(uris.decode(context.body)).get(name)
    return None if values is None else "true" if values[0] is None else values[0]


def _cookie(context: RequestContext, name: str) -> str | None:
    # http.cookies is not used, because it ignores the whole header if one cookie is malformed.
    for pair in (_header(context, "cookie") or "").split(";"):
        key, mark, value = pair.strip().partition("=")
        if mark and key == name:
            return value
    return None


def _uri_param(context: RequestContext, name: str) -> str | None:
    return context.uri_params.get(name)


PREFIXES: dict[str, Callable[[RequestContext, str], str | None]] = {
    "http_": _header,
    "arg_": _argument,
    "cookie_": _cookie,
    "post_arg_": _post_argument,
    "uri_param_": _uri_param,
}


def look_up(context: RequestContext, name: str) -> str | None:
    """Return the value of a variable, None if it does not exist or has no value."""
    getter = VARIABLES.get(name)
    if getter is not None:
        return getter(context)
    for prefix, by_name in PREFIXES.items():
        if name.startswith(prefix):
            return by_name(context, name.removeprefix(prefix))
    return None
