# SPDX-License-Identifier: Apache-2.0
"""Describe a runner's reply in words, for the lines that `dev` prints."""

from collections.abc import Iterable

from apisix.gateway.http import uris
from apisix.gateway.phases.context import RequestContext
from apisix.gateway.phases.edits import PROTECTED_RESPONSE_HEADERS
from apisix.gateway.phases.quirks import Quirk, release_text
from apisix.gateway.routing.upstream_client import UpstreamResponse
from apisix.runner.wire.messages import HTTPRespCallResp, Rewrite, Stop

NO_QUIRKS: frozenset[Quirk] = frozenset()


def request_changes(
    context: RequestContext, path: str, args: uris.Args, action: Stop | Rewrite | None, quirks: frozenset[Quirk] = NO_QUIRKS
) -> tuple[str, ...]:
    """Describe the changes that an action makes to a request; () if there are none. Changes that the release ignores are marked."""
    if action is None:
        return ()
    if isinstance(action, Stop):
        return (f"stopped with {action.status or 200}",)
    changes = []
    if action.path is not None and action.path != path:
        changes.append(f"path {path} -> {action.path}")
    changes += _entries("header", {name.lower() for name in context.headers}, ((name.lower(), value) for name, value in action.headers))
    changes += _entries("argument", set(args), action.args)
    ignored = _ignored(Quirk.NO_RESPONSE_HEADERS, quirks)
    changes += [change + ignored for change in _entries("response header", set(), action.resp_headers)]
    if action.body:
        changes.append(f"body {len(context.body)} B -> {len(action.body)} B{_ignored(Quirk.BODY_IGNORED, quirks)}")
    return tuple(changes)


def _ignored(quirk: Quirk, quirks: frozenset[Quirk]) -> str:
    return f" (ignored before {release_text(quirk.fixed_in)})" if quirk in quirks else ""


def response_changes(
    response: UpstreamResponse, body: bytes, reply: HTTPRespCallResp, quirks: frozenset[Quirk] = NO_QUIRKS
) -> tuple[str, ...]:
    """Describe the changes that a reply makes to a response; () if there are none. Changes that the release ignores are marked."""
    changes = []
    if reply.status and reply.status != response.status:
        changes.append(f"status {response.status} -> {reply.status}")
    if len(reply.headers):
        before, after = _by_name(response.headers), _by_name(reply.headers)
        for name, values in after.items():
            ignored = _ignored(Quirk.PROTECTED_IN_RESPONSES, quirks) if name in PROTECTED_RESPONSE_HEADERS else ""
            if name not in before:
                changes.append(f"response header {name} added{ignored}")
            elif before[name] != values:
                changes.append(f"response header {name} changed{ignored}")
        changes += [f"response header {name} removed" for name in before if name not in after]
    if reply.body and reply.body != body:
        changes.append(f"body {len(body)} B -> {len(reply.body)} B")
    return tuple(changes)


def _entries(what: str, present: set[str], entries: Iterable[tuple[str, str | None]]) -> list[str]:
    said: dict[str, str] = {}
    for name, value in entries:
        said[name] = "removed" if value is None else "changed" if name in present else "added"
    return [f"{what} {name} {verb}" for name, verb in said.items()]


def _by_name(entries: Iterable[tuple[str, str | None]]) -> dict[str, list[str | None]]:
    grouped: dict[str, list[str | None]] = {}
    for name, value in entries:
        grouped.setdefault(name.lower(), []).append(value)
    return grouped
