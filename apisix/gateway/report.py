# SPDX-License-Identifier: Apache-2.0
"""The report of one request, which `show` prints and tools read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from apisix.runner.records.format import CallRecord, StepRecord


@dataclass(frozen=True, slots=True)
class PluginEffect:
    """What one plugin did in one call, in words."""

    plugin: str
    duration_s: float
    changes: tuple[str, ...] = ()
    error: str | None = None


CAPTURED_BYTES: Final = 256 * 1024
"""How many bytes of each body are kept for the inspector."""


@dataclass(slots=True)
class CapturedMessage:
    """
    The headers of a request or response, and the beginning of its body.

    Attributes: size: the length of the whole body so far, in bytes.
    """

    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    size: int = 0

    @property
    def is_truncated(self) -> bool:
        """True if only the beginning of the body was kept."""
        return self.size > len(self.body)

    def add(self, piece: bytes) -> None:
        """Add a piece of the body."""
        self.size += len(piece)
        if len(self.body) < CAPTURED_BYTES:
            self.body += piece[: CAPTURED_BYTES - len(self.body)]


@dataclass(slots=True)
class UpstreamReport:
    """
    One request to an upstream, and its response.

    Attributes:
        began_s: when it was sent, counted from the beginning of the client's request.
        duration_s: the time until the head of the response arrived.
        status: None if there is no response.
    """

    node: str
    method: str
    target: str
    began_s: float
    request: CapturedMessage
    duration_s: float = 0.0
    status: int | None = None
    response: CapturedMessage = field(default_factory=CapturedMessage)
    error: str | None = None


@dataclass(slots=True)
class PhaseReport:
    """
    One call to the runner, as the gateway saw it.

    Attributes:
        began_s: when it began, counted from the beginning of the request.
        effects: what each plugin did, if the runner reports it.
        record: the runner's record of the call, if it reports that.
        key: the key of the configuration in PrepareConf.
        refusal: why the runner refuses each call of this configuration, if it has reported that.
        conf: the plugins' configurations with their secrets, in the order of `plugins`.
        allow_degradation: whether the request continues after an error.
    """

    phase: str
    plugins: tuple[str, ...]
    call_id: int | None = None
    began_s: float = 0.0
    duration_s: float = 0.0
    changes: tuple[str, ...] = ()
    error: str | None = None
    effects: Sequence[PluginEffect] = ()
    record: CallRecord | None = None
    key: str | None = None
    refusal: str | None = None
    conf: tuple[str, ...] = ()
    allow_degradation: bool = False


@dataclass(slots=True)
class RequestReport:
    """
    One request.

    Attributes:
        time_s: when the request arrived, seconds since the epoch.
        asked_twice: whether the request was sent to the upstream a second time, because ext-plugin-post-resp had no body to send.
        received, upstreams, sent: for the inspector: the client's request, what was sent to upstreams, and the response to the client.
    """

    method: str
    target: str
    status: int = 0
    duration_s: float = 0.0
    route_id: str | None = None
    upstream: str | None = None
    phases: list[PhaseReport] = field(default_factory=list)
    error: str | None = None
    asked_twice: bool = False
    time_s: float = 0.0
    protocol: str = "HTTP/1.1"
    remote_addr: str = ""
    received: CapturedMessage = field(default_factory=CapturedMessage)
    upstreams: list[UpstreamReport] = field(default_factory=list)
    sent: CapturedMessage = field(default_factory=CapturedMessage)


def effects_of(record: CallRecord) -> tuple[PluginEffect, ...]:
    """Return what each plugin of a call did, in the order of the chain."""
    return tuple(_effect(step) for step in record.steps)


def _effect(step: StepRecord) -> PluginEffect:
    stopped = () if step.stopped is None else (f"stopped with {step.stopped}",)
    error = None if step.error is None else step.error.traceback
    return PluginEffect(step.plugin, step.duration_s, (*(edit.phrase() for edit in step.edits), *stopped), error)


class RecordSource(Protocol):
    """The source of the records of calls: a runner that reports them."""

    async def take(self, call_id: int) -> CallRecord | None:
        """Return the record of a call; None if there is none."""

    def refusal(self, key: str) -> str | None:
        """Return why all calls of a configuration are refused; None if they are not."""


class NoRecords:
    """A runner that reports nothing."""

    async def take(self, call_id: int) -> CallRecord | None:
        """Return nothing."""
        return None

    def refusal(self, key: str) -> str | None:
        """Return nothing."""
        return None
