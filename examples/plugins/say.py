# SPDX-License-Identifier: Apache-2.0
"""
Reply to the client without calling the upstream.

When to use it: for maintenance pages, health checks, robots.txt, or an upstream that does not exist yet.

Task: Traffic
Keywords: maintenance page, static reply, health check, robots.txt, mock
"""

from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class SayConfig:
    """The reply. A field with a default is optional in the route."""

    body: str
    status: int = 200


class Say(Plugin[SayConfig]):
    """Reply to every request with the same text."""

    def on_request(self, request: Request) -> Reply:
        return Reply(self.config.status, self.config.body)
