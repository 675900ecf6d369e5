# SPDX-License-Identifier: Apache-2.0
"""
Require a known API key.

When to use it: if a small number of programs call your API, and you give a key to each.

Task: Authentication
Keywords: API key, x-api-key, apikey, secret header
"""

import hmac
from dataclasses import dataclass

from apisix import Plugin, Reply, Request


@dataclass
class KeyAuthConfig:
    """The keys, and the name of the header."""

    keys: frozenset[str]
    header: str = "x-api-key"

    def __post_init__(self) -> None:
        # A route with such a configuration is refused. With an empty key, every request with an empty header would be accepted.
        if not self.keys or "" in self.keys:
            raise ValueError("keys must contain at least one key, and no empty key")


class KeyAuth(Plugin[KeyAuthConfig]):
    """Refuse requests that do not have a known API key."""

    def __init__(self) -> None:
        self._keys = [key.encode() for key in self.config.keys]

    def on_request(self, request: Request) -> Reply | None:
        # surrogateescape: a header can contain any bytes, and encoding them must not raise an exception.
        given = request.headers.get(self.config.header, "").encode("utf-8", "surrogateescape")
        # Use compare_digest, and sum instead of any, so that the time does not show which key, or how much of it, was correct.
        if not sum(hmac.compare_digest(given, key) for key in self._keys):
            return Reply(401, json={"error": "unknown key"})
        request.headers.discard(self.config.header)  # the upstream does not need it
        request.headers.update({"x_authenticated": "", "x-authenticated": "yes"})  # replaces what the client sent, in both spellings
        return None
