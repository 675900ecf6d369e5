# SPDX-License-Identifier: Apache-2.0
"""The listeners to the calls of a worker. While there is none, calls are not traced."""

from collections.abc import Sequence

from apisix.runner.call.observing.trace import CallListener, CallObserver
from apisix.runner.call.runtime import Runtime
from apisix.runner.settings.table import Settings
from apisix.runner.worker.effects_log import EffectsLog


def make_observer(settings: Settings, listeners: Sequence[CallListener] = ()) -> CallObserver | None:
    """
    Return the observer of a worker's calls, or None if nothing listens.

    Args: listeners: listeners that belong to the worker, because it has to close them, such as the one that makes spans.
    """
    wanted = [*([EffectsLog()] if settings.log_effects else ()), *listeners]
    return CallObserver(wanted, watch_hooks=settings.log_effects) if wanted else None


def add_listener(runtime: Runtime, listener: CallListener) -> None:
    """Add a listener. It is called for the calls that begin from now on."""
    observer = runtime.observer
    if observer is None:
        runtime.observer = CallObserver([listener])
    elif listener not in observer.listeners:
        runtime.observer = CallObserver([*observer.listeners, listener], watch_hooks=observer.watch_hooks)


def remove_listener(runtime: Runtime, listener: CallListener) -> None:
    """Remove a listener. It is still called for the calls in progress."""
    observer = runtime.observer
    if observer is not None and listener in observer.listeners:
        rest = [other for other in observer.listeners if other is not listener]
        runtime.observer = CallObserver(rest, watch_hooks=observer.watch_hooks) if rest else None
