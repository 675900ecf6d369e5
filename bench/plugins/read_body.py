# SPDX-License-Identifier: Apache-2.0
"""Ask the gateway for the request's body."""

from apisix import Plugin, Request


class BenchReadBody(Plugin):
    """Read the body."""

    def on_request(self, request: Request) -> None:
        """Read the whole body."""
        request.read()
