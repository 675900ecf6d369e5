# SPDX-License-Identifier: Apache-2.0
"""Each call is answered, also where its reply can't be sent. The rest is tested through a real process, in tests/integration."""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from apisix.runner.call.chains import Chains
from apisix.runner.call.conversation import Conversation
from apisix.runner.call.peer import Peer
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import ThreadPool
from apisix.runner.errors import ErrCode, LocalProtocolError, RemoteProtocolError
from apisix.runner.plugin.registry import Registry
from apisix.runner.wire.messages import ErrResp, HTTPReqCallReq


class Nothing:
    """A store that knows no token."""

    def get(self, token: int) -> None:
        """Know nothing."""


class Strict(Peer):
    """A peer that can't be sent the first reply."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        """Refuse the first message, and take the others."""
        self.sent.append(message)
        if len(self.sent) == 1:
            raise LocalProtocolError("this can't be expressed")

    def send_all(self, messages: Sequence[Any]) -> None:
        """Take questions."""
        self.sent.extend(messages)

    def broken(self, error: RemoteProtocolError) -> None:
        """Take note that we broke the protocol."""
        self.sent.append(error)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """What the calls of a worker without configurations share."""
    loop = asyncio.new_event_loop()
    registry = Registry.load(builtins=False, entry_points=False)
    chains = Chains(registry, Nothing(), capacity=1, renew_s=1, setup_timeout_s=1, on_error="refuse", spawn=loop.create_task)
    yield Runtime(loop, chains, ThreadPool(1), plugin_timeout_s=1, max_in_flight=1, on_error="refuse", max_decompressed_bytes=1)
    loop.close()


def test_reply_that_cannot_be_expressed(runtime: Runtime) -> None:
    """A reply that the schema can't express is replaced by SERVICE_UNAVAILABLE: the gateway must not wait for a minute."""
    peer = Strict()
    Conversation(runtime, peer).start(HTTPReqCallReq(id=1, conf_token=5))
    assert [ErrResp(ErrCode.CONF_TOKEN_NOT_FOUND), ErrResp(ErrCode.SERVICE_UNAVAILABLE)] == peer.sent
