# SPDX-License-Identifier: Apache-2.0
"""The state that all connection handlers of a worker share."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Final

from apisix.runner.call.chain_cache import ChainCache
from apisix.runner.call.observing.trace import CallListener
from apisix.runner.call.runtime import Runtime
from apisix.runner.call.threads import PluginThreads
from apisix.runner.conf_store.store import ConfStore
from apisix.runner.plugin.chain.background import BackgroundTasks
from apisix.runner.plugin.loading.registry import Registry
from apisix.runner.process_pool.hook import hooks_in
from apisix.runner.process_pool.pool import ProcessPool
from apisix.runner.settings.table import Settings
from apisix.runner.state.backend import close_opened
from apisix.runner.worker.breakpoints import NoDetection, is_debugging
from apisix.runner.worker.held_bytes import HeldBytes
from apisix.runner.worker.lost_tasks import report_lost_tasks
from apisix.runner.worker.observers import make_observer
from apisix.runner.worker.prepare_conf import PrepareConfWriter
from apisix.runner.worker.shared_metadata import SharedMetadata

RENEWALS: Final = 10
"""How many times within the lifetime of a configuration its use is written to the store. Source: design, 6."""


class Context:
    """
    The state that all connection handlers of a worker share.

    Attributes:
        store: the conf store.
        runtime: the state and the limits of the calls.
        held: counts and limits the buffered bytes of the connections.
        pool: runs the plugins with `runs_in = "process"`.
        plugin_tasks: the background tasks of plugins.
        metadata: the metadata of requests.
        preparations: processes PrepareConf messages.
        background: the tasks that `spawn` has started and that are not done.
    """

    def __init__(
        self,
        store: ConfStore,
        runtime: Runtime,
        held: HeldBytes,
        pool: ProcessPool,
        plugin_tasks: BackgroundTasks,
        metadata: SharedMetadata,
    ) -> None:
        self.store = store
        self.runtime = runtime
        self.held = held
        self.pool = pool
        self.plugin_tasks = plugin_tasks
        self.metadata = metadata
        self.preparations = PrepareConfWriter(store, runtime.loop)
        self.background: set[asyncio.Task[None]] = set()

    def spawn(self, coroutine: Coroutine[object, object, None]) -> None:
        """Run `coroutine` in the background. A task without a reference to it would be garbage-collected."""
        task = self.runtime.loop.create_task(coroutine)
        self.background.add(task)
        task.add_done_callback(self.background.discard)

    async def close(self) -> None:
        """Close the plugins, the idle threads, the conf store, the metadata and the shared store."""
        await self.runtime.chains.close()
        await self.pool.close()
        self.runtime.blocking_detector.close()
        self.runtime.close_threads()
        self.held.close()
        self.store.close()
        self.metadata.close()
        await close_opened()


def make_context(
    settings: Settings,
    registry: Registry,
    store: ConfStore,
    loop: asyncio.AbstractEventLoop,
    listeners: Sequence[CallListener] = (),
) -> Context:
    """
    Return the context for a worker with these settings. Must be called in the worker, after the fork.

    Args: listeners: further listeners to the calls.
    """
    threads = PluginThreads(settings.blocking_threads)
    pool = ProcessPool(loop, settings, "apisix.runner.worker.shared_store:opener_for")
    if any(plugin_type.runs_in is not None for plugin_type in registry.types):
        pool.prepare()
    plugin_tasks = BackgroundTasks()
    chains = ChainCache(
        registry,
        store,
        threads,
        capacity=settings.chain_cache_entries,
        renew_s=settings.conf_expire_s / RENEWALS,
        setup_timeout_s=settings.plugin_timeout_s,
        on_error=settings.on_error,
        spawn=lambda coroutine: context.spawn(coroutine),
        hook_in_process=hooks_in(pool),
        background=plugin_tasks,
    )
    metadata = SharedMetadata(settings)
    runtime = Runtime(
        loop=loop,
        chains=chains,
        threads=threads,
        plugin_timeout_s=settings.plugin_timeout_s,
        max_in_flight=settings.max_in_flight,
        on_error=settings.on_error,
        max_decompressed_bytes=settings.max_decompressed_bytes,
        observer=make_observer(settings, listeners),
        pre_req_first=settings.pre_req_first,
        info_timeout_s=settings.info_timeout_s,
        blocking_detector=NoDetection() if is_debugging() else None,
        metadata_store=metadata,
    )
    runtime.watch()
    if settings.log_effects:
        report_lost_tasks(loop)
    held = HeldBytes(loop, runtime, settings.buffered_bytes, settings.read_timeout_s, settings.send_timeout_s)
    context = Context(store, runtime, held, pool, plugin_tasks, metadata)
    return context
