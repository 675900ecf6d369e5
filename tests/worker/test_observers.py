# SPDX-License-Identifier: Apache-2.0
"""The listeners of a worker. The observer is None while there is none."""

from types import SimpleNamespace
from typing import Any

from apisix.runner.call.observing.trace import CallListener
from apisix.runner.settings.table import Settings
from apisix.runner.worker.effects_log import EffectsLog
from apisix.runner.worker.observers import add_listener, make_observer, remove_listener


def test_nothing_observes_calls_without_a_listener() -> None:
    assert make_observer(Settings()) is None


def test_the_settings_and_the_caller_add_listeners() -> None:
    further = CallListener()
    observer = make_observer(Settings(log_effects=True), [further])

    assert observer is not None
    assert [type(listener) for listener in observer.listeners] == [EffectsLog, CallListener]
    assert observer.watch_hooks is True


def test_a_listener_is_added_once_and_removed() -> None:
    runtime: Any = SimpleNamespace(observer=None)
    first, second = CallListener(), CallListener()

    add_listener(runtime, first)
    add_listener(runtime, second)
    add_listener(runtime, second)
    assert runtime.observer.listeners == (first, second)

    remove_listener(runtime, first)
    assert runtime.observer.listeners == (second,)

    remove_listener(runtime, second)
    remove_listener(runtime, second)
    assert runtime.observer is None


def test_mistakes_of_plugins_are_still_looked_for_after_a_listener_was_added() -> None:
    runtime: Any = SimpleNamespace(observer=make_observer(Settings(log_effects=True)))
    listener = CallListener()

    add_listener(runtime, listener)
    assert runtime.observer.watch_hooks is True
    remove_listener(runtime, listener)
    assert runtime.observer.watch_hooks is True
