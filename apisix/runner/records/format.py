# SPDX-License-Identifier: Apache-2.0
"""
The format of records, version 1: JSON lines. `docs/reference/records.md` has its JSON Schema.

A line is a `CallRecord`, or the `ConfigurationRecord` of a route, which comes before the first call that refers to it. Durations and
offsets are in seconds. An offset counts from the beginning of the call. Bytes that are not UTF-8 are written as `\\xNN`. Fields that have
their default value are left out. Readers must ignore fields that they do not know. A change that they could not ignore gets a new version.
"""

import hashlib
from base64 import b64decode, b64encode
from typing import Any, Final, Literal

import msgspec

VERSION: Final = 1

Pairs = list[tuple[str, str]]
"""Names and values, in order. A name can occur several times."""


Args = list[tuple[str, str | None]]
"""Names and values of a query, in order. The value is None if there is none (`?flag`), and "" if it is empty (`?flag=`)."""


class Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A body, or its beginning if it is longer than the limit of the recorder.

    Attributes:
        size: the length of the whole body, in bytes.
        sha256: the digest of the whole body, in hexadecimal. It belongs to the body without secrets if that differs.
        text: the content if it is UTF-8.
        base64: the content if it is not.
        truncated: True if the content is only the beginning.
    """

    size: int
    sha256: str
    text: str | None = None
    base64: str | None = None
    truncated: bool = False

    @classmethod
    def of(cls, data: bytes, limit: int) -> "Body":
        """Return the record of a body. Args: limit: how many bytes of it are kept."""
        kept = data[:limit]
        is_truncated = len(data) > limit
        digest = hashlib.sha256(data).hexdigest()
        try:
            # The end of a truncated text may be a part of a character.
            text = kept.decode("utf-8") if not is_truncated else _decoded_start(kept)
        except UnicodeDecodeError:
            return cls(len(data), digest, None, b64encode(kept).decode(), is_truncated)
        return cls(len(data), digest, text, None, is_truncated)

    def content(self) -> bytes:
        """Return what was kept of the body."""
        return b64decode(self.base64) if self.base64 is not None else (self.text or "").encode()


class ChainEntry(msgspec.Struct, frozen=True):
    """A plugin of a route configuration: its name, and its configuration as the gateway sends it, without secrets."""

    name: str
    value: str


class ConfigurationRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type", tag="configuration"):
    """
    The plugins of a route, in the order in which they run.

    Attributes:
        digest: the name by which calls refer to this configuration.
        route_key: the key that the gateway sends, `conf_type#conf_id#plugin-name#conf_version`; None from APISIX before 2.9.
    """

    version: int = VERSION
    digest: str
    route_key: str | None = None
    plugins: list[ChainEntry]


class ReceivedRequest(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    A request as the runner received it. `body` is None if no plugin has read it.

    Attributes:
        args: the decoded arguments. The value is null for `?flag`, and "" for `?flag=`. The gateway sends them differently, although both
            are "" for plugins.
    """

    method: str
    path: str
    args: Args = []
    headers: Pairs = []
    remote_addr: str = ""
    body: Body | None = None


