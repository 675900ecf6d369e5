# SPDX-License-Identifier: Apache-2.0
"""Read the body and replace it, to measure all processing of a body."""

from typing import TypedDict

from apisix import Plugin, Request


class ReplaceBodyConfig(TypedDict):
    """The configuration."""

    size: int


class BenchReplaceBody(Plugin[ReplaceBodyConfig]):
    """Replace a body of one size by another of that size. Other bodies are not changed."""

    def __init__(self) -> None:
        self._replacement = b"x" * self.config["size"]  # made once, so that all copies are the runner's

    def on_request(self, request: Request) -> None:
        """Read the body, and set another."""
        if len(request.read()) == len(self._replacement):
            request.body = self._replacement
