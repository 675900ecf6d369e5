# SPDX-License-Identifier: Apache-2.0
"""
Set and remove fields of the JSON object that a client sends.

When to use it: to fill in what clients must not choose themselves (a tenant, a role), or to keep old clients working.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from apisix import Plugin, Reply, Request


@dataclass
class RequestBodyRewriteConfig:
    """Which fields to set, and which to remove."""

    set: dict[str, Any] = field(default_factory=dict)
    remove: tuple[str, ...] = ()


class RequestBodyRewrite(Plugin[RequestBodyRewriteConfig]):
    """Set and remove fields of the JSON object that a client sends."""

    needs = ("body",)  # fetched from the gateway before the hook; without it, request.json() would fetch it then and there

    def on_request(self, request: Request) -> Reply | None:
        if not request.read():
            return None  # nothing to rewrite: a GET
        try:
            data = request.json()
        except ValueError:  # refused, or a body that we don't understand would reach the upstream with its own role in it
            return Reply(400, json={"error": "the body must be JSON"})
        if not isinstance(data, dict):
            return Reply(400, json={"error": "the body must be a JSON object"})
        kept = {name: value for name, value in data.items() if name not in self.config.remove}
        request.body = msgspec.json.encode(kept | self.config.set)  # the gateway mends content-length
        request.headers["content-type"] = "application/json"  # whatever the client called it, this is what it is now
        return None
