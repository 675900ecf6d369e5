# SPDX-License-Identifier: Apache-2.0
"""The state and the limits that all calls of one worker share."""

import asyncio
import sys
from collections.abc import Callable
from typing import Final

from apisix.runner.call.blocking.detector import BlockingDetector
from apisix.runner.call.blocking.long_calls import LongCalls
from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.deadlines import Deadlines
from apisix.runner.call.metadata_store import MemoryMetadata
from apisix.runner.call.observing import watching
from apisix.runner.call.observing.meter import Meter
from apisix.runner.call.observing.trace import CallObserver
from apisix.runner.call.threads import PluginThreads, ThreadPool
from apisix.runner.http.metadata import MetadataStore

BODY_THREADS: Final = 1
"""How many threads a worker has for long bodies. Each competes with the event loop for the interpreter, and may refer to a large body."""

SWITCH_INTERVAL_S: Final = 0.0005
"""For how long a thread may keep the interpreter while another thread wants it, in seconds."""

FailureObserver = Callable[[int, BaseException], None]
"""Called with the id of a call and the exception because of which it is refused."""


class Runtime:
    """
    The state and the limits of a worker that its calls use.

    Attributes:
        loop: the event loop of the worker. All calls run in its thread.
        chains: the chains of the worker, by token.
        threads: run blocking plugins, and create plugins.
        body_threads: decompress and convert long bodies.
        deadlines: the deadlines of the calls that wait.
        plugin_timeout_s: how long the plugins of a call may take, in seconds. Time in which info requests have no reply yet does not count.
        info_timeout_s: how long the gateway may take to reply to info requests, in seconds.
        first_look_s: how many seconds after a call was received its deadlines are checked first. Before that, none can have passed.
        max_in_flight: how many calls may wait (suspended, in a coroutine or a thread) at once.
        on_error: "refuse", "pass" or "degrade", for failures outside of plugins.
        max_decompressed_bytes: how large a decompressed response may be, in bytes.
        blocking_detector: finds plugins that block the event loop.
        observer: traces calls; None if nothing listens.
        failure_observer: called with the error because of which a call is refused, before the reply is sent. The test kit raises it in the
            test.
        pre_req_first: True if nothing rewrites the path before ext-plugin-pre-req.
        metadata_store: keeps the metadata of requests between their phases.
        meter: counts outcomes and durations of plugins, None if metrics are off.
        in_flight: how many calls wait now.
        calls: how many calls are finished.
        asks: how many info requests were sent.
        unknown_tokens: how many calls had an unknown token.
        refused: how many calls were refused because of their configuration.
        forked: True if a plugin has forked this process. It exits when the hook has returned.
        held_bytes: how many bytes of partly received frames and unsent replies the connections keep.
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
        "metadata_store",
        "meter",
        "observer",
        "on_error",
        "plugin_timeout_s",
        "pre_req_first",
        "refused",
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
        observer: CallObserver | None = None,
        failure_observer: FailureObserver | None = None,
        pre_req_first: bool = False,
        info_timeout_s: float = 120.0,
        deadlines: Deadlines | None = None,
        metadata_store: MetadataStore | None = None,
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
        if observer is not None and observer.watch_hooks:
            watching.install()
        self.failure_observer = failure_observer
        self.pre_req_first = pre_req_first
        self.metadata_store = metadata_store if metadata_store is not None else MemoryMetadata()
        self.meter: Meter | None = None
        self.forked = False
        self.held_bytes = self.connections_aborted = 0
        self.in_flight = self.calls = self.asks = self.unknown_tokens = self.refused = 0

    def close_threads(self) -> None:
        """End the idle threads."""
        self.threads.close()
        self.body_threads.close()

    def watch(self) -> None:
        """Start to look for plugins that block the event loop and for calls that take long. Must be called in the event loop's thread."""
        # So that PrepareConf does not wait for long while a thread computes, such as one that runs a slow __init__.
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        self.blocking_detector.watch(self.loop, LongCalls(self.deadlines).look)

    def failed(self, call_id: int, error: BaseException) -> None:
        """Called with the error because of which a call is refused."""
        if self.failure_observer is not None:
            self.failure_observer(call_id, error)
