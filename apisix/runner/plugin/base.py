# SPDX-License-Identifier: Apache-2.0
"""`Base`, the base of plugins that are written as the article of 2021 documents them."""

from __future__ import annotations

from typing import Any


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
