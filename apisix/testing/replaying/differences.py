# SPDX-License-Identifier: Apache-2.0
"""
Compare the record of a call with the record of its replay.

The record usually has digests instead of secrets. A replay gets these digests as input, so it computes with them, and they occur in its
record too. A digest that was not an input belongs to a secret that a plugin has made. It is equal to any text. Numbers and times of calls,
log lines, and how a hook ran are not compared.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any, Final

import msgspec

from apisix.runner.records.format import (
    Body,
    CallRecord,
    ConfigurationRecord,
    Edit,
    ErrorRecord,
    Pairs,
    ReplyRecord,
    StepRecord,
)
from apisix.runner.records.redaction import DIGEST, Redactor

MAX_SHOWN: Final = 200
"""How many characters of a value are shown."""
_ADDRESS: Final = re.compile(r"\b0x[0-9a-f]+")


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A difference between a recorded call and its replay. Secrets are replaced by digests. `str()` returns it as a line.

    Attributes:
        what: what differs, such as "outcome", "reply header" or "edit of path".
        name: the name of the header, argument or variable.
        plugin: the plugin whose step differs; None if it is the call or the reply.
        before: what was recorded; None if there was nothing.
        now: what the replay did; None if it did nothing.
    """

    what: str
    name: str | None = None
    plugin: str | None = None
    before: str | None = None
    now: str | None = None

    @property
    def subject(self) -> str:
        """What differs, without the values."""
        what = self.what if self.name is None else f"{self.what} {self.name}"
        return what if self.plugin is None else f"{self.plugin}: {what}"

    def __str__(self) -> str:
        if self.before is None and self.now is None:
            return self.subject
        return f"{self.subject}: {_shown(self.before)} -> {_shown(self.now)}"

    __repr__ = __str__  # pytest shows it if a list of differences is not empty


def differences(
    before: CallRecord, now: CallRecord, configuration: ConfigurationRecord | None = None, missing: Sequence[str] = ()
) -> list[Difference]:
    """
    Return what differs.

    Args:
        before: what was recorded.
        now: the record of the replay, without redaction.
        configuration: the plugins of the route.
        missing: what the replay has requested of the gateway, and the record does not have.
    """
    found = [Difference(f"requests {name}, which was not recorded") for name in missing]
    if found or not _is_same(before, now):
        found += _Comparison(before, configuration).of(before, now)
    return found


def digests_in(part: object) -> set[str]:
    """Return the digests in a part of a record."""
    return set(DIGEST.findall(msgspec.json.encode(part).decode()))


def _is_same(before: CallRecord, now: CallRecord) -> bool:
    """Return True if there is certainly no difference. Most replays take only this path."""
    return (
        before.outcome == now.outcome
        and before.reply == now.reply
        and before.error is now.error
        and len(before.steps) == len(now.steps)
        and all(
            old.plugin == new.plugin and old.edits == new.edits and old.stopped == new.stopped and old.error is new.error
            for old, new in zip(before.steps, now.steps, strict=True)
        )
    )


