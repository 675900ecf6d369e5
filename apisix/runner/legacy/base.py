# SPDX-License-Identifier: Apache-2.0
"""`Base`, the base class of plugins that are written as the article of 2021 documents them."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final

STOP: Final = 1
REWRITE: Final = 2


class Decision:
    """What one call of a plugin has decided: its `action`, STOP or REWRITE."""

    __slots__ = ("action", "plugin")

    def __init__(self, plugin: Base) -> None:
        self.plugin = plugin
        self.action = plugin._action


current_decision: ContextVar[Decision | None] = ContextVar("current_decision", default=None)
"""The decision of the call whose `filter` is running. `asyncio.to_thread` and the runner's threads have it too; a plain thread does not."""


class Base:
    """
    The base class of documented plugins: `filter(self, request, response)` calls `self.stop()` or `self.rewrite()`.

    There is one instance for each route configuration and worker, as in release 0.1: an attribute such as a counter keeps its value from
    call to call, and calls that run in threads at the same time share it. What a call decides by `stop()`, `rewrite()` or `action` is
    not shared with other calls. `config` is the parsed JSON of the route's value, and `{}` if that is not a JSON object.

    Derive new plugins from `apisix.Plugin`.
    """

    # Defined on the class too, because a plugin's `__init__` may not call this class's.
    _name: str = ""
    _config: dict[str, Any] = {}  # noqa: RUF012 - never changed: each configuration assigns its own
    _action: int = REWRITE
    _serves: bool = False  # set when the runner uses the plugin: from then on, only a call decides

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
        What the runner does after `filter`: 1 stops the chain, 2 continues. An assignment in `__init__` sets the default for all calls.

        Raises: RuntimeError: on assignment outside of `filter`, or in a thread that the plugin started: no call can be found.
        """
        decision = current_decision.get()
        return self._action if decision is None or decision.plugin is not self else decision.action

    @action.setter
    def action(self, action: int) -> None:
        decision = current_decision.get()
        if decision is not None and decision.plugin is self:
            decision.action = action
        elif self._serves:
            raise RuntimeError("stop(), rewrite() and action apply to one call: use them in filter(), in the thread that runs it")
        else:
            self._action = action

    def stop(self) -> None:
        """End the chain after `filter` has returned, and send the response to the client."""
        self.action = STOP

    def rewrite(self) -> None:
        """Continue after `filter` has returned, with the content of the response as edits of the request. This is the default."""
        self.action = REWRITE
