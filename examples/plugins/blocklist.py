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
from ipaddress import ip_address, ip_network

import httpx

from apisix import Plugin, Reply, Request


@dataclass
class BlocklistConfig:
    """The URL of the list, which has an address or a network in each line, and how often it is fetched, in seconds."""

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
        return Reply(403, json={"error": "blocked"}) if self._is_blocked(request.remote_addr) else None

    async def _fetch(self) -> None:
        async with httpx.AsyncClient(timeout=5.0, trust_env=False) as client:
            answer = await client.get(self.config.url)
        answer.raise_for_status()
        # If there is anything else, such as an error page, this raises ValueError, or nobody would be blocked.
        networks = [ip_network(text) for text in answer.text.split()]
        self._addresses = {network[0] for network in networks if network.num_addresses == 1}
        self._networks = [network for network in networks if network.num_addresses > 1]

    def _is_blocked(self, text: str) -> bool:
        address = ip_address(text)
        address = getattr(address, "ipv4_mapped", None) or address  # ::ffff:192.0.2.1 is 192.0.2.1
        return address in self._addresses or any(address in network for network in self._networks)
