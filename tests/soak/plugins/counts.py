# SPDX-License-Identifier: Apache-2.0
"""Plugins that count their calls in the shared store."""

from apisix import Plugin, Request


class Counts(Plugin):
    """Raise if the store can't be used."""

    def on_request(self, request: Request) -> None:
        """Send the number of the call to the upstream."""
        request.headers["x-count"] = str(self.store.incr("calls"))


class Tolerates(Plugin):
    """Continue if the store can't be used."""

    def on_request(self, request: Request) -> None:
        """Send the number of the call to the upstream, or that it is unknown."""
        request.headers["x-count"] = str(self.store.incr("calls", fallback="unknown"))
