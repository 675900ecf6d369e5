# SPDX-License-Identifier: Apache-2.0
"""`Base`, the base of plugins that are written as the article of 2021 documents them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from apisix.runner.http.legacy import BaseRequest, BaseResponse
from apisix.runner.http.reply import Reply
from apisix.runner.http.request import Request


class Base:
    """
    The base of the documented plugins: `filter(self, request, response)`, ended by `self.stop()` or `self.rewrite()`.

    Each call runs on a shallow copy of the configured instance, so what a call writes to `self` is gone after it.
    `config` is the parsed JSON of the route's value, and `{}` where it is no JSON object. New plugins are better
    derived from `apisix.Plugin`.
    """

    # Set on the class too: an author's `__init__` need not call ours.
    name: str = ""
    config: dict[str, Any] = {}  # noqa: RUF012 - never written to, each configuration brings its own
    __stops = False

    def __init__(self, name: str = "") -> None:
        self.name = name or type(self).__name__

    def stop(self) -> None:
        """End the chain when `filter` has returned, and answer the client with the response."""
        self.__stops = True

    def rewrite(self) -> None:
        """Go on when `filter` has returned, with what the response object holds as edits of the request. The default."""
        self.__stops = False

    @staticmethod
    def _hook_of(configured: Any) -> Callable[[Request], Reply | None]:
        """
        Make the hook that the chain calls: it gives `filter` what it was written for, and reads back what it did.

        Args: configured: the instance, with its `config`, that each call copies.
        """
        copy_of = _copier_of(type(configured))

        def hook(request: Request) -> Reply | None:
            plugin = copy_of(configured)
            response = BaseResponse()
            refuse_awaitable(plugin.filter(BaseRequest(request), response))
            if plugin.__stops:
                return response.reply()
            response.rewrite(request)
            return None

        return hook


def refuse_awaitable(result: object) -> None:
    """
    Notice a `filter` that is async behind a decorator: it has not run, and must not count as one that let a request go.

    Raises: TypeError: the result of `filter` would have to be awaited.
    """
    if result is not None and hasattr(result, "__await__"):
        raise TypeError("filter() is async, which Base and PluginBase do not know: derive from apisix.Plugin")


def _copier_of(cls: type) -> Callable[[Any], Any]:
    """Choose how instances are copied: `copy.copy`, or a tenth of its time where nothing is special about the class."""
    special = ("__copy__", "__setstate__", "__slots__", "__new__", "__reduce__", "__getstate__")
    if any(name in vars(owner) for owner in cls.__mro__ if owner is not object for name in special):
        return copy.copy

    def plain_copy(instance: Any) -> Any:
        twin: Any = object.__new__(cls)
        twin.__dict__ = instance.__dict__.copy()
        return twin

    return plain_copy
