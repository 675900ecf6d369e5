# SPDX-License-Identifier: Apache-2.0
"""The engine in this process, with plugins that a test defines, and with connections that record their messages."""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.deadlines import Deadlines
from apisix.runner.call.engine import CallRunner
from apisix.runner.call.reply_sink import ReplySink
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.errors import RemoteProtocolError
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.wire.messages import ExtraInfoReq, HTTPReqCallReq
from apisix.testing.running.entries import AnyPlugin, OfferingRegistry, Offers

WITHIN_S = 20.0


class Clock(Deadlines):
    """Deadlines that pass when the test calls `expire_all`. Calls then fail only if their timeout is 0 seconds."""

    def add(self, waiting: Any, at_s: float) -> None:
        """Add a call that waits, without a timer."""
        super().add(waiting, inf)

    def expire_all(self) -> None:
        """Let the deadlines of all waiting calls pass. Must be called in a callback of the event loop."""
        for call in self.waiting():
            self.discard(call)
            call.expire()


class FakeConnection(ReplySink):
    """A connection of a gateway. It records what the runner sends."""

    def __init__(self, runtime: Runtime) -> None:
        self.call_runner = CallRunner(runtime, self)
        self.info_requests: list[Any] = []
        self.replies: list[Any] = []

    def call(self, token: int, call_id: int = 1) -> None:
        """Make a call. Must be called in a callback of the event loop, as in the worker."""
        self.call_runner.start(HTTPReqCallReq(call_id, conf_token=token))

    def send(self, message: Any) -> None:
        self.send_all([message])

    def send_all(self, messages: Sequence[Any]) -> None:
        for message in messages:
            (self.info_requests if isinstance(message, ExtraInfoReq) else self.replies).append(message)

    def give_up(self, reason: str) -> None:
        self.replies.append(reason)

    def broken(self, error: RemoteProtocolError) -> None:
        self.replies.append(error)


class Engine:
    """
    The engine of a worker. Token N belongs to the N-th chain.

    Args:
        chains: for each chain, the classes of its plugins.
        limits: arguments of `Runtime` and `ChainCache` that differ from the defaults.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, *chains: Sequence[AnyPlugin], **limits: Any) -> None:
        self.loop = loop
        self.configurations = []
        registry = OfferingRegistry(Registry.load(builtins=False, entry_points=False))
        offers = Offers()
        offered: dict[str, Any] = {}
        for number, classes in enumerate(chains, 1):
            conf, found = offers.conf_of(classes)
            offered |= found
            self.configurations.append(RouteConfiguration(f"route#{number}#ext-plugin-pre-req#1", conf))
        registry.offered = offered
        self.threads = PluginThreads(limits.pop("blocking_threads", 2))
        self.chains = ChainCache(
            registry,
            self,
            self.threads,
            capacity=limits.pop("capacity", 10),
            renew_s=limits.pop("renew_s", 1e9),
            setup_timeout_s=5,
            on_error=limits.pop("default_on_error", "refuse"),
            spawn=loop.create_task,
            background=limits.pop("background", None),
        )
        defaults: dict[str, Any] = {"plugin_timeout_s": 5.0, "max_in_flight": 100, "on_error": "refuse", "max_decompressed_bytes": 1000}
        self.runtime = Runtime(loop, self.chains, self.threads, **defaults | limits)

    def get(self, token: int) -> RouteConfiguration | None:
        """Return the route configuration of a token."""
        return self.configurations[token - 1] if token <= len(self.configurations) else None

    def call_soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in a callback of the event loop."""
        self.loop.call_soon(function, *arguments)

    def connect(self) -> FakeConnection:
        """Open a connection."""
        return FakeConnection(self.runtime)


async def until(condition: Callable[[], object]) -> None:
    """Run the event loop until a condition is true."""
    async with asyncio.timeout(WITHIN_S):
        while not condition():  # noqa: ASYNC110  # it may become true in a thread
            await asyncio.sleep(0.001)
