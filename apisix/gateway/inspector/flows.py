# SPDX-License-Identifier: Apache-2.0
"""The requests that the inspector shows: the last ones, without secrets."""

import secrets
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Final, Literal, NamedTuple

import msgspec

from apisix.gateway.report import CAPTURED_BYTES, CapturedMessage, PhaseReport, RequestReport, UpstreamReport
from apisix.runner.records.format import Body, CallRecord, Pairs, encode, printable
from apisix.runner.records.redaction import DIGEST, Redactor, digest

MAX_FLOWS: Final = 1000
"""How many requests are kept. The oldest are removed."""

MAX_SECRETS: Final = 1000
"""How many secrets of requests are remembered, to replace them in log lines."""

Outcome = Literal["passed", "changed", "stopped", "failed", "error"]
"""
`failed`: a plugin failed, or its configuration is refused. `error`: the gateway or the upstream answered with an error. `stopped`: a plugin
replied to the client. `changed`: a plugin changed the request or the response.
"""


class Message(msgspec.Struct, frozen=True, omit_defaults=True):
    """The headers and the body of a request or response."""

    headers: Pairs
    body: Body | None = None


class UpstreamFlow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A request to an upstream, and its response. Times as in `UpstreamReport`."""

    node: str
    method: str
    target: str
    began_s: float
    duration_s: float
    request: Message
    status: int | None = None
    response: Message | None = None
    error: str | None = None


class PhaseFlow(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    One call to the runner.

    Attributes:
        changes: what the gateway applied, in words.
        record: the record of the runner; None if it made none, for example because it was started by someone else.
    """

    phase: str
    plugins: list[str]
    began_s: float
    duration_s: float
    changes: list[str] = []
    error: str | None = None
    refusal: str | None = None
    record: CallRecord | None = None


