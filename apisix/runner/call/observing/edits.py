# SPDX-License-Identifier: Apache-2.0
"""The edits of one plugin: the differences between two states of a request or response, as the gateway applies them."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Literal

from apisix.runner.call.observing.trace import StepTrace
from apisix.runner.http.header_rules import REQUEST_FRAMING
from apisix.runner.http.multidict_view import MultidictView
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response
from apisix.runner.records.format import Body, Edit, printable
from apisix.runner.records.redaction import Redactor

Kind = Literal["header", "argument", "response_header"]
BodyRecorder = Callable[[bytes, str], Body]
"""Returns the record of a body. The second argument is its content-type."""

_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def edits_of_step(
    step: StepTrace,
    found: bytes | None,
    redactor: Redactor | None = None,
    record_body: BodyRecorder | None = None,
    limit: int | None = None,
) -> Iterator[Edit]:
    """
    Yield what one plugin has changed, also in the metadata of the client's request.

    Args:
        found: the metadata that the call has found, as JSON; None if there was none.
        redactor, record_body: as in `edits_of`.
        limit: how many characters of each value of metadata are kept; None for all.
    """
    yield from edits_of(step.before, step.after, redactor, record_body)
    if step.metadata_after is not None:
        before = found if step.metadata_before is None else step.metadata_before
        yield from _metadata_edits(before or b"{}", step.metadata_after, Redactor(enabled=False) if redactor is None else redactor, limit)


def _metadata_edits(before: bytes, after: bytes, redactor: Redactor, limit: int | None) -> Iterator[Edit]:
    if before == after:
        return
    old, new = _metadata_values(before), _metadata_values(after)

    def shown(values: dict[str, object], name: str) -> list[str]:
        if name not in values:
            return []
        text = json.dumps(redactor.field(name, values[name]), ensure_ascii=False, separators=(",", ":"))
        return [text if limit is None or len(text) <= limit else f"{text[:limit]}..."]

    for name in dict.fromkeys([*old, *new]):
        if name not in old or name not in new or old[name] != new[name]:
            yield Edit(kind="metadata", name=printable(name), before=shown(old, name), after=shown(new, name))


def _metadata_values(data: bytes) -> dict[str, Any]:
    """Return metadata to show. Values of headers that were not UTF-8 contain lone surrogates, which no record can contain."""
    values = json.loads(data)
    if b"\\ud" in data:
        values = json.loads(_LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", json.dumps(values, ensure_ascii=False)))
    return dict(values)


def edits_of(
    before: Request | Response, after: Request | Response, redactor: Redactor | None = None, record_body: BodyRecorder | None = None
) -> Iterator[Edit]:
    """
    Yield the differences between two states of a request or response.

    Args:
        before, after: copies from before and after a plugin ran.
        redactor: removes secrets; None if there is nothing to remove, because the values are not shown.
        record_body: records bodies; None to record no content.
    """
    redact = Redactor(enabled=False) if redactor is None else redactor
    record = _size_only if record_body is None else record_body
    if isinstance(before, Request) and isinstance(after, Request):
        yield from _request_header_edits(before, after, redact)
        if before.path != after.path:
            paths = [printable(redact.target(path)) for path in (before.path, after.path)]
            yield Edit(kind="path", before=paths[:1], after=paths[1:])
        yield from _edits("argument", *_edited(before.args, after.args, str), redact)
        yield from _edits("response_header", *_edited(before.response_headers, after.response_headers, str.lower), redact)
    elif isinstance(before, Response) and isinstance(after, Response):
        yield from _edits("header", *_edited(before.headers, after.headers, str.lower), redact)
        if before.status != after.status:
            yield Edit(kind="status", before=[str(before.status)], after=[str(after.status)])
    if before.assigned_body is not after.assigned_body:
        yield Edit(kind="body", body_before=_body(before, record), body_after=_body(after, record))


def _body(message: Request | Response, record: BodyRecorder) -> Body | None:
    body = message.known_body()
    return None if body is None else record(body, message.headers.get("content-type", ""))


def _size_only(body: bytes, content_type: str) -> Body:
    return Body(len(body), "", truncated=bool(body))


def _edits(
    kind: Kind,
    before: list[tuple[str, str]],
    after: list[tuple[str, str]],
    redactor: Redactor,
    without_effect: frozenset[str] = frozenset(),
) -> Iterator[Edit]:
    """Yield the names whose values differ. Args: without_effect: names whose removal the gateway ignores."""
    if not (before or after):
        return
    old, new = _values(before), _values(after)
    for name, values in new.items():
        if old.get(name) != values:
            yield _edit(kind, name, old.get(name, []), values, redactor, without_effect)
    yield from (_edit(kind, name, values, [], redactor, without_effect) for name, values in old.items() if name not in new)


def _edit(kind: Kind, name: str, before: list[str], after: list[str], redactor: Redactor, without_effect: frozenset[str]) -> Edit:
    def shown(values: list[str]) -> list[str]:
        return [printable(redactor.value(name, value)) for value in values]

    return Edit(
        kind=kind,
        name=printable(name),
        before=shown(before),
        after=shown(after),
        for_later_plugins_only=not after and name in without_effect,
    )


def _request_header_edits(before: Request, after: Request, redactor: Redactor) -> Iterator[Edit]:
    """Yield what the gateway does: an empty value deletes a header, and some headers cannot be deleted."""
    old, new = _edited(before.headers, after.headers, str.lower)
    yield from _edits("header", [pair for pair in old if pair[1]], [pair for pair in new if pair[1]], redactor, _KEPT)


_KEPT = frozenset(name for name, rule in REQUEST_FRAMING.items() if not rule.sends_deletion)


def _values(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return values


def _edited(before: MultidictView, after: MultidictView, fold: Callable[[str], str]) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the pairs whose names may have been edited, before and after. Args: fold: returns a name as names are compared."""
    earlier, later = before.edited_names(), after.edited_names()
    if earlier is None or later is None:
        return [(fold(name), value) for name, value in before.pairs()], [(fold(name), value) for name, value in after.pairs()]
    names = earlier | later
    if not names:
        return [], []
    old = [(key, value) for name, value in before.pairs() if (key := fold(name)) in names]
    new = [(key, value) for name, value in after.pairs() if (key := fold(name)) in names]
    return old, new
