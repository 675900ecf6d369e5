# SPDX-License-Identifier: Apache-2.0
"""`PluginBase`, the base of plugins that were written for release 0.2."""

from __future__ import annotations

from typing import Any


class PluginBase:
    """
    The base of 0.2 plugins: `name()`, `config(conf)`, `filter(conf, request, response)`.

    Each call has its own instance. `config` is called on it with the route's value, the raw string, and its result goes to `filter`.
    Anything set on the response ends the chain and answers the client. Derive new plugins from `apisix.Plugin`.
    """

    def name(self) -> str:
        """Return the name that routes use. Every plugin has to define it."""
        return None  # type: ignore[return-value]  # as in release 0.2, for `super().name()`

    def config(self, conf: Any) -> Any:
        """Return what `filter` gets for the route's value. A plugin without this method gets None, as in release 0.2."""

    def filter(self, conf: Any, request: Any, response: Any) -> Any:
        """Do nothing, for `super().filter(...)`. Every plugin has to define it."""
