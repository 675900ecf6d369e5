# SPDX-License-Identifier: Apache-2.0
"""
Let a request through only when it carries a known API key.

When to use it: a handful of programs call your API, and you hand out one key to each.
"""

import hmac
from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class KeyAuthConfig:
    """The keys, and the header that carries one."""

    keys: frozenset[str]
    header: str = "x-api-key"

    def __post_init__(self) -> None:
        # A route with such a configuration is refused. An empty key would let in everybody who sends an empty header.
        if not self.keys or "" in self.keys:
            raise ValueError("keys must hold at least one key, and no empty one")


class KeyAuth(Plugin[KeyAuthConfig]):
    """Let a request through only when it carries a known API key."""

    def __init__(self) -> None:
        self._keys = [key.encode() for key in self.config.keys]

    def on_request(self, request: Request) -> Reply | None:
        # surrogateescape: a header may hold any bytes, and they must not make the comparison raise.
        given = request.headers.get(self.config.header, "").encode("utf-8", "surrogateescape")
        # compare_digest, and sum instead of any: the time must not tell how much of a key was right, nor which one was.
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            return Reply(401, json={"error": "unknown key"})
        request.headers.discard(self.config.header)  # the upstream has no use for it
        request.headers["x-authenticated"] = "yes"  # replaces what the client may have sent under this name
        return None
