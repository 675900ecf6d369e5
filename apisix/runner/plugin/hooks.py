# SPDX-License-Identifier: Apache-2.0
"""What each call of a plugin of the two older generations runs: they give `filter` what it was written for, and read back what it did."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from apisix.runner.http.legacy import base_request, base_response
from apisix.runner.http.legacy_core import core_request, core_response
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.plugin import twins

Hook = Callable[[Request], "Reply | None"]


def base_hook(configured: Any) -> Hook:
    """
    Make the hook of a `Base`.

    Args: configured: the instance, with its `config`, of which each call gets a shallow copy.
    """
    cls = type(configured)
    is_special = _is_special(cls)
    state = {} if is_special else configured.__dict__

    def hook(request: Request) -> Reply | None:
        plugin: Any = copy.copy(configured) if is_special else twins.twin_of(cls, state)
        seen, response = base_request(request), base_response()
        result = plugin.filter(seen, response)
        if result is not None:
            refuse_awaitable(result)
        if plugin._Base__stops:
            return response.reply()
        response.rewrite(request, seen)
        return None

    return hook


def core_hook(configure: Callable[[], tuple[Any, Any]], configs: Mapping[str, str]) -> Hook:
    """
    Make the hook of a `PluginBase`.

    Args:
        configure: makes the instance for one call, and returns it with the result of its `config`. Release 0.2 made both for each call,
            so plugins keep what they know of a client in attributes of `self`.
        configs: the route's plugins and their values, which `request.get_configs` shows.
    """

    def hook(request: Request) -> Reply | None:
        plugin, conf = configure()
        seen = core_request(request, configs)
        response = core_response(request)
        result = plugin.filter(conf, seen, response)
        if result is not None:
            refuse_awaitable(result)
        reply = response.reply()
        if reply is None:
            seen.apply()
        return reply

    return hook


def refuse_awaitable(result: object) -> None:
    """
    Notice a `filter` that is async behind a decorator: it has not run, and must not count as one that let a request go.

    Raises: TypeError: the result of `filter` would have to be awaited.
    """
    if hasattr(result, "__await__"):
        raise TypeError("filter() is async, which Base and PluginBase do not know: derive from apisix.Plugin")


def _is_special(cls: type) -> bool:
    """Tell whether a class says itself how instances are copied, or made: then that is `copy.copy`, which takes ten times as long."""
    special = ("__copy__", "__setstate__", "__slots__", "__new__", "__reduce__", "__reduce_ex__", "__getstate__")
    return any(not vars(owner).keys().isdisjoint(special) for owner in cls.__mro__ if owner is not object)