class ReceivedResponse(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A response as the runner received it. `body` is None if no plugin has read it."""

    status: int
    headers: Pairs = []
    body: Body | None = None


class InfoRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    An info request, and the reply of the gateway to it.

    Attributes:
        kind: what was requested.
        name: the name of the variable.
        plugin: the plugin that requested it; None if the runner did.
        value: the value of the variable; None if it is not set.
        body: the body; None if there is none.
    """

    kind: Literal["variable", "request_body", "response_body"]
    began_s: float
    duration_s: float
    name: str | None = None
    plugin: str | None = None
    value: str | None = None
    body: Body | None = None


class MetadataRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    The metadata of the client's request, in a call whose plugins have used it. Its content is a JSON object.

    Attributes:
        read: what the call has found; None if the request had no metadata.
        written: what other phases see after the call; None if the call has not changed it, or has failed.
        removed: True if the call has removed it, because the request has no further phase.
    """

    read: Body | None = None
    written: Body | None = None
    removed: bool = False


class Edit(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    One change that a plugin made.

    Attributes:
        kind: what was changed. "response_header" is a header that a request plugin sets on the client's response. "metadata" is a value in
            the metadata of the client's request.
        name: the name of the header, the argument, or the value in the metadata.
        before: the values before, [] if there were none. A path and a status have one value. A value of metadata is JSON; if it is longer
            than the limit of the recorder, it is cut, and ends with `...`.
        after: the values after.
        body_before: the body before, None if it was not known.
        body_after: the body after.
        for_later_plugins_only: True if the gateway ignores the change.
    """

    kind: Literal["header", "argument", "path", "status", "response_header", "body", "metadata"]
    name: str | None = None
    before: list[str] = []
    after: list[str] = []
    body_before: Body | None = None
    body_after: Body | None = None
    for_later_plugins_only: bool = False

    def phrase(self) -> str:
        """Return the change in words, without values of headers and arguments."""
        if self.kind == "body":
            size = f" {self.body_before.size} B" if self.body_before is not None else ""
            return f"body{size} -> {0 if self.body_after is None else self.body_after.size} B"
        if self.kind in ("path", "status"):
            return f"{self.kind} {self.before[0]} -> {self.after[0]}"
        what = "added" if not self.before else "changed" if self.after else "removed"
        only = " for later plugins only" if self.for_later_plugins_only else ""
        return f"{self.kind.replace('_', ' ')} {self.name} {what}{only}"


class LogLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A line that was logged during a call."""

    at_s: float
    level: str
    logger: str
    message: str


class SourceFrame(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    A frame of a traceback, outermost first.

    Attributes:
        source: numbers and texts of the lines around `line`, if the file can be read.
        is_author: True if the code belongs neither to the runner nor to a library.
    """

    file: str
    line: int
    function: str
    source: list[tuple[int, str]] = []
    is_author: bool = False


class ErrorRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An exception. `traceback` is what was raised in the first line, and below it where."""

    kind: str
    message: str
    traceback: str
    frames: list[SourceFrame] = []


Mode = Literal["inline", "suspendable", "coroutine", "thread", "process"]
"""How a hook runs. See the theory of operation in `call/engine.py`."""


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    What one plugin did.

    Attributes:
        runs: how its hook ran.
        began_s: when it began, an offset.
        duration_s: how long it took, including the time it waited.
        edits: what it changed, [] if it failed.
        stopped: the status of the reply with which it ended the chain, None if it did not.
        error: the exception that it raised, None if it raised none.
    """

    plugin: str
    runs: Mode
    began_s: float
    duration_s: float
    edits: list[Edit] = []
    logs: list[LogLine] = []
    stopped: int | None = None
    error: ErrorRecord | None = None


class ReplyRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    The reply that was sent to the gateway. Fields that the reply does not have are left out.

    Attributes:
        kind: "continue" changes nothing, "rewrite" changes the request, "stop" answers the client, "response" changes the response, and
            "error" is an error frame with `code`.
        headers: of a rewrite: the headers to set, and those to delete, with an empty value. Otherwise the headers of the response.
        response_headers: of a rewrite: the headers to set on the client's response.
    """

    kind: Literal["continue", "rewrite", "stop", "response", "error"]
    status: int | None = None
    path: str | None = None
    args: Pairs = []
    headers: Pairs = []
    response_headers: Pairs = []
    body: Body | None = None
    code: str | None = None


Outcome = Literal["continue", "rewrite", "stop", "refused", "cancelled"]
"""`refused`: a plugin failed, or its configuration is not valid. `cancelled`: the gateway hung up, so there is no reply."""


class CallRecord(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True, tag_field="type", tag="call"):
    """
    One call.

    Attributes:
        id: a unique name, 32 hexadecimal digits.
        call_id: the number that the gateway gave the call.
        request_id: the gateway's `request_id`; None if no plugin has requested it.
        time: when the call began, UTC in ISO 8601.
        duration_s: the time from its beginning to its reply.
        worker: the process that ran the call.
        route_key: the key that the gateway sends, None from APISIX before 2.9.
        phase: the phase, None if it is not known.
        configuration: the digest of the `ConfigurationRecord`.
        plugins: the names of the plugins of the chain. If one ends the chain or fails, `steps` has fewer.
        request: the request, in a request phase.
        response: the response, in the response phase.
        info: the info requests, in the order of their replies.
        metadata: the metadata of the client's request; None if no plugin has used it.
        steps: what each plugin did, in order.
        logs: what was logged between the steps.
        reply: the reply to the gateway, None if it has hung up.
        outcome: what became of the call.
        error: the error because of which the call was refused, unless a step has it.
    """

    version: int = VERSION
    id: str
    call_id: int
    request_id: str | None = None
    time: str
    duration_s: float
    worker: int = 0
    route_key: str | None = None
    phase: str | None = None
    configuration: str
    plugins: list[str]
    request: ReceivedRequest | None = None
    response: ReceivedResponse | None = None
    info: list[InfoRecord] = []
    metadata: MetadataRecord | None = None
    steps: list[StepRecord] = []
    logs: list[LogLine] = []
    reply: ReplyRecord | None = None
    outcome: Outcome
    error: ErrorRecord | None = None

    @property
    def failed(self) -> bool:
        """True if the call was refused, or a plugin failed and the call continued without it."""
        return self.outcome == "refused" or any(step.error is not None for step in self.steps)


Line = ConfigurationRecord | CallRecord

_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Line)


class UnreadableRecord(ValueError):
    """A line is not a record of a version that this code can read. The message says why."""


class IncompleteRecord(UnreadableRecord):
    """A line is not JSON. It was cut off if the process that wrote it was killed, or if it is still being written."""


def encode(line: Line) -> bytes:
    """Return a line as JSON, without a line break."""
    return _encoder.encode(line)


def decode(line: bytes | str) -> Line:
    """
    Return the record that a line contains.

    Raises:
        IncompleteRecord: it is not JSON.
        UnreadableRecord: it lacks a field, or has a newer version.
    """
    try:
        record: Line = _decoder.decode(line)
    except msgspec.ValidationError as error:
        raise UnreadableRecord(f"not a record: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise IncompleteRecord(f"not a record: {error}") from None
    if record.version > VERSION:
        raise UnreadableRecord(f"the record has version {record.version}, and this release reads versions up to {VERSION}")
    return record


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a line."""
    return msgspec.json.schema(Line)


def printable(text: str) -> str:
    """Return a text that JSON can contain: bytes that were not UTF-8 become `\\xNN`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def _decoded_start(data: bytes) -> str:
    """Decode UTF-8 that may end inside of a character."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.end == len(data) and error.start >= len(data) - 3:
            return data[: error.start].decode("utf-8")
        raise
