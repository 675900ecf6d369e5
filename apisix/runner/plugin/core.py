# SPDX-License-Identifier: Apache-2.0
"""`PluginBase`, the base of plugins that were written for release 0.2."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from apisix.runner.http.legacy import PluginBaseRequest, PluginBaseResponse
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.plugin.base import refuse_awaitable


class PluginBase:
    """
    The base of 0.2 plugins: `name()`, `config(conf)`, `filter(conf, request, response)`.

    There is one instance per configuration and worker. `config` is called once for it with the route's value, the raw
    string, and what it returns goes to each `filter`. Anything set on the response ends the chain and answers the
    client. New plugins are better derived from `apisix.Plugin`.
    """

    def name(self) -> str:
        """Return the name that routes use. Every plugin has to define it."""
        raise NotImplementedError(f"{type(self).__name__} has to define name(self) and return the name that routes use")

    def config(self, conf: Any) -> Any:
        """Turn the route's value into what `filter` gets. By default that is the string itself."""
        return conf

    @staticmethod
    def _hook_of(instance: Any, conf: Any, configs: Mapping[str, str]) -> Callable[[Request], Reply | None]:
        """
        Make the hook that the chain calls: it gives `filter` what it was written for, and reads back what it did.

        Args:
            instance: the plugin.
            conf: what its `config` returned.
            configs: the route's plugins and their values, which `request.get_configs` shows.
        """

        def hook(request: Request) -> Reply | None:
            seen, response = PluginBaseRequest(request, configs), PluginBaseResponse(request.id)
            refuse_awaitable(instance.filter(conf, seen, response))
            reply = response.reply()
            if reply is None:
                seen.apply()
            return reply

        return hook
