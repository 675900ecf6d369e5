# SPDX-License-Identifier: Apache-2.0
"""The listeners to the calls of a worker. While there is none, calls are not traced."""

from collections.abc import Callable, Iterator, Sequence

from apisix.runner.call.observing.trace import CallListener, CallObserver
from apisix.runner.call.runtime import Runtime
from apisix.runner.metrics.families import PREFIX, Family, counter
from apisix.runner.recording.recorder import Counts, Recorder
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


class Recording:
    """Switches the recorder of a worker on and off. While it is off, it does not listen, so it costs nothing."""

    def __init__(self, runtime: Runtime, settings: Settings) -> None:
        self._runtime = runtime
        self._recorder = Recorder(settings, self._on_failure)

    def start(self, on_end: Callable[[Counts], None]) -> None:
        """Begin to record. Args: on_end: called in any thread when the recording was stopped and everything is written."""
        self._recorder.start(on_end)
        add_listener(self._runtime, self._recorder)

    def stop(self) -> bool:
        """Stop recording. Return False if it was off."""
        self._stop_listening()
        return self._recorder.stop()

    def close(self, timeout_s: float) -> None:
        """Stop recording, and wait for up to `timeout_s` seconds until everything is written."""
        self._stop_listening()
        self._recorder.close(timeout_s)

    def abandon(self) -> None:
        """Record nothing in a child process."""
        self._recorder.abandon()

    def families(self) -> Iterator[Family]:
        """Yield the metrics of the recorder."""
        counts = self._recorder.counts
        yield counter(f"{PREFIX}records_written", "Calls that were recorded.", ((), counts.written))
        yield counter(
            f"{PREFIX}records_dropped", "Calls that were selected to be recorded, but were not, to keep calls fast.", ((), counts.dropped)
        )

    def _on_failure(self) -> None:
        self._runtime.loop.call_soon_threadsafe(self._stop_listening)

    def _stop_listening(self) -> None:
        remove_listener(self._runtime, self._recorder)
