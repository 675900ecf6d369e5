# SPDX-License-Identifier: Apache-2.0
"""Describe what each plugin of a call did, for the development gateway and the test kit."""

from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final

from multidict import MultiMapping

from apisix.runner.http.header_rules import REQUEST_FRAMING
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.logging.tracebacks import describe_error

_OURS: Final = ("apisix.runner.", "apisix.compiled.")


@dataclass(frozen=True, slots=True)
class Effect:
    """
    What one plugin did in a call.

    Attributes:
        plugin: the name of the plugin in the route.
        took_s: how long the plugin took, including the time it waited, in seconds.
        changes: what the plugin changed, one phrase for each change. Values of headers are not included, because they can be secrets.
        stopped: the status of the reply with which the plugin ended the chain; None if it did not.
        error: the exception that the plugin raised, followed by a short traceback; None if it raised none.
    """

    plugin: str
    took_s: float
    changes: tuple[str, ...] = ()
    stopped: int | None = None
    error: str | None = None


def effect_of(
    plugin: str,
    took_s: float,
    before: Request | Response,
    after: Request | Response,
    reply: Reply | None,
    error: BaseException | None,
) -> Effect:
    """Return what a plugin did. `before` is a copy from before it ran. If the plugin failed, its edits are left out."""
    if error is not None:
        return Effect(plugin, took_s, error=describe_error(error))
    return Effect(plugin, took_s, tuple(changes(before, after)), None if reply is None else reply.status)


def changes(before: Request | Response, after: Request | Response) -> Iterable[str]:
    """Yield the differences between two states of a request or response."""
    if isinstance(before, Request) and isinstance(after, Request):
        yield from _request_header_changes(before, after)
        if before.path != after.path:
            yield f"path {before.path} -> {after.path}"
        yield from _entry_changes("argument", before.args.items(), after.args.items())
        yield from _entry_changes("response header", _folded(before.response_headers), _folded(after.response_headers))
    elif isinstance(before, Response) and isinstance(after, Response):
        yield from _entry_changes("header", _folded(before.headers), _folded(after.headers))
        if before.status != after.status:
            yield f"status {before.status} -> {after.status}"
    if before.assigned_body is not after.assigned_body:
        size, assigned = before.body_size(), after.body_size()
        yield f"body -> {assigned} B" if size is None else f"body {size} B -> {assigned} B"


def past_runner(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the runner's own frames at its beginning, so that it begins in the plugin."""
    while trace is not None and trace.tb_next is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    return trace


def _is_ours(frame: FrameType) -> bool:
    """Return True for a frame of the runner, by its module: the file name of a compiled frame is relative."""
    return str(frame.f_globals.get("__name__")).startswith(_OURS)


def _entry_changes(kind: str, before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]]) -> Iterable[str]:
    old, new = _values(before), _values(after)
    for name, values in new.items():
        if name not in old:
            yield f"{kind} {name} added"
        elif old[name] != values:
            yield f"{kind} {name} changed"
    yield from (f"{kind} {name} removed" for name in old if name not in new)


def _request_header_changes(before: Request, after: Request) -> Iterable[str]:
    """Yield what the gateway does: an empty value deletes a header, and some headers cannot be deleted."""
    old = [(name, value) for name, value in _folded(before.headers) if value]
    new = [(name, value) for name, value in _folded(after.headers) if value]
    kept = {name for name, _ in old if name in REQUEST_FRAMING and not REQUEST_FRAMING[name].sends_deletion} - {name for name, _ in new}
    yield from _entry_changes("header", [(name, value) for name, value in old if name not in kept], new)
    yield from (f"header {name} removed for later plugins only" for name in sorted(kept))


def _values(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _folded(headers: MultiMapping[str]) -> Iterable[tuple[str, str]]:
    return ((name.lower(), value) for name, value in headers.items())
