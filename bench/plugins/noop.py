# SPDX-License-Identifier: Apache-2.0
"""Let every request pass, to measure the runner itself."""

from apisix import Plugin, Request


class BenchNoop(Plugin):
    """Do nothing."""

    def on_request(self, request: Request) -> None:
        """Let the request pass."""
