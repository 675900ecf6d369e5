# SPDX-License-Identifier: Apache-2.0
"""APISIX's plugin proxy-rewrite. The development gateway emulates it because it changes the request that ext-plugin-post-req receives."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from apisix.gateway.http import uris
from apisix.gateway.http.headers import replace
from apisix.gateway.phases import variables
from apisix.gateway.phases.context import RequestContext

NAME = "proxy-rewrite"
SUPPORTED = frozenset({"uri", "regex_uri", "method", "headers", "host"})

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
    kinds |= {"method": str, "regex_uri": list[str]}
    for name, kind in kinds.items():
        if name in conf:
            try:
                msgspec.convert(conf[name], kind)
            except msgspec.ValidationError as error:
                return f'property "{name}" validation failed: {error}'
    return None


def apply(context: RequestContext, conf: Mapping[str, Any]) -> None:
    """
    Rewrite path and headers as configured.

    The path is percent-encoded even if it is encoded already, and the client's arguments are appended to the new ones.
    Source: observed, the scenarios `post-req-after-proxy-rewrite-*` of tests/golden/behaviour.jsonl.
    """
    if host := conf.get("host"):
        context.upstream_host = host
    if uri := conf.get("uri"):
        # A `?` from a variable is part of the path; a `?` in the configuration starts the query.
        path, mark, query = resolve(uri, context, question_mark="%3F").partition("?")
    elif "regex_uri" in conf:
        # The expression is applied to the client's path, even if a plugin has rewritten it already (observed).
        path, mark, query = (rewrite_by_regex(conf["regex_uri"], context.uri) or context.uri).partition("?")
    else:
        path, mark, query = context.uri, "", ""
    context.method = conf.get("method", context.method)
    upstream_uri = uris.escape_path(path) + mark + query
    if context.args:
        upstream_uri += ("&" if mark else "?") + context.args
    context.upstream_uri = upstream_uri
    _apply_headers(context, conf.get("headers", {}))


def rewrite_by_regex(pairs: Sequence[str], path: str) -> str | None:
    """Return the path after the first of the expressions that matches, with `$1` and so on replaced; None if none matches."""
    for pattern, template in zip(pairs[::2], pairs[1::2], strict=False):
        if match := re.search(pattern, path):
            found = match

            def group(reference: re.Match[str], found: re.Match[str] = found) -> str:
                number = int(reference[1])
                return (found[number] or "") if number <= (found.re.groups) else ""

            return path[: match.start()] + re.sub(r"\$(\d)", group, template) + path[match.end() :]
    return None


def _apply_headers(context: RequestContext, headers: Mapping[str, Any]) -> None:
    operations = headers if any(isinstance(value, dict | list) for value in headers.values()) else {"set": headers}
    for name, value in operations.get("add", {}).items():
        context.headers.add(name, resolve(str(value), context))
    for name, value in operations.get("set", {}).items():
        replace(context.headers, name, resolve(str(value), context))
    for name in operations.get("remove", ()):
        replace(context.headers, name, None)


def resolve(template: str, context: RequestContext, question_mark: str = "?") -> str:
    """Return a template with its variables, `$name` or `${name}`, replaced."""

    def value_of(match: re.Match[str]) -> str:
        return (variables.look_up(context, match[1] or match[2]) or "").replace("?", question_mark)

    return _VARIABLE.sub(value_of, template)
