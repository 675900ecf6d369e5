# SPDX-License-Identifier: Apache-2.0
"""Set the header that the configuration names. A chain consists of five of these."""

from typing import TypedDict

from apisix import Plugin, Request


class SetHeaderConfig(TypedDict):
    """The configuration."""

    name: str


class BenchSetHeader(Plugin[SetHeaderConfig]):
    """Set one header."""

    def on_request(self, request: Request) -> None:
        """Set the header."""
        request.headers[self.config["name"]] = "1"
