# SPDX-License-Identifier: Apache-2.0
"""`PluginBase`, the base class of plugins of release 0.2."""

from __future__ import annotations

from typing import Any


class PluginBase:
    """
    The base class of plugins of release 0.2, with the methods `name()`, `config(conf)` and `filter(conf, request, response)`.

    Each call has its own instance. First, `config` is called with the route's value, which is a string. Then `filter` is called with the
    result of `config`. If the plugin sets anything on the response, the chain ends and the response is sent to the client.

    Derive new plugins from `apisix.Plugin`.
    """

    def name(self) -> str:
        """Return the name that routes use. Every plugin must define this method."""
        return None  # type: ignore[return-value]  # as in release 0.2, for `super().name()`

    def config(self, conf: Any) -> Any:
        """Return what `filter` gets as `conf`. A plugin without this method gets None, as in release 0.2."""

    def filter(self, conf: Any, request: Any, response: Any) -> Any:
        """Do nothing, so that `super().filter(...)` works. Every plugin must define this method."""
