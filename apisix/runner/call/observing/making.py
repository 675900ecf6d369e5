# SPDX-License-Identifier: Apache-2.0
"""Make the record of a call from its trace, without secrets."""

import hashlib
import os
import random
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final, Literal, cast

import msgspec

from apisix.runner.call.observing.edits import edits_of_step
from apisix.runner.call.observing.trace import RUNS, CallTrace, InfoTrace, LogTrace, StepTrace
from apisix.runner.http.info_requests import Info
from apisix.runner.http.metadata import Metadata
from apisix.runner.http.request import printable_address
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.records.format import (
    Args,
    Body,
    CallRecord,
    ChainEntry,
    ConfigurationRecord,
    Edit,
    InfoRecord,
    LogLine,
    MetadataRecord,
    Outcome,
    Pairs,
    ReceivedRequest,
    ReceivedResponse,
    ReplyRecord,
    StepRecord,
    encode,
    printable,
)
from apisix.runner.records.redaction import Redactor
from apisix.runner.wire.call_messages import HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, Rewrite, Stop
from apisix.runner.wire.messages import ErrResp, Pair, ReqBody, RespBody, Var

DEFAULT_BODY_LIMIT: Final = 65_536
MAX_CONFIGURATIONS: Final = 10_000
"""How many configurations are remembered, without their secrets."""


