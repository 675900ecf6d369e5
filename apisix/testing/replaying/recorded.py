# SPDX-License-Identifier: Apache-2.0
"""Make of a record what the test kit sends: the request or response, and the info replies."""

from dataclasses import dataclass

from apisix.runner.http.info_requests import described
from apisix.runner.http.metadata import MetadataStore
from apisix.runner.records.format import CallRecord, InfoRecord, ReceivedRequest
from apisix.runner.wire.messages import Info, ReqBody, RespBody, Var
from apisix.testing.replaying.comparable import NotComparable
from apisix.testing.sending.messages import SentRequest, SentResponse
from apisix.testing.sending.query import written_query


class RecordedReplies:
    """
    The info replies of a record.

    Attributes:
        missing: what was requested and is not in the record, in words.
        incomplete: the bodies that were requested, and of which the record has only the beginning, in words.
    """

    def __init__(self, infos: list[InfoRecord]) -> None:
        self._infos: dict[Info, InfoRecord] = {}
        for record in infos:
            self._infos.setdefault(_info_of(record), record)
        self.missing: list[str] = []
        self.incomplete: list[str] = []

    def reply(self, info: Info) -> bytes | None:
        """Return the reply to an info request, None if the record does not have it."""
        record = self._infos.get(info)
        if record is None:
            self.missing.append(described(info))
            return None
        if record.kind == "variable":
            return None if record.value is None else record.value.encode("utf-8", "surrogateescape")
        if record.body is None:
            return None
        if record.body.truncated:
            self.incomplete.append(described(info))
        return record.body.content() or None

    def variable(self, name: str) -> str | None:
        """Return a variable that was recorded, without counting it as requested."""
        record = self._infos.get(Var(name))
        return None if record is None else record.value


@dataclass(frozen=True, slots=True)
class RecordedRequest(SentRequest):
    """A recorded request, whose info replies come from the record."""

    replies: RecordedReplies

    def info_reply(self, info: Info) -> bytes | None:
        """Return the result of an info request."""
        return self.replies.reply(info)


@dataclass(slots=True)
class RecordedResponse(SentResponse):
    """A recorded response, whose info replies come from the record."""

    replies: RecordedReplies

    def info_reply(self, info: Info) -> bytes | None:
        """Return the result of an info request."""
        return self.replies.reply(info)


def sent_by(record: CallRecord) -> RecordedRequest | RecordedResponse:
    """Return what the gateway sent in a recorded call."""
    replies = RecordedReplies(record.info)
    received = record.request
    if received is None:
        # The record of a response does not have its request. What plugins requested of it is enough.
        received = ReceivedRequest(method=replies.variable("request_method") or "GET", path=replies.variable("uri") or "/")
    query = f"?{written_query(received.args)}" if received.args else ""
    request = RecordedRequest(
        received.method,
        received.path + query,
        received.path,
        tuple(received.args),
        tuple(received.headers),
        b"" if received.body is None else received.body.content(),
        received.remote_addr,
        {} if (rewritten := replies.variable("upstream_uri")) is None else {"upstream_uri": rewritten},
        replies,
    )
    if record.response is None:
        return request
    response = record.response
    body = b"" if response.body is None else response.body.content()
    return RecordedResponse(request, response.status, tuple(response.headers), body, replies)


def keep_metadata(record: CallRecord, store: MetadataStore) -> None:
    """
    Store the metadata that a recorded call has found, so that its replay finds the same.

    Raises: NotComparable: the record has only the beginning of it.
    """
    if record.metadata is None or record.request_id is None:
        return
    read = record.metadata.read
    if read is None:
        store.delete(record.request_id)
    elif read.truncated:
        raise NotComparable("the record has only the beginning of the metadata that the call has found. Record with a larger body limit")
    else:
        store.put(record.request_id, read.content())


def _info_of(record: InfoRecord) -> Info:
    if record.kind == "variable":
        return Var(record.name or "")
    return ReqBody() if record.kind == "request_body" else RespBody()
