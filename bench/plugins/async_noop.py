# SPDX-License-Identifier: Apache-2.0
"""Let every request pass, in a coroutine, to measure a task."""

from apisix import Plugin, Request


class BenchAsyncNoop(Plugin):
    """Do nothing, in a coroutine."""

    async def on_request(self, request: Request) -> None:
        """Let the request pass."""