class RecordMaker:
    """
    Makes records.

    Args:
        body_limit: how many bytes of each body are kept.
        redact: further names of headers, arguments and fields whose values are secret.
        redacts: False to keep secrets.
    """

    def __init__(self, body_limit: int = DEFAULT_BODY_LIMIT, redact: Iterable[str] = (), *, redacts: bool = True) -> None:
        self._body_limit = body_limit
        self._names = frozenset(name.lower() for name in redact)
        self._redacts = redacts
        # The secrets of a configuration can occur in its calls, so they are kept with it.
        self._configurations: dict[RouteConfiguration, tuple[ConfigurationRecord, dict[str, str]]] = {}

    def configuration(self, chain: Chain) -> ConfigurationRecord:
        """Return the record of the configuration of a chain."""
        return self._configuration(chain)[0]

    def encode_configuration(self, chain: Chain) -> bytes:
        """Return the record of the configuration of a chain as a line."""
        return encode(self.configuration(chain))

    def encode(self, trace: CallTrace) -> bytes:
        """Return the record of a call as a line. Secrets of the call are replaced wherever they occur."""
        redactor = self.redactor(trace.chain)
        record = self._make(trace, redactor)
        if redactor.has_learned_since_body():
            record = self._make(trace, redactor)
        return redactor.line(encode(record))

    def make(self, trace: CallTrace) -> CallRecord:
        """Return the record of a call."""
        if not self._redacts:
            return self._make(trace, self.redactor(trace.chain))
        return msgspec.json.decode(self.encode(trace), type=CallRecord)

    def redactor(self, chain: Chain, message: HTTPReqCallReq | HTTPRespCallReq | None = None) -> Redactor:
        """Return a redactor for a call, which has the secrets of its configuration, and those of its message if that is given."""
        redactor = Redactor(self._names, enabled=self._redacts)
        redactor.learn(self._configuration(chain)[1])
        if message is not None:
            for name, value in (*message.headers, *(message.args if isinstance(message, HTTPReqCallReq) else ())):
                redactor.value(name, value or "")
            if isinstance(message, HTTPReqCallReq):
                redactor.target(message.path)
        return redactor

    def _configuration(self, chain: Chain) -> tuple[ConfigurationRecord, dict[str, str]]:
        configuration = chain.configuration
        found = self._configurations.get(configuration)
        if found is None:
            if len(self._configurations) >= MAX_CONFIGURATIONS:
                self._configurations.clear()
            redactor = Redactor(self._names, enabled=self._redacts)
            schemas = {step.name: step.plugin_type.config_schema() for step in chain.steps}
            plugins = [
                ChainEntry(printable(name), printable(_configuration(redactor, value, schemas.get(name))))
                for name, value in configuration.entries
            ]
            key = None if configuration.key is None else printable(configuration.key)
            digest = hashlib.sha256(msgspec.json.encode([key, plugins])).hexdigest()
            found = ConfigurationRecord(digest=digest[:32], route_key=key, plugins=plugins), redactor.known
            self._configurations[configuration] = found
        return found

    def _make(self, trace: CallTrace, redactor: Redactor) -> CallRecord:
        message = trace.message
        configuration = self.configuration(trace.chain)
        phase = trace.chain.phase or ("ext-plugin-post-resp" if isinstance(message, HTTPRespCallReq) else None)
        names = {step.step.name for step in trace.steps}
        # What is known to be secret must be found before the rest is encoded: `Redactor.line` replaces it everywhere.
        request = self._request(trace, redactor) if isinstance(message, HTTPReqCallReq) else None
        response = self._response(trace, redactor) if isinstance(message, HTTPRespCallReq) else None
        return CallRecord(
            id=f"{random.getrandbits(128):032x}",
            call_id=trace.call_id,
            request_id=_request_id(trace),
            time=datetime.fromtimestamp(trace.time_s, UTC).isoformat(timespec="microseconds")[: -len("+00:00")] + "Z",
            duration_s=_rounded(trace.ended_s - trace.began_s),
            worker=os.getpid(),
            route_key=configuration.route_key,
            phase=None if phase is None else str(phase),
            configuration=configuration.digest,
            plugins=[entry.name for entry in configuration.plugins],
            request=request,
            response=response,
            info=[self._info(trace, info, redactor) for info in trace.info],
            metadata=None if trace.metadata is None else self._metadata(trace.metadata, redactor),
            steps=[self._step(trace, step, redactor) for step in trace.steps],
            logs=[_log_line(trace, line) for line in trace.logs if line.plugin not in names],
            reply=self._reply(trace, redactor),
            outcome=call_outcome(trace),
            error=trace.error,
        )

    def _request(self, trace: CallTrace, redactor: Redactor) -> ReceivedRequest:
        message = cast("HTTPReqCallReq", trace.message)
        headers = message.headers
        return ReceivedRequest(
            method=message.method,
            path=printable(redactor.target(message.path)),
            args=_args(message.args, redactor),
            headers=_pairs(headers, redactor),
            remote_addr=printable_address(message.src_ip),
            body=self._received_body(trace, ReqBody, headers, redactor),
        )

    def _response(self, trace: CallTrace, redactor: Redactor) -> ReceivedResponse:
        message = cast("HTTPRespCallReq", trace.message)
        headers = message.headers
        return ReceivedResponse(
            status=message.status,
            headers=_pairs(headers, redactor),
            body=self._received_body(trace, RespBody, headers, redactor),
        )

    def _received_body(self, trace: CallTrace, kind: type[ReqBody | RespBody], headers: Iterable[Pair], redactor: Redactor) -> Body | None:
        if not trace.info:
            return None
        found = next((info for info in trace.info if isinstance(info.info, kind)), None)
        return None if found is None else self._body(found.reply or b"", _content_type(headers), redactor)

    def _body(self, data: bytes, content_type: str, redactor: Redactor) -> Body:
        return Body.of(redactor.body(data, content_type), self._body_limit)

    def _info(self, trace: CallTrace, info: InfoTrace, redactor: Redactor) -> InfoRecord:
        kind, name = _kind_of(info.info)
        value = body = None
        if info.reply is not None and kind == "variable":
            value = printable(redactor.value(name or "", info.reply.decode("utf-8", "surrogateescape")))
        elif info.reply is not None:
            body = self._body(info.reply, _content_type(cast("HTTPReqCallReq | HTTPRespCallReq", trace.message).headers), redactor)
        return InfoRecord(
            kind=kind,
            name=name,
            began_s=_rounded(info.began_s - trace.began_s),
            duration_s=_rounded(info.ended_s - info.began_s),
            plugin=info.plugin,
            value=value,
            body=body,
        )

    def _metadata(self, metadata: Metadata, redactor: Redactor) -> MetadataRecord:
        read, written = (
            None if data is None else self._body(data, "application/json", redactor) for data in (metadata.read, metadata.written)
        )
        return MetadataRecord(read=read, written=written, removed=metadata.is_removed)

    def _step(self, trace: CallTrace, step: StepTrace, redactor: Redactor) -> StepRecord:
        edits: list[Edit] = []
        if step.error is None:
            found = None if trace.metadata is None else trace.metadata.read
            edits += edits_of_step(
                step, found, redactor, lambda body, content_type: self._body(body, content_type, redactor), self._body_limit
            )
        return StepRecord(
            plugin=step.step.name,
            runs=RUNS[step.step.mode],
            began_s=_rounded(step.began_s - trace.began_s),
            duration_s=_rounded(step.took_s),
            edits=edits,
            logs=[_log_line(trace, line) for line in trace.logs if line.plugin == step.step.name] if trace.logs else [],
            stopped=step.stopped,
            error=step.error,
        )

    def _reply(self, trace: CallTrace, redactor: Redactor) -> ReplyRecord | None:
        reply = trace.reply
        if reply is None:
            return None
        if isinstance(reply, ErrResp):
            return ReplyRecord(kind="error", code=reply.code.name)
        message = reply.action if isinstance(reply, HTTPReqCallResp) else reply
        if message is None:
            return ReplyRecord(kind="continue")
        headers = message.headers
        shown = _pairs(headers, redactor)
        body = self._body(message.body, _content_type(headers), redactor) if message.body else None
        if isinstance(message, Rewrite):
            return ReplyRecord(
                kind="rewrite",
                path=None if message.path is None else printable(redactor.target(message.path)),
                args=_pairs(message.args, redactor),
                headers=shown,
                response_headers=_pairs(message.resp_headers, redactor),
                body=body,
            )
        return ReplyRecord(
            kind="stop" if isinstance(message, Stop) else "response", status=message.status or None, headers=shown, body=body
        )


