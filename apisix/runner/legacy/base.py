# SPDX-License-Identifier: Apache-2.0
"""`Base`, the base class of plugins of release 0.1, which an article of 2021 documents."""

from __future__ import annotations

from typing import Any

from apisix.runner.legacy.decision import REWRITE, STOP, decide, decided


class Base:
    """
    The base class of plugins of release 0.1. Their hook `filter(self, request, response)` calls `self.stop()` or `self.rewrite()`.

    There is one instance for each route configuration and worker, as in release 0.1. So an attribute such as a counter keeps its value
    between calls, and calls that run in threads at the same time share it. `stop()`, `rewrite()` and `action` only affect the call that
    uses them. `config` is the parsed JSON of the route's value, or `{}` if the value is not a JSON object.

    Derive new plugins from `apisix.Plugin`.
    """

    # Defined on the class too, because the `__init__` of a plugin may not call `super().__init__`.
    _name: str = ""
    _config: dict[str, Any] = {}  # noqa: RUF012 - never modified, because each configuration assigns its own dict
    _action: int = REWRITE
    _serves: bool = False  # True as soon as the runner uses the instance. From then on, only a call can set the action.

    def __init__(self, name: str = "") -> None:
        self._name = name or type(self).__name__

    @property
    def name(self) -> str:
        """The name that was passed to `__init__`. By default the name of the class."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def config(self) -> dict[str, Any]:
        """The configuration of the route. A value that is not a dict becomes `{}`."""
        return self._config

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self._config = config if isinstance(config, dict) else {}

    @property
    def action(self) -> int:
        """
        What the runner does after `filter`: 1 stops the chain, 2 continues. An assignment in `__init__` sets the default of all calls.

        Raises: RuntimeError: it is assigned outside of `filter`, or in a thread that the plugin started.
        """
        action = decided(self)
        return self._action if action is None else action

    @action.setter
    def action(self, action: int) -> None:
        _set_action(self, action)

    def stop(self) -> None:
        """End the chain when `filter` returns, and send the response to the client."""
        _set_action(self, STOP)

    def rewrite(self) -> None:
        """Continue when `filter` returns, with the content of the response as edits of the request. This is the default."""
        _set_action(self, REWRITE)


def _set_action(plugin: Base, action: int) -> None:
    """Set the action of the call that is running, or outside of calls the default of the plugin's calls."""
    if decide(plugin, action):
        return
    if plugin._serves:
        raise RuntimeError("stop(), rewrite() and action apply to one call: use them in filter(), in the thread that runs it")
    plugin._action = action
