# SPDX-License-Identifier: Apache-2.0
"""Request the body of the request from the gateway."""

from apisix import Plugin, Request


class BenchReadBody(Plugin):
    """Read the body."""

    def on_request(self, request: Request) -> None:
        """Read the whole body."""
        request.read()
