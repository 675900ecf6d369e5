# SPDX-License-Identifier: Apache-2.0
"""An engine in this process: plugins that a test defines, configurations by token, and connections whose messages the test sees."""

import asyncio
from collections.abc import Callable, Sequence
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
    """Deadlines that pass when the test says so, however long that takes. Calls must have a timeout of 0 seconds to fail then."""

    def add(self, waiting: Any, at_s: float) -> None:
        """Remember a call that waits."""
        self._due_s[waiting] = at_s

    def strike(self) -> None:
        """Let the deadlines of all calls that wait pass. To be used in a callback of the loop."""
        for call in self.waiting():
            self.discard(call)
            call.expire()


class Line(ReplySink):
    """A connection of a gateway: takes what the runner sends, and replies to info requests when the test says so."""

    def __init__(self, runtime: Runtime) -> None:
        self.call_runner = CallRunner(runtime, self)
        self.info_requests: list[Any] = []
        self.replies: list[Any] = []

    def call(self, token: int, call_id: int = 1) -> None:
        """Make a call. To be used in a callback of the loop, as sockets do."""
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
    The engine of a worker. Token N leads to the N-th of the given chains, each a list of classes.

    Args: limits: of the runtime, as `Runtime` takes them.
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
        )
        defaults: dict[str, Any] = {"plugin_timeout_s": 5.0, "max_in_flight": 100, "on_error": "refuse", "max_decompressed_bytes": 1000}
        self.runtime = Runtime(loop, self.chains, self.threads, **defaults | limits)

    def get(self, token: int) -> RouteConfiguration | None:
        """Return what a token stands for."""
        return self.configurations[token - 1] if token <= len(self.configurations) else None

    def at_loop(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in a callback of the loop."""
        self.loop.call_soon(function, *arguments)

    def line(self) -> Line:
        """Open a connection."""
        return Line(self.runtime)


async def until(holds: Callable[[], object]) -> None:
    """Let the loop turn until something holds."""
    async with asyncio.timeout(WITHIN_S):
        while not holds():  # noqa: ASYNC110  # what is waited for may happen in a thread
            await asyncio.sleep(0.001)
