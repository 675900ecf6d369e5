# SPDX-License-Identifier: Apache-2.0
"""The attributes of spans: those of the semantic conventions for HTTP servers, and our own, which begin with `apisix.`."""

from typing import Final

from apisix.runner.call.observing.making import call_outcome
from apisix.runner.call.observing.trace import RUNS, CallTrace, StepTrace
from apisix.runner.http.request import printable_address
from apisix.runner.plugin.chain.chain import Chain
from apisix.runner.records.format import printable
from apisix.runner.records.redaction import Redactor
from apisix.runner.wire.call_messages import CallReq, HTTPReqCallReq, HTTPReqCallResp, HTTPRespCallReq, Stop
from apisix.runner.wire.messages import ErrResp

Attributes = dict[str, str | int | float | bool]

# Source: https://opentelemetry.io/docs/specs/semconv/http/http-spans/ and .../exceptions/exceptions-spans/
REQUEST_METHOD: Final = "http.request.method"
RESPONSE_STATUS: Final = "http.response.status_code"
URL_PATH: Final = "url.path"
CLIENT_ADDRESS: Final = "client.address"
ERROR_TYPE: Final = "error.type"
EXCEPTION: Final = "exception"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"
EXCEPTION_STACKTRACE: Final = "exception.stacktrace"

PHASE: Final = "apisix.phase"
ROUTE_KEY: Final = "apisix.route_key"
CALL_ID: Final = "apisix.call_id"
OUTCOME: Final = "apisix.outcome"
PLUGIN: Final = "apisix.plugin"
RUN_MODE: Final = "apisix.plugin.runs"
INFO_REQUEST: Final = "apisix.info_request"
INFO_NAME: Final = "apisix.info_request.name"
INFO_DURATION: Final = "apisix.info_request.duration_s"


def of_call(message: CallReq, chain: Chain) -> tuple[str, Attributes]:
    """Return the name of a call's span, and the attributes that are known when it starts. A sampler sees them."""
    phase = str(chain.phase or ("ext-plugin-post-resp" if isinstance(message, HTTPRespCallReq) else "ext-plugin"))
    attributes: Attributes = {PHASE: phase, CALL_ID: message.id}
    if chain.key is not None:
        attributes[ROUTE_KEY] = printable(chain.key)
    if not isinstance(message, HTTPReqCallReq):
        return phase, attributes
    attributes[REQUEST_METHOD] = message.method
    attributes[URL_PATH] = printable(_without_secrets(message.path))
    if address := printable_address(message.src_ip):
        attributes[CLIENT_ADDRESS] = address
    return f"{message.method} {phase}", attributes


def of_result(trace: CallTrace) -> Attributes:
    """Return the attributes of a call that are known when it has ended."""
    attributes: Attributes = {OUTCOME: call_outcome(trace)}
    reply = trace.reply
    status = trace.message.status if isinstance(trace.message, HTTPRespCallReq) else 0
    if reply is not None and not isinstance(reply, ErrResp):
        if not isinstance(reply, HTTPReqCallResp):
            status = reply.status or status
        elif isinstance(reply.action, Stop):
            status = reply.action.status or 200
        if status:
            attributes[RESPONSE_STATUS] = status
    return attributes


def of_step(step: StepTrace) -> tuple[str, Attributes]:
    """Return the name and the attributes of a plugin's span."""
    name = printable(step.step.name)
    return f"plugin {name}", {PLUGIN: name, RUN_MODE: RUNS[step.step.mode]}


def _without_secrets(path: str) -> str:
    return Redactor().target(path) if "=" in path or "@" in path or "%" in path else path
