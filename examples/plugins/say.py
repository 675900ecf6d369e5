# SPDX-License-Identifier: Apache-2.0
"""
Answer the client without asking the upstream.

When to use it: maintenance pages, health checks, robots.txt, a stub for an upstream that is not written yet.
"""

from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class SayConfig:
    """What to say. A field with a default is optional in the route."""

    body: str
    status: int = 200


class Say(Plugin[SayConfig]):
    """Answer every request with one text."""

    def on_request(self, request: Request) -> Reply:
        return Reply(self.config.status, self.config.body)
