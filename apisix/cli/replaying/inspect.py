# SPDX-License-Identifier: Apache-2.0
"""Show the calls that differ in the inspector: each is one request with two phases, as recorded and as replayed."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import click

from apisix.gateway.inspector.server import Inspector
from apisix.gateway.report import CapturedMessage, PhaseReport, RequestReport
from apisix.runner.records.format import Body, CallRecord, Pairs
from apisix.testing.replaying.differences import Difference
from apisix.testing.replaying.reading import request_line

_HOST = "127.0.0.1"


class DifferentCall(NamedTuple):
    """A call that differs: its record, the record of its replay, and the differences. None of them has secrets."""

    before: CallRecord
    now: CallRecord
    differences: list[Difference]


async def serve(different: Sequence[DifferentCall], port: int) -> None:
    """
    Serve the inspector until the task is cancelled.

    Args: different: what it shows.
    Raises: OSError: the port is taken.
    """
    inspector = Inspector()
    for call in different:
        inspector.request(report_of(call))
    bound = await inspector.bind(_HOST, port)
    await inspector.serve()
    try:
        click.echo(f"The inspector shows the calls that differ on http://{_HOST}:{bound}. Press Ctrl-C to end.")
        await asyncio.Event().wait()
    finally:
        await inspector.stop()


def report_of(call: DifferentCall) -> RequestReport:
    """Return what the inspector shows of a call: what was recorded, what its replay did, and the differences as an error."""
    before, now, differences = call
    received = before.request or before.response
    reply = now.reply
    method, _, target = request_line(before).partition(" ")
    return RequestReport(
        method=method,
        target=target,
        status=_status(now),
        duration_s=before.duration_s + now.duration_s,
        route_id=before.route_key,
        phases=[_phase("as recorded", before, 0.0), _phase("as replayed", now, before.duration_s)],
        error=f"differs from the record: {'; '.join(map(str, differences))}",
        time_s=datetime.fromisoformat(before.time).timestamp(),
        remote_addr="" if before.request is None else before.request.remote_addr,
        received=CapturedMessage() if received is None else _captured(received.headers, received.body),
        sent=CapturedMessage() if reply is None or reply.kind == "rewrite" else _captured(reply.headers, reply.body),
    )


def _phase(name: str, record: CallRecord, began_s: float) -> PhaseReport:
    return PhaseReport(
        f"{record.phase or 'call'} {name}",
        tuple(record.plugins),
        record.call_id,
        began_s,
        record.duration_s,
        tuple(edit.phrase() for step in record.steps for edit in step.edits),
        record=record,
    )


def _status(record: CallRecord) -> int:
    if record.reply is not None and record.reply.status is not None:
        return record.reply.status
    if record.outcome == "refused":
        return 503
    return 200 if record.response is None else record.response.status


def _captured(headers: Pairs, body: Body | None) -> CapturedMessage:
    content = b"" if body is None else body.content()
    return CapturedMessage(tuple(headers), content, 0 if body is None else body.size)
