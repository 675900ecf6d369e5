# SPDX-License-Identifier: Apache-2.0
"""`Base`, the base of plugins that are written as the article of 2021 documents them."""

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
"""The decision of the call whose `filter` runs. Threads of the runner have it too, those that a plugin starts do not."""


class Base:
    """
    The base of the documented plugins: `filter(self, request, response)`, ended by `self.stop()` or `self.rewrite()`.

    There is one instance for each configuration and worker, as in release 0.1: an attribute such as a counter is kept from call to call,
    and is shared by the calls that run in threads at the same time. What a call decides by `stop()`, `rewrite()` or `action` belongs to
    that call alone. `config` is the parsed JSON of the route's value, and `{}` if that is not a JSON object.

    Derive new plugins from `apisix.Plugin`.
    """

    # Set on the class too: an author's `__init__` need not call ours.
    _name: str = ""
    _config: dict[str, Any] = {}  # noqa: RUF012 - never written to, each configuration brings its own
    _action: int = REWRITE
    _serves: bool = False  # set by the runner: from then on, only a call can decide

    def __init__(self, name: str = "") -> None:
        self._name = name or type(self).__name__

    @property
    def name(self) -> str:
        """The name that was given to `__init__`, by default that of the class."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name

    @property
    def config(self) -> dict[str, Any]:
        """The route's configuration. Anything but a dict becomes `{}`."""
        return self._config

    @config.setter
    def config(self, config: dict[str, Any]) -> None:
        self._config = config if isinstance(config, dict) else {}

    @property
    def action(self) -> int:
        """
        What this call does: 1 stops it, 2 lets it go on. In `__init__`, what calls do unless they decide otherwise.

        Raises: RuntimeError: on assignment, it is not clear which call decides: not in `filter`, or in a thread that the plugin started.
        """
        decision = current_decision.get()
        return decision.action if decision is not None and decision.plugin is self else self._action

    @action.setter
    def action(self, action: int) -> None:
        decision = current_decision.get()
        if decision is not None and decision.plugin is self:
            decision.action = action
        elif self._serves:
            raise RuntimeError("stop(), rewrite() and action decide one call: use them in filter(), in the thread that runs it")
        else:
            self._action = action

    def stop(self) -> None:
        """End the chain when `filter` has returned, and answer the client with the response."""
        self.action = STOP

    def rewrite(self) -> None:
        """Go on when `filter` has returned, with the content of the response object as edits of the request. The default."""
        self.action = REWRITE
