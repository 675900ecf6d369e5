# SPDX-License-Identifier: Apache-2.0
"""APISIX's plugin proxy-rewrite. The development gateway emulates it because it changes the request that ext-plugin-post-req receives."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from apisix.gateway.http import uris
from apisix.gateway.http.headers import escape_value, replace
from apisix.gateway.phases import variables
from apisix.gateway.phases.context import RequestContext

NAME = "proxy-rewrite"
SUPPORTED = frozenset({"uri", "regex_uri", "method", "headers", "host", "use_real_request_uri_unsafe"})

_CAPTURE = re.compile(r"(?<!\\)\$(?:\{(\d+)\}|(\d+))")
_REFERENCE = re.compile(r"\$(?:(\$)|\{(\d+)\}|(\d+))")
_VARIABLE = re.compile(r"(?<!\\)\$(?:\{(\w+)\}|(\w+))")


class _Operations(msgspec.Struct):
    add: dict[str, str | float | list[str | float]] = {}
    set: dict[str, str | float | list[str | float]] = {}
    remove: list[str] = []


def reason_against(conf: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a configuration, None if it is valid."""
    headers = conf.get("headers", {})
    is_old_form = isinstance(headers, dict) and not any(isinstance(headers.get(name), dict | list) for name in ("add", "set", "remove"))
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
    match: re.Match[str] | None = None
    if conf.get("use_real_request_uri_unsafe"):
        context.upstream_uri, match = _with_real_uri(context, conf)
    else:
        if uri := conf.get("uri"):
            # A `?` from a variable is part of the path; a `?` in the configuration starts the query.
            path, mark, query = resolve(uri, context, question_mark="%3F").partition("?")
        else:
            # The expression is applied to the client's path, even if a plugin has rewritten it already (observed).
            rewritten, match = rewrite_by_regex(conf.get("regex_uri", ()), context.uri)
            is_query = match is not None and "?" not in context.uri  # else it is an escaped one of the client
            path, mark, query = rewritten.partition("?") if is_query else (rewritten, "", "")
        context.upstream_uri = uris.escape_path(path) + mark + query
        if context.args:
            context.upstream_uri += ("&" if mark else "?") + context.args
    context.method = conf.get("method", context.method)
    _apply_headers(context, conf.get("headers", {}), match)


def _with_real_uri(context: RequestContext, conf: Mapping[str, Any]) -> tuple[str, re.Match[str] | None]:
    """Return the target of `use_real_request_uri_unsafe`, which nothing escapes."""
    target = uris.split_authority(context.target)[1]
    if "uri" not in conf:
        return rewrite_by_regex(conf.get("regex_uri", ()), target)
    uri = resolve(conf["uri"], context, question_mark="%3F")
    _, mark, query = target.partition("?")
    return uri + (("&" if "?" in uri else "?") + query if mark else ""), None


def rewrite_by_regex(pairs: Sequence[str], path: str) -> tuple[str, re.Match[str] | None]:
    """Return the path after the first expression that matches, with `$1` and so on replaced, and the match, None if there is none."""
    for pattern, template in zip(pairs[::2], pairs[1::2], strict=False):
        if match := re.search(pattern, path):
            found = match

            def group(reference: re.Match[str], found: re.Match[str] = found) -> str:
                return "$" if reference[1] else _group(found, reference[2] or reference[3])

            return path[: match.start()] + _REFERENCE.sub(group, template) + path[match.end() :], match
    return path, None


def _group(match: re.Match[str] | None, number: str) -> str:
    """Return what a group of an expression matched; "" if there is no such group."""
    return "" if match is None or int(number) > match.re.groups else match[int(number)] or ""


def _apply_headers(context: RequestContext, headers: Mapping[str, Any], match: re.Match[str] | None) -> None:
    def values(value: Any) -> list[str]:
        listed = [str(each) for each in value] if isinstance(value, list) else [str(value)]
        return [resolve(_CAPTURE.sub(lambda found: _group(match, found[1] or found[2]), each), context) for each in listed]

    is_new = any(isinstance(headers.get(operation), dict | list) for operation in ("add", "set", "remove"))
    operations = headers if is_new else {"set": headers}
    for name, value in operations.get("add", {}).items():
        for each in values(value):
            context.headers.add(name, escape_value(each))
    for name, value in operations.get("set", {}).items():
        first, *more = values(value)
        replace(context.headers, name, first)
        for each in more:
            context.headers.add(name, escape_value(each))
    for name in operations.get("remove", ()):
        replace(context.headers, name, None)


def resolve(template: str, context: RequestContext, question_mark: str = "?") -> str:
    """Return a template with its variables, `$name` or `${name}`, replaced."""

    def value_of(match: re.Match[str]) -> str:
        return (variables.look_up(context, match[1] or match[2]) or "").replace("?", question_mark)

    return _VARIABLE.sub(value_of, template)


def has_value(template: str, context: RequestContext) -> bool:
    """Return whether at least one variable of a template has a value."""
    return any(variables.look_up(context, match[1] or match[2]) is not None for match in _VARIABLE.finditer(template))
