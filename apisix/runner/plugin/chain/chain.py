# SPDX-License-Identifier: Apache-2.0
"""A chain: the plugins of one route configuration, ready to run. `chain_builder.py` makes them."""

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final

from apisix.runner.http.phase import Phase
from apisix.runner.plugin.configuration.route_configuration import RouteConfiguration

if TYPE_CHECKING:
    from apisix.runner.plugin.chain.setup import Setup
    from apisix.runner.plugin.plugin_type import PluginType

INLINE: Final = 0
"""A hook that cannot suspend: it runs where the event loop runs."""
SUSPENDABLE: Final = 1
"""A plain hook that may suspend, in the middle, until the gateway has sent an info reply."""
COROUTINE: Final = 2
"""An `async def` hook, which runs as a task of the event loop."""
THREAD: Final = 3
"""A plain hook of a blocking plugin, which runs in a thread."""


class ChainStep:
    """
    One plugin of a chain, configured.

    Args and attributes:
        plugin_type: the plugin. It says when the plugin is found to be blocking.
        instance: the plugin's instance, None for a `PluginBase`: each call makes its own.
        hook: takes the request or the response, and returns None or a Reply, or an awaitable of one of these.
        how_it_runs: INLINE, SUSPENDABLE or COROUTINE. See `mode`.
        needs: what is fetched from the gateway before the hook runs: names of variables, or "body".
        on_error: what happens if the plugin fails: "refuse", "pass" or "degrade".
        setup: the state of the instance's `setup`, None if it has none.
        close: the instance's `close`, None if it has none.
        configure: makes an instance of a `PluginBase` and raises ChainRefused if that fails; None for others. For checks, which make no
            call.
        name: what routes call the plugin.
        is_inline: True if `how_it_runs` is INLINE.
        is_coroutine: True if `how_it_runs` is COROUTINE.
        passes: True if a call goes on, without this plugin's edits, if the plugin fails.
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
        self.is_coroutine = how_it_runs == COROUTINE
        self.needs = needs
        self.on_error = on_error
        self.passes = on_error == "pass"
        self.setup = setup
        self.close = close
        self.configure = configure

    @property
    def mode(self) -> int:
        """How the hook runs now. The runner can find at any time that a plugin is blocking: its plain hooks move to threads then."""
        return THREAD if self.plugin_type.blocking and not self.is_coroutine else self.how_it_runs

    @property
    def is_closable(self) -> bool:
        """True if `close` has to be awaited: the instance has one, and has been set up if it has a `setup`."""
        return self.close is not None and (self.setup is None or self.setup.done)


class Chain:
    """
    The plugins of one route configuration, in the order that the gateway gave.

    Attributes:
        configuration: the route configuration.
        key: the key of the configuration, None from an old gateway.
        steps: the plugins, empty if the chain is refused.
        phase: the phase of the calls, None if it is not known.
        refusal: all reasons why calls with this configuration are refused, None if they can run.
    """

    __slots__ = ("configuration", "key", "phase", "refusal", "steps")

    def __init__(
        self, configuration: RouteConfiguration, steps: tuple[ChainStep, ...], phase: Phase | None, refusal: str | None = None
    ) -> None:
        self.configuration = configuration
        self.key = configuration.key
        self.steps = steps
        self.phase = phase
        self.refusal = refusal
