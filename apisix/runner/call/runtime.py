# SPDX-License-Identifier: Apache-2.0
"""What all calls of one worker share."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from typing import Final

from apisix.runner.call.blocking.detector import BlockingDetector
from apisix.runner.call.blocking.long_calls import LongCalls
from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.deadlines import Deadlines
from apisix.runner.call.observing import watching
from apisix.runner.call.observing.effects import Effect
from apisix.runner.call.observing.meter import Meter
from apisix.runner.call.threads import PluginThreads, ThreadPool
from apisix.runner.http.request import Request
from apisix.runner.http.response import Response

BODY_THREADS: Final = 1
"""Threads of a worker for long bodies. Each competes with the loop for the interpreter, and may hold a body of `max_decompressed_bytes`."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long a thread may keep the interpreter while another one wants it, in seconds."""

Observer = Callable[[Request | Response, Sequence[Effect]], None]
"""Takes a request or response as it is after its plugins, and what each of them did."""

FailureObserver = Callable[[int, BaseException], None]
"""Takes the id of a call, and the exception because of which it is refused."""


class Runtime:
    """
    The worker's state and limits, as its calls see them.

    Attributes:
        loop: the loop of the worker, in whose thread all calls run.
        chains: tokens to plugins.
        threads: for plugins that block, and where plugins are made.
        body_threads: for long bodies, which are decompressed and converted there.
        deadlines: of the calls that wait.
        plugin_timeout_s: how long the plugins of a call may take, in seconds, without the time in which the gateway is asked.
        info_timeout_s: how long the gateway may take to answer, in seconds.
        first_look_s: how long after its beginning a call can first be too late, in seconds.
        max_in_flight: how many calls may wait (suspended, in a coroutine or a thread) at once.
        on_error: "refuse", "pass" or "degrade", for failures that are no plugin's.
        max_decompressed_bytes: how large a compressed response may become, in bytes.
        blocking_detector: the judge of which plugins block.
        observer: told what each plugin of a call did, before the call is answered; None where nobody wants to know. With an observer,
            hooks are watched for mistakes too (`watching.py`).
        failure_observer: told why a call is refused, before it is answered: a plugin's exception, or what went wrong in the runner.
            The test kit raises it in the test.
        pre_req_first: whether nothing rewrites a path before ext-plugin-pre-req.
        meter: counts what plugins do; None where nobody wants to know.
        in_flight: how many calls wait now.
        calls: how many calls were answered.
        asks: how many questions were asked.
        unknown_tokens: how many calls named a token that nobody knows.
        refusals: how many calls were refused because of their configuration.
        forked: whether this process is a child that a plugin has forked, which ends with the hook.
        held_bytes: how many bytes connections hold for frames that are half read and replies that are not sent yet.
        connections_aborted: how many connections were closed because of such bytes.
    """

    __slots__ = (
        "asks",
        "blocking_detector",
        "body_threads",
        "calls",
        "chains",
        "connections_aborted",
        "deadlines",
        "failure_observer",
        "first_look_s",
        "forked",
        "held_bytes",
        "in_flight",
        "info_timeout_s",
        "loop",
        "max_decompressed_bytes",
        "max_in_flight",
        "meter",
        "observer",
        "on_error",
        "plugin_timeout_s",
        "pre_req_first",
        "refusals",
        "threads",
        "unknown_tokens",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        chains: ChainCache,
        threads: PluginThreads,
        plugin_timeout_s: float,
        max_in_flight: int,
        on_error: str,
        max_decompressed_bytes: int,
        blocking_detector: BlockingDetector | None = None,
        observer: Observer | None = None,
        failure_observer: FailureObserver | None = None,
        pre_req_first: bool = False,
        info_timeout_s: float = 120.0,
        deadlines: Deadlines | None = None,
    ) -> None:
        self.loop = loop
        self.chains = chains
        self.threads = threads
        self.body_threads = ThreadPool(BODY_THREADS)
        self.deadlines = deadlines or Deadlines(loop)
        self.plugin_timeout_s = plugin_timeout_s
        self.info_timeout_s = info_timeout_s
        self.first_look_s = min(plugin_timeout_s, info_timeout_s)
        self.max_in_flight = max_in_flight
        self.on_error = on_error
        self.max_decompressed_bytes = max_decompressed_bytes
        self.blocking_detector = blocking_detector or BlockingDetector()
        self.observer = observer
        if observer is not None:
            watching.install()
        self.failure_observer = failure_observer
        self.pre_req_first = pre_req_first
        self.meter: Meter | None = None
        self.forked = False
        self.held_bytes = self.connections_aborted = 0
        self.in_flight = self.calls = self.asks = self.unknown_tokens = self.refusals = 0

    def close_threads(self) -> None:
        """End the idle threads."""
        self.threads.close()
        self.body_threads.close()

    def watch(self) -> None:
        """Begin to look for plugins that hold up the loop, and for calls that take long. To be called in the loop's own thread."""
        # The loop gets the interpreter sooner from a thread that computes, such as a slow __init__. PrepareConf must not wait for that.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.blocking_detector.watch(self.loop, LongCalls(self.deadlines).look)

    def failed(self, call_id: int, error: BaseException) -> None:
        """Tell who wants to know why a call is refused."""
        if self.failure_observer is not None:
            self.failure_observer(call_id, error)
