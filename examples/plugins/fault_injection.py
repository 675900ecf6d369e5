# SPDX-License-Identifier: Apache-2.0
"""
Delay some requests, and abort some, to test how a client behaves if your API is slow or broken.

When to use it: on a route for tests, or for a small percentage of real calls. Other calls continue while one is
delayed.

Task: Traffic
Keywords: fault injection, delay, chaos, abort, test
"""

import asyncio
import random
from typing import Annotated

import msgspec

from apisix import Plugin, Reply, Request

Percentage = Annotated[float, msgspec.Meta(ge=0, le=100)]


class FaultInjectionConfig(msgspec.Struct, frozen=True):
    """The percentages of calls to delay and to abort."""

    # A delay must be shorter than limits.plugin_timeout, which is 50 s by default.
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
    return random.random() * 100 < percentage  # noqa: S311 - not used for security