class _Comparison:
    """Compares values of one call. Args: the record and its configuration, whose digests were inputs."""

    def __init__(self, record: CallRecord, configuration: ConfigurationRecord | None) -> None:
        found = None if record.metadata is None else record.metadata.read
        self._inputs = digests_in([record.request, record.response, record.info, found, configuration])
        self._redactor = Redactor()

    def of(self, before: CallRecord, now: CallRecord) -> list[Difference]:
        """Return what differs in two records."""
        found = [*self._value("outcome", before.outcome, now.outcome)]
        found += self._error(None, before.error, now.error)
        found += self._steps(before.steps, now.steps)
        found += self._reply(before.reply, now.reply)
        return [self._without_secrets(difference) for difference in found]

    def _steps(self, before: list[StepRecord], now: list[StepRecord]) -> Iterator[Difference]:
        old, new = [step.plugin for step in before], [step.plugin for step in now]
        if old != new:
            yield Difference("plugins that ran", None, None, ", ".join(old) or "none", ", ".join(new) or "none")
        for step, replayed in zip(before, now, strict=False):
            if step.plugin != replayed.plugin:
                return
            yield from self._value("status of its reply", step.stopped, replayed.stopped, plugin=step.plugin)
            yield from self._error(step.plugin, step.error, replayed.error)
            if step.error is None and replayed.error is None:  # a failed plugin has no edits
                yield from self._edits(step.plugin, step.edits, replayed.edits)

    def _edits(self, plugin: str, before: list[Edit], now: list[Edit]) -> Iterator[Difference]:
        old, new = ({(edit.kind, edit.name): edit for edit in edits} for edits in (before, now))
        for kind, name in dict.fromkeys([*old, *new]):
            edit, replayed = old.get((kind, name)), new.get((kind, name))
            what = f"edit of {kind.replace('_', ' ')}"
            if kind == "body":
                bodies = [None if each is None else each.body_after for each in (edit, replayed)]
                yield from self._body(what, *bodies, plugin=plugin)
            elif edit is None or replayed is None or not self._same_values(edit.after, replayed.after):
                values = [None if each is None else self._pair(name, each.after) for each in (edit, replayed)]
                yield Difference(what, name, plugin, *values)

    def _reply(self, before: ReplyRecord | None, now: ReplyRecord | None) -> Iterator[Difference]:
        if before is None or now is None:
            if before is not now:
                yield Difference("reply", None, None, *(None if each is None else each.kind for each in (before, now)))
            return
        yield from self._value("kind of the reply", before.kind, now.kind)
        yield from self._value("error code of the reply", before.code, now.code)
        yield from self._value("status of the reply", before.status, now.status)
        yield from self._value("path of the reply", before.path, now.path)
        yield from self._pairs("reply argument", before.args, now.args)
        yield from self._pairs("reply header", before.headers, now.headers)
        yield from self._pairs("reply response header", before.response_headers, now.response_headers)
        yield from self._body("body of the reply", before.body, now.body)

    def _pairs(self, what: str, before: Pairs, now: Pairs) -> Iterator[Difference]:
        old, new = _by_name(before), _by_name(now)
        for name in dict.fromkeys([*old, *new]):
            if not self._same_values(old.get(name, []), new.get(name, [])):
                values = [self._pair(name, each[name]) if name in each else None for each in (old, new)]
                yield Difference(what, name, None, *values)

    def _error(self, plugin: str | None, before: ErrorRecord | None, now: ErrorRecord | None) -> Iterator[Difference]:
        old, new = (None if error is None else f"{error.kind}: {error.message}" for error in (before, now))
        yield from self._value("error", old, new, plugin=plugin)

    def _value(self, what: str, before: object, now: object, *, plugin: str | None = None) -> Iterator[Difference]:
        old, new = (None if value is None else str(value) for value in (before, now))
        if old != new and (old is None or new is None or not self._same_text(old, new)):
            yield Difference(what, None, plugin, old, new)

    def _body(self, what: str, before: Body | None, now: Body | None, *, plugin: str | None = None) -> Iterator[Difference]:
        if before == now or (before is not None and now is not None and self._same_body(before, now)):
            return
        yield Difference(what, None, plugin, *(None if body is None else self._shown_body(body) for body in (before, now)))

    def _same_body(self, before: Body, now: Body) -> bool:
        if before.sha256 == now.sha256:
            return True
        if before.truncated:
            # The digest of the body can differ only because of a secret, which is then in the beginning, or can't be seen.
            text = before.text or ""
            return DIGEST.search(text) is not None and self._same_text(text, (now.text or "")[: len(text)])
        old, new = before.content(), now.content()
        if old == new:
            return True
        try:
            return self._same_json(msgspec.json.decode(old), msgspec.json.decode(new))
        except msgspec.DecodeError:
            return before.text is not None and now.text is not None and self._same_text(before.text, now.text)

    def _same_json(self, before: Any, now: Any) -> bool:
        if isinstance(before, dict) and isinstance(now, dict):
            return before.keys() == now.keys() and all(self._same_json(value, now[name]) for name, value in before.items())
        if isinstance(before, list) and isinstance(now, list):
            return len(before) == len(now) and all(map(self._same_json, before, now))
        if isinstance(before, str):
            return self._same_text(before, str(now))
        return bool(before == now)

    def _same_values(self, before: Sequence[str], now: Sequence[str]) -> bool:
        return len(before) == len(now) and all(map(self._same_text, before, now))

    def _same_text(self, before: str, now: str) -> bool:
        """Return True if two texts are equal, where a digest that was not an input is equal to any text."""
        if before == now:
            return True
        if before[:1] in ("{", "[") and now[:1] == before[:1]:  # a string of JSON is encoded again if something in it is secret
            with suppress(msgspec.DecodeError, UnicodeEncodeError):
                return self._same_json(msgspec.json.decode(before), msgspec.json.decode(now))
        before, now = _ADDRESS.sub("0x", before), _ADDRESS.sub("0x", now)
        pattern, end = "", 0
        for found in DIGEST.finditer(before):
            if found[0] not in self._inputs:
                pattern += re.escape(before[end : found.start()]) + ".+?"
                end = found.end()
        return re.fullmatch(pattern + re.escape(before[end:]), now, re.DOTALL) is not None

    def _pair(self, name: str | None, values: Iterable[str]) -> str:
        return ", ".join(self._redactor.value(name or "", value) for value in values)

    def _shown_body(self, body: Body) -> str:
        if body.text is None:
            return f"{body.size} B, SHA-256 {body.sha256[:16]}"
        return self._redactor.body(body.text.encode(), "").decode()

    def _without_secrets(self, difference: Difference) -> Difference:
        """Replace secrets that were found in headers, arguments and bodies, wherever else they occur."""
        if not self._redactor.known:
            return difference
        return msgspec.json.decode(self._redactor.line(msgspec.json.encode(difference)), type=Difference)


def _by_name(pairs: Pairs) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name.lower(), []).append(value)
    return values


def _shown(value: str | None) -> str:
    if value is None:
        return "nothing"
    shown = ascii(value)[1:-1] if not value.isprintable() else value
    return f"{shown[:MAX_SHOWN]}... ({len(value)} characters)" if len(shown) > MAX_SHOWN else shown
