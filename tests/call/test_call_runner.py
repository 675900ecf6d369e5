# SPDX-License-Identifier: Apache-2.0
"""Each call gets a reply, even if the first attempt to send one fails. See also tests/integration, which use a real process."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.engine import CallRunner
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.errors import ErrCode, LocalProtocolError, RemoteProtocolError
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq


class Nothing:
    """A store without tokens."""

    def get(self, token: int) -> None:
        """Return None."""


class Strict(ReplySink):
    """A sink whose first `send` calls raise errors."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        """Record the message, and raise the next error, if any."""
        self.sent.append(message)
        if self.errors:
            raise self.errors.pop(0)

    def send_all(self, messages: Sequence[Any]) -> None:
        """Record info requests."""
        self.sent.extend(messages)

    def give_up(self, reason: str) -> None:
        """Record why the connection is closed."""
        self.sent.append(reason)

    def broken(self, error: RemoteProtocolError) -> None:
        """Record the protocol error."""
        self.sent.append(error)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """The runtime of a worker without route configurations."""
    loop = asyncio.new_event_loop()
    registry = Registry.load(builtins=False, entry_points=False)
    threads = PluginThreads(1)
    chains = ChainCache(registry, Nothing(), threads, capacity=1, renew_s=1, setup_timeout_s=1, on_error="refuse", spawn=loop.create_task)
    yield Runtime(loop, chains, threads, plugin_timeout_s=1, max_in_flight=1, on_error="refuse", max_decompressed_bytes=1)
    loop.close()


@pytest.mark.parametrize("error", [LocalProtocolError("this can't be expressed"), TypeError("no str"), MemoryError(), SystemExit(1)])
def test_reply_that_cannot_be_expressed(runtime: Runtime, error: BaseException) -> None:
    """If sending the reply raises any error, SERVICE_UNAVAILABLE is sent instead."""
    sink = Strict(error)
    CallRunner(runtime, sink).start(HTTPReqCallReq(id=1, conf_token=5))
    assert sink.sent == [ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND), ErrResp(ErrCode.SERVICE_UNAVAILABLE)]


def test_call_that_cannot_be_answered(runtime: Runtime) -> None:
    """If SERVICE_UNAVAILABLE can't be sent either, the connection is closed."""
    sink = Strict(MemoryError(), MemoryError())
    CallRunner(runtime, sink).start(HTTPReqCallReq(id=1, conf_token=5))
    assert sink.sent[2:] == ["no reply to a call could be sent"]
