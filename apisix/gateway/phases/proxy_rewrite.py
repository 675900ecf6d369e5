# SPDX-License-Identifier: Apache-2.0
"""APISIX's plugin proxy-rewrite. The development gateway emulates it because it changes the request that ext-plugin-post-req receives."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from apisix.gateway.http import uris
from apisix.gateway.http.headers import replace
from apisix.gateway.phases import variables
from apisix.gateway.phases.exchange import Exchange

NAME = "proxy-rewrite"
SUPPORTED = frozenset({"uri", "headers", "host"})

_VARIABLE = re.compile(r"(?<!\\)\$(?:\{(\w+)\}|(\w+))")


class _Operations(msgspec.Struct):
    add: dict[str, str | float] = {}
    set: dict[str, str | float] = {}
    remove: list[str] = []


def reason_against(conf: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a configuration, None if it is valid."""
    headers = conf.get("headers", {})
    is_old_form = isinstance(headers, dict) and not any(isinstance(value, dict | list) for value in headers.values())
    kinds: dict[str, Any] = {"uri": str, "host": str, "headers": dict[str, str | float] if is_old_form else _Operations}
    for name, kind in kinds.items():
        if name in conf:
            try:
                msgspec.convert(conf[name], kind)
            except msgspec.ValidationError as error:
                return f'property "{name}" validation failed: {error}'
    return None


def apply(exchange: Exchange, conf: Mapping[str, Any]) -> None:
    """
    Rewrite path and headers as configured.

    The path is percent-encoded even if it is encoded already, and the client's arguments are appended to the new ones.
    Source: observed, the scenarios `post-req-after-proxy-rewrite-*` of tests/golden/behaviour.jsonl.
    """
    if host := conf.get("host"):
        exchange.upstream_host = host
    if uri := conf.get("uri"):
        # A `?` from a variable is part of the path; a `?` in the configuration starts the query.
        path, mark, query = _resolve(uri, exchange, question_mark="%3F").partition("?")
    else:
        path, mark, query = exchange.uri, "", ""
    upstream_uri = uris.escape_path(path) + mark + query
    if exchange.args:
        upstream_uri += ("&" if mark else "?") + exchange.args
    exchange.upstream_uri = upstream_uri
    _apply_headers(exchange, conf.get("headers", {}))


def _apply_headers(exchange: Exchange, headers: Mapping[str, Any]) -> None:
    operations = headers if any(isinstance(value, dict | list) for value in headers.values()) else {"set": headers}
    for name, value in operations.get("add", {}).items():
        exchange.headers.add(name, _resolve(str(value), exchange))
    for name, value in operations.get("set", {}).items():
        replace(exchange.headers, name, _resolve(str(value), exchange))
    for name in operations.get("remove", ()):
        replace(exchange.headers, name, None)


def _resolve(template: str, exchange: Exchange, question_mark: str = "?") -> str:
    def value_of(match: re.Match[str]) -> str:
        return (variables.look_up(exchange, match[1] or match[2]) or "").replace("?", question_mark)

    return _VARIABLE.sub(value_of, template)
