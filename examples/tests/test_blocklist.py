# SPDX-License-Identifier: Apache-2.0
"""plugins/blocklist.py."""

import asyncio
from typing import Any

import pytest

from apisix.testing import Client
from examples.tests.conftest import Service


@pytest.mark.parametrize(
    ("addresses", "stopped"),
    [(b"192.0.2.1\n127.0.0.1\n", True), (b"192.0.2.1\n", False), (b"127.0.0.0/8\n", True), (b"", False)],
)
def test_addresses_in_the_list_are_refused(client: Client, service: Service, addresses: bytes, *, stopped: bool) -> None:
    """The list has an address in each line."""
    service.body = addresses

    assert client.get("/", plugins=[("blocklist", {"url": service.url})]).stopped is stopped


@pytest.mark.parametrize("address", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "198.51.100.7"])
def test_forms_of_addresses(client: Client, service: Service, address: str) -> None:
    """An address is found in each of its forms."""
    service.body = b"192.0.2.1 2001:0DB8:0:0::1 198.51.100.0/24"

    assert client.get("/", remote_addr=address, plugins=[("blocklist", {"url": service.url})]).reply.status == 403


@pytest.mark.parametrize("body", [b"<html>maintenance</html>", b"192.0.2.1/8", b"192.0.2.1,192.0.2.2"])
def test_list_that_is_not_valid(client: Client, service: Service, body: bytes) -> None:
    """A page that is not a list of addresses does not allow everything."""
    service.body = body

    assert client.get("/", plugins=[("blocklist", {"url": service.url})], raise_errors=False).reply.status == 503


def test_without_a_list(client: Client, service: Service) -> None:
    """If the list can't be fetched at first, calls are refused."""
    service.status = 500

    assert client.get("/", plugins=[("blocklist", {"url": service.url})], raise_errors=False).reply.status == 503


def test_the_list_is_fetched_again(client: Client, service: Service) -> None:
    """The background task replaces the list."""
    cls: Any = client.plugin("blocklist")
    plugin = cls()
    plugin.config = cls.__orig_bases__[0].__args__[0](service.url, every_s=0.001)

    async def scenario() -> None:
        await plugin.setup()
        service.body = b"192.0.2.9"
        task = asyncio.create_task(plugin.background())
        async with asyncio.timeout(20):
            while not plugin._is_blocked("192.0.2.9"):  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(scenario())
