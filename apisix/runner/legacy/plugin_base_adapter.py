# SPDX-License-Identifier: Apache-2.0
"""How a `PluginBase` runs: the hook that creates an instance for each call, and calls its `filter`."""

from collections.abc import Callable, Mapping
from typing import Any

from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.legacy.edits import refuse_awaitable
from apisix.runner.legacy.plugin_base_request import PluginBaseRequest, plugin_base_request, shared_request
from apisix.runner.legacy.plugin_base_response import plugin_base_response


def plugin_base_hook(
    configure: Callable[[], tuple[Any, Any]], configs: Mapping[str, str], name: str, shares: bool
) -> Callable[[Request], Reply | None]:
    """
    Return the function that runs a `PluginBase` for one call.

    Args:
        configure: creates the instance for one call, and returns it with the result of its `config`. Release 0.2 did both for each call,
            so plugins keep data of one call in attributes of `self`.
        configs: the names and values of the route's plugins, which `request.get_configs` returns.
        name: the plugin's name in routes, for warnings.
        shares: True if the chain has several `PluginBase` plugins, which then share the request.
    """

    def hook(request: Request) -> Reply | None:
        return run_plugin_base(configure, name, request, plugin_base_request(request, configs, name))

    def sharing_hook(request: Request) -> Reply | None:
        seen = shared_request(request, configs, name)
        try:
            return run_plugin_base(configure, name, request, seen)
        finally:
            seen.release()

    return sharing_hook if shares else hook


def run_plugin_base(configure: Callable[[], tuple[Any, Any]], name: str, request: Request, seen: PluginBaseRequest) -> Reply | None:
    """Create an instance and call its `filter`. Return the reply if the plugin set anything on the response."""
    plugin, conf = configure()
    response = plugin_base_response(request, name)
    result = plugin.filter(conf, seen, response)
    if result is not None:
        refuse_awaitable(result)
    reply = response.reply()
    if reply is None:
        seen.apply()
    return reply
