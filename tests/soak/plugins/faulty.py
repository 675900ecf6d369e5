# SPDX-License-Identifier: Apache-2.0
"""Plugins that misbehave when they are called."""

import os
import time

from apisix import Plugin, Request


class LoopForever(Plugin):
    """Never return, and block the event loop."""

    def on_request(self, request: Request) -> None:
        """Run an endless loop."""
        while True:
            pass


class ExitAtOnce(Plugin):
    """End the process without any output."""

    def on_request(self, request: Request) -> None:
        """Exit."""
        os._exit(3)


class EatMemory(Plugin):
    """Keep `bytes` of memory."""

    eaten: bytes = b""

    def on_request(self, request: Request) -> None:
        """Allocate it and touch each page."""
        EatMemory.eaten = b"x" * int(self.config["bytes"])


class Block(Plugin):
    """Block for `seconds`."""

    def on_request(self, request: Request) -> None:
        """Sleep as a blocking client would."""
        time.sleep(float(self.config["seconds"]))