def _configuration(redactor: Redactor, value: str, schema: dict[str, Any] | None) -> str:
    """Return a configuration without secrets. If the plugin could not be made, it is not known which parts are secret."""
    return redactor.secret(value) if schema is None else redactor.configuration(value, schema)


def call_outcome(trace: CallTrace) -> Outcome:
    """Return the outcome of a call that has ended."""
    reply = trace.reply
    if reply is None:
        return "cancelled"
    if isinstance(reply, ErrResp) or trace.error is not None:
        return "refused"
    last = trace.steps[-1] if trace.steps else None
    if last is not None and last.error is not None and not last.step.passes:
        return "refused"
    if last is not None and last.stopped is not None:
        return "stop"
    if isinstance(reply, HTTPReqCallResp):
        return "continue" if reply.action is None else "rewrite"
    return "rewrite" if reply.status or reply.body or len(reply.headers) else "continue"


def _request_id(trace: CallTrace) -> str | None:
    for info in trace.info:
        if info.info == Var("request_id") and info.reply is not None:
            return printable(info.reply.decode("utf-8", "surrogateescape"))
    return None


def _kind_of(info: Info) -> tuple[Literal["variable", "request_body", "response_body"], str | None]:
    if isinstance(info, Var):
        return "variable", info.name
    return ("request_body" if isinstance(info, ReqBody) else "response_body"), None


def _pairs(pairs: Iterable[Pair], redactor: Redactor) -> Pairs:
    redacted = redactor.pairs(pairs)
    try:
        "".join([text for pair in redacted for text in pair]).encode()  # faster than to look at each one
    except UnicodeEncodeError:
        return [(printable(name), printable(value)) for name, value in redacted]
    return redacted


def _args(pairs: Iterable[Pair], redactor: Redactor) -> Args:
    return [(name, None if value is None else text) for (_, value), (name, text) in zip(pairs, _pairs(pairs, redactor), strict=True)]


def _content_type(headers: Iterable[Pair]) -> str:
    return next((value or "" for name, value in headers if name.lower() == "content-type"), "")


def _log_line(trace: CallTrace, line: LogTrace) -> LogLine:
    return LogLine(
        at_s=_rounded(line.at_s - trace.began_s),
        level=line.level,
        logger=line.logger,
        message=printable(line.message),
    )


def _rounded(seconds: float) -> float:
    """Return a time with a resolution of a microsecond."""
    return round(seconds, 6)
