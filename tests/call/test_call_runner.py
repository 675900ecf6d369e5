# SPDX-License-Identifier: Apache-2.0
"""Each call is answered, also if its reply cannot be sent. The rest is tested through a real process, in tests/integration."""

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
    """A sink that refuses the first replies, each for its own reason."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        """Refuse the first messages, and take the others."""
        self.sent.append(message)
        if self.errors:
            raise self.errors.pop(0)

    def send_all(self, messages: Sequence[Any]) -> None:
        """Take info requests."""
        self.sent.extend(messages)

    def give_up(self, reason: str) -> None:
        """Take note that the connection ends."""
        self.sent.append(reason)

    def broken(self, error: RemoteProtocolError) -> None:
        """Take note that we broke the protocol."""
        self.sent.append(error)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """What the calls of a worker without configurations share."""
    loop = asyncio.new_event_loop()
    registry = Registry.load(builtins=False, entry_points=False)
    threads = PluginThreads(1)
    chains = ChainCache(registry, Nothing(), threads, capacity=1, renew_s=1, setup_timeout_s=1, on_error="refuse", spawn=loop.create_task)
    yield Runtime(loop, chains, threads, plugin_timeout_s=1, max_in_flight=1, on_error="refuse", max_decompressed_bytes=1)
    loop.close()


@pytest.mark.parametrize("error", [LocalProtocolError("this can't be expressed"), TypeError("no str"), MemoryError(), SystemExit(1)])
def test_reply_that_cannot_be_expressed(runtime: Runtime, error: BaseException) -> None:
    """A reply that can't be sent, for whatever reason, is replaced by SERVICE_UNAVAILABLE: the gateway must not wait for a minute."""
    sink = Strict(error)
    CallRunner(runtime, sink).start(HTTPReqCallReq(id=1, conf_token=5))
    assert sink.sent == [ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND), ErrResp(ErrCode.SERVICE_UNAVAILABLE)]


def test_call_that_cannot_be_answered(runtime: Runtime) -> None:
    """If even the refusal can't be sent, the connection ends."""
    sink = Strict(MemoryError(), MemoryError())
    CallRunner(runtime, sink).start(HTTPReqCallReq(id=1, conf_token=5))
    assert sink.sent[2:] == ["a call could not be answered"]
