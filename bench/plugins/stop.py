# SPDX-License-Identifier: Apache-2.0
"""Reply to the client without the upstream: status, header, body."""

from apisix import Plugin, Reply, Request


class BenchStop(Plugin):
    """Refuse every request."""

    def on_request(self, request: Request) -> Reply:
        """End the chain."""
        return Reply(403, b"refused by the bench", {"content-type": "text/plain", "x-bench": "stop"})
