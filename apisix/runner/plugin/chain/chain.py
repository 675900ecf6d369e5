# SPDX-License-Identifier: Apache-2.0
"""A chain: the plugins of one route configuration, ready to run. `builder.py` creates it."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final

from apisix.runner.http.phase import Phase
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration

if TYPE_CHECKING:
    from apisix.runner.plugin.chain.setup import Setup
    from apisix.runner.plugin.plugin_type import PluginType

INLINE: Final = 0
"""A hook that cannot suspend its call. It runs on the event loop."""
SUSPENDABLE: Final = 1
"""A plain hook that may suspend its call until the gateway has sent an info reply."""
COROUTINE: Final = 2
"""An `async def` hook, which runs as a task of the event loop."""
THREAD: Final = 3
"""A plain hook of a blocking plugin, which runs in a thread."""
PROCESS: Final = 4
"""A hook of a plugin with `runs_in = "process"`. In the worker, it is a coroutine that waits for a process of the pool."""


class ChainStep:
    """
    A configured plugin of a chain.

    Args and attributes:
        plugin_type: the plugin. Its attribute `blocking` can change while the runner runs.
        instance: the plugin's instance, or None if it is in another process, or for a `PluginBase`, of which each call creates its own.
        hook: called with the request or the response. Returns None, a Reply, or an awaitable of one of these.
        how_it_runs: INLINE, SUSPENDABLE, COROUTINE or PROCESS. See `mode`.
        needs: what the runner requests from the gateway before the hook runs: names of variables, or "body".
        on_error: what happens if the plugin fails: "refuse", "pass" or "degrade".
        setup: the state of the instance's `setup`, or None if the plugin has none.
        close: the instance's `close`, or None if the plugin has none.
        configure: creates an instance of a `PluginBase`, and raises ChainRefused if that fails. None for other plugins. Used by checks,
            which do not make a call.
        name: the name of the plugin in routes.
        is_inline: True if `how_it_runs` is INLINE.
        is_coroutine: True if `how_it_runs` is COROUTINE or PROCESS.
        passes: True if a call continues without this plugin's edits if the plugin fails.
    """

    __slots__ = (
        "close",
        "configure",
        "hook",
        "how_it_runs",
        "instance",
        "is_coroutine",
        "is_inline",
        "name",
        "needs",
        "on_error",
        "passes",
        "plugin_type",
        "setup",
    )

    def __init__(
        self,
        plugin_type: "PluginType",
        instance: object,
        hook: Callable[..., object],
        how_it_runs: int,
        *,
        needs: tuple[str, ...] = (),
        on_error: str = "refuse",
        setup: "Setup | None" = None,
        close: Callable[[], Coroutine[object, object, None]] | None = None,
        configure: Callable[[], object] | None = None,
    ) -> None:
        self.name = plugin_type.name
        self.plugin_type = plugin_type
        self.instance = instance
        self.hook = hook
        self.how_it_runs = how_it_runs
        self.is_inline = how_it_runs == INLINE
        self.is_coroutine = how_it_runs in (COROUTINE, PROCESS)
        self.needs = needs
        self.on_error = on_error
        self.passes = on_error == "pass"
        self.setup = setup
        self.close = close
        self.configure = configure

    @property
    def mode(self) -> int:
        """How the hook runs now. As soon as the runner finds that a plugin is blocking, its plain hooks run in threads."""
        return THREAD if self.plugin_type.blocking and not self.is_coroutine else self.how_it_runs

    @property
    def is_closable(self) -> bool:
        """True if `close` must be awaited: the plugin has one, and its `setup` has succeeded if it has a `setup`."""
        return self.close is not None and (self.setup is None or self.setup.done)


class Chain:
    """
    The plugins of one route configuration, in the order in which the gateway sent them.

    Attributes:
        configuration: the route configuration.
        key: the key of the configuration, or None if the gateway is too old to send one.
        steps: the plugins. Empty if the chain is refused.
        phase: the phase of the calls, or None if it is not known.
        problem: all reasons why calls with this configuration are refused, or None if they can run.
    """

    __slots__ = ("configuration", "key", "phase", "problem", "steps")

    def __init__(
        self, configuration: RouteConfiguration, steps: tuple[ChainStep, ...], phase: Phase | None, problem: str | None = None
    ) -> None:
        self.configuration = configuration
        self.key = configuration.key
        self.steps = steps
        self.phase = phase
        self.problem = problem
