# SPDX-License-Identifier: Apache-2.0
"""The result of a call: what the client and the upstream would get."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from multidict import CIMultiDict, MultiDict

from apisix.runner.call.observing.edits import edits_of_step
from apisix.runner.call.observing.making import RecordMaker
from apisix.runner.call.observing.trace import CallTrace
from apisix.runner.http.body.parsing import body_json, body_text
from apisix.runner.records.format import CallRecord
from apisix.testing.sending.messages import SentRequest, SentResponse

MAX_SHOWN_B: Final = 200
"""How many bytes of a body are shown in the message of an assertion."""


class _WithBody:
    """A message with headers and a body."""

    __slots__ = ()

    headers: CIMultiDict[str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as text, decoded with the charset of its content-type. The default is UTF-8."""
        return body_text(self.body, self.headers.get("content-type", ""))

    def json(self) -> Any:
        """Return the parsed JSON of the body."""
        return body_json(self.body, self.headers.get("content-type", ""))


@dataclass(frozen=True, slots=True)
class ClientResponse(_WithBody):
    """
    What the client gets, as far as it depends on plugins. Error pages, a default content-type, `Date` and `Server`, which nginx adds, are
    missing.

    Attributes:
        status: the status.
        headers: the headers, a case-insensitive dict in which a name can have several values.
        body: the body.
    """

    status: int
    headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class UpstreamRequest(_WithBody):
    """
    What the upstream gets.

    Attributes:
        method: the method.
        path: the decoded path, without the query.
        args: the decoded arguments. An argument without a value (`?flag`) is "".
        query: the query as in the request line, in which `flag` and `flag=` differ.
        headers: the headers, a case-insensitive dict in which a name can have several values.
        body: the body.
    """

    method: str
    path: str
    args: MultiDict[str]
    query: str
    headers: CIMultiDict[str]
    body: bytes = b""


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


def effects_of(trace: CallTrace | None) -> tuple[Effect, ...]:
    """Return what each plugin of a call did. If a plugin failed, its edits are left out."""
    effects = []
    found = None if trace is None or trace.metadata is None else trace.metadata.read
    for step in [] if trace is None else trace.steps:
        if step.error is None:
            changes = tuple(edit.phrase() for edit in edits_of_step(step, found))
            effects.append(Effect(step.step.name, step.took_s, changes, step.stopped))
        else:
            effects.append(Effect(step.step.name, step.took_s, error=step.error.traceback))
    return tuple(effects)


class MissingPart(AssertionError):
    """Raised if a test reads a part of a result that this call does not have. The message describes what happened instead."""


@dataclass(frozen=True)  # without slots, because with them Python 3.11 raises an obscure TypeError if a property is assigned
class Result:
    """
    The outcome of a call.

    `reply`, `upstream` and `response` are never None. If a call does not have one of them, reading it raises an AssertionError that
    describes what happened instead.

    Attributes:
        client_headers: headers that plugins set with `request.response_headers`, if the request was not stopped.
        upstream_asked_twice: true if the gateway sends the request to the upstream a second time. It does so in the response phase if
            there is no body (204, 304, HEAD) and no plugin assigns one.
        asked: the info requests, in order: "body", or the name of a variable.
        error: with `raise_errors=False`, the exception if the call failed; otherwise None.
    """

    _reply: ClientResponse | None = None
    _upstream: UpstreamRequest | None = None
    client_headers: CIMultiDict[str] = field(default_factory=CIMultiDict)
    _response: ClientResponse | None = None
    upstream_asked_twice: bool = False
    asked: tuple[str, ...] = ()
    error: BaseException | None = None
    _trace: CallTrace | None = field(default=None, repr=False, compare=False)
    _sent: SentRequest | SentResponse | None = field(default=None, repr=False, compare=False)

    @cached_property
    def effects(self) -> tuple[Effect, ...]:
        """What each plugin did, in order. The last one ended the chain, if any did."""
        return effects_of(self._trace)

    @property
    def record(self) -> CallRecord:
        """
        The record of the call, in the format of `apisix-runner dev --json` and of `--record`. Secrets are replaced by digests.

        Raises: AssertionError if the plugins did not run.
        """
        if self._trace is None:
            __tracebackhide__ = True
            raise self._missing("record")
        return RecordMaker().make(self._trace)

    @property
    def stopped(self) -> bool:
        """True if the request did not reach the upstream: a plugin replied, or the call failed. Always False in the response phase."""
        return self._reply is not None

    @property
    def reply(self) -> ClientResponse:
        """
        The client's response, if the request was stopped.

        Raises: AssertionError: the request was not stopped, or this is the response phase.
        """
        if self._reply is None:
            __tracebackhide__ = True
            raise self._missing("reply")
        return self._reply

    @property
    def upstream(self) -> UpstreamRequest:
        """
        The request that the upstream gets, if it was not stopped.

        Raises: AssertionError: the request was stopped, or this is the response phase.
        """
        if self._upstream is None:
            __tracebackhide__ = True
            raise self._missing("upstream")
        return self._upstream

    @property
    def response(self) -> ClientResponse:
        """
        The client's response, in the response phase.

        Raises: AssertionError: this is a request phase.
        """
        if self._response is None:
            __tracebackhide__ = True
            raise self._missing("response")
        return self._response

    def _missing(self, name: str) -> MissingPart:
        lines = [f"there is no result.{name}: {self._what_happened()}"]
        lines += [f"  {effect.plugin}: {_summary(effect)}" for effect in self.effects]
        if self._response is None and name != "response":
            lines.append("(result.stopped is true if the request was stopped)")
        return MissingPart("\n".join(lines))

    def _what_happened(self) -> str:
        if self._response is not None:
            return f"the call was a response, so use result.response; the client gets {_described(self._response)}"
        if self._reply is not None:
            reason = "" if self.error is None else f", because the call failed with {type(self.error).__name__}: {self.error}"
            return f"the request was stopped, and did not reach the upstream; the client gets {_described(self._reply)}{reason}"
        if self._upstream is None:
            return "this result is empty"
        query = f"?{self._upstream.query}" if self._upstream.query else ""
        headers = ", ".join(f"{name}: {value}" for name, value in self._upstream.headers.items())
        sent = f"{self._upstream.method} {self._upstream.path}{query}, the headers {headers}{_body_in_words(self._upstream.body)}"
        return f"the request was not stopped, and the upstream got {sent}"


def _described(response: ClientResponse) -> str:
    return f"{response.status}{_body_in_words(response.body)}"


def _body_in_words(body: bytes) -> str:
    if len(body) > MAX_SHOWN_B:
        return f" and a body of {len(body)} bytes that begins with {body[:MAX_SHOWN_B]!r}"
    return f" and the body {body!r}" if body else " and no body"


def _summary(effect: Effect) -> str:
    """Return what a plugin did, as one line."""
    if effect.error is not None:
        return f"failed: {effect.error.splitlines()[0]}"
    parts = [*effect.changes, *([] if effect.stopped is None else [f"stopped the request with {effect.stopped}"])]
    return ", ".join(parts) or "changed nothing"