class Summary(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """
    A request, as the list shows it.

    Attributes:
        time: when it arrived, UTC in ISO 8601.
        route: the id of the route, None if there was none.
        plugins: the names of the plugins that ran, in order.
    """

    id: str
    time: str
    method: str
    target: str
    status: int
    duration_s: float
    outcome: Outcome
    route: str | None = None
    plugins: list[str] = []
    error: str | None = None


class Flow(Summary, frozen=True, omit_defaults=True, kw_only=True):
    """A request with everything about it. Offsets count from its arrival, in seconds."""

    protocol: str
    remote_addr: str
    request: Message
    response: Message
    phases: list[PhaseFlow] = []
    upstreams: list[UpstreamFlow] = []
    upstream: str | None = None
    asked_twice: bool = False


def flow_of(report: RequestReport, id: str) -> tuple[Flow, dict[str, str]]:
    """Return what the page shows of a report, in which secrets are replaced by digests, and the secrets by their digests."""
    redactor = Redactor()
    _learn_from_records(report, redactor)
    flow = _flow(report, id, redactor)
    if redactor.has_learned_since_body():
        flow = _flow(report, id, redactor)
    shown = msgspec.json.decode(redactor.line(msgspec.json.encode(flow)), type=Flow)
    return shown, {digest: secret for secret, digest in redactor.known.items()}


def _flow(report: RequestReport, id: str, redactor: Redactor) -> Flow:
    return Flow(
        id=id,
        time=datetime.fromtimestamp(report.time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        method=printable(report.method),
        target=printable(redactor.target(report.target)),
        status=report.status,
        duration_s=report.duration_s,
        outcome=_outcome(report),
        route=report.route_id,
        plugins=[name for phase in report.phases for name in phase.plugins],
        error=None if report.error is None else printable(report.error),
        protocol=report.protocol,
        remote_addr=report.remote_addr,
        request=_message(report.received, redactor),
        response=_message(report.sent, redactor),
        phases=[_phase(phase) for phase in report.phases],
        upstreams=[_upstream(upstream, redactor) for upstream in report.upstreams],
        upstream=report.upstream,
        asked_twice=report.asked_twice,
    )


def secrets_of(report: RequestReport) -> dict[str, str]:
    """Return the secrets of a client's request, which may not have been answered yet, and their digests."""
    redactor = Redactor()
    redactor.target(report.target)
    _message(report.received, redactor)
    return redactor.known


class Kept(NamedTuple):
    """A request as the page shows it, and the report with its secrets, to send it again."""

    flow: Flow
    report: RequestReport
    secrets: dict[str, str]


class FlowStore:
    """
    The last requests, by id.

    Attributes: secrets: the secrets of the last requests, and their digests.
    """

    def __init__(self, capacity: int = MAX_FLOWS) -> None:
        self._capacity = capacity
        self.secrets: OrderedDict[str, str] = OrderedDict()
        self._flows: OrderedDict[str, Kept] = OrderedDict()

    def add(self, report: RequestReport) -> Flow:
        """Keep a request, and return it as the page shows it."""
        id = secrets.token_hex(8)
        flow, secrets_found = flow_of(report, id)
        self._flows[id] = Kept(flow, report, secrets_found)
        self.learn({secret: digest for digest, secret in secrets_found.items()})
        if len(self._flows) > self._capacity:
            self._flows.popitem(last=False)
        return flow

    def learn(self, known: Mapping[str, str]) -> None:
        """Add secrets and their digests. The oldest are forgotten."""
        for secret, found in known.items():
            self.secrets[secret] = found
            self.secrets.move_to_end(secret)
        while len(self.secrets) > MAX_SECRETS:
            self.secrets.popitem(last=False)

    def id_of(self, report: RequestReport) -> str | None:
        """Return the id of a request, None if it is not kept any more."""
        return next((id for id, kept in reversed(self._flows.items()) if kept.report is report), None)

    def get(self, id: str) -> Kept | None:
        """Return a request, None if it is not kept any more."""
        return self._flows.get(id)

    def __iter__(self) -> Iterator[Flow]:
        return (kept.flow for kept in self._flows.values())

    def __len__(self) -> int:
        return len(self._flows)

    def clear(self) -> None:
        """Remove all requests."""
        self._flows.clear()


def summary_of(flow: Flow) -> Summary:
    """Return a request as the list shows it."""
    return Summary(**{name: getattr(flow, name) for name in Summary.__struct_fields__})


def _learn_from_records(report: RequestReport, redactor: Redactor) -> None:
    """
    Find secrets of plugins' configurations in headers.

    The runner decides which values of a configuration are secret. Where one was in a call, its digest is in the record.
    """
    digests = {found for phase in report.phases if phase.record for found in DIGEST.findall(encode(phase.record).decode())}
    messages = [report.received, report.sent, *(part for upstream in report.upstreams for part in (upstream.request, upstream.response))]
    for _, value in (header for message in messages for header in message.headers) if digests else ():
        for part in (value, *value.split()):
            if digest(part) in digests:
                redactor.secret(part)


def _message(captured: CapturedMessage, redactor: Redactor) -> Message:
    content_type = next((value for name, value in captured.headers if name.lower() == "content-type"), "")
    headers = [(printable(str(name)), printable(redactor.value(name, value))) for name, value in captured.headers]
    if not captured.size:
        return Message(headers)
    data = captured.body
    body = Body.of(redactor.body(data, content_type), 2 * CAPTURED_BYTES)  # digests can be longer than what they replace
    if captured.size > len(data):
        body = msgspec.structs.replace(body, size=captured.size, truncated=True)
    return Message(headers, body)


def _phase(phase: PhaseReport) -> PhaseFlow:
    return PhaseFlow(
        phase=phase.phase,
        plugins=list(phase.plugins),
        began_s=phase.began_s,
        duration_s=phase.duration_s,
        changes=[printable(change) for change in phase.changes],
        error=None if phase.error is None else printable(phase.error),
        refusal=phase.refusal,
        record=phase.record,
    )


def _upstream(upstream: UpstreamReport, redactor: Redactor) -> UpstreamFlow:
    return UpstreamFlow(
        node=upstream.node,
        method=upstream.method,
        target=printable(redactor.target(upstream.target)),
        began_s=upstream.began_s,
        duration_s=upstream.duration_s,
        request=_message(upstream.request, redactor),
        status=upstream.status,
        response=None if upstream.status is None else _message(upstream.response, redactor),
        error=None if upstream.error is None else printable(upstream.error),
    )


def _outcome(report: RequestReport) -> Outcome:
    records = [phase.record for phase in report.phases if phase.record is not None]
    if any(phase.error is not None or phase.refusal is not None for phase in report.phases) or any(record.failed for record in records):
        return "failed"
    if any(record.outcome == "stop" for record in records):
        return "stopped"
    if report.error is not None or (report.status >= 400 and report.route_id is None):
        return "error"
    return "changed" if any(phase.changes for phase in report.phases) else "passed"
