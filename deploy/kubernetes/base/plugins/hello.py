# SPDX-License-Identifier: Apache-2.0
"""Set a request header."""

from dataclasses import dataclass

from apisix import Plugin, Request


@dataclass
class HelloConfig:
    greeting: str


class Hello(Plugin[HelloConfig]):
    """Set the request header x-hello."""

    def on_request(self, request: Request) -> None:
        request.headers["x-hello"] = self.config.greeting
