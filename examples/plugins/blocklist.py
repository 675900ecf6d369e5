# SPDX-License-Identifier: Apache-2.0
"""
Refuse clients whose address is in a list, which is fetched again and again in the background (`pip install httpx`).

When to use it: if a hook needs data that changes slowly, such as keys, flags or addresses. No call waits for the data,
except the first one. If the list can't be fetched later, the old one is used, the error is logged, and the runner starts
the background task again.

Task: Traffic
Keywords: IP blocklist, denylist, background task, refresh, key rotation, feature flags
"""

import asyncio
from dataclasses import dataclass

import httpx

from apisix import Plugin, Reply, Request


@dataclass
class BlocklistConfig:
    """The URL of the list, which has an address in each line, and how often it is fetched, in seconds."""

    url: str
    every_s: float = 60.0


class Blocklist(Plugin[BlocklistConfig]):
    """Refuse clients whose address is in a list."""

    async def setup(self) -> None:
        await self._fetch()  # without the list, calls are refused

    async def background(self) -> None:
        while True:
            await asyncio.sleep(self.config.every_s)
            await self._fetch()

    def on_request(self, request: Request) -> Reply | None:
        return Reply(403, json={"error": "blocked"}) if request.remote_addr in self._blocked else None

    async def _fetch(self) -> None:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            answer = await client.get(self.config.url)
        answer.raise_for_status()
        self._blocked = frozenset(answer.text.split())
