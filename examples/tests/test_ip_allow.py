# SPDX-License-Identifier: Apache-2.0
"""plugins/ip_allow.py."""

from typing import Any

import pytest

from apisix.testing import ChainRefused, Client

BEHIND = {"networks": ["203.0.113.0/24", "2001:db8::/32"], "trusted_proxies": ["10.0.0.0/8"]}
GEO = {"countries": ["NZ"], "trusted_proxies": ["10.0.0.0/8"]}


def status_of(client: Client, config: dict[str, Any], address: str, *headers: tuple[str, str]) -> int | None:
    """Return the status of the reply, None if the upstream gets the request."""
    result = client.get("/", headers=headers, remote_addr=address, plugins=[("ip-allow", config)])
    return result.reply.status if result.stopped else None


@pytest.mark.parametrize(
    ("address", "status"),
    [("203.0.113.7", None), ("203.0.114.7", 403), ("2001:db8::1", None), ("2001:db9::1", 403), ("::ffff:203.0.113.7", None)],
)
def test_networks(client: Client, address: str, status: int | None) -> None:
    """The address of the connection must be in one of the networks."""
    assert status_of(client, BEHIND, address) == status


@pytest.mark.parametrize(
    ("address", "forwarded", "status"),
    [
        ("10.0.0.1", ["203.0.113.7"], None),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.7, 10.0.0.2"], None),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.7"], None),
        ("10.0.0.1", ["203.0.113.7, 1.1.1.1"], 403),
        ("10.0.0.1", ["203.0.113.7, nonsense"], 403),
        ("10.0.0.1", ["203.0.113.7,"], 403),
        ("10.0.0.1", ["\udcff"], 403),
        ("10.0.0.1", [], 403),
        ("1.1.1.1", ["203.0.113.7"], 403),
    ],
)
def test_forwarded(client: Client, address: str, forwarded: list[str], status: int | None) -> None:
    """Only a trusted proxy forwards an address, and the last one that it does not trust counts."""
    assert status_of(client, BEHIND, address, *(("x-forwarded-for", value) for value in forwarded)) == status


@pytest.mark.parametrize(
    ("address", "countries", "status"),
    [("10.0.0.1", ["NZ"], None), ("10.0.0.1", ["nz"], None), ("10.0.0.1", ["AU"], 451), ("10.0.0.1", [], 451), ("1.1.1.1", ["NZ"], 451)],
)
def test_countries(client: Client, address: str, countries: list[str], status: int | None) -> None:
    """The country counts only if a trusted proxy sent it."""
    assert status_of(client, GEO, address, *(("cf-ipcountry", value) for value in countries)) == status
    assert status_of(client, GEO, "10.0.0.1", ("cf-ipcountry", "NZ"), ("cf-ipcountry", "AU")) == 451


@pytest.mark.parametrize("config", [{"networks": ["10.0.0.1/8"]}, {"networks": ["nonsense"]}, {"countries": ["NZ"]}])
def test_bad_configuration(client: Client, config: dict[str, Any]) -> None:
    """A route with a network that is not valid, or with countries that clients could choose, is refused."""
    with pytest.raises(ChainRefused):
        status_of(client, config, "10.0.0.1")


def test_many_headers(client: Client) -> None:
    """The gateway sends at most 100 headers to plugins, so the client's address could be behind them."""
    config = {"networks": ["10.0.0.0/8"], "trusted_proxies": ["10.0.0.1/32"]}
    headers = [(f"x-{number}", "1") for number in range(99)]

    assert status_of(client, config, "10.0.0.1", *headers) == 403
    assert status_of(client, config, "10.0.0.1", *headers[:50]) is None
