# SPDX-License-Identifier: Apache-2.0
"""
Delay some requests, and fail some: what does a client do when your API is slow or broken?

When to use it: on a route for tests, or on a small percentage of real calls. A delayed call costs a little memory
while it waits, and holds up no other.
"""

import asyncio
import random
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request

Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]


class FaultInjectionConfig(msgspec.Struct, frozen=True):
    """Of how many calls in a hundred to do what."""

    # A delay must end before the gateway's patience does: the runner's deadline, plugin_timeout, is 50 s.
    delay_s: Annotated[float, msgspec.Meta(ge=0, le=40)] = 0
    delay_percentage: Percentage = 100
    abort_status: Annotated[int, msgspec.Meta(ge=200, le=999)] = 503
    abort_percentage: Percentage = 0


class FaultInjection(Plugin[FaultInjectionConfig]):
    """Delay and abort requests at random."""

    async def on_request(self, request: Request) -> Reply | None:
        config = self.config
        if config.delay_s and _happens(config.delay_percentage):
            await asyncio.sleep(config.delay_s)
        if _happens(config.abort_percentage):
            return Reply(config.abort_status, json={"error": "injected fault"})
        return None


def _happens(percentage: float) -> bool:
    return random.random() * 100 < percentage  # noqa: S311 - nobody gains by guessing it
