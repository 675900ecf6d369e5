# SPDX-License-Identifier: Apache-2.0
"""`Base`, the base class of plugins that are written as the article of 2021 documents them."""

from __future__ import annotations

from threading import get_ident
from typing import Any, Final

STOP: Final = 1
REWRITE: Final = 2


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
    # By the thread that runs `filter`, the action of the call. None until the runner uses the plugin: from then on, only a call decides.
    _decisions: dict[int, int] | None = None

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
        decisions = self._decisions
        return self._action if decisions is None else decisions.get(get_ident(), self._action)

    @action.setter
    def action(self, action: int) -> None:
        decisions = self._decisions
        if decisions is None:
            self._action = action
            return
        thread = get_ident()
        if thread not in decisions:
            raise RuntimeError("stop(), rewrite() and action apply to one call: use them in filter(), in the thread that runs it")
        decisions[thread] = action

    def stop(self) -> None:
        """End the chain after `filter` has returned, and send the response to the client."""
        self.action = STOP

    def rewrite(self) -> None:
        """Continue after `filter` has returned, with the content of the response as edits of the request. This is the default."""
        self.action = REWRITE
