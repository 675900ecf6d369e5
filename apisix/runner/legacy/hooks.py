# SPDX-License-Identifier: Apache-2.0
"""What each call of a plugin of the two older generations runs: they give `filter` what it was written for, and read back what it did."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request
from apisix.runner.legacy.base import STOP, Decision, current_decision
from apisix.runner.legacy.release_01 import BaseRequest, BaseResponse, base_request, base_response, ignored_edits, next_base_exchange
from apisix.runner.legacy.release_02 import PluginBaseRequest, core_request, core_response, next_core_request

hooks_logger = logging.getLogger("apisix.runner.legacy.hooks")

_reported: set[tuple[type, str]] = set()

Hook = Callable[[Request], "Reply | None"]


def base_hook(plugin: Any, shares: bool) -> Hook:
    """
    Make the hook of a `Base`.

    Args:
        plugin: the instance, with its `config`. All calls of the configuration run on it.
        shares: whether the chain has several of them, which then share the request and the response.
    """
    plugin._serves = True

    def run(request: Request, seen: BaseRequest, response: BaseResponse) -> Reply | None:
        decision = Decision(plugin)
        token = current_decision.set(decision)
        try:
            result = plugin.filter(seen, response)
        finally:
            current_decision.reset(token)
        if result is not None:
            refuse_awaitable(result)
        if decision.action == STOP:
            return response.reply()
        response.rewrite(request, seen)
        for what in ignored_edits(seen, response):
            _warn_once(plugin, what)
        return None

    def hook(request: Request) -> Reply | None:
        return run(request, base_request(request), base_response())

    def sharing_hook(request: Request) -> Reply | None:
        seen, response = next_base_exchange(request)
        try:
            return run(request, seen, response)
        finally:
            seen.release()

    return sharing_hook if shares else hook


def core_hook(configure: Callable[[], tuple[Any, Any]], configs: Mapping[str, str], shares: bool) -> Hook:
    """
    Make the hook of a `PluginBase`.

    Args:
        configure: makes the instance for one call, and returns it with the result of its `config`. Release 0.2 made both for each call,
            so plugins keep what they know of a client in attributes of `self`.
        configs: the route's plugins and their values, which `request.get_configs` shows.
        shares: whether the chain has several of them, which then share the request.
    """

    def run(request: Request, seen: PluginBaseRequest) -> Reply | None:
        plugin, conf = configure()
        response = core_response(request)
        result = plugin.filter(conf, seen, response)
        if result is not None:
            refuse_awaitable(result)
        reply = response.reply()
        if reply is None:
            seen.apply()
        return reply

    def hook(request: Request) -> Reply | None:
        return run(request, core_request(request, configs))

    def sharing_hook(request: Request) -> Reply | None:
        seen = next_core_request(request, configs)
        try:
            return run(request, seen)
        finally:
            seen.release()

    return sharing_hook if shares else hook


def _warn_once(plugin: Any, what: str) -> None:
    """Log what a plugin does without effect, once for its class."""
    cls = type(plugin)
    if (cls, what) not in _reported:
        _reported.add((cls, what))
        hooks_logger.warning("plugin %s %s", cls.__name__, what)


def refuse_awaitable(result: object) -> None:
    """
    Notice a `filter` that is async behind a decorator: it has not run, and must not count as one that let a request go.

    Raises: TypeError: the result of `filter` would have to be awaited.
    """
    if hasattr(result, "__await__"):
        raise TypeError("filter() is async, which Base and PluginBase do not know: derive from apisix.Plugin")
